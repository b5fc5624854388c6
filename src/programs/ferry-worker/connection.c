#include "programs/ferry-worker/connection.h"

#include "programs/shared/access_log.h"
#include "programs/shared/answer_counters.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* The most input that is dropped while a connection lingers. */
enum { LINGER_BYTES = 1024 * 1024 };

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

const char *connection_client_name(const struct connection *connection, char *text)
{
	struct client_address address = {.proxied = false};
	client_address_get(&address, connection->blob, connection->blob_length);
	return ferry_address_format(&address.client, text, FERRY_ADDRESS_TEXT_SIZE);
}

struct evbuffer *connection_input(const struct connection *connection)
{
	return stream_input(&connection->stream);
}

const char *connection_head_text(const struct connection *connection)
{
	if (connection->handoff != NULL)
		return ferry_handoff_get_bytes(connection->handoff, NULL);
	return (const char *)evbuffer_pullup(connection_input(connection),
	                                     (ev_ssize_t)connection->head.scanned);
}

void connection_abandon(struct connection *connection)
{
	if (connection->handoff != NULL)
		connection->state = CONNECTION_GONE;
	else
		stream_abort(&connection->stream);
}

void connection_abandon_answer(struct connection *connection, struct evbuffer *out)
{
	evbuffer_drain(out, evbuffer_get_length(out));
	connection_abandon(connection);
}

static void link_connection(struct connection *connection)
{
	struct connections *connections = connection->connections;
	connection->next = connections->first;
	connection->link = &connections->first;
	if (connection->next != NULL)
		connection->next->link = &connection->next;
	connections->first = connection;
	connections->count++;
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
	if (connection->entry == NULL)
		return;
	access_log_end(connections->access_log, connection->entry, connection->entry_status,
	               connection->sent + (sent ? connection->body : 0));
	connection->entry = NULL;
}

void connection_free_memory(struct connection *connection)
{
	struct connections *connections = connection->connections;
	end_entry(connection, false);
	free(connections->spare);
	connections->spare = connection;
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
	stream_free(&connection->stream);
	connection_remove(connection);
}

