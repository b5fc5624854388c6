#include "message/receive.h"

#include <errno.h>
#include <stdint.h>

#include "kernel/ancillary.h"
#include "kernel/fd_slots.h"
#include "kernel/socket.h"
#include "message/core.h"
#include "message/receipts.h"
#include "message/send.h"
#include "message/wire.h"
#include "transport/interface.h"
#include "transport/reader.h"
#include "util/log.h"

/*
 * From the transport's reads to message_received. The stream is the transport's reader: the transport passes
 * it the descriptors of a whole read, arrivals.c finds the frame that they belong to, and the loop in
 * message_receive_input() delivers the frames in place, one after the other.
 *
 * An unfinished frame moves from the bufferevent's input into `partial`. The user may set a high-water mark
 * at any time, and one that is smaller than the frame would stop the reading before the frame is complete.
 * The frame of a deferred message moves too: with more bytes than the mark in the input, libevent runs the
 * read callback without end.
 */

enum {
	/* Deferred callbacks may deliver late, again and again if the owner pauses in each; from here on nothing more is
	 * read, so that no peer can fill this process's descriptor table. */
	BACKLOG_FDS_MAX = ANCILLARY_MAX_FDS,
	BACKLOG_READS_MAX = 64,
	RETRY_USEC = 20000 /* no event is raised when descriptor slots become free */
};

/* ---- the end of the connection ---- */

void message_receive_close_fds(struct ferry_message_stream *stream)
{
	if (stream->delivering || (stream->deferred && !transport_is_over(stream->transport)))
		return;
	stream->deferred = false;
	transport_count_unclaimed_fds(stream->transport, arrivals_close(&stream->arrivals));
}

void message_stream_end(struct ferry_message_stream *stream, int reason)
{
	transport_end(stream->transport, reason);
	message_receive_close_fds(stream);
}

static int log_violation(const struct ferry_message_stream *stream, const char *violation)
{
	log_line(FERRY_LOG_WARNING, "messages on %d: the peer sent %s", fields_fd(stream->bev),
	         violation);
	return -EPROTO;
}

/* ---- the input ---- */

/* The first undelivered bytes that lie in one piece of memory. */
struct window {
	const unsigned char *bytes;
	size_t length;
};

/* All frames that the loop has delivered leave the input at once: that costs libevent as much as one. */
static void drain_delivered(struct ferry_message_stream *stream, struct evbuffer *input)
{
	size_t delivered = stream->delivered;

	stream->delivered = 0;
	if (delivered > 0)
		evbuffer_drain(input, delivered);
}

/* Widens the window to `size` bytes or more: 1; 0: they have not arrived yet; -ENOMEM. */
static int widen_window(struct ferry_message_stream *stream, struct evbuffer *input,
                        struct window *window, size_t size)
{
	if (window->length >= size)
		return 1;
	window->length = 0;
	drain_delivered(stream, input);
	if (evbuffer_get_length(input) < size)
		return 0;
	window->bytes = evbuffer_pullup(input, (ev_ssize_t)size);
	if (window->bytes == NULL)
		return -ENOMEM;
	window->length = evbuffer_get_contiguous_space(input);
	return 1;
}

/* The bytes that have arrived and are undelivered. */
static size_t undelivered_length(const struct ferry_message_stream *stream)
{
	return stream->stashed + evbuffer_get_length(message_stream_input(stream)) - stream->delivered;
}

/* ---- one frame ---- */

static size_t frame_size(const struct ferry_message_stream *stream)
{
	return MESSAGE_HEADER_SIZE + (stream->header_parsed ? stream->message.length : 0);
}

/* Sends the peer the reason, and ends the connection. If the peer has gone, the write notices that, and what is left
 * to be read comes in here: nothing of it is delivered. */
static int refuse_message(struct ferry_message_stream *stream)
{
	stream->delivering = true;
	message_stream_send_refusal(stream, MESSAGE_REFUSAL_SIZE);
	stream->delivering = false;
	transport_end_for(stream->transport, -EPROTO);
	return log_violation(stream, "a message over the limits");
}

/* Claims the descriptors that the header declares. No memory is taken for the frame before its header has
 * passed all checks. */
