#include "ferry/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "libevent/deferred_free.h"
#include "libevent/vectors.h"
#include "line/scanner.h"
#include "transport/interface.h"
#include "util/text.h"

/*
 * Lines are a protocol on a transport. The scanner finds the next line in the input, and the loop in
 * deliver_lines() passes one after the other to its callback, in place. In raw mode the same loop passes the
 * bytes.
 *
 * The stream's memory lives until the loop has finalised its event, as the transport's does: a function that
 * has called user code may read it to learn whether the stream was freed.
 */

enum { MAX_LENGTH_DEFAULT = 16384 };

struct ferry_line_stream {
	struct ferry_transport *transport;
	const struct ferry_line_callbacks *callbacks;
	void *context;
	struct ferry_protocol protocol; /* with NULL where `callbacks` has NULL */
	struct event *finaliser;        /* releases this memory, from the loop */

	struct line_scanner scanner;
	enum ferry_line_overflow overflow;

	bool raw;
	bool delivering; /* the loop in deliver_lines() is on the stack */
	bool peer_ended;
	bool end_reported; /* read_connection_lost was called, or the transport closes instead */
	bool freed;
};

typedef void (*line_cb)(struct ferry_line_stream *stream, const char *bytes, size_t length,
                        void *context);

/* ---- receiving: one step ---- */

static bool is_open(const struct ferry_line_stream *stream)
{
	return transport_is_open(stream->transport);
}

static bool may_deliver_lines(const struct ferry_line_stream *stream)
{
	return is_open(stream) && !transport_defers_delivery(stream->transport) &&
	       !stream->end_reported;
}

static line_cb get_line_callback(const struct ferry_line_stream *stream, enum line_kind kind)
{
	switch (kind) {
	case LINE_WHOLE:
		return stream->callbacks->line_received;
	case LINE_LAST:
		return stream->callbacks->incomplete_line_received;
	case LINE_TOO_LONG:
		return stream->callbacks->line_length_exceeded;
	case LINE_NONE:
		break;
	}
	return NULL;
}

/* When this returns, only the memory of the stream and of the input is sure to be there. */
static int call_line_callback(struct ferry_line_stream *stream, line_cb callback,
                              struct evbuffer *input, size_t length)
{
	const void *bytes = ""; /* evbuffer_pullup() returns NULL for an empty line */

	if (callback == NULL)
		return 0;
	if (length > 0)
		bytes = evbuffer_pullup(input, (ev_ssize_t)length);
	if (bytes == NULL)
		return -ENOMEM;
	callback(stream, bytes, length, stream->context);
	return 0;
}

/* Does with a line that is too long what was set, unless the callback has closed the connection or switched
 * to raw mode. */
static void settle_overflow(struct ferry_line_stream *stream)
{
	if (!is_open(stream) || stream->raw)
		return;
	if (stream->overflow == FERRY_LINE_SKIP)
		line_scanner_skip(&stream->scanner);
	else
		transport_end(stream->transport, -EMSGSIZE);
}

/* Returns false if the input has no further line, or the connection ends. */
static bool deliver_line(struct ferry_line_stream *stream, struct evbuffer *input)
{
	struct line line;

	enum line_kind kind = line_scanner_next(&stream->scanner, input, stream->peer_ended, &line);
	if (kind == LINE_NONE)
		return false;
	int status = call_line_callback(stream, get_line_callback(stream, kind), input, line.length);
	if (status < 0) {
		transport_end(stream->transport, status);
		return false;
	}
	line_scanner_take(&stream->scanner, input, line.size);
	if (kind == LINE_TOO_LONG)
		settle_overflow(stream);
	return true;
}

/* Returns true if the callback has switched back to lines. */
static bool deliver_raw(struct ferry_line_stream *stream, struct evbuffer *input)
{
	if (evbuffer_get_length(input) == 0)
		return false;
	stream->callbacks->data_received(stream, input, stream->context);
	return !stream->raw;
}

/* ---- receiving: the loop ---- */

/* The peer has ended: reports it when all of the input is delivered. If reading is paused with bytes left in
 * the input, resuming calls this again. */
static void report_peer_end(struct ferry_line_stream *stream, const struct evbuffer *input)
{
	struct ferry_transport *transport = stream->transport;

	if (!is_open(stream) || stream->end_reported)
		return;
	if (evbuffer_get_length(input) > 0 && transport_defers_delivery(transport))
		return;
	stream->end_reported = true;
	if (stream->callbacks->read_connection_lost != NULL)
		stream->callbacks->read_connection_lost(stream, stream->context);
	else
		transport_close_with_peer(transport);
}

/* If an unfinished line fills the input up to the high-water mark, libevent reads no more, and runs the read callback
 * without end: raises the mark to the longest line. */