static int64_t monotonic_usec(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void connection_timed_out(evutil_socket_t fd, short what, void *context);

static bool arm_deadline(struct connection *connection, int64_t after)
{
	const struct timeval time = {.tv_sec = (time_t)(after / 1000000),
	                             .tv_usec = (suseconds_t)(after % 1000000)};
	if (connection->deadline == NULL)
		connection->deadline =
		    evtimer_new(connection->connections->base, connection_timed_out, connection);
	if (connection->deadline == NULL || event_add(connection->deadline, &time) < 0)
		return false;
	connection->armed = connection->due;
	return true;
}

/* Most connections of a single request need none. Most deadlines are cleared long before they are due, and another one
 * follows: an event that is pending for an earlier time stays, and is armed anew when it fires. */
bool connection_set_deadline(struct connection *connection, const struct timeval *after)
{
	int64_t usec = (int64_t)after->tv_sec * 1000000 + after->tv_usec;
	connection->due = monotonic_usec() + usec;
	return (connection->armed != 0 && connection->armed <= connection->due) ||
	       arm_deadline(connection, usec);
}

void connection_clear_deadline(struct connection *connection)
{
	connection->due = 0;
}

/* The event has fired. */
static bool deadline_has_passed(struct connection *connection)
{
	int64_t left = connection->due != 0 ? connection->due - monotonic_usec() : 0;
	connection->armed = 0;
	if (connection->due == 0 || (left > 0 && arm_deadline(connection, left)))
		return false;
	connection->due = 0;
	return true;
}

void connection_pause_reading(struct connection *connection)
{
	connection->reading = false;
	stream_pause_reading(&connection->stream);
}

static void resume_reading(struct connection *connection)
{
	connection->reading = true;
	stream_resume_reading(&connection->stream);
}

bool connection_wait(struct connection *connection)
{
	if (connection->retries++ >= MOST_RETRIES || connection_need_stream(connection) < 0 ||
	    !connection_set_deadline(connection, &retry_pause))
		return false;
	connection->state = CONNECTION_WAITING;
	connection_pause_reading(connection);
	return true;
}

/* Answers the request whose complete head is at the start of the input. */
static void answer_first(struct connection *connection)
{
	size_t length = connection->head.scanned;
	const char *text = connection_head_text(connection);
	if (text == NULL) {
		connection_abandon(connection);
		return;
	}
	connection->state = CONNECTION_ANSWERING;
	connection_answer(connection, text);
	if (connection->state != CONNECTION_WAITING)
		evbuffer_drain(connection_input(connection), length);
}

/* The head of a request is complete, or refused. */
static void begin_request(struct connection *connection)
{
	connection_clear_deadline(connection);
	if (connection->connections->counters != NULL)
		connection->began = monotonic_usec();
	connection->state = CONNECTION_ANSWERING;
	if (connection->reading)
		connection_pause_reading(connection);
}

void connection_begin_answer(struct connection *connection, int status)
{
	connection->status = status;
}

/* The answer is with the kernel, or never will be. */
static void count_answer(struct connection *connection)
{
	struct answer_counters *counters = connection->connections->counters;
	if (counters == NULL || connection->status == 0)
		return;
	uint64_t sent = connection->written + stream_bytes_sent(&connection->stream);
	answer_counters_add(counters, (unsigned int)connection->status, sent - connection->counted,
	                    (uint64_t)(monotonic_usec() - connection->began));
	connection->counted = sent;
	connection->status = 0;
}

static void linger_connection(struct connection *connection)
{
	connection->state = CONNECTION_LINGERING;
	stream_lose_write(&connection->stream);
	if (connection->input_over) {
		stream_lose(&connection->stream);
		return;
	}
	connection_set_deadline(connection, &connection->connections->linger_timeout);
	evbuffer_drain(connection_input(connection), evbuffer_get_length(connection_input(connection)));
	resume_reading(connection);
}

/* A client that has asked for the close sends no more. If all that it has sent is read, a close resets nothing. */
static bool client_is_done(const struct connection *connection)
{
	const struct http_head *head = &connection->head;
	if (!http_head_is_complete(head) || head->keep_alive || http_head_has_body(head))
		return false;
	return connection->handoff != NULL
	           ? socket_is_drained(ferry_handoff_get_fd(connection->handoff))
	           : stream_is_drained(&connection->stream);
}

/* Waits for the next request. False: it leaves or closes instead. */
static bool begin_to_wait(struct connection *connection)
{
	connection->state = CONNECTION_READING;
	connection->answered = true;
	connection->head_begun = false;
	init_head(connection);
	if (connection_is_to_leave(connection))
		connection_leave(connection);
	else if (connection->connections->closes_idle && connection_is_idle(connection))
		stream_lose(&connection->stream);
	else
		return true;
	return false;
}

/* The kernel has the whole answer. */
static void end_answer(struct connection *connection)
{
	count_answer(connection);
	end_entry(connection, true);
	if (!connection->keep_alive) {
		if (client_is_done(connection))
			stream_lose(&connection->stream);
		else
			linger_connection(connection);
		return;
	}
	if (begin_to_wait(connection))
		read_request(connection);
}

/* The stream is empty. Its file may be notified later. */
static void answer_sent(void *context)
{
	struct connection *connection = context;
	stream_clear_producer(&connection->stream);
	connection->file_is_last = connection->files > 0;
	if (connection->state == CONNECTION_ANSWERING && !connection->file_is_last)
		end_answer(connection);
}

void connection_file_sent(struct connection *connection)
{
	if (!connection->file_is_last || connection->state != CONNECTION_ANSWERING)
		return;
	connection->file_is_last = false;
	end_answer(connection);
}

void connection_finish_answer(struct connection *connection)
{
	if (connection->handoff != NULL) /* the kernel has it */
		return;
	static const struct ferry_producer_callbacks callbacks = {.resume_producing = answer_sent};
	if (stream_set_producer(&connection->stream, &callbacks, connection) < 0)
		connection_abandon(connection);
}

/* Returns the number of bytes, which may be 0, or a negative errno. The shutdown of a connection that ends with this
 * answer follows at once, and sends the bytes: they and the end of the stream are one segment. */
static ssize_t send_at_once(struct connection *connection, const void *bytes, size_t length)
{
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (connection->keep_alive ? 0 : MSG_MORE);
	ssize_t sent = send(ferry_handoff_get_fd(connection->handoff), bytes, length, flags);
	if (sent < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM ? 0
		                                                                                : -errno;
	connection->written += (size_t)sent;
	return sent;
}

int connection_write(struct connection *connection, const void *bytes, size_t length)
{
	ssize_t sent = 0;
	if (connection->handoff != NULL) {
		sent = send_at_once(connection, bytes, length);
		if (sent < 0 || (size_t)sent == length)
			return sent < 0 ? (int)sent : 0;
		int status = connection_need_stream(connection);
		if (status < 0)
			return status;
	}
	return stream_send(&connection->stream, (const char *)bytes + sent, length - (size_t)sent);
}

static int write_all(struct connection *connection, struct evbuffer *out)
{
	size_t length = evbuffer_get_length(out);
	if (connection->handoff == NULL)
		return stream_write_buffer(&connection->stream, out);
	const void *bytes = evbuffer_pullup(out, -1);
	int status = bytes != NULL ? connection_write(connection, bytes, length) : -ENOMEM;
	evbuffer_drain(out, length);
	return status;
}

void connection_queue_answer(struct connection *connection, struct evbuffer *out)
{
	if (write_all(connection, out) < 0)
		connection_abandon_answer(connection, out);
	else
		connection_finish_answer(connection);
}

/* `length` bytes of the next head have come. */
static void wait_for_head(struct connection *connection, size_t length)
{
	const struct connections *connections = connection->connections;
	if (connection->input_over) {
		stream_lose(&connection->stream);
		return;
	}
	if (length == 0)
		connection_keep(connection);
	else if (!connection->head_begun)
		connection_set_deadline(connection,
		                        connections->closes_idle ? &hurry : &connections->head_timeout);
	connection->head_begun = length > 0;
	resume_reading(connection);
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
	(void)transport;
	struct connection *connection = context;
	if (connection->state == CONNECTION_READING) {
		read_request(connection);
	} else if (connection->state == CONNECTION_LINGERING) {
		connection->lingered += evbuffer_get_length(input);
		evbuffer_drain(input, evbuffer_get_length(input));
		if (connection->lingered > LINGER_BYTES)
			stream_lose(&connection->stream);
	}
}

/* A client that ends its half right after its request still gets the answer. */
static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	(void)transport;
	struct connection *connection = context;
	connection->input_over = true;
	if (connection->state != CONNECTION_ANSWERING && connection->state != CONNECTION_WAITING)
		stream_lose(&connection->stream);
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
	if (!deadline_has_passed(connection))
		return;
	if (connection->state == CONNECTION_LEAVING || connection_is_idle(connection)) {
		connection_give_back(connection);
	} else if (connection->state == CONNECTION_READING) {
		connection->state = CONNECTION_ANSWERING;
		connection->keep_alive = false;
		connection_pause_reading(connection);
		connection_refuse(connection, 408, NULL, "the request head took too long");
	} else if (connection->state == CONNECTION_WAITING) {
		answer_first(connection);
	} else {
		stream_lose(&connection->stream);
	}
}

static const struct ferry_protocol protocol = {.connection_made = connection_made,
                                               .data_received = data_received,
                                               .read_connection_lost = read_connection_lost,
                                               .connection_lost = connection_lost};

int connection_start(struct connection *connection, const struct stream *stream)
{
	struct connections *connections = connection->connections;
	connection->stream = *stream;
	connection->counted = 0;
	connection->written = 0;
	connection->state = CONNECTION_READING;
	connection->reading = stream->tls != NULL; /* a transport begins paused */
	connection->head_begun = false;
	init_head(connection);
	int status = stream_start(stream, &connections->idle_timeout, &protocol, connection);
	if (status < 0)
		stream_free(&connection->stream);
	return status;
}

int connection_need_stream(struct connection *connection)
{
	struct connections *connections = connection->connections;
	int status = 0;
	if (connection->handoff == NULL)
		return 0;
	if (connection->stream.transport == NULL)
		status = ferry_handoff_to_transport(&connection->stream.transport, connection->handoff,
		                                    connections->base, BEV_OPT_CLOSE_ON_FREE);
	if (status == 0)
		status =
		    stream_start(&connection->stream, &connections->idle_timeout, &protocol, connection);
	if (status < 0)
		return status; /* end_at_once() ends the stream, if there is one */
	connection->handoff = NULL;
	link_connection(connection);
	return 0;
}

/* ---- the first request ---- */

/* As ferry_transport_abort_connection(): the client must be able to tell the end of a part from that of an answer. A unix
 * socket cannot be reset. */
static void reset_socket(int fd)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	(void)connect(fd, &nobody, sizeof(nobody));
}

