/* The answer to one request: a file or a part of it, a redirection, or an error. */

#include "programs/ferry-worker/connection.h"
#include "programs/ferry-worker/filled_page.h"
#include "programs/ferry-worker/static_file.h"
#include "programs/ferry-worker/way.h"
#include "programs/http/answer.h"
#include "programs/http/condition.h"
#include "programs/http/date.h"
#include "programs/http/mime_type.h"
#include "programs/http/path.h"
#include "programs/http/text.h"
#include "programs/shared/access_log.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <ferry/ferry.h>

enum { HEAD_SIZE = HTTP_ANSWER_BEGIN_SIZE + 512 };

/* Called while the request is still in the input. `length`: of the body; that of a file is counted as it is sent. */
static void log_answer(struct connection *connection, int status, uint64_t length)
{
	const struct http_head *head = &connection->head;
	const char *text = NULL;
	char name[FERRY_ADDRESS_TEXT_SIZE];
	connection_begin_answer(connection, status);
	if (connection->connections->access_log == NULL)
		return;
	if (http_head_is_complete(head))
		text = connection_head_text(connection);
	access_entry_free(connection->entry);
	connection->entry = access_entry_new(connection_client_name(connection, name), head, text);
	connection->entry_status = status;
	connection->body = length;
	connection->sent = 0;
}

void connection_refuse(struct connection *connection, int status, const char *fields,
                       const char *why)
{
	struct http_answer answer = {.status = status,
	                             .keep_alive = connection->keep_alive,
	                             .without_body = connection->head.method == HTTP_HEAD,
	                             .fields = fields,
	                             .why = why};
	struct evbuffer *out = connection->connections->answer;
	log_answer(connection, status, http_answer_length(&answer));
	if (http_answer_add(out, &answer) < 0)
		connection_abandon_answer(connection, out);
	else
		connection_queue_answer(connection, out);
}

/* Answers with the status for an error of openat2(2). The status reveals nothing about files outside of
 * the root. */
static void refuse_path(struct connection *connection, int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -ENAMETOOLONG:
		connection_refuse(connection, 404, NULL, NULL);
		return;
	case -EINVAL:
		connection_refuse(connection, 400, NULL, "bad escape in the path");
		return;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
	case -EAGAIN:
		connection_refuse(connection, 503, "Retry-After: 1\r\n", NULL);
		return;
	case -EIO:
		connection_refuse(connection, 500, NULL, NULL);
		return;
	default:
		connection_refuse(connection, 403, NULL, NULL);
		return;
	}
}

/* The relative links of a directory work only if its path ends with a slash. Several leading slashes
 * become one, because a Location that starts with two slashes names another host. */
static void redirect_to_directory(struct connection *connection, const char *text)
{
	const char *path = text + connection->head.path.start;
	int length = connection->head.path.length;
	while (length > 0 && (*path == '/' || *path == '\\')) {
		path++;
		length--;
	}
	char fields[HTTP_HEAD_LIMIT_MAX + 32];
	evutil_snprintf(fields, sizeof(fields), "Location: /%.*s/%.*s\r\n", length, path,
	                (int)connection->head.query.length, text + connection->head.query.start);
	connection_refuse(connection, 301, fields, NULL);
}

static void file_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	(void)producer;
	struct connection *connection = context;
	connection->files--;
	connection->sent += sent;
	if (connection->state == CONNECTION_GONE) {
		if (connection->files == 0)
			connection_free_memory(connection);
		return;
	}
	if (status != 0)
		connection_abandon(connection); /* the head has announced more bytes */
	else
		connection_file_sent(connection);
}

static int send_static_file(struct connection *connection, struct static_file *file,
                            const struct http_range *range)
{
	static const struct ferry_file_callbacks callbacks = {.finished = file_finished};
	int status = stream_send_file(&connection->stream, file->fd, (int64_t)range->first,
	                              range->length, &callbacks, connection);
	if (status < 0)
		return status;
	file->fd = -1;
	connection->files++;
	return 0;
}

static void add_type(struct http_text *text, const char *path, uint64_t length)
{
	http_text_add(text, "Content-Type: ");
	http_text_add(text, mime_type_of(path));
	http_text_add(text, "\r\nContent-Length: ");
	http_text_add_number(text, length);
	http_text_add(text, "\r\nAccept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n");
}

static void add_part(struct http_text *text, const struct http_range *range, uint64_t size)
{
	http_text_add(text, "Content-Range: bytes ");
	http_text_add_number(text, range->first);
	http_text_add(text, "-");
	http_text_add_number(text, range->first + range->length - 1);
	http_text_add(text, "/");
	http_text_add_number(text, size);
	http_text_add(text, "\r\n");
}

