#include "message/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "kernel/ancillary.h"
#include "kernel/fd_slots.h"
#include "libevent/vectors.h"
#include "message/arrivals.h"
#include "message/wire.h"
#include "transport/transport.h"
#include "util/log.h"

/*
 * Messages are a protocol on a transport, and its reader: the transport gives whole reads' descriptors,
 * arrivals.c knows which frame they belong to, and the loop below hands out the frames of the input,
 * in place, one after the other.
 *
 * What is left then, the start of a frame, moves out of the bufferevent's input: a high-water mark that the
 * user has set there, at any time, would else stop the reading before the frame is whole. So does a message
 * that is kept: with more than the mark in the input libevent calls back without end.
 *
 * The stream's memory lives until the loop has finalised its timer, as the transport's does: whatever
 * has called user code may look at it to see whether it was freed.
 */

enum {
	PAYLOAD_MAX = 1024 * 1024 * 1024,
	PAYLOAD_DEFAULT = 1024 * 1024,
	/* How much arrives before deferred callbacks take it: no peer may fill our table of descriptors. */
	FDS_AHEAD_MAX = ANCILLARY_MAX_FDS,
	READS_AHEAD_MAX = 64,
	LOOK_AGAIN_USEC = 20000 /* for free descriptor numbers: nobody tells when there are some */
};

struct ferry_message {
	struct ferry_message_stream *stream;
	const unsigned char *payload;
	size_t length;
	unsigned int fd_count; /* declared */
	unsigned int arrived;  /* the first of the arrivals' */
	uint16_t type;
};

struct ferry_message_stream {
	struct ferry_transport *transport;
	const struct ferry_message_callbacks *callbacks;
	void *context;
	struct event *timer;

	struct arrivals arrivals;
	uint64_t position;            /* of the frame that comes next, or whose header has come */
	struct evbuffer *partial;     /* what has come of it, in front of the input */
	struct ferry_message message; /* that frame, once begun */

	size_t max_payload;
	unsigned int max_fds;
	unsigned int fd_reserve;

	bool begun;      /* the header was taken apart */
	bool delivering; /* message_received runs */
	bool kept;       /* the frame waits to be handed out once more */
	bool ahead;      /* reading is held because too much has arrived */
	bool peer_ended;
	bool freed;
};

static size_t frame_size(const struct ferry_message *message)
{
	return MESSAGE_HEADER_SIZE + message->length;
}

/* ---- receiving: one frame ---- */

static void close_arrivals(struct ferry_message_stream *stream)
{
	/* They are closed when the callback returns; or the kept message may come up yet. */
	if (stream->delivering || (stream->kept && !transport_is_over(stream->transport)))
		return;
	stream->kept = false;
	stream->transport->stats.fds_unclaimed += arrivals_close(&stream->arrivals);
}

void message_stream_end(struct ferry_message_stream *stream, int reason)
{
	transport_end(stream->transport, reason);
	close_arrivals(stream);
}

static int refuse(const struct ferry_message_stream *stream, const char *why)
{
	log_line(FERRY_LOG_WARNING, "messages on %d: the peer sent %s",
	         (int)bufferevent_getfd(stream->transport->rearm.bev), why);
	return -EPROTO;
}

/* Takes the header apart, and what arrived for the frame. Before any memory is taken for it. */
static int begin_frame(struct ferry_message_stream *stream, const unsigned char *bytes)
{
	struct message_header header;
	int arrived = 0;

	const char *fault = message_header_get(bytes, &header);
	if (fault != NULL)
		return refuse(stream, fault);
	if (header.length > stream->max_payload || header.fd_count > stream->max_fds)
		return refuse(stream, "a message over the limits");
	if (header.fd_count > 0)
		arrived = arrivals_claim(&stream->arrivals, stream->position, header.fd_count);
	if (arrived < 0)
		return refuse(stream, "a message with other descriptors than it declares");
	stream->message = (struct ferry_message){
	    .stream = stream,
	    .length = header.length,
	    .fd_count = header.fd_count,
	    .arrived = (unsigned int)arrived,
	    .type = header.type,
	};
	stream->begun = true;
	return 0;
}

static int begin(struct ferry_message_stream *stream, struct evbuffer *input)
{
	unsigned char bytes[MESSAGE_HEADER_SIZE];

	if (stream->begun || evbuffer_copyout(input, bytes, sizeof(bytes)) < (ev_ssize_t)sizeof(bytes))
		return 0;
	return begin_frame(stream, bytes);
}