/* The answer has been given, or is abandoned. */
static void end_at_once(struct connection *connection)
{
	struct connections *connections = connection->connections;
	struct connection_tag tag = connection->tag;
	bool abandoned = connection->state == CONNECTION_GONE;
	int fd = ferry_handoff_steal_fd(connection->handoff);
	if (fd >= 0) {
		if (abandoned)
			reset_socket(fd);
		shutdown(fd, SHUT_RDWR); /* the proxy may still have its copy */
		close(fd);
	}
	if (connection->stream.transport != NULL) { /* no protocol could be set */
		if (abandoned)
			stream_abort(&connection->stream);
		stream_free(&connection->stream);
	}
	connection_free_memory(connection);
	connections->ended(connections, &tag);
}

/* The kernel has the whole answer, or never will have it. */
static void finish_at_once(struct connection *connection)
{
	count_answer(connection);
	end_entry(connection, connection->state != CONNECTION_GONE);
	bool over = connection->state == CONNECTION_GONE ||
	            (!connection->keep_alive && client_is_done(connection));
	if (over || connection_need_stream(connection) < 0) {
		end_at_once(connection);
		return;
	}
	evbuffer_drain(connection_input(connection), connection->head.scanned);
	if (connection->keep_alive)
		(void)begin_to_wait(connection); /* connection_made reads on */
	else
		linger_connection(connection);
}

