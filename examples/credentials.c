/* A server on a unix socket that knows its clients: the kernel, not the client, names the process and
 * its user, and a client that is not allowed is closed before a byte of it is read.
 *
 *     ./credentials /tmp/cred.sock $(id -u) &
 *     socat - UNIX:/tmp/cred.sock
 *
 * The users of these ids may connect, and nobody else; root only if it is named. SIGINT and
 * SIGTERM end the server. The lock beside the socket allows one server at a time; the kernel releases
 * it when the server dies, so that the next one can start.
 */

#define _GNU_SOURCE 1 /* struct ucred */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* A client that takes nothing for so long is given up. */
static const struct timeval patience = {.tv_sec = 10};

struct server {
	struct ferry_listener *listener;
	struct event *signals[2];
};

static int greet(struct ferry_transport *transport)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	struct ucred peer;
	socklen_t size = sizeof(peer);
	char line[100];
	/* The kernel noted them at connect(2); the process may have ended since. */
	if (getsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	int length = snprintf(line, sizeof(line), "process %ld, user %ld, group %ld\n", (long)peer.pid,
	                      (long)peer.uid, (long)peer.gid);
	return ferry_transport_write(transport, line, (size_t)length);
}

static void connection_made(struct ferry_transport *transport, void *context)
{
	(void)context;
	int status = greet(transport);
	if (status < 0)
		ferry_transport_abort_connection(transport);
	else
		ferry_transport_lose_connection(transport); /* once all of it is sent */
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)context;
	if (reason != 0)
		warnx("client: %s", strerror(-reason));
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

/* Accepts no more. The loop returns when the connections that are left have ended. */
static void stop(evutil_socket_t number, short events, void *context)
{
	struct server *server = context;
	(void)number, (void)events;
	ferry_listener_free(server->listener); /* removes the socket file and the lock */
	for (size_t i = 0; i < 2 && server->signals[i] != NULL; i++)
		event_free(server->signals[i]);
}

/* ferry logs refused clients, at most one line a second. */
static void print_log(enum ferry_log_level level, const char *line)
{
	if (level >= FERRY_LOG_WARNING)
		warnx("%s", line);
}

static int allow(struct ferry_listener *listener, const char *user)
{
	char *end;
	unsigned long number = strtoul(user, &end, 10);
	if (*user < '0' || *user > '9' || *end != '\0' || number >= (uid_t)-1) {
		warnx("%s: not a user id", user);
		return -EINVAL;
	}
	return ferry_listener_allow_uid(listener, (uid_t)number);
}

/* All rules stand before the first client: none is accepted until the loop runs. */
static int start(struct server *server, struct event_base *base, const char *path, char **users)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	for (size_t i = 0; i < 2; i++)
		if ((server->signals[i] = evsignal_new(base, i ? SIGTERM : SIGINT, stop, server)) == NULL ||
		    event_add(server->signals[i], NULL) < 0)
			return -ENOMEM;
	options.mode = 0666; /* the file lets everybody in, the rules below do not */
	options.lock = true;
	int status = ferry_listener_new_unix(&server->listener, base, path, &options, accepted, NULL);
	for (; status == 0 && *users != NULL; users++)
		status = allow(server->listener, *users);
	if (status == 0)
		status = ferry_listener_set_max_connections_per_uid(server->listener, 10);
	if (status == 0)
		status = ferry_listener_set_pass_rights(server->listener, false);
	return status == -ENOPROTOOPT ? 0 : status; /* Linux before 6.16 cannot refuse descriptors */
}

int main(int argc, char **argv)
{
	struct server server = {0};
	if (argc < 3)
		errx(2, "usage: credentials SOCKET_PATH UID...");
	struct event_base *base = event_base_new();
	if (base == NULL)
		errx(EXIT_FAILURE, "no event loop");
	ferry_log_set_cb(print_log);
	int status = start(&server, base, argv[1], argv + 2);
	if (status < 0) {
		warnx("%s: %s", argv[1], strerror(-status));
		stop(0, 0, &server);
	}
	event_base_dispatch(base);
	event_base_free(base);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
