/* Receives descriptors in an ordinary libevent program. The bufferevent, its callbacks and its
 * buffers stay the program's own; ferry adds the calls that are marked below. receive_fd.c does the
 * same with a protocol of ferry's.
 *
 *     ./send_fd /tmp/fds.sock /etc/hostname &
 *     ./fd_in_a_bufferevent /tmp/fds.sock
 *
 * The program prints the size of each file that arrives, then the line that came with it.
 */

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum { LONGEST_LINE = 4096 };

struct client {
	struct ferry_transport *transport;
	int result;
};

/* The loop returns when the transport is gone, because nothing else is left in it. */
static void end(struct client *client, const char *error)
{
	if (error != NULL)
		warnx("%s", error);
	client->result = error != NULL ? EXIT_FAILURE : EXIT_SUCCESS;
	ferry_transport_free(client->transport); /* ferry: in place of bufferevent_free() */
}

/* ferry: runs once for each descriptor, before the read callback for the bytes that it came with.
 * The callback owns the descriptor. */
static void fd_received(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	struct stat status;
	int failed = fstat(fd, &status);
	close(fd);
	if (failed)
		end(context, strerror(errno));
	else
		printf("a file of %lld bytes\n", (long long)status.st_size);
}

static void readable(struct bufferevent *bev, void *context)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	char *line;
	while ((line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF)) != NULL) {
		printf("its line: %s\n", line);
		free(line);
	}
	if (evbuffer_get_length(input) > LONGEST_LINE)
		end(context, "a line is too long");
}

static void event(struct bufferevent *bev, short events, void *context)
{
	(void)bev;
	if (events & BEV_EVENT_EOF)
		end(context, NULL);
	else if (events & BEV_EVENT_ERROR)
		end(context, strerror(EVUTIL_SOCKET_ERROR()));
}

static int start(struct client *client, struct event_base *base, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		return -ENOMEM;
	bufferevent_setcb(bev, readable, NULL, event, client);
	if (bufferevent_socket_connect(bev, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;
		bufferevent_free(bev);
		return -error;
	}

	/* ferry: takes the bufferevent over, which must have a socket by now. */
	int status = ferry_transport_new(&client->transport, bev);
	if (status < 0) {
		bufferevent_free(bev); /* a call that fails leaves it the caller's */
		return status;
	}
	/* ferry: without this callback the descriptors that arrive are closed. */
	ferry_transport_set_fd_cb(client->transport, fd_received, client);

	if (bufferevent_enable(bev, EV_READ) < 0) {
		ferry_transport_free(client->transport);
		return -ENOMEM;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct client client = {.result = EXIT_FAILURE};
	if (argc != 2)
		errx(2, "usage: fd_in_a_bufferevent SOCKET_PATH");
	struct event_base *base = event_base_new();
	if (base == NULL)
		errx(EXIT_FAILURE, "no event loop");
	int status = start(&client, base, argv[1]);
	if (status < 0)
		warnx("%s: %s", argv[1], strerror(-status));
	event_base_dispatch(base);
	event_base_free(base);
	return client.result;
}