static void make_room_for_line(const struct ferry_line_stream *stream, const struct evbuffer *input)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(stream->transport);
	const struct line_scanner *scanner = &stream->scanner;
	size_t low, high;

	if (bufferevent_getwatermark(bev, EV_READ, &low, &high) == 0 && high > 0 &&
	    evbuffer_get_length(input) >= high)
		bufferevent_setwatermark(bev, EV_READ, low,
		                         scanner->max_length + scanner->delimiter_length + 1);
}

static void deliver_lines(struct ferry_line_stream *stream, struct evbuffer *input)
{
	bool more = true;

	stream->delivering = true;
	while (more && may_deliver_lines(stream))
		more = stream->raw ? deliver_raw(stream, input) : deliver_line(stream, input);
	stream->delivering = false;
	if (!stream->raw && may_deliver_lines(stream))
		make_room_for_line(stream, input);
	if (stream->peer_ended)
		report_peer_end(stream, input);
}

/* A setting has changed, and with it the lines in the input: has the loop deliver them. Inside a callback,
 * deliver_lines() does so itself when the callback returns. */
static void trigger_delivery(struct ferry_line_stream *stream)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(stream->transport);

	if (!stream->delivering && evbuffer_get_length(bufferevent_get_input(bev)) > 0)
		transport_trigger_read_later(stream->transport, false);
}

/* ---- the transport's protocol ---- */

static void connection_made(struct ferry_transport *transport, void *context)
{
	(void)transport;
	struct ferry_line_stream *stream = context;
	stream->callbacks->connection_made(stream, stream->context);
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport;
	struct ferry_line_stream *stream = context;
	if (!stream->delivering) /* else the loop on the stack goes on with it */
		deliver_lines(stream, input);
}

static void file_descriptor_received(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	struct ferry_line_stream *stream = context;
	stream->callbacks->file_descriptor_received(stream, fd, stream->context);
}

static void file_descriptors_lost(struct ferry_transport *transport, void *context)
{
	(void)transport;
	struct ferry_line_stream *stream = context;
	stream->callbacks->file_descriptors_lost(stream, stream->context);
}

static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	struct ferry_line_stream *stream = context;
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));

	stream->peer_ended = true;
	if (stream->delivering)
		return;
	if (stream->raw) /* the bytes that are left were offered before, and none were added */
		report_peer_end(stream, input);
	else
		deliver_lines(stream, input);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct ferry_line_stream *stream = context;
	stream->callbacks->connection_lost(stream, reason, stream->context);
}

/* Leaves a callback NULL if the stream's owner has none, and the transport then does as for any protocol
 * without it. */
static void set_protocol_callbacks(struct ferry_protocol *protocol,
                                   const struct ferry_line_callbacks *callbacks)
{
	protocol->data_received = data_received;
	protocol->read_connection_lost = read_connection_lost;
	if (callbacks->connection_made != NULL)
		protocol->connection_made = connection_made;
	if (callbacks->file_descriptor_received != NULL)
		protocol->file_descriptor_received = file_descriptor_received;
	if (callbacks->file_descriptors_lost != NULL)
		protocol->file_descriptors_lost = file_descriptors_lost;
	if (callbacks->connection_lost != NULL)
		protocol->connection_lost = connection_lost;
}

/* ---- lifetime ---- */

static struct ferry_line_stream *allocate_line_stream(struct ferry_transport *transport,
                                                      const struct ferry_line_callbacks *callbacks,
                                                      void *context)
{
	struct ferry_line_stream *stream = calloc(1, sizeof(*stream));
	if (stream == NULL)
		return NULL;
	stream->finaliser = event_new(bufferevent_get_base(ferry_transport_get_bufferevent(transport)),
	                              -1, 0, NULL, stream);
	if (stream->finaliser == NULL) {
		free(stream);
		return NULL;
	}
	stream->transport = transport;
	stream->callbacks = callbacks;
	stream->context = context;
	stream->overflow = FERRY_LINE_LOSE;
	stream->scanner.max_length = MAX_LENGTH_DEFAULT;
	line_scanner_set_delimiter(&stream->scanner, "\n", 1);
	set_protocol_callbacks(&stream->protocol, callbacks);
	return stream;
}

int ferry_line_stream_new(struct ferry_line_stream **out, struct ferry_transport *transport,
                          const struct ferry_line_callbacks *callbacks, void *context)
{
	if (out == NULL || transport == NULL || callbacks == NULL)
		return -EINVAL;
	struct ferry_line_stream *stream = allocate_line_stream(transport, callbacks, context);
	if (stream == NULL)
		return -ENOMEM;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_own(transport, &stream->protocol, stream, false);
	if (status == 0) {
		stream->peer_ended = transport_read_has_ended(transport);
		*out = stream;
	} else {
		event_free(stream->finaliser);
		free(stream);
	}
	bufferevent_unlock(bev);
	return status;
}