/* Everything may be gone when this returns, but the stream's memory. */
static void hand_out(struct ferry_message_stream *stream, const unsigned char *frame)
{
	struct ferry_message *message = &stream->message;

	message->payload = frame + MESSAGE_HEADER_SIZE;
	stream->kept = false;
	stream->delivering = true;
	if (stream->callbacks->message_received != NULL)
		stream->callbacks->message_received(stream, message, stream->context);
	stream->delivering = false;
	if (!stream->kept)
		stream->transport->stats.fds_unclaimed +=
		    arrivals_release(&stream->arrivals, message->arrived);
}

/* 1: a message was handed out. 0: its frame is not whole yet, or was kept. Negative: why the connection
 * ends. */
static int take_frame(struct ferry_message_stream *stream, struct evbuffer *input)
{
	int status = begin(stream, input);
	if (status < 0)
		return status;
	size_t size = stream->begun ? frame_size(&stream->message) : MESSAGE_HEADER_SIZE;
	if (arrivals_has_strays(&stream->arrivals, stream->position, stream->position + size,
	                        stream->begun))
		return refuse(stream, "descriptors that no message declares");
	if (!stream->begun || evbuffer_get_length(input) < size)
		return 0;
	const unsigned char *frame = evbuffer_pullup(input, (ev_ssize_t)size);
	if (frame == NULL)
		return -ENOMEM;

	hand_out(stream, frame);
	if (stream->kept)
		return 0;
	stream->begun = false;
	stream->position += size;
	evbuffer_drain(input, size);
	return 1;
}

/* ---- receiving: the loop ---- */

/* Not once nothing can be sent any more: what it was kept for will not come. */
static bool waits_behind_kept(const struct ferry_message_stream *stream)
{
	return stream->kept && stream->transport->broken == 0;
}

static bool may_deliver(const struct ferry_message_stream *stream)
{
	const struct ferry_transport *transport = stream->transport;
	return transport->state == TRANSPORT_OPEN && !transport->freed &&
	       !transport_holds_back(transport) && !waits_behind_kept(stream);
}

static void look_again_later(struct ferry_message_stream *stream)
{
	if (event_add(stream->timer, &(struct timeval){.tv_usec = LOOK_AGAIN_USEC}) < 0)
		transport_go_on_reading(stream->transport); /* and look at once */
}

static void go_on_reading(struct ferry_message_stream *stream)
{
	if (transport_go_on_reading(stream->transport) < 0)
		look_again_later(stream);
}

/* The peer has ended: so does the connection, once all that was sent is handed out. What is left then is
 * a frame that will never be whole. */
static void leave_with_peer(struct ferry_message_stream *stream, const struct evbuffer *input)
{
	size_t left = evbuffer_get_length(input);

	if (left > 0 && !may_deliver(stream)) /* a pause */
		return;
	if (left > 0)
		message_stream_end(stream, refuse(stream, "its end in the middle of a message"));
	else
		protocol_leave_with_peer(stream->transport);
}

/* Whole chains change hands, which takes no memory. */
static void take_partial_back(struct ferry_message_stream *stream, struct evbuffer *input)
{
	if (evbuffer_get_length(stream->partial) > 0)
		evbuffer_prepend_buffer(input, stream->partial);
}

struct evbuffer *message_stream_undelivered(struct ferry_message_stream *stream)
{
	struct evbuffer *input = bufferevent_get_input(stream->transport->rearm.bev);

	take_partial_back(stream, input);
	return input;
}

static void put_partial_away(struct ferry_message_stream *stream, struct evbuffer *input)
{
	if ((may_deliver(stream) || waits_behind_kept(stream)) && evbuffer_get_length(input) > 0)
		evbuffer_add_buffer(stream->partial, input);
}

static void deliver(struct ferry_message_stream *stream, struct evbuffer *input)
{
	int status = 1;

	if (stream->delivering) /* the loop below is under way, further up the stack */
		return;
	take_partial_back(stream, input);
	while (status > 0 && may_deliver(stream))
		status = take_frame(stream, input);
	if (status < 0)
		message_stream_end(stream, status);
	else if (stream->transport->freed || stream->transport->state != TRANSPORT_OPEN)
		close_arrivals(stream);
	else if (stream->peer_ended)
		leave_with_peer(stream, input);
	else
		put_partial_away(stream, input);
	if (stream->ahead && may_deliver(stream)) {
		stream->ahead = false;
		go_on_reading(stream);
	}
}

/* ---- keeping a message ---- */

void message_defer(struct ferry_message *message)
{
	message->stream->kept = true; /* and the reader admits no more */
}

