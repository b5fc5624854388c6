#include "programs/ferry-worker/connection.h"

#include "programs/shared/access_log.h"
#include "programs/shared/answer_counters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* The most input that is dropped while a connection lingers. */
enum { LINGER_BYTES = 1024 * 1024 };

/* Bounds the requests that wait in the input while an answer is in the stream. */
static const size_t bytes_per_read = 16384;

/* Without a descriptor or memory for a file the worker retries for five seconds, and then answers 503. */
static const struct timeval retry_pause = {.tv_usec = 50000};
enum { MOST_RETRIES = 100 };

/* The time that a client has for the rest of its request head once the worker ends. */
static const struct timeval hurry = {.tv_sec = 2};

static void read_request(struct connection *connection);

static void init_head(struct connection *connection)
{
	const struct connections *connections = connection->connections;
	http_head_init(&connection->head);
	http_head_set_limits(&connection->head, connections->head_size,
	                     (unsigned int)connections->head_fields);
}

bool connection_is_idle(const struct connection *connection)
{
	return connection->state == CONNECTION_READING && connection->answered &&
	       evbuffer_get_length(connection_input(connection)) == 0;
}

struct evbuffer *connection_input(const struct connection *connection)
{
	return bufferevent_get_input(ferry_transport_get_bufferevent(connection->transport));
}

void connection_abandon(struct connection *connection)
{
	ferry_transport_abort_connection(connection->transport);
}

void connection_abandon_answer(struct connection *connection, struct evbuffer *out)
{
	evbuffer_drain(out, evbuffer_get_length(out));
	connection_abandon(connection);
}

static void unlink_connection(struct connection *connection)
{
	*connection->link = connection->next;
	if (connection->next != NULL)
		connection->next->link = connection->link;
	connection->connections->count--;
}

/* The answer has been sent, or never will be. */
static void end_entry(struct connection *connection, bool sent)
{
	const struct connections *connections = connection->connections;
	if (connection->entry == NULL || connection->files > 0)
		return;
	access_log_end(connections->access_log, connection->entry, connection->entry_status,
	               connection->sent + (sent ? connection->body : 0));
	connection->entry = NULL;
}

void connection_free_memory(struct connection *connection)
{
	end_entry(connection, false);
	free(connection);
}

void connection_remove(struct connection *connection)
{
	unlink_connection(connection);
	if (connection->deadline != NULL)
		event_free(connection->deadline);
	connection->state = CONNECTION_GONE;
	if (connection->files == 0)
		connection_free_memory(connection);
}

static void destroy_connection(struct connection *connection)
{
	ferry_transport_free(connection->transport);
	connection->transport = NULL;
	connection_remove(connection);
}

static void connection_timed_out(evutil_socket_t fd, short what, void *context);

/* Most connections of a single request need none. */
bool connection_set_deadline(struct connection *connection, const struct timeval *after)
{
	if (connection->deadline == NULL)
		connection->deadline =
		    evtimer_new(connection->connections->base, connection_timed_out, connection);
	return connection->deadline != NULL && event_add(connection->deadline, after) == 0;
}

void connection_clear_deadline(struct connection *connection)
{
	if (connection->deadline != NULL)
		event_del(connection->deadline);
}

bool connection_wait(struct connection *connection)
{
	if (connection->retries++ >= MOST_RETRIES || !connection_set_deadline(connection, &retry_pause))
		return false;
	connection->state = CONNECTION_WAITING;
	return true;
}

/* Answers the request whose complete head is at the start of the input. */
static void answer_first(struct connection *connection)
{
	struct evbuffer *input = connection_input(connection);
	size_t length = connection->head.scanned;
	const char *text = (const char *)evbuffer_pullup(input, (ev_ssize_t)length);
	if (text == NULL) {
		connection_abandon(connection);
		return;
	}
	connection->state = CONNECTION_ANSWERING;
	connection_answer(connection, text);
	if (connection->state != CONNECTION_WAITING)
		evbuffer_drain(input, length);
}

