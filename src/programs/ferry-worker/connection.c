#include "programs/ferry-worker/connection.h"

#include "programs/ferry-worker/access_log.h"
#include "programs/ferry-worker/static_file.h"
#include "programs/http/answer.h"
#include "programs/http/condition.h"
#include "programs/http/date.h"
#include "programs/http/head.h"
#include "programs/http/mime_type.h"
#include "programs/http/path.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* Input that a client may still send while its connection lingers. */
enum { LINGER_BYTES = 1024 * 1024 };

/* Read at once: requests wait here while an answer is on its way, not many of them. */
static const size_t bytes_per_read = 16384;

/* Without descriptors or memory for a file it is tried again, so often, before the client is told so. */
static const struct timeval retry_pause = {.tv_usec = 50000};
enum { MOST_RETRIES = 100 };

enum state { READING, WAITING, ANSWERING, LINGERING, GONE };

struct connection {
	struct connections *server;
	struct connection *next;
	struct connection **link; /* what points to this one */
	struct connection_tag tag;
	char *name;

	struct ferry_transport *transport;
	struct event *deadline;
	enum state state;
	bool keep_alive;
	bool input_over;    /* the client has ended its sending half */
	unsigned int files; /* whose callbacks are still to come, with this connection as context */
	size_t lingered;
	unsigned int retries;
	struct http_head head;
};

static void read_request(struct connection *connection);

static struct evbuffer *input_of(const struct connection *connection)
{
	return bufferevent_get_input(ferry_transport_get_bufferevent(connection->transport));
}

/* The answer cannot be given or completed: a reset tells the client so. connection_lost follows. */
static void abandon(struct connection *connection)
{
	ferry_transport_abort_connection(connection->transport);
}

static void unlink_connection(struct connection *connection)
{
	*connection->link = connection->next;
	if (connection->next != NULL)
		connection->next->link = connection->link;
	connection->server->connection_count--;
}

static void free_memory(struct connection *connection)
{
	free(connection->name);
	free(connection);
}

static void destroy(struct connection *connection)
{
	unlink_connection(connection);
	event_free(connection->deadline);
	ferry_transport_free(connection->transport);
	connection->transport = NULL;
	connection->state = GONE;
	if (connection->files == 0)
		free_memory(connection);
}

/* Sends what was gathered, and has the loop come back when all of it has left. */
static void queue_answer(struct connection *connection, struct evbuffer *out);

/* The request is still in the input. */
static void log_answer(struct connection *connection, int status, uint64_t length)
{
	struct access_log *log = connection->server->access_log;
	if (log == NULL)
		return;
	const struct http_head *head = &connection->head;
	const char *text = NULL;
	if (http_head_is_complete(head))
		text = (const char *)evbuffer_pullup(input_of(connection), (ev_ssize_t)head->scanned);
	struct http_slice line = http_head_line(head);
	if (text != NULL)
		access_log_add(log, connection->name, text + line.start, line.length, status, length);
	else
		access_log_add(log, connection->name, "-", 1, status, length);
}

static void refuse(struct connection *connection, int status, const char *fields, const char *why)
{
	struct http_answer answer = {.status = status,
	                             .keep_alive = connection->keep_alive,
	                             .without_body = connection->head.method == HTTP_HEAD,
	                             .fields = fields,
	                             .why = why};
	struct evbuffer *out = evbuffer_new();
	log_answer(connection, status, 0);
	if (out == NULL || http_answer_add(out, &answer) < 0)
		abandon(connection);
	else
		queue_answer(connection, out);
	if (out != NULL)
		evbuffer_free(out);
}

/* What openat2(2) said, for the client. Nothing of it tells what lies outside of the root. */
static void refuse_path(struct connection *connection, int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -ENAMETOOLONG:
		refuse(connection, 404, NULL, NULL);
		return;
	case -EINVAL:
		refuse(connection, 400, NULL, "bad escape in the path");
		return;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
	case -EAGAIN:
		refuse(connection, 503, "Retry-After: 1\r\n", NULL);
		return;
	case -EIO:
		refuse(connection, 500, NULL, NULL);
		return;
	default:
		refuse(connection, 403, NULL, NULL);
		return;
	}
}

/* A directory's relative links only work from behind its slash. Leading slashes are made one: a
 * Location that starts with two would name another host. */
