/* Sends an open file to each process that connects: the counterpart of Twisted's example sendfd.py.
 * The line "<path>\r\n" goes over the socket, and the file's descriptor with its first byte.
 *
 *     ./send_fd /tmp/fds.sock /etc/hostname &
 *     ./receive_fd /tmp/fds.sock
 *
 * SIGINT and SIGTERM end it. The receiver needs no permission to open the file.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* A receiver that takes nothing for so long is given up. */
static const struct timeval patience = {.tv_sec = 10};

struct server {
	const char *file;
	struct ferry_listener *listener;
	struct event *signals[2];
};

/* ---- one connection ---- */

static int queue_file(struct ferry_transport *transport, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	int status = ferry_transport_send_fd(transport, fd, FERRY_FD_TAKE);
	if (status < 0) {
		close(fd); /* a call that fails leaves it the caller's */
		return status;
	}
	/* The descriptor travels with the first byte that is written after it. */
	status = ferry_transport_write(transport, path, strlen(path));
	return status < 0 ? status : ferry_transport_write(transport, "\r\n", 2);
}

static void connection_made(struct ferry_transport *transport, void *context)
{
	const struct server *server = context;
	int status = queue_file(transport, server->file);
	if (status == 0) {
		ferry_transport_lose_connection(transport); /* once all of it is sent */
		return;
	}
	warnx("%s: %s", server->file, strerror(-status));
	ferry_transport_abort_connection(transport);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)context;
	if (reason != 0 && reason != -ECONNABORTED)
		warnx("connection: %s", strerror(-reason));
	ferry_transport_free(transport);
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	static const struct ferry_protocol protocol = {.connection_made = connection_made,
	                                               .connection_lost = connection_lost};
	(void)listener;
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(transport), NULL, &patience);
	int status = ferry_transport_set_protocol(transport, &protocol, context);
	if (status < 0) {
		warnx("connection: %s", strerror(-status));
		ferry_transport_free(transport);
	}
}

/* ---- the server ---- */

/* Accepts no more. The loop returns when the connections that are left have ended. A second signal
 * has its default action, because nobody watches for it any more. */
static void stop(evutil_socket_t number, short events, void *context)
{
	(void)number, (void)events;
	struct server *server = context;
	ferry_listener_free(server->listener); /* removes the socket file */
	for (size_t i = 0; i < 2 && server->signals[i] != NULL; i++)
		event_free(server->signals[i]);
}

/* Watches for signals first: one that comes when the socket file is there must remove it. */
static int start(struct server *server, struct event_base *base, const char *path)
{
	static const int numbers[] = {SIGINT, SIGTERM};
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	for (size_t i = 0; i < 2; i++)
		if ((server->signals[i] = evsignal_new(base, numbers[i], stop, server)) == NULL ||
		    event_add(server->signals[i], NULL) < 0)
			return -ENOMEM;
	options.lock = true; /* a server that was killed has left its socket file */
	return ferry_listener_new_unix(&server->listener, base, path, &options, accepted, server);
}

int main(int argc, char **argv)
{
	struct server server = {0};
	if (argc != 3)
		errx(2, "usage: send_fd SOCKET_PATH FILE");
	server.file = argv[2];
	struct event_base *base = event_base_new();
	if (base == NULL)
		errx(EXIT_FAILURE, "no event loop");
	int status = start(&server, base, argv[1]);
	if (status < 0) {
		warnx("%s: %s", argv[1], strerror(-status));
		stop(0, 0, &server);
	}
	event_base_dispatch(base);
	event_base_free(base);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