/* What is behind it comes from the loop. */
static void deliver_the_rest(struct ferry_message_stream *stream, struct evbuffer *input)
{
	if (evbuffer_get_length(input) > 0)
		transport_trigger_read(stream->transport, BEV_TRIG_DEFER_CALLBACKS);
	else if (stream->peer_ended)
		leave_with_peer(stream, input);
	go_on_reading(stream);
}

void message_stream_resume(struct ferry_message_stream *stream)
{
	struct evbuffer *input = bufferevent_get_input(stream->transport->rearm.bev);

	if (!stream->kept || stream->delivering || stream->freed)
		return;
	take_partial_back(stream, input);
	int status = take_frame(stream, input);
	if (status < 0)
		message_stream_end(stream, status);
	else if (transport_is_over(stream->transport))
		close_arrivals(stream);
	else if (!stream->kept)
		deliver_the_rest(stream, input);
	else
		put_partial_away(stream, input);
}

/* ---- the transport's reader ---- */

/* Whether this process has room for what a read may bring. */
static bool has_room(const struct ferry_message_stream *stream)
{
	const struct ferry_transport *transport = stream->transport;
	return stream->fd_reserve == 0 || !transport->outgoing.carries_fds ||
	       fd_slots_are_free(bufferevent_getfd(transport->rearm.bev), stream->fd_reserve);
}

static bool admits(void *argument)
{
	struct ferry_message_stream *stream = argument;
	struct arrivals *arrivals = &stream->arrivals;

	unsigned int spare = arrivals->fd_count - (stream->begun ? stream->message.arrived : 0);

	if (waits_behind_kept(stream)) {
		transport_hold_reading(stream->transport);
		return false;
	}
	/* One read's are not ahead: of the frame that they are for, not even the header may be here yet. */
	if ((spare >= FDS_AHEAD_MAX && arrivals->read_count > 1) ||
	    arrivals->read_count >= READS_AHEAD_MAX) {
		stream->ahead = true;
		transport_hold_reading(stream->transport);
		transport_trigger_read(stream->transport, BEV_TRIG_DEFER_CALLBACKS);
		return false;
	}
	if (has_room(stream))
		return true;
	/* Without memory for the timer the socket, which stays readable, brings us here again. */
	if (event_add(stream->timer, &(struct timeval){.tv_usec = LOOK_AGAIN_USEC}) == 0)
		transport_hold_reading(stream->transport);
	return false;
}

static void received(void *argument, const int *fds, unsigned int count, bool loss, size_t length)
{
	struct ferry_message_stream *stream = argument;
	struct evbuffer *input = bufferevent_get_input(stream->transport->rearm.bev);
	uint64_t read_end =
	    stream->position + evbuffer_get_length(stream->partial) + evbuffer_get_length(input);

	int status = arrivals_add(&stream->arrivals, read_end - length, read_end, fds, count, loss);
	if (status < 0) {
		stream->transport->stats.fds_unclaimed += count;
		message_stream_end(stream, status);
	}
}

static const struct transport_reader reader = {admits, received};

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_message_stream *stream = argument;
	struct bufferevent *bev = transport_lock(stream->transport);

	if (!transport_is_over(stream->transport)) {
		if (has_room(stream))
			go_on_reading(stream);
		else
			look_again_later(stream);
	}
	bufferevent_unlock(bev);
}

/* ---- the transport's protocol ---- */

static void connection_made(struct ferry_transport *transport, void *context)
{
	(void)transport;
	struct ferry_message_stream *stream = context;
	if (stream->callbacks->connection_made != NULL)
		stream->callbacks->connection_made(stream, stream->context);
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport;
	deliver(context, input);
}

/* A pause may hold back messages still: the connection ends after them. */
static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	struct ferry_message_stream *stream = context;

	stream->peer_ended = true;
	deliver(stream, bufferevent_get_input(transport->rearm.bev));
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct ferry_message_stream *stream = context;

	close_arrivals(stream);
	if (stream->callbacks->connection_lost != NULL)
		stream->callbacks->connection_lost(stream, reason, stream->context);
}

static const struct ferry_protocol protocol = {
    .connection_made = connection_made,
    .data_received = data_received,
    .read_connection_lost = read_connection_lost,
    .connection_lost = connection_lost,
};

/* ---- lifetime ---- */

static void release(struct ferry_message_stream *stream)
{
	if (stream->timer != NULL)
		event_free(stream->timer);
	if (stream->partial != NULL)
		evbuffer_free(stream->partial);
	free(stream);
}