static void redirect_to_directory(struct connection *connection, const char *text)
{
	const char *path = text + connection->head.path.start;
	int length = connection->head.path.length;
	while (length > 0 && (*path == '/' || *path == '\\')) {
		path++;
		length--;
	}
	char fields[HTTP_HEAD_LIMIT + 32];
	evutil_snprintf(fields, sizeof(fields), "Location: /%.*s/%.*s\r\n", length, path,
	                (int)connection->head.query.length, text + connection->head.query.start);
	refuse(connection, 301, fields, NULL);
}

static void file_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	(void)producer, (void)sent;
	struct connection *connection = context;
	connection->files--;
	if (connection->state == GONE) {
		if (connection->files == 0)
			free_memory(connection);
		return;
	}
	if (status != 0)
		abandon(connection); /* it was promised more bytes than there are */
}

static int send_file(struct connection *connection, struct evbuffer *out, struct static_file *file,
                     const struct http_range *range)
{
	static const struct ferry_file_callbacks callbacks = {.finished = file_finished};
	int status = ferry_transport_write_buffer(connection->transport, out);
	if (status < 0)
		return status;
	status = ferry_transport_send_file(NULL, connection->transport, file->fd, FERRY_FD_TAKE,
	                                   (int64_t)range->first, (int64_t)range->length, 0, &callbacks,
	                                   connection);
	if (status < 0)
		return status;
	file->fd = -1;
	connection->files++;
	return 0;
}

static int add_file_fields(struct evbuffer *out, int status, const char *path,
                           const struct static_file *file, const struct http_range *range)
{
	char modified[HTTP_DATE_SIZE];
	http_date_format(file->modified, modified);
	int added = evbuffer_add_printf(out, "ETag: %s\r\nLast-Modified: %s\r\n", file->etag, modified);
	if (added >= 0 && status != 304)
		added = evbuffer_add_printf(out,
		                            "Content-Type: %s\r\nContent-Length: %ju\r\n"
		                            "Accept-Ranges: bytes\r\n"
		                            "X-Content-Type-Options: nosniff\r\n",
		                            mime_type_of(path), (uintmax_t)range->length);
	if (added >= 0 && status == 206)
		added = evbuffer_add_printf(
		    out, "Content-Range: bytes %ju-%ju/%ju\r\n", (uintmax_t)range->first,
		    (uintmax_t)(range->first + range->length - 1), (uintmax_t)file->size);
	if (added >= 0)
		added = evbuffer_add(out, "\r\n", 2);
	return added < 0 ? -ENOMEM : 0;
}

static void answer_file(struct connection *connection, const char *text, const char *path,
                        struct static_file *file)
{
	struct http_validators validators = {
	    .etag = file->etag, .modified = file->modified, .size = file->size};
	struct http_range range;
	int status = http_condition_evaluate(&connection->head, text, &validators, time(NULL), &range);
	if (status == 412) {
		refuse(connection, 412, NULL, NULL);
		return;
	}
	if (status == 416) {
		char fields[64];
		evutil_snprintf(fields, sizeof(fields), "Content-Range: bytes */%ju\r\n",
		                (uintmax_t)file->size);
		refuse(connection, 416, fields, NULL);
		return;
	}

	struct evbuffer *out = evbuffer_new();
	log_answer(connection, status, status == 304 ? 0 : range.length);
	if (out == NULL || http_answer_begin(out, status, connection->keep_alive) < 0 ||
	    add_file_fields(out, status, path, file, &range) < 0)
		abandon(connection);
	else if (connection->head.method == HTTP_GET && status != 304 && range.length > 0 &&
	         send_file(connection, out, file, &range) < 0)
		abandon(connection);
	else
		queue_answer(connection, out);
	if (out != NULL)
		evbuffer_free(out);
}

static bool may_pass(int status)
{
	return status == -EMFILE || status == -ENFILE || status == -ENOMEM || status == -EAGAIN;
}

/* The request stays in the input meanwhile. False: it has waited long enough. */
static bool wait_for_a_moment(struct connection *connection)
{
	if (connection->retries++ >= MOST_RETRIES || event_add(connection->deadline, &retry_pause) < 0)
		return false;
	connection->state = WAITING;
	return true;
}