static int accept_header(struct ferry_message_stream *stream, const struct message_header *header)
{
	int arrived = 0;

	if (header->length > stream->max_payload || header->fd_count > stream->max_fds)
		return refuse_message(stream);
	if (header->fd_count > 0)
		arrived = arrivals_claim(&stream->arrivals, stream->position, header->fd_count);
	if (arrived < 0)
		return log_violation(stream, "a message with other descriptors than it declares");
	stream->message = (struct ferry_message){
	    .stream = stream,
	    .fds = &stream->arrivals.fds,
	    .length = header->length,
	    .fd_count = header->fd_count,
	    .arrived = (unsigned int)arrived,
	    .type = header->type,
	};
	stream->header_parsed = true;
	return 0;
}

/* The peer ends the connection, which may be known already as an error of a write. */
static int accept_refusal(struct ferry_message_stream *stream, unsigned int why)
{
	if (why != MESSAGE_REFUSAL_SIZE)
		return log_violation(stream, "a refusal for a reason that this version does not know");
	transport_end_for(stream->transport, -EMSGSIZE);
	return -EMSGSIZE;
}

static int parse_header(struct ferry_message_stream *stream, const unsigned char *bytes)
{
	struct message_header header;

	const char *violation = message_header_get(bytes, &header);
	if (violation != NULL)
		return log_violation(stream, violation);
	return header.refusal ? accept_refusal(stream, header.type) : accept_header(stream, &header);
}

/* When this returns, only the stream's memory is sure to be there. */
static void call_message_received(struct ferry_message_stream *stream, const unsigned char *frame)
{
	struct ferry_message *message = &stream->message;

	message->payload = frame + MESSAGE_HEADER_SIZE;
	stream->deferred = false;
	stream->delivering = true;
	if (stream->callbacks->message_received != NULL)
		stream->callbacks->message_received(stream, message, stream->context);
	stream->delivering = false;
	if (!stream->deferred)
		transport_count_unclaimed_fds(stream->transport,
		                              arrivals_release(&stream->arrivals, message->arrived));
}

/* Returns 1 if a message was delivered; 0 if its frame is incomplete, or the message was deferred; or the
 * reason for which the connection is to end. */
static int deliver_frame(struct ferry_message_stream *stream, struct evbuffer *input,
                         struct window *window)
{
	int status = widen_window(stream, input, window, frame_size(stream));
	if (status > 0 && !stream->header_parsed) {
		status = parse_header(stream, window->bytes);
		if (status == 0)
			status = widen_window(stream, input, window, frame_size(stream));
	}
	if (status < 0)
		return status;
	size_t size = frame_size(stream);
	if (arrivals_has_strays(&stream->arrivals, stream->position, stream->position + size,
	                        stream->header_parsed))
		return log_violation(stream, "descriptors that no message declares");
	if (status == 0)
		return 0;

	call_message_received(stream, window->bytes);
	if (stream->deferred)
		return 0;
	stream->header_parsed = false;
	stream->position += size;
	stream->delivered += size;
	window->bytes += size;
	window->length -= size;
	return 1;
}

/* ---- suspended reading ---- */

/* A message is deferred until something is sent; once nothing can be sent, it need not wait. */
static bool is_blocked_by_deferred(const struct ferry_message_stream *stream)
{
	return stream->deferred && transport_can_send(stream->transport);
}

static bool may_deliver(const struct ferry_message_stream *stream)
{
	const struct ferry_transport *transport = stream->transport;
	return transport_is_open(transport) && !transport_defers_delivery(transport) &&
	       !is_blocked_by_deferred(stream);
}

/* The bytes that the frame lacks of which the stream has the beginning; 0: it has none, or the frame is whole. */
static size_t missing_bytes(const struct ferry_message_stream *stream)
{
	size_t received = undelivered_length(stream);
	size_t size = frame_size(stream);

	return received > 0 && received < size ? size - received : 0;
}

static int get_fd(const struct ferry_message_stream *stream)
{
	return fields_fd(stream->bev);
}

static bool has_slots(const struct ferry_message_stream *stream, unsigned int count)
{
	return fd_slots_are_free(get_fd(stream), count);
}

/*
 * The bytes of one read that this process has slots for. Streams that wait for slots must not keep some for ever:
 *
 * - The descriptors of a frame come with its first byte. The rest of a frame brings none, and sets free those that
 *   the stream has.
 * - The end of the peer's half brings none, and the connection may end with it.
 * - A peer that is gone sets its own slot free, once it is read to its end. It needs slots for one message, which may
 *   be less than the reserve.
 */