static int64_t monotonic_usec(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The head of a request is complete, or refused. */
static void begin_request(struct connection *connection)
{
	connection_clear_deadline(connection);
	if (connection->connections->counters != NULL)
		connection->began = monotonic_usec();
	connection->state = CONNECTION_ANSWERING;
	ferry_transport_pause_reading(connection->transport);
}

void connection_begin_answer(struct connection *connection, int status)
{
	connection->status = status;
}

/* The answer is with the kernel, or never will be. */
static void count_answer(struct connection *connection)
{
	struct answer_counters *counters = connection->connections->counters;
	struct ferry_transport_stats stats;
	if (counters == NULL || connection->status == 0 ||
	    ferry_transport_get_stats(connection->transport, &stats) < 0)
		return;
	answer_counters_add(counters, (unsigned int)connection->status,
	                    stats.bytes_sent - connection->counted,
	                    (uint64_t)(monotonic_usec() - connection->began));
	connection->counted = stats.bytes_sent;
	connection->status = 0;
}

static void linger_connection(struct connection *connection)
{
	connection->state = CONNECTION_LINGERING;
	ferry_transport_lose_write_connection(connection->transport);
	if (connection->input_over) {
		ferry_transport_lose_connection(connection->transport);
		return;
	}
	connection_set_deadline(connection, &connection->connections->linger_timeout);
	evbuffer_drain(connection_input(connection), evbuffer_get_length(connection_input(connection)));
	ferry_transport_resume_reading(connection->transport);
}

/* A client that has asked for the close sends no more. If all that it has sent is read, a close resets nothing. */
static bool client_is_done(const struct connection *connection)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(connection->transport);
	const struct http_head *head = &connection->head;
	char byte;
	if (!http_head_is_complete(head) || head->keep_alive || http_head_has_body(head) ||
	    evbuffer_get_length(bufferevent_get_input(bev)) > 0)
		return false;
	ssize_t length = recv(bufferevent_getfd(bev), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return length == 0 || (length < 0 && errno == EAGAIN);
}

/* The stream is empty: the kernel has the whole answer. */
static void answer_sent(void *context)
{
	struct connection *connection = context;
	ferry_transport_unregister_producer(connection->transport);
	if (connection->state != CONNECTION_ANSWERING)
		return;
	count_answer(connection);
	end_entry(connection, true);
	if (!connection->keep_alive) {
		if (client_is_done(connection))
			ferry_transport_lose_connection(connection->transport);
		else
			linger_connection(connection);
		return;
	}
	connection->state = CONNECTION_READING;
	connection->answered = true;
	connection->head_begun = false;
	init_head(connection);
	if (connection_is_to_leave(connection))
		connection_leave(connection);
	else if (connection->connections->closes_idle && connection_is_idle(connection))
		ferry_transport_lose_connection(connection->transport);
	else
		read_request(connection);
}

void connection_queue_answer(struct connection *connection, struct evbuffer *out)
{
	static const struct ferry_producer_callbacks callbacks = {.resume_producing = answer_sent};
	struct ferry_transport *transport = connection->transport;
	if (ferry_transport_write_buffer(transport, out) < 0 ||
	    ferry_transport_register_producer(transport, &callbacks, connection, FERRY_PRODUCER_PULL) <
	        0)
		connection_abandon_answer(connection, out);
}

/* `length` bytes of the next head have come. */
static void wait_for_head(struct connection *connection, size_t length)
{
	const struct connections *connections = connection->connections;
	if (connection->input_over) {
		ferry_transport_lose_connection(connection->transport);
		return;
	}
	if (length == 0)
		connection_keep(connection);
	else if (!connection->head_begun)
		connection_set_deadline(connection,
		                        connections->closes_idle ? &hurry : &connections->head_timeout);
	connection->head_begun = length > 0;
	ferry_transport_resume_reading(connection->transport);
}

/* Parses the input, and answers a complete request. No callback runs within the call: the answer is
 * queued. */
static void read_request(struct connection *connection)
{
	bool stranded = connection_is_stranded(connection);
	struct evbuffer *input = connection_input(connection);
	size_t length = evbuffer_get_length(input);
	if (stranded && length == 0) {
		linger_connection(connection);
		return;
	}
	if (length > connection->connections->head_size)
		length = connection->connections->head_size;
	const char *text = length > 0 ? (const char *)evbuffer_pullup(input, (ev_ssize_t)length) : "";
	if (text == NULL) {
		connection_abandon(connection);
		return;
	}
	int result = http_head_parse(&connection->head, text, length);
	if (result == HTTP_HEAD_MORE) {
		wait_for_head(connection, length);
		return;
	}
	begin_request(connection);
	if (result < 0) {
		connection->keep_alive = false;
		connection_refuse(connection, -result, NULL, connection->head.error);
		return;
	}
	if (stranded) {
		connection->keep_alive = false;
		connection_refuse(connection, 421, NULL, "repeat the request on a new connection");
		return;
	}
	connection->retries = 0;
	answer_first(connection);
}

static void connection_made(struct ferry_transport *transport, void *context)
{
	(void)transport;
	struct connection *connection = context;
	if (connection->state == CONNECTION_READING)
		read_request(connection); /* the bytes that the proxy has read */
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct connection *connection = context;
	if (connection->state == CONNECTION_READING) {
		read_request(connection);
	} else if (connection->state == CONNECTION_LINGERING) {
		connection->lingered += evbuffer_get_length(input);
		evbuffer_drain(input, evbuffer_get_length(input));
		if (connection->lingered > LINGER_BYTES)
			ferry_transport_lose_connection(transport);
	}
}

/* A client that ends its half right after its request still gets the answer. */
static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	struct connection *connection = context;
	connection->input_over = true;
	if (connection->state != CONNECTION_ANSWERING && connection->state != CONNECTION_WAITING)
		ferry_transport_lose_connection(transport);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)reason;
	struct connection *connection = context;
	struct connections *connections = connection->connections;
	struct connection_tag tag = connection->tag;
	count_answer(connection);
	destroy_connection(connection);
	connections->ended(connections, &tag);
}