void ferry_line_stream_free(struct ferry_line_stream *stream)
{
	if (stream == NULL)
		return;
	struct bufferevent *bev = transport_lock(stream->transport);
	if (!stream->freed) {
		stream->freed = true;
		ferry_transport_free(stream->transport);
		deferred_free(stream->finaliser, NULL);
	}
	bufferevent_unlock(bev);
}

struct ferry_transport *ferry_line_stream_get_transport(const struct ferry_line_stream *stream)
{
	return stream != NULL ? stream->transport : NULL;
}

/* ---- the ends of the connection ---- */

int ferry_line_stream_lose_connection(struct ferry_line_stream *stream)
{
	return ferry_transport_lose_connection(ferry_line_stream_get_transport(stream));
}

int ferry_line_stream_lose_write_connection(struct ferry_line_stream *stream)
{
	return ferry_transport_lose_write_connection(ferry_line_stream_get_transport(stream));
}

int ferry_line_stream_abort_connection(struct ferry_line_stream *stream)
{
	return ferry_transport_abort_connection(ferry_line_stream_get_transport(stream));
}

/* ---- settings ---- */

int ferry_line_stream_set_delimiter(struct ferry_line_stream *stream, const void *delimiter,
                                    size_t length)
{
	if (stream == NULL || delimiter == NULL || length < 1 || length > LINE_DELIMITER_MAX)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	line_scanner_set_delimiter(&stream->scanner, delimiter, length);
	trigger_delivery(stream);
	bufferevent_unlock(bev);
	return 0;
}

int ferry_line_stream_set_max_length(struct ferry_line_stream *stream, size_t max_length,
                                     enum ferry_line_overflow overflow)
{
	if (stream == NULL || max_length < 1 || max_length > LINE_LENGTH_MAX)
		return -EINVAL;
	if (overflow != FERRY_LINE_LOSE && overflow != FERRY_LINE_SKIP)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	stream->scanner.max_length = max_length;
	stream->overflow = overflow;
	trigger_delivery(stream);
	bufferevent_unlock(bev);
	return 0;
}

int ferry_line_stream_set_raw(struct ferry_line_stream *stream, bool raw)
{
	if (stream == NULL || (raw && stream->callbacks->data_received == NULL))
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	if (stream->raw != raw) {
		stream->raw = raw;
		line_scanner_restart(&stream->scanner);
		trigger_delivery(stream);
	}
	bufferevent_unlock(bev);
	return 0;
}

/* ---- sending ---- */

/* Whether the peer reads one line: no delimiter begins in it before the one that is sent behind it. */
static bool is_one_line(const struct line_scanner *scanner, const unsigned char *line,
                        size_t length)
{
	unsigned char end[2 * LINE_DELIMITER_MAX];
	size_t size = scanner->delimiter_length;
	size_t tail = length < size - 1 ? length : size - 1;

	if (length > 0 && memmem(line, length, scanner->delimiter, size) != NULL)
		return false;
	if (tail > 0)
		memcpy(end, line + length - tail, tail);
	memcpy(end + tail, scanner->delimiter, size);
	return memmem(end, tail + size, scanner->delimiter, size) == end + tail;
}

static int send_line(const struct ferry_line_stream *stream, const void *line, size_t length)
{
	const struct line_scanner *scanner = &stream->scanner;
	const struct iovec parts[] = {
	    {(void *)(uintptr_t)line, length},
	    {(void *)(uintptr_t)scanner->delimiter, scanner->delimiter_length},
	};

	if (!is_one_line(scanner, line, length))
		return -EILSEQ;
	if (!transport_takes_output(stream->transport))
		return -EPIPE;
	int status = transport_admit_bytes(stream->transport, length + scanner->delimiter_length);
	if (status < 0)
		return status;
	return vectors_gather(
	    bufferevent_get_output(ferry_transport_get_bufferevent(stream->transport)), parts, 2);
}

int ferry_line_stream_send(struct ferry_line_stream *stream, const void *line, size_t length)
{
	if (stream == NULL || (line == NULL && length > 0))
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	int status = send_line(stream, line, length);
	bufferevent_unlock(bev);
	return status;
}

int ferry_line_stream_vprintf(struct ferry_line_stream *stream, const char *format,
                              va_list arguments)
{
	struct text text;

	if (stream == NULL || format == NULL)
		return -EINVAL;
	int status = text_format(&text, format, arguments);
	if (status == 0) {
		status = ferry_line_stream_send(stream, text.bytes, text.length);
		text_clear(&text);
	}
	return status;
}

int ferry_line_stream_printf(struct ferry_line_stream *stream, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	const int status = ferry_line_stream_vprintf(stream, format, arguments);
	va_end(arguments);
	return status;
}