static size_t bytes_within_slots(const struct ferry_message_stream *stream)
{
	const unsigned int reserve = stream->fd_reserve;

	if (reserve == 0 || !transport_carries_fds(stream->transport) || has_slots(stream, reserve))
		return SIZE_MAX;
	if (socket_has_ended(get_fd(stream)))
		return SIZE_MAX;
	size_t missing = missing_bytes(stream);
	if (missing == 0 && stream->max_fds < reserve && socket_get_hang_up(get_fd(stream)) != 0 &&
	    has_slots(stream, stream->max_fds))
		return SIZE_MAX;
	return missing;
}

static bool has_needed_slot(const struct ferry_message_stream *stream)
{
	return !stream->slot_needed || fd_slots_one_is_free(get_fd(stream));
}

static int start_timer(struct ferry_message_stream *stream)
{
	(void)event_priority_set(stream->timer, bufferevent_get_priority(stream->bev));
	return event_add(stream->timer, &(struct timeval){.tv_usec = RETRY_USEC});
}

/* Without memory for the timer, the next read asks admit_read() again. */
static void retry_later(struct ferry_message_stream *stream)
{
	if (start_timer(stream) < 0)
		transport_continue_reading(stream->transport);
}

static void resume_reading(struct ferry_message_stream *stream)
{
	if (transport_continue_reading(stream->transport) < 0)
		retry_later(stream);
}

void message_receive_on_timer(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_message_stream *stream = argument;
	struct bufferevent *bev = transport_lock(stream->transport);

	if (!transport_is_over(stream->transport)) {
		if (bytes_within_slots(stream) > 0 && has_needed_slot(stream))
			resume_reading(stream);
		else
			retry_later(stream);
	}
	bufferevent_unlock(bev);
}

/* ---- the loop ---- */

/* The peer has ended. The user is notified when all messages are delivered, or the connection ends; bytes that are left then are a
 * frame that will never be complete. */
static void end_after_peer(struct ferry_message_stream *stream, const struct evbuffer *input)
{
	size_t left = evbuffer_get_length(input);

	if (left > 0 && !may_deliver(stream)) /* paused or deferred */
		return;
	if (left > 0)
		message_stream_end(stream, log_violation(stream, "its end in the middle of a message"));
	else if (stream->callbacks->read_connection_lost == NULL)
		transport_close_with_peer(stream->transport);
	else if (!stream->end_reported) {
		stream->end_reported = true;
		stream->callbacks->read_connection_lost(stream, stream->context);
	}
}

/* Moves whole chains of the buffer, which takes no memory. */
static void restore_partial(struct ferry_message_stream *stream, struct evbuffer *input)
{
	if (stream->stashed > 0 && evbuffer_prepend_buffer(input, stream->partial) == 0)
		stream->stashed = 0;
}

static void stash_partial(struct ferry_message_stream *stream, struct evbuffer *input)
{
	size_t length = evbuffer_get_length(input);

	if (length > 0 && (may_deliver(stream) || is_blocked_by_deferred(stream)) &&
	    evbuffer_add_buffer(stream->partial, input) == 0)
		stream->stashed += length;
}

void message_receive_input(struct ferry_message_stream *stream, struct evbuffer *input)
{
	struct window window = {NULL, 0};
	int status = 1;

	if (stream->delivering) /* the loop below is on the stack already, and goes on */
		return;
	restore_partial(stream, input);
	while (status > 0 && may_deliver(stream))
		status = deliver_frame(stream, input, &window);
	drain_delivered(stream, input);
	if (status < 0)
		message_stream_end(stream, status);
	else if (!transport_is_open(stream->transport))
		message_receive_close_fds(stream);
	else if (stream->peer_ended)
		end_after_peer(stream, input);
	else
		stash_partial(stream, input);
	if (stream->backlogged && may_deliver(stream)) {
		stream->backlogged = false;
		resume_reading(stream);
	}
}

void message_receive_peer_end(struct ferry_message_stream *stream)
{
	stream->peer_ended = true;
	message_receive_input(stream, message_stream_input(stream));
}