/* Most requests have come as a whole when the connection comes: such a one is answered on the bare socket. */
static void answer_at_once(struct connection *connection, struct ferry_handoff *handoff)
{
	connection->handoff = handoff;
	begin_request(connection);
	connection_answer(connection, connection_head_text(connection));
	if (connection->handoff != NULL)
		finish_at_once(connection);
	else if (connection->state != CONNECTION_WAITING)
		evbuffer_drain(connection_input(connection), connection->head.scanned);
}

/* NULL: there is no memory. malloc(3) caches no blocks of this size. */
static struct connection *new_connection(struct connections *connections,
                                         const struct connection_client *client,
                                         const struct connection_tag *tag)
{
	struct connection *connection =
	    connections->spare != NULL ? connections->spare : malloc(sizeof(*connection));
	if (connection == NULL)
		return NULL;
	connections->spare = NULL;
	memset(connection, 0, offsetof(struct connection, blob));
	connection->connections = connections;
	connection->tag = *tag;
	connection->routes_each = client->routes_each;
	connection->answered = client->answered;
	connection->attempt = client->attempt;
	memcpy(connection->blob, client->blob, client->blob_length);
	connection->blob_length = client->blob_length;
	if (connections->filled != NULL)
		evutil_gettimeofday(&connection->claimed, NULL);
	return connection;
}

/* TLS in the kernel needs a stream. A dispatcher that states the kind of the socket states that it has none. */
static bool may_be_bare(const struct ferry_handoff *handoff)
{
	struct ferry_handoff_info info;
	return ferry_handoff_get_info(handoff, &info) == 0 &&
	       (info.inet_stream || !socket_has_tls(ferry_handoff_get_fd(handoff)));
}

/* Whether the bytes are one request, and nothing behind it. */
static bool is_whole_request(struct connection *connection, const struct ferry_handoff *handoff)
{
	size_t length;
	const char *bytes = ferry_handoff_get_bytes(handoff, &length);
	init_head(connection);
	int result = length > 0 ? http_head_parse(&connection->head, bytes, length) : 0;
	return result > 0 && (size_t)result == length;
}

static int serve_on_transport(struct connection *connection, struct ferry_handoff *handoff)
{
	struct stream stream = {.tls = NULL};
	int status = ferry_handoff_to_transport(&stream.transport, handoff,
	                                        connection->connections->base, BEV_OPT_CLOSE_ON_FREE);
	if (status == 0)
		status = connection_start(connection, &stream);
	if (status == 0)
		link_connection(connection);
	return status;
}

int connections_serve_handoff(struct connections *connections, struct ferry_handoff *handoff,
                              const struct connection_client *client,
                              const struct connection_tag *tag)
{
	struct connection *connection = new_connection(connections, client, tag);
	if (connection == NULL)
		return -ENOMEM;
	if (!client->answered && is_whole_request(connection, handoff) && may_be_bare(handoff)) {
		answer_at_once(connection, handoff);
		return 0;
	}
	int status = serve_on_transport(connection, handoff);
	if (status != 0)
		connection_free_memory(connection);
	return status;
}

int connections_serve(struct connections *connections, struct stream *stream,
                      const struct connection_client *client, const struct connection_tag *tag)
{
	struct connection *connection = new_connection(connections, client, tag);
	if (connection == NULL) {
		stream_free(stream);
		return -ENOMEM;
	}
	int status = connection_start(connection, stream);
	if (status < 0) {
		connection_free_memory(connection);
		return status;
	}
	link_connection(connection);
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
		if (connection_can_return(connection))
			connection_give_back(connection);
		else
			stream_lose(&connection->stream);
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