static void connection_timed_out(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct connection *connection = context;
	if (connection->state == CONNECTION_LEAVING || connection_is_idle(connection)) {
		connection_give_back(connection);
	} else if (connection->state == CONNECTION_READING) {
		connection->state = CONNECTION_ANSWERING;
		connection->keep_alive = false;
		ferry_transport_pause_reading(connection->transport);
		connection_refuse(connection, 408, NULL, "the request head took too long");
	} else if (connection->state == CONNECTION_WAITING) {
		answer_first(connection);
	} else {
		ferry_transport_lose_connection(connection->transport);
	}
}

static const struct ferry_protocol protocol = {.connection_made = connection_made,
                                               .data_received = data_received,
                                               .read_connection_lost = read_connection_lost,
                                               .connection_lost = connection_lost};

int connection_start(struct connection *connection, struct ferry_transport *transport)
{
	struct connections *connections = connection->connections;
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	connection->transport = transport;
	connection->counted = 0;
	connection->state = CONNECTION_READING;
	connection->head_begun = false;
	init_head(connection);
	/* linger_connection() does it, before the transport closes. */
	ferry_transport_set_linger_timeout(transport, &(struct timeval){0});
	bufferevent_set_timeouts(bev, &connections->idle_timeout, &connections->idle_timeout);
	bufferevent_set_max_single_read(bev, bytes_per_read);
	/* The head has come with the handoff: the socket is watched once another one is awaited. */
	ferry_transport_pause_reading(transport);
	int status = ferry_transport_set_protocol(transport, &protocol, connection);
	if (status < 0) {
		ferry_transport_free(transport);
		connection->transport = NULL;
	}
	return status;
}

/* NULL: there is no memory. */
static struct connection *new_connection(struct connections *connections,
                                         const struct connection_client *client,
                                         const struct connection_tag *tag)
{
	size_t name_size = strlen(client->name) + 1;
	struct connection *connection = malloc(sizeof(*connection) + name_size + client->blob_length);
	if (connection == NULL)
		return NULL;
	char *name = (char *)(connection + 1), *blob = name + name_size;
	memcpy(name, client->name, name_size);
	memcpy(blob, client->blob, client->blob_length);
	*connection = (struct connection){.connections = connections,
	                                  .tag = *tag,
	                                  .routes_each = client->routes_each,
	                                  .answered = client->answered,
	                                  .attempt = client->attempt,
	                                  .name = name,
	                                  .blob = blob,
	                                  .blob_length = client->blob_length};
	if (connections->filled != NULL)
		evutil_gettimeofday(&connection->claimed, NULL);
	return connection;
}

int connections_serve(struct connections *connections, struct ferry_transport *transport,
                      const struct connection_client *client, const struct connection_tag *tag)
{
	struct connection *connection = new_connection(connections, client, tag);
	if (connection == NULL) {
		ferry_transport_free(transport);
		return -ENOMEM;
	}
	int status = connection_start(connection, transport);
	if (status < 0) {
		connection_free_memory(connection);
		return status;
	}
	connection->next = connections->first;
	connection->link = &connections->first;
	if (connection->next != NULL)
		connection->next->link = &connection->next;
	connections->first = connection;
	connections->count++;
	return 0;
}

void connections_close_idle(struct connections *connections)
{
	struct connection *next;
	connections->closes_idle = true;
	for (struct connection *connection = connections->first; connection != NULL;
	     connection = next) {
		next = connection->next;
		if (connection->state == CONNECTION_READING && connection->head_begun)
			connection_set_deadline(connection, &hurry);
		if (!connection_is_idle(connection))
			continue;
		if (ferry_worker_can_return(connection->tag.worker))
			connection_give_back(connection);
		else
			ferry_transport_lose_connection(connection->transport);
	}
}

void connections_close_all(struct connections *connections)
{
	struct connection *next;
	for (struct connection *connection = connections->first; connection != NULL;
	     connection = next) {
		next = connection->next;
		destroy_connection(connection);
	}
}