static void answer_path(struct connection *connection, const char *text)
{
	static const char index_name[] = "/index.html";
	const struct http_slice *encoded = &connection->head.path;
	char path[PATH_MAX];
	int status = http_path_decode(text + encoded->start, encoded->length, path,
	                              sizeof(path) - sizeof(index_name));
	struct static_file file = {.fd = -1};
	if (status == 0)
		status = static_file_open(connection->server->root, path, &file);
	if (status == -EISDIR) {
		if (encoded->length > 0 && text[encoded->start + encoded->length - 1] != '/') {
			redirect_to_directory(connection, text);
			return;
		}
		memcpy(path + strlen(path), index_name, sizeof(index_name));
		status = static_file_open(connection->server->root, path, &file);
		if (status == -ENOENT || status == -EISDIR)
			status = -EACCES; /* directories are not listed */
	}
	if (may_pass(status) && wait_for_a_moment(connection))
		return;
	if (status < 0) {
		refuse_path(connection, status);
		return;
	}
	answer_file(connection, text, path, &file);
	if (file.fd >= 0)
		close(file.fd);
}

/* A request body is never read: after the answer the connection ends, so that no byte of the body
 * can be taken for a request. */
static void answer(struct connection *connection, const char *text)
{
	bool has_body = http_head_has_body(&connection->head);
	connection->keep_alive =
	    connection->head.keep_alive && !has_body && !connection->server->draining;
	switch (connection->head.method) {
	case HTTP_UNKNOWN_METHOD:
		refuse(connection, 501, NULL, NULL);
		return;
	case HTTP_KNOWN_METHOD:
		refuse(connection, 405, "Allow: GET, HEAD\r\n", NULL);
		return;
	default:
		break;
	}
	if (has_body)
		refuse(connection, 400, NULL, "a request body is not expected here");
	else
		answer_path(connection, text);
}

/* The head is complete, and the first in the input. */
static void answer_first(struct connection *connection)
{
	struct evbuffer *input = input_of(connection);
	size_t length = connection->head.scanned;
	const char *text = (const char *)evbuffer_pullup(input, (ev_ssize_t)length);
	if (text == NULL) {
		abandon(connection);
		return;
	}
	connection->state = ANSWERING;
	answer(connection, text);
	if (connection->state != WAITING)
		evbuffer_drain(input, length);
}

static void linger(struct connection *connection)
{
	connection->state = LINGERING;
	ferry_transport_lose_write_connection(connection->transport);
	if (connection->input_over) {
		ferry_transport_lose_connection(connection->transport);
		return;
	}
	event_add(connection->deadline, &connection->server->linger_timeout);
	evbuffer_drain(input_of(connection), evbuffer_get_length(input_of(connection)));
	ferry_transport_resume_reading(connection->transport);
}

/* The stream is empty: the answer has left, as far as this process is concerned. */
static void answer_sent(void *context)
{
	struct connection *connection = context;
	ferry_transport_unregister_producer(connection->transport);
	if (connection->state != ANSWERING)
		return;
	if (!connection->keep_alive) {
		linger(connection);
		return;
	}
	connection->state = READING;
	http_head_init(&connection->head);
	if (connection->server->closes_idle && evbuffer_get_length(input_of(connection)) == 0)
		ferry_transport_lose_connection(connection->transport);
	else
		read_request(connection);
}

static void queue_answer(struct connection *connection, struct evbuffer *out)
{
	static const struct ferry_producer_callbacks callbacks = {.resume_producing = answer_sent};
	struct ferry_transport *transport = connection->transport;
	if (ferry_transport_write_buffer(transport, out) < 0 ||
	    ferry_transport_register_producer(transport, &callbacks, connection, FERRY_PRODUCER_PULL) <
	        0)
		abandon(connection);
}

/* Looks at what there is of a request. Nothing here calls back: an answer is only queued. */
static void read_request(struct connection *connection)
{
	struct evbuffer *input = input_of(connection);
	size_t length = evbuffer_get_length(input);
	if (length > HTTP_HEAD_LIMIT)
		length = HTTP_HEAD_LIMIT;
	const char *text = length > 0 ? (const char *)evbuffer_pullup(input, (ev_ssize_t)length) : "";
	if (text == NULL) {
		abandon(connection);
		return;
	}
	int result = http_head_parse(&connection->head, text, length);
	if (result == HTTP_HEAD_MORE) {
		if (connection->input_over) {
			ferry_transport_lose_connection(connection->transport);
			return;
		}
		if (length > 0 && !event_pending(connection->deadline, EV_TIMEOUT, NULL))
			event_add(connection->deadline, &connection->server->head_timeout);
		ferry_transport_resume_reading(connection->transport);
		return;
	}
	event_del(connection->deadline);
	connection->state = ANSWERING;
	ferry_transport_pause_reading(connection->transport);
	if (result < 0) {
		connection->keep_alive = false;
		refuse(connection, -result, NULL, connection->head.error);
		return;
	}
	connection->retries = 0;
	answer_first(connection);
}

