/* Serves a file over TCP without copying it into the process: its bytes go from the page cache to the
 * socket by sendfile(2).
 *
 *     ./send_file 127.0.0.1:7000 /etc/services &
 *     ./receive_file 127.0.0.1:7000 /tmp/services
 *
 * A client gets a line with the size of the file, then the file. SIGINT and SIGTERM end the server
 * when the transfers under way have ended.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <ferry/ferry.h>

/* A client that takes nothing for so long is given up. */
static const struct timeval patience = {.tv_sec = 60};

struct server {
	const char *path;
	int fd; /* listens; -1: none */
	struct ferry_listener *listener;
	struct event *signals[2];
};

/* Runs once, however the file and the connection end. */
static void finished(struct ferry_file_producer *producer, int status, uint64_t sent, void *context)
{
	(void)producer;
	if (status == 0)
		return;
	warnx("%s after %llu bytes", strerror(-status), (unsigned long long)sent);
	/* The client expects bytes that will not come. If its connection is over, this has no effect. */
	ferry_transport_abort_connection(context);
}

static int queue_file(struct ferry_transport *transport, const char *path)
{
	static const struct ferry_file_callbacks callbacks = {.finished = finished};
	struct stat file;
	char header[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int status = -errno;
	if (fstat(fd, &file) == 0) {
		int length = snprintf(header, sizeof(header), "%lld\n", (long long)file.st_size);
		status = ferry_transport_write(transport, header, (size_t)length);
	}
	if (status == 0) /* never more than the size that was announced, even if the file grows */
		status = ferry_transport_send_file(NULL, transport, fd, FERRY_FD_TAKE, 0, file.st_size, 0,
		                                   &callbacks, transport);
	if (status < 0)
		close(fd); /* a call that fails leaves it the caller's */
	return status;
}

static void connection_made(struct ferry_transport *transport, void *context)
{
	const struct server *server = context;
	int status = queue_file(transport, server->path);
	if (status == 0) {
		ferry_transport_lose_connection(transport); /* once all of it is sent */
		return;
	}
	warnx("%s: %s", server->path, strerror(-status));
	ferry_transport_abort_connection(transport);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)reason, (void)context; /* finished() has printed what became of the file */
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
		warnx("client: %s", strerror(-status));
		ferry_transport_free(transport);
	}
}

/* Accepts no more. The loop returns when the connections that are left have ended. A second signal
 * has its default action, because nobody watches for it any more. */
static void stop(evutil_socket_t number, short events, void *context)
{
	struct server *server = context;
	(void)number, (void)events;
	ferry_listener_free(server->listener);
	if (server->fd >= 0)
		close(server->fd); /* a listener does not own a descriptor that it is given */
	for (size_t i = 0; i < 2 && server->signals[i] != NULL; i++)
		event_free(server->signals[i]);
}

static int start(struct server *server, struct event_base *base, const char *where)
{
	struct sockaddr_storage address;
	int length = sizeof(address), on = 1;
	if (evutil_parse_sockaddr_port(where, (struct sockaddr *)&address, &length) < 0)
		return -EINVAL;
	for (size_t i = 0; i < 2; i++)
		if ((server->signals[i] = evsignal_new(base, i ? SIGTERM : SIGINT, stop, server)) == NULL ||
		    event_add(server->signals[i], NULL) < 0)
			return -ENOMEM;
	server->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server->fd < 0 || setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(server->fd, (struct sockaddr *)&address, (socklen_t)length) < 0 ||
	    listen(server->fd, SOMAXCONN) < 0)
		return -errno;
	return ferry_listener_new_fd(&server->listener, base, server->fd, accepted, server);
}

int main(int argc, char **argv)
{
	struct server server = {.fd = -1};
	if (argc != 3)
		errx(2, "usage: send_file ADDRESS:PORT FILE");
	server.path = argv[2];
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
