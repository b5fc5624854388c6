/* The way of a connection back to the proxy that it came from, while it waits for its next request. */

#include "programs/ferry-worker/connection.h"

#include <errno.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* Without memory or a descriptor the worker retries for five seconds, and then closes the connection. */
static const struct timeval retry_pause = {.tv_usec = 50000};
enum { MOST_RETRIES = 100 };

bool connection_can_return(const struct connection *connection)
{
	return connection->stream.tls == NULL && ferry_worker_can_return(connection->tag.worker);
}

bool connection_is_to_leave(const struct connection *connection)
{
	const struct connections *connections = connection->connections;
	bool at_once = connection->routes_each || connection->recalled || connections->draining ||
	               connections->scarce > 0 ||
	               (connections->keep.tv_sec == 0 && connections->keep.tv_usec == 0);
	/* A client that has ended its half, and has sent no more, waits for the close. */
	bool over = connection->input_over && evbuffer_get_length(connection_input(connection)) == 0;
	return at_once && !over && connection_can_return(connection);
}

bool connection_is_stranded(const struct connection *connection)
{
	return connection->answered && connection->routes_each && !connection_can_return(connection);
}

void connection_keep(struct connection *connection)
{
	const struct timeval *keep = &connection->connections->keep;
	if (connection->answered && connection_can_return(connection))
		connection_set_deadline(connection, keep);
}

void connection_leave(struct connection *connection)
{
	connection->state = CONNECTION_LEAVING;
	connection->retries = 0;
	if (!connection_set_deadline(connection, &(struct timeval){0}))
		connection_abandon(connection);
}

static void retry(struct connection *connection)
{
	connection->state = CONNECTION_LEAVING;
	connection_pause_reading(connection);
	if (connection->retries++ >= MOST_RETRIES || !connection_set_deadline(connection, &retry_pause))
		connection_abandon(connection);
}

/* The proxy has not taken it: it is served on here, and tried again. */
static void take_back(struct connection *connection, struct ferry_handoff *handoff)
{
	struct connections *connections = connection->connections;
	struct connection_tag tag = connection->tag;
	struct stream stream = {.tls = NULL};
	int status = ferry_handoff_to_transport(&stream.transport, handoff, connections->base,
	                                        BEV_OPT_CLOSE_ON_FREE);
	if (status == 0)
		status = connection_start(connection, &stream);
	ferry_handoff_free(handoff);
	if (status < 0) {
		connection_remove(connection);
		connections->ended(connections, &tag);
	} else if (connection_can_return(connection)) {
		retry(connection);
	}
}

void connection_give_back(struct connection *connection)
{
	struct ferry_handoff *handoff;
	connection_clear_deadline(connection);
	if (ferry_handoff_from_transport(&handoff, connection->stream.transport) < 0) {
		retry(connection);
		return;
	}
	connection->stream.transport = NULL;
	/* The proxy has its own record. The blob is for this worker, if the proxy goes in the middle. */
	int status = ferry_handoff_set_blob(handoff, connection->blob, connection->blob_length);
	if (status == 0)
		status = ferry_worker_return(connection->tag.worker, connection->tag.id, handoff);
	if (status == 0)
		connection_remove(connection);
	else
		take_back(connection, handoff);
}

/* One with TLS cannot go back: its client connects again. */
static void give_up_idle(struct connections *connections)
{
	struct connection *next;
	for (struct connection *connection = connections->first; connection != NULL;
	     connection = next) {
		next = connection->next;
		if (!connection_is_idle(connection))
			continue;
		if (connection_can_return(connection))
			connection_give_back(connection);
		else if (connection->stream.tls != NULL)
			stream_lose(&connection->stream);
	}
}

void connections_set_scarce(struct connections *connections, bool scarce)
{
	if (!scarce)
		connections->scarce--;
	else if (connections->scarce++ == 0)
		give_up_idle(connections);
}

void connections_recall(struct connections *connections, const struct ferry_worker *worker,
                        const struct timeval *spread)
{
	int64_t usec = (int64_t)spread->tv_sec * 1000000 + spread->tv_usec;
	size_t number = 0;
	for (struct connection *connection = connections->first; connection != NULL;
	     connection = connection->next) {
		if (connection->tag.worker != worker)
			continue;
		connection->recalled = true;
		if (!connection_is_idle(connection) || !connection_can_return(connection))
			continue;
		int64_t delay = usec * (int64_t)number++ / (int64_t)connections->count;
		connection_set_deadline(connection, &(struct timeval){.tv_sec = (time_t)(delay / 1000000),
		                                                      .tv_usec = delay % 1000000});
	}
}

void connections_leave_channel(struct connections *connections, const struct ferry_worker *worker)
{
	for (struct connection *connection = connections->first; connection != NULL;
	     connection = connection->next)
		if (connection->tag.worker == worker)
			connection->tag.worker = NULL;
}