struct message_rest message_stream_take_rest(struct ferry_message_stream *stream)
{
	struct message_rest rest = {
	    .input = message_stream_input(stream),
	    .position = stream->position,
	    .arrivals = &stream->arrivals,
	    .claimed = stream->header_parsed ? (int)stream->message.arrived : -1,
	};

	drain_delivered(stream, rest.input); /* the loop may be on the stack */
	restore_partial(stream, rest.input);
	return rest;
}

/* ---- a deferred message ---- */

void message_defer(struct ferry_message *message)
{
	message->stream->deferred = true; /* and admit_read() suspends reading */
}

/* Has the loop deliver what is behind the message that was deferred. */
static void continue_behind_deferred(struct ferry_message_stream *stream, struct evbuffer *input)
{
	if (evbuffer_get_length(input) > 0)
		transport_trigger_read_later(stream->transport, false);
	else if (stream->peer_ended)
		end_after_peer(stream, input);
	resume_reading(stream);
}

void message_stream_resume(struct ferry_message_stream *stream)
{
	struct evbuffer *input = message_stream_input(stream);
	struct window window = {NULL, 0};

	if (!stream->deferred || stream->delivering || stream->freed)
		return;
	restore_partial(stream, input);
	int status = deliver_frame(stream, input, &window);
	drain_delivered(stream, input);
	if (status < 0)
		message_stream_end(stream, status);
	else if (transport_is_over(stream->transport))
		message_receive_close_fds(stream);
	else if (!stream->deferred)
		continue_behind_deferred(stream, input);
	else
		stash_partial(stream, input);
}

/* ---- the transport's reader ---- */

/* Whether more is received and undelivered than BACKLOG_... allow. The descriptors of one read alone are no
 * backlog: not even the header of their frame may be here yet. */
static bool has_backlog(const struct ferry_message_stream *stream)
{
	const struct arrivals *arrivals = &stream->arrivals;
	unsigned int claimed = stream->header_parsed ? stream->message.arrived : 0;

	return (arrivals->fd_count - claimed >= BACKLOG_FDS_MAX && arrivals->read_count > 1) ||
	       arrivals->read_count >= BACKLOG_READS_MAX;
}

static size_t admit_read(void *argument)
{
	struct ferry_message_stream *stream = argument;

	if (is_blocked_by_deferred(stream)) {
		transport_suspend_reading(stream->transport);
		return 0;
	}
	if (has_backlog(stream)) {
		stream->backlogged = true;
		transport_suspend_reading(stream->transport);
		transport_trigger_read_later(stream->transport, false);
		return 0;
	}
	size_t bytes = bytes_within_slots(stream);
	if (bytes > 0)
		return bytes;
	/* Without memory for the timer reading goes on: the socket stays readable, and asks again. */
	if (start_timer(stream) == 0)
		transport_suspend_reading(stream->transport);
	return 0;
}

static bool admit_fds(void *argument)
{
	struct ferry_message_stream *stream = argument;

	stream->lacks_slot = !has_needed_slot(stream);
	if (stream->lacks_slot && start_timer(stream) == 0)
		transport_suspend_reading(stream->transport);
	return !stream->lacks_slot;
}

void message_stream_need_slots(struct ferry_message_stream *stream)
{
	stream->slot_needed = ferry_transport_set_fd_positions(stream->transport, FERRY_FD_EXACT) == 0;
}

bool message_stream_lacks_slot(const struct ferry_message_stream *stream)
{
	return stream->lacks_slot;
}

static void add_arrival(void *argument, const int *fds, unsigned int count, bool loss,
                        size_t length)
{
	struct ferry_message_stream *stream = argument;
	uint64_t read_end = stream->position + undelivered_length(stream);

	int status = arrivals_add(&stream->arrivals, read_end - length, read_end, fds, count, loss);
	if (status < 0) {
		transport_count_unclaimed_fds(stream->transport, count);
		message_stream_end(stream, status);
	}
}

static void notify_sent(void *argument)
{
	struct ferry_message_stream *stream = argument;

	message_receipts_advance(stream);
	if (stream->sent != NULL)
		stream->sent(stream->sent_argument);
}

void message_receive_start(struct ferry_message_stream *stream)
{
	static const struct transport_reader reader = {
	    .admits = admit_read,
	    .admits_fds = admit_fds,
	    .received = add_arrival,
	    .sent = notify_sent,
	};

	transport_set_reader(stream->transport, &reader, stream);
}
