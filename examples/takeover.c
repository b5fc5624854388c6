/* A server that is replaced without a refused connection. Start it again: the new process takes the
 * listening socket over, and the old one stops once the new one accepts.
 *
 *     ./takeover /tmp/app.sock & sleep 1; ./takeover /tmp/app.sock &
 *     socat - UNIX:/tmp/app.sock
 *
 * A client reads the id of the process that serves it. SIGINT and SIGTERM end a server; the last one
 * removes the socket file. The processes meet at an abstract socket; ferry talks there only to a
 * process of the same user or root.
 */

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

static struct event_base *base;
static struct event *signals[2];
static char meeting[200];                 /* name of the abstract socket */
static struct ferry_connector *connector; /* to the old process */
static struct ferry_takeover *takeover;   /* from the old process, or by a new one */
static struct ferry_socket_set *set;      /* owns the socket, its file and its lock */
static struct ferry_listener *clients;    /* accepts on that socket */
static struct ferry_listener *successor; /* waits for a new process; NULL: this one is new itself */

static void ended(struct ferry_takeover *over, int status, void *context);

/* The loop returns after this, because nothing is left in it. */
static void stop(evutil_socket_t number, short events, void *context)
{
	(void)number, (void)events, (void)context;
	ferry_connector_free(connector);
	ferry_takeover_free(takeover);
	ferry_listener_free(successor);
	ferry_listener_free(clients);
	ferry_socket_set_free(set);
	event_free(signals[0]);
	event_free(signals[1]);
}

/* Ends a process that has not become the server. An old one then goes on. */
static void check(int status)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s", strerror(-status));
}

/* Here a real server sets a protocol. A takeover has no effect on accepted connections. */
static void client_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                            void *context)
{
	char line[64];
	(void)listener, (void)context;
	int length = snprintf(line, sizeof(line), "process %ld\n", (long)getpid());
	int fd = bufferevent_getfd(ferry_transport_get_bufferevent(transport));
	if (send(fd, line, (size_t)length, MSG_NOSIGNAL) < 0)
		warn("client");
	ferry_transport_free(transport);
}

/* In the new process. Both accept from here until it commits. */
static void received(struct ferry_takeover *over, struct ferry_socket_set *sockets, void *context)
{
	int fd = ferry_socket_set_find(sockets, "app");
	(void)context;
	set = sockets;
	check(ferry_listener_new_fd(&clients, base, fd, client_accepted, NULL));
	check(ferry_takeover_commit(over));
}

static const struct ferry_takeover_callbacks callbacks = {.received = received, .ended = ended};

static void connected(struct ferry_connector *attempt, int status,
                      struct ferry_transport *transport, void *context)
{
	(void)attempt, (void)context;
	connector = NULL;
	check(status);
	check(ferry_takeover_request(&takeover, transport, NULL, 0, &callbacks, NULL)); /* takes it */
}

static void successor_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                               void *context)
{
	(void)listener, (void)context;
	if (ferry_takeover_serve(&takeover, set, transport, &callbacks, NULL) < 0)
		ferry_transport_free(transport); /* of another user, or the second at a time */
}

static void wait_for_successor(void)
{
	int status = ferry_listener_new_unix(&successor, base, meeting, NULL, successor_accepted, NULL);
	if (status < 0)
		warnx("no process can take over from this one: %s", strerror(-status));
}

/* In both. The old process stops when the new one accepts, and goes on if the takeover has failed. */
static void ended(struct ferry_takeover *over, int status, void *context)
{
	(void)context;
	ferry_takeover_free(over);
	takeover = NULL;
	if (successor == NULL) {
		check(status);
		wait_for_successor();
	} else if (status == 0) {
		stop(0, 0, NULL);
	} else {
		warnx("takeover: %s", strerror(-status));
	}
}

/* The first process makes the socket. */
static void create(const char *path)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	options.lock = true; /* a server that was killed has left its socket file */
	check(ferry_socket_set_new(&set));
	check(ferry_listener_new_unix(&clients, base, path, &options, client_accepted, NULL));
	check(ferry_socket_set_add_listener(set, "app", clients));
	wait_for_successor();
}

int main(int argc, char **argv)
{
	if (argc != 2 || (base = event_base_new()) == NULL)
		errx(2, "usage: takeover SOCKET_PATH");
	(void)snprintf(meeting, sizeof(meeting), "@takeover:%s", argv[1]);
	for (int i = 0; i < 2; i++)
		if (!(signals[i] = evsignal_new(base, i ? SIGTERM : SIGINT, stop, NULL)) ||
		    event_add(signals[i], NULL) < 0)
			errx(EXIT_FAILURE, "signals");
	int status = ferry_connector_new_unix(&connector, base, meeting, NULL, connected, NULL);
	if (status == -ECONNREFUSED) /* there is no old process */
		create(argv[1]);
	else
		check(status);
	event_base_dispatch(base);
	event_base_free(base);
	return EXIT_SUCCESS;
}
