/* A worker on ferry with the service of kit.py: it numbers the lines of its clients, and returns a connection after
 * the line `move` and on RECALL.
 *
 *     conformance_worker DESCRIPTOR    that of the channel, which it has inherited */

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum { CREDITS = 32, STATE_MAX = 16 };

struct connection {
	TAILQ_ENTRY(connection) link;
	struct bufferevent *bev;
	uint64_t id;
	unsigned long lines;
	struct event *recalled; /* its time in a RECALL */
	bool moves;             /* back, once its output is empty */
	bool ended;             /* by its client; its output is not empty */
};

static TAILQ_HEAD(, connection) connections = TAILQ_HEAD_INITIALIZER(connections);
static struct event_base *base;
static struct ferry_worker *worker; /* NULL: the channel is over */

static void check(int status, const char *subject)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", subject, strerror(-status));
}

static void serve(struct ferry_handoff *handoff, uint64_t id);

/* Closes a connection that was served, or that has no descriptor any more. */
static void forget(struct connection *connection)
{
	TAILQ_REMOVE(&connections, connection, link);
	bufferevent_free(connection->bev);
	event_free(connection->recalled);
	free(connection);
}

static void end(struct connection *connection)
{
	uint64_t id = connection->id;

	forget(connection);
	if (worker != NULL)
		(void)ferry_worker_done(worker, id);
}

/* What comes of a return that fails at once is the same connection once more. */
static void give_back(struct connection *connection)
{
	struct ferry_handoff *handoff;
	char state[STATE_MAX];
	uint64_t id = connection->id;

	int length = snprintf(state, sizeof(state), "%lu", connection->lines);
	check(ferry_handoff_from_bufferevent(&handoff, connection->bev), "return");
	check(ferry_handoff_set_blob(handoff, state, (size_t)length), "return");
	forget(connection);
	if (worker != NULL && ferry_worker_return(worker, id, handoff) == 0)
		return;
	serve(handoff, id);
	ferry_handoff_free(handoff);
}

static bool has_output(const struct connection *connection)
{
	return evbuffer_get_length(bufferevent_get_output(connection->bev)) > 0;
}

static void on_writable(struct bufferevent *bev, void *context)
{
	struct connection *connection = context;

	(void)bev;
	if (connection->ended)
		end(connection);
	else if (connection->moves)
		give_back(connection);
}

static void on_readable(struct bufferevent *bev, void *context)
{
	struct connection *connection = context;
	size_t length;
	char *line;

	while (!connection->moves &&
	       (line = evbuffer_readln(bufferevent_get_input(bev), &length, EVBUFFER_EOL_LF)) != NULL) {
		connection->lines++;
		evbuffer_add_printf(bufferevent_get_output(bev), "%lu %s\n", connection->lines, line);
		connection->moves = worker != NULL && strcmp(line, "move") == 0;
		free(line);
	}
	if (connection->moves)
		bufferevent_disable(bev, EV_READ);
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	struct connection *connection = context;

	connection->ended = true;
	bufferevent_disable(bev, EV_READ);
	if ((what & BEV_EVENT_ERROR) != 0 || !has_output(connection))
		end(connection);
}

/* One whose return has failed is at the end, and does not move. */
static void leave(evutil_socket_t fd, short what, void *context)
{
	struct connection *connection = context;

	(void)fd, (void)what;
	if (connection->ended)
		return;
	connection->moves = true;
	bufferevent_disable(connection->bev, EV_READ);
	if (!has_output(connection))
		give_back(connection);
}

/* The bytes and the blob come with the handoff. The bufferevent takes its descriptor. */
static void serve(struct ferry_handoff *handoff, uint64_t id)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	char state[STATE_MAX] = "";
	size_t length;
	const void *blob = ferry_handoff_get_blob(handoff, &length);

	check(connection != NULL ? 0 : -ENOMEM, "connection");
	connection->recalled = evtimer_new(base, leave, connection);
	check(connection->recalled != NULL ? 0 : -ENOMEM, "connection");
	memcpy(state, blob, length < STATE_MAX ? length : STATE_MAX - 1);
	connection->lines = strtoul(state, NULL, 10);
	connection->id = id;
	check(ferry_handoff_to_bufferevent(&connection->bev, handoff, base, BEV_OPT_CLOSE_ON_FREE),
	      "connection");
	TAILQ_INSERT_TAIL(&connections, connection, link);
	bufferevent_setcb(connection->bev, on_readable, on_writable, on_event, connection);
	bufferevent_enable(connection->bev, EV_READ | EV_WRITE);
}

static void handoff_received(struct ferry_worker *from, struct ferry_handoff *handoff,
                             void *context)
{
	struct ferry_handoff_info info;

	(void)from, (void)context;
	check(ferry_handoff_get_info(handoff, &info), "handoff");
	if (info.kind == FERRY_DESCRIPTOR_SOCKET)
		serve(handoff, info.id);
	else
		ferry_handoff_reject(handoff, -ENOTSOCK);
}

static void recall_requested(struct ferry_worker *from, const struct timeval *spread, void *context)
{
	struct connection *connection;
	int64_t usec = (int64_t)spread->tv_sec * 1000000 + spread->tv_usec, count = 0, number = 0;

	(void)from, (void)context;
	TAILQ_FOREACH (connection, &connections, link)
		count++;
	TAILQ_FOREACH (connection, &connections, link) {
		int64_t delay = usec * number++ / count;
		check(event_add(connection->recalled,
		                &(struct timeval){.tv_sec = (time_t)(delay / 1000000),
		                                  .tv_usec = (suseconds_t)(delay % 1000000)}),
		      "recall");
	}
}

static void return_failed(struct ferry_worker *from, uint64_t id, struct ferry_handoff *handoff,
                          void *context)
{
	(void)from, (void)context;
	serve(handoff, id);
	ferry_handoff_free(handoff);
}

static void dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(from); /* the loop returns when the last connection has ended */
	worker = NULL;
}

int main(int argc, char **argv)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .recall_requested = recall_requested,
	                                                        .return_failed = return_failed,
	                                                        .dispatcher_lost = dispatcher_lost};
	struct ferry_transport *transport = NULL;

	if (argc != 2)
		errx(2, "usage: conformance_worker DESCRIPTOR");
	signal(SIGPIPE, SIG_IGN); /* clients that end */
	int channel = (int)strtol(argv[1], NULL, 10);
	base = event_base_new();
	check(base != NULL && evutil_make_socket_nonblocking(channel) == 0 ? 0 : -EBADF, "channel");
	struct bufferevent *bev = bufferevent_socket_new(base, channel, BEV_OPT_CLOSE_ON_FREE);
	check(bev != NULL ? ferry_transport_new(&transport, bev) : -ENOMEM, "channel");
	check(ferry_worker_new(&worker, transport, &callbacks, NULL), "worker");
	check(ferry_worker_set_credits(worker, CREDITS), "credits");
	event_base_dispatch(base);
	event_base_free(base);
	return EXIT_SUCCESS;
}