static void connection_made(struct ferry_transport *transport, void *context)
{
	(void)transport;
	read_request(context); /* what the proxy had read already */
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct connection *connection = context;
	if (connection->state == READING) {
		read_request(connection);
	} else if (connection->state == LINGERING) {
		connection->lingered += evbuffer_get_length(input);
		evbuffer_drain(input, evbuffer_get_length(input));
		if (connection->lingered > LINGER_BYTES)
			ferry_transport_lose_connection(transport);
	}
}

/* A client may end its half right after its requests and is answered even so. */
static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	struct connection *connection = context;
	connection->input_over = true;
	if (connection->state != ANSWERING && connection->state != WAITING)
		ferry_transport_lose_connection(transport);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)reason;
	struct connection *connection = context;
	struct connections *server = connection->server;
	struct connection_tag tag = connection->tag;
	destroy(connection);
	server->ended(server, &tag);
}

static void deadline_passed(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct connection *connection = context;
	if (connection->state == READING) {
		connection->state = ANSWERING;
		connection->keep_alive = false;
		ferry_transport_pause_reading(connection->transport);
		refuse(connection, 408, NULL, "the request head took too long");
	} else if (connection->state == WAITING) {
		answer_first(connection);
	} else {
		ferry_transport_lose_connection(connection->transport);
	}
}

static const struct ferry_protocol protocol = {.connection_made = connection_made,
                                               .data_received = data_received,
                                               .read_connection_lost = read_connection_lost,
                                               .connection_lost = connection_lost};

static int start(struct connection *connection, struct bufferevent *bev)
{
	struct connections *server = connection->server;
	connection->deadline = evtimer_new(server->base, deadline_passed, connection);
	if (connection->deadline == NULL)
		return -ENOMEM;
	/* ferry joins header and file in one segment by itself; Nagle would only hold back the last
	 * part of an answer. Not for unix sockets, where it fails and does not matter. */
	setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	int status = ferry_transport_new(&connection->transport, bev);
	if (status < 0)
		return status;
	bufferevent_set_timeouts(bev, &server->idle_timeout, &server->idle_timeout);
	bufferevent_set_max_single_read(bev, bytes_per_read);
	return ferry_transport_set_protocol(connection->transport, &protocol, connection);
}

static void start_failed(struct connection *connection, struct bufferevent *bev)
{
	if (connection->transport != NULL)
		ferry_transport_free(connection->transport);
	else
		bufferevent_free(bev);
	if (connection->deadline != NULL)
		event_free(connection->deadline);
	free_memory(connection);
}

int connections_serve(struct connections *server, struct bufferevent *bev, const char *name,
                      const struct connection_tag *tag)
{
	struct connection *connection = malloc(sizeof(*connection));
	if (connection == NULL) {
		bufferevent_free(bev);
		return -ENOMEM;
	}
	*connection =
	    (struct connection){.server = server, .tag = *tag, .state = READING, .name = strdup(name)};
	http_head_init(&connection->head);
	int status = connection->name != NULL ? start(connection, bev) : -ENOMEM;
	if (status < 0) {
		start_failed(connection, bev);
		return status;
	}
	connection->next = server->connections;
	connection->link = &server->connections;
	if (connection->next != NULL)
		connection->next->link = &connection->next;
	server->connections = connection;
	server->connection_count++;
	return 0;
}

void connections_close_idle(struct connections *server)
{
	server->closes_idle = true;
	for (struct connection *connection = server->connections; connection != NULL;
	     connection = connection->next)
		if (connection->state == READING && evbuffer_get_length(input_of(connection)) == 0)
			ferry_transport_lose_connection(connection->transport);
}

void connections_close_all(struct connections *server)
{
	struct connection *next;
	for (struct connection *connection = server->connections; connection != NULL;
	     connection = next) {
		next = connection->next;
		destroy(connection);
	}
}