static struct ferry_message_stream *allocate(struct ferry_transport *transport,
                                             const struct ferry_message_callbacks *callbacks,
                                             void *context)
{
	struct ferry_message_stream *stream = calloc(1, sizeof(*stream));
	if (stream == NULL)
		return NULL;
	stream->partial = evbuffer_new();
	stream->timer = event_new(bufferevent_get_base(transport->rearm.bev), -1, 0, on_timer, stream);
	if (stream->partial == NULL || stream->timer == NULL) {
		release(stream);
		return NULL;
	}
	event_priority_set(stream->timer, bufferevent_get_priority(transport->rearm.bev));
	stream->transport = transport;
	stream->callbacks = callbacks;
	stream->context = context;
	stream->max_payload = PAYLOAD_DEFAULT;
	stream->max_fds = ANCILLARY_MAX_FDS;
	return stream;
}

static void take_over(struct ferry_message_stream *stream)
{
	struct ferry_transport *transport = stream->transport;

	transport->outgoing.coalescing = false;
	transport->outgoing.max_fds_per_message = ANCILLARY_MAX_FDS;
	transport_set_reader(transport, &reader, stream);
}

int ferry_message_stream_new(struct ferry_message_stream **out, struct ferry_transport *transport,
                             const struct ferry_message_callbacks *callbacks, void *context)
{
	if (out == NULL || transport == NULL || callbacks == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = -ENOMEM;
	struct ferry_message_stream *stream = allocate(transport, callbacks, context);
	if (stream == NULL)
		goto unlock;
	status = ferry_transport_set_protocol(transport, &protocol, stream);
	if (status < 0) {
		release(stream);
		goto unlock;
	}
	take_over(stream);
	*out = stream;
unlock:
	bufferevent_unlock(bev);
	return status;
}

/* Runs in the loop, after every callback that was under way. */
static void finalise(struct event *timer, void *argument)
{
	(void)timer;
	struct ferry_message_stream *stream = argument;

	arrivals_close(&stream->arrivals);
	evbuffer_free(stream->partial);
	free(stream);
}

void ferry_message_stream_free(struct ferry_message_stream *stream)
{
	if (stream == NULL)
		return;
	struct bufferevent *bev = transport_lock(stream->transport);
	if (!stream->freed) {
		stream->freed = true;
		ferry_transport_free(stream->transport);
		close_arrivals(stream);
		event_free_finalize(0, stream->timer, finalise);
	}
	bufferevent_unlock(bev);
}

struct ferry_transport *
ferry_message_stream_get_transport(const struct ferry_message_stream *stream)
{
	return stream != NULL ? stream->transport : NULL;
}

/* ---- settings ---- */

int ferry_message_stream_set_limits(struct ferry_message_stream *stream, size_t max_payload,
                                    unsigned int max_fds)
{
	if (stream == NULL || max_payload > PAYLOAD_MAX || max_fds > ANCILLARY_MAX_FDS)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	stream->max_payload = max_payload;
	stream->max_fds = max_fds;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_message_stream_set_fd_reserve(struct ferry_message_stream *stream, unsigned int reserve)
{
	if (stream == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	stream->fd_reserve = reserve;
	bufferevent_unlock(bev);
	return 0;
}

/* ---- sending ---- */

/* Writes the frame behind the end of the buffer. How many pieces, or -ENOMEM. */
static int write_ahead(struct evbuffer *output, const struct message_header *header,
                       const struct iovec *parts, unsigned int part_count,
                       struct evbuffer_iovec pieces[VECTORS_PIECES])
{
	unsigned char bytes[MESSAGE_HEADER_SIZE];
	struct iovec all[1 + MESSAGE_PARTS_MAX] = {{bytes, sizeof(bytes)}};

	message_header_put(bytes, header);
	for (unsigned int i = 0; i < part_count; i++)
		all[1 + i] = parts[i];
	return vectors_gather_ahead(output, all, 1 + part_count, pieces);
}

/* What goes with a message: descriptors of the caller's, or one that is lent. */
struct enclosure {
	const int *fds;
	enum ferry_fd_ownership ownership;
	bool lent;
};

static int queue_fds(struct ferry_transport *transport, const struct enclosure *enclosure,
                     unsigned int count)
{
	if (count == 0)
		return 0;
	if (enclosure->lent)
		return transport_lend_fd(transport, enclosure->fds[0]);
	return transport_queue_fds(transport, enclosure->fds, count, enclosure->ownership);
}

/* The bytes are seen by others, and the transport told, only once all is there: in between, a producer
 * that is told to pause could write, or free the stream. */
static int send_message(struct ferry_transport *transport, const struct message_header *header,
                        const struct iovec *parts, unsigned int part_count,
                        const struct enclosure *enclosure)
{
	struct evbuffer *output = bufferevent_get_output(transport->rearm.bev);
	struct evbuffer_iovec pieces[VECTORS_PIECES];

	if (!transport_takes_output(transport))
		return -EPIPE;
	int count = write_ahead(output, header, parts, part_count, pieces);
	if (count < 0)
		return count;
	int status = queue_fds(transport, enclosure, header->fd_count);
	if (status == 0)
		evbuffer_commit_space(output, pieces, count);
	return status;
}

/* A descriptor that is taken twice would be closed twice. */
static bool has_duplicates(const int *fds, size_t count)
{
	for (size_t i = 1; i < count; i++)
		for (size_t j = 0; j < i; j++)
			if (fds[i] == fds[j])
				return true;
	return false;
}

int ferry_message_stream_send(struct ferry_message_stream *stream, uint16_t type,
                              const void *payload, size_t length, const int *fds, size_t fd_count,
                              enum ferry_fd_ownership ownership)
{
	if (stream == NULL || (payload == NULL && length > 0) || (fds == NULL && fd_count > 0))
		return -EINVAL;
	if (ownership != FERRY_FD_TAKE && ownership != FERRY_FD_DUP)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	int status = 0;
	if (length > stream->max_payload || fd_count > stream->max_fds)
		status = -EMSGSIZE;
	else if (ownership == FERRY_FD_TAKE && has_duplicates(fds, fd_count))
		status = -EINVAL;
	if (status == 0) {
		struct message_header header = {type, (uint32_t)length, (uint16_t)fd_count};
		struct iovec part = {(void *)(uintptr_t)payload, length};
		struct enclosure enclosure = {.fds = fds, .ownership = ownership};
		status = send_message(stream->transport, &header, &part, 1, &enclosure);
	}
	bufferevent_unlock(bev);
	return status;
}

int message_stream_send_parts(struct ferry_message_stream *stream, uint16_t type,
                              const struct iovec *parts, unsigned int count, int fd)
{
	struct enclosure enclosure = {.fds = &fd, .lent = true};
	size_t length = 0;

	for (unsigned int i = 0; i < count; i++)
		length += parts[i].iov_len;
	struct bufferevent *bev = transport_lock(stream->transport);
	int status = -EMSGSIZE;
	if (length <= stream->max_payload && (fd < 0 || stream->max_fds > 0)) {
		struct message_header header = {type, (uint32_t)length, fd >= 0};
		status = send_message(stream->transport, &header, parts, count, &enclosure);
	}
	bufferevent_unlock(bev);
	return status;
}

/* ---- how far it has left ---- */

/* Counted by what the kernel has taken, and not by what has left the buffer: the end of a connection
 * empties that too. */
uint64_t message_stream_sent_position(const struct ferry_message_stream *stream)
{
	return stream->transport->stats.bytes_sent;
}

uint64_t message_stream_end_position(const struct ferry_message_stream *stream)
{
	return stream->transport->stats.bytes_sent +
	       evbuffer_get_length(bufferevent_get_output(stream->transport->rearm.bev));
}

bool message_stream_can_send(const struct ferry_message_stream *stream)
{
	return !transport_is_over(stream->transport) && stream->transport->broken == 0;
}

void message_stream_flush(struct ferry_message_stream *stream)
{
	struct bufferevent *bev = transport_lock(stream->transport);
	transport_flush(stream->transport);
	bufferevent_unlock(bev);
}

void message_stream_set_sent_cb(struct ferry_message_stream *stream, void (*sent)(void *argument),
                                void *argument)
{
	stream->transport->sent = sent;
	stream->transport->sent_argument = argument;
}

/* ---- the message ---- */

uint16_t ferry_message_get_type(const struct ferry_message *message)
{
	return message->type;
}

const void *ferry_message_get_payload(const struct ferry_message *message, size_t *length)
{
	if (length != NULL)
		*length = message->length;
	return message->payload;
}

size_t ferry_message_get_fd_count(const struct ferry_message *message)
{
	return message->fd_count;
}

size_t ferry_message_get_fds_lost(const struct ferry_message *message)
{
	return message->fd_count - message->arrived;
}

int ferry_message_get_fd(const struct ferry_message *message, size_t index)
{
	if (index >= message->arrived || message->stream->arrivals.fds[index] < 0)
		return -ENOENT;
	return message->stream->arrivals.fds[index];
}

int ferry_message_steal_fd(struct ferry_message *message, size_t index)
{
	int fd = ferry_message_get_fd(message, index);

	if (fd >= 0)
		message->stream->arrivals.fds[index] = -1;
	return fd;
}