static void add_file_fields(struct http_text *text, int status, const char *path,
                            const struct static_file *file, const struct http_range *range)
{
	char modified[HTTP_DATE_SIZE];
	http_date_format(file->modified, modified);
	http_text_add(text, "ETag: ");
	http_text_add(text, file->etag);
	http_text_add(text, "\r\nLast-Modified: ");
	http_text_add(text, modified);
	http_text_add(text, "\r\n");
	if (status != 304)
		add_type(text, path, range->length);
	if (status == 206)
		add_part(text, range, file->size);
	http_text_add(text, "\r\n");
}

/* Writes the head and what goes behind it: a short part of a file as bytes, another one as a file. */
static int write_answer(struct connection *connection, int status, const char *path,
                        struct static_file *file, const struct http_range *range)
{
	char bytes[HEAD_SIZE + STATIC_FILE_SHORT];
	struct http_text text = {.bytes = bytes, .size = HEAD_SIZE};
	bool has_body = connection->head.method == HTTP_GET && status != 304 && range->length > 0;
	http_answer_put_begin(&text, status, connection->keep_alive);
	add_file_fields(&text, status, path, file, range);
	bool copied = has_body && range->length <= STATIC_FILE_SHORT &&
	              static_file_read(file, range->first, bytes + text.length, (size_t)range->length);
	size_t body = copied ? (size_t)range->length : 0;
	log_answer(connection, status, body);
	if (!has_body || copied)
		return connection_write(connection, bytes, text.length + body);
	int result = connection_need_stream(connection);
	if (result == 0) /* head and file leave in one call */
		result = stream_write(&connection->stream, bytes, text.length);
	return result == 0 ? send_static_file(connection, file, range) : result;
}

static void answer_file(struct connection *connection, const char *text, const char *path,
                        struct static_file *file)
{
	struct http_validators validators = {
	    .etag = file->etag, .modified = file->modified, .size = file->size};
	struct http_range range;
	int status = http_condition_evaluate(&connection->head, text, &validators, time(NULL), &range);
	if (status == 412) {
		connection_refuse(connection, 412, NULL, NULL);
		return;
	}
	if (status == 416) {
		char fields[64];
		evutil_snprintf(fields, sizeof(fields), "Content-Range: bytes */%ju\r\n",
		                (uintmax_t)file->size);
		connection_refuse(connection, 416, fields, NULL);
		return;
	}

	if (write_answer(connection, status, path, file, &range) < 0)
		connection_abandon(connection);
	else
		connection_finish_answer(connection);
}

static bool is_temporary(int status)
{
	return status == -EMFILE || status == -ENFILE || status == -ENOMEM || status == -EAGAIN;
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
		status = static_file_open(connection->connections->root, path, &file);
	if (status == -EISDIR) {
		if (encoded->length > 0 && text[encoded->start + encoded->length - 1] != '/') {
			redirect_to_directory(connection, text);
			return;
		}
		memcpy(path + strlen(path), index_name, sizeof(index_name));
		status = static_file_open(connection->connections->root, path, &file);
		if (status == -ENOENT || status == -EISDIR)
			status = -EACCES; /* the worker does not list directories */
	}
	if (is_temporary(status) && connection_wait(connection))
		return;
	if (status < 0) {
		refuse_path(connection, status);
		return;
	}
	if (connection->connections->filled != NULL &&
	    filled_pages_have(connection->connections->filled, path)) {
		log_answer(connection, 200, file.size);
		connection_answer_way(connection, path, &file);
	} else {
		answer_file(connection, text, path, &file);
	}
	if (file.fd >= 0)
		close(file.fd);
}

/* The worker never reads a request body: the connection ends after the answer, so that no byte of the
 * body is parsed as a request. */
void connection_answer(struct connection *connection, const char *text)
{
	struct connections *connections = connection->connections;
	connection->requests++;
	bool has_body = http_head_has_body(&connection->head);
	/* A connection that cannot go back makes room for others when credits are scarce. */
	bool scarce = connections->scarce > 0 && connection->stream.tls != NULL;
	bool leaves = connections->draining || connection->routes_each || scarce;
	bool stays = !leaves || connection_can_return(connection);
	connection->keep_alive = connection->head.keep_alive && !has_body && stays;
	switch (connection->head.method) {
	case HTTP_UNKNOWN_METHOD:
		connection_refuse(connection, 501, NULL, NULL);
		return;
	case HTTP_KNOWN_METHOD:
		connection_refuse(connection, 405, "Allow: GET, HEAD\r\n", NULL);
		return;
	default:
		break;
	}
	if (has_body)
		connection_refuse(connection, 413, NULL, "a request body is not accepted");
	else
		answer_path(connection, text);
}
