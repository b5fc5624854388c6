#include "message/send.h"

#include <errno.h>
#include <limits.h>

#include "libevent/vectors.h"
#include "message/core.h"
#include "message/wire.h"
#include "transport/interface.h"

/*
 * From a message to the transport's output: the header and the payload are queued together with the
 * descriptors, or nothing is.
 */

/* The descriptors of a message; if `lent`, there is one at most. */
struct enclosure {
	const int *fds;
	enum ferry_fd_ownership ownership;
	bool lent;
};

static int queue_enclosure(struct ferry_transport *transport, const struct enclosure *enclosure,
                           unsigned int count)
{
	if (count == 0)
		return 0;
	if (enclosure->lent)
		return transport_lend_fd(transport, enclosure->fds[0]);
	return transport_queue_fds(transport, enclosure->fds, count, enclosure->ownership);
}

static struct evbuffer *output_of(const struct ferry_message_stream *stream)
{
	return fields_output(stream->bev);
}

/* Adds the bytes to the output last: that runs a producer's pause_producing, which may write or free the
 * stream, and the message must be complete by then. */
static int queue_message(const struct ferry_message_stream *stream,
                         const struct message_header *header, const struct iovec *parts,
                         size_t part_count, const struct enclosure *enclosure)
{
	struct evbuffer *output = output_of(stream);
	struct evbuffer_iovec pieces[VECTORS_PIECES];
	unsigned char bytes[MESSAGE_HEADER_SIZE];
	const struct iovec head = {bytes, sizeof(bytes)};

	if (!transport_takes_output(stream->transport))
		return -EPIPE;
	message_header_put(bytes, header);
	int count = vectors_gather_ahead(output, &head, parts, part_count, pieces);
	if (count < 0)
		return count;
	int status = queue_enclosure(stream->transport, enclosure, header->fd_count);
	if (status == 0)
		evbuffer_commit_space(output, pieces, count);
	return status;
}

/* Moves the payload behind its header, into a buffer of its own. */
static int frame_buffer(struct evbuffer **out, const struct message_header *header,
                        struct evbuffer *payload)
{
	unsigned char bytes[MESSAGE_HEADER_SIZE];
	struct evbuffer *frame = evbuffer_new();

	if (frame == NULL)
		return -ENOMEM;
	message_header_put(bytes, header);
	if (evbuffer_add(frame, bytes, sizeof(bytes)) < 0 || evbuffer_add_buffer(frame, payload) < 0) {
		evbuffer_free(frame);
		return -ENOMEM;
	}
	*out = frame;
	return 0;
}

static int queue_frame(const struct ferry_message_stream *stream, struct evbuffer *frame,
                       const struct enclosure *enclosure, unsigned int fd_count)
{
	if (!transport_takes_output(stream->transport))
		return -EPIPE;
	/* Fails if the user has frozen the output's end. The descriptors are queued first, and could not be taken back. */
	if (evbuffer_commit_space(output_of(stream), NULL, 0) < 0)
		return -ENOMEM;
	int status = queue_enclosure(stream->transport, enclosure, fd_count);
	if (status == 0)
		evbuffer_add_buffer(output_of(stream), frame);
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

/* -EINVAL: the arguments are wrong whatever the stream. */
static int check_enclosure(const struct enclosure *enclosure, size_t count)
{
	if (count == 0)
		return 0;
	if (enclosure->fds == NULL ||
	    (enclosure->ownership != FERRY_FD_TAKE && enclosure->ownership != FERRY_FD_DUP))
		return -EINVAL;
	return 0;
}

/* Whether a message of the user's may be queued. */
static int admit_message(const struct ferry_message_stream *stream, size_t length,
                         const struct enclosure *enclosure, size_t fd_count)
{
	if (length > stream->max_payload || fd_count > stream->max_fds)
		return -EMSGSIZE;
	if (fd_count > 0 && enclosure->ownership == FERRY_FD_TAKE &&
	    has_duplicates(enclosure->fds, fd_count))
		return -EINVAL;
	if (!transport_takes_output(stream->transport))
		return -EPIPE;
	return transport_admit_bytes(stream->transport, MESSAGE_HEADER_SIZE + length);
}

/* Another thread may add to the buffer: the length in the header is that of the bytes which move. */
static int take_buffer(const struct ferry_message_stream *stream, struct message_header *header,
                       struct evbuffer *payload, const struct enclosure *enclosure,
                       struct evbuffer **frame)
{
	evbuffer_lock(payload);
	const size_t length = evbuffer_get_length(payload);
	int status = admit_message(stream, length, enclosure, header->fd_count);
	header->length = (uint32_t)length;
	if (status == 0)
		status = frame_buffer(frame, header, payload);
	evbuffer_unlock(payload);
	return status;
}

/* The payload comes into a buffer of its own first: the callbacks of the user's buffer run before anything is queued,
 * and may free the stream. */
static int queue_buffer(const struct ferry_message_stream *stream, struct message_header *header,
                        struct evbuffer *payload, const struct enclosure *enclosure)
{
	struct evbuffer *frame = NULL;

	int status = take_buffer(stream, header, payload, enclosure, &frame);
	if (status < 0)
		return status;
	status = queue_frame(stream, frame, enclosure, header->fd_count);
	if (status < 0) {
		evbuffer_drain(frame, MESSAGE_HEADER_SIZE);
		evbuffer_prepend_buffer(payload, frame);
	}
	evbuffer_free(frame);
	return status;
}

int ferry_message_stream_sendv(struct ferry_message_stream *stream, uint16_t type,
                               const struct iovec *parts, size_t count, const int *fds,
                               size_t fd_count, enum ferry_fd_ownership ownership)
{
	const struct enclosure enclosure = {.fds = fds, .ownership = ownership};
	const ssize_t length = vectors_length(parts, count);

	if (stream == NULL || length < 0 || check_enclosure(&enclosure, fd_count) < 0)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	int status = admit_message(stream, (size_t)length, &enclosure, fd_count);
	if (status == 0) {
		struct message_header header = {false, type, (uint32_t)length, (uint16_t)fd_count};
		status = queue_message(stream, &header, parts, count, &enclosure);
	}
	bufferevent_unlock(bev);
	return status;
}

int ferry_message_stream_send(struct ferry_message_stream *stream, uint16_t type,
                              const void *payload, size_t length, const int *fds, size_t fd_count,
                              enum ferry_fd_ownership ownership)
{
	const struct iovec part = {(void *)(uintptr_t)payload, length};

	/* A length of its own, above SSIZE_MAX, is over every limit. */
	if (stream != NULL && payload != NULL && length > SSIZE_MAX)
		return -EMSGSIZE;
	return ferry_message_stream_sendv(stream, type, &part, 1, fds, fd_count, ownership);
}

int ferry_message_stream_send_buffer(struct ferry_message_stream *stream, uint16_t type,
                                     struct evbuffer *buffer, const int *fds, size_t fd_count,
                                     enum ferry_fd_ownership ownership)
{
	const struct enclosure enclosure = {.fds = fds, .ownership = ownership};

	if (stream == NULL || buffer == NULL || buffer == output_of(stream) ||
	    check_enclosure(&enclosure, fd_count) < 0)
		return -EINVAL;
	struct message_header header = {.type = type, .fd_count = (uint16_t)fd_count};
	struct bufferevent *bev = transport_lock(stream->transport);
	const int status =
	    fd_count <= stream->max_fds ? queue_buffer(stream, &header, buffer, &enclosure) : -EMSGSIZE;
	bufferevent_unlock(bev);
	return status;
}

/* An empty output takes one message of any length: else one above the limit would wait for ever. */
static int admit_enclosed(const struct ferry_message_stream *stream, size_t length)
{
	struct ferry_transport *transport = stream->transport;

	if (!transport_takes_output(transport) ||
	    transport_bytes_written(transport) == transport_bytes_sent(transport))
		return 0;
	return transport_admit_bytes(transport, length);
}

int message_stream_send_parts(struct ferry_message_stream *stream, uint16_t type,
                              const struct iovec *parts, size_t count, int fd)
{
	struct enclosure enclosure = {.fds = &fd, .lent = true};
	size_t length = 0;

	for (size_t i = 0; i < count; i++)
		length += parts[i].iov_len;
	struct bufferevent *bev = transport_lock(stream->transport);
	int status = -EMSGSIZE;
	if (length <= stream->max_payload && (fd < 0 || stream->max_fds > 0))
		status = fd >= 0 ? admit_enclosed(stream, MESSAGE_HEADER_SIZE + length) : 0;
	if (status == 0) {
		struct message_header header = {false, type, (uint32_t)length, fd >= 0};
		status = queue_message(stream, &header, parts, count, &enclosure);
	}
	bufferevent_unlock(bev);
	return status;
}

void message_stream_send_refusal(struct ferry_message_stream *stream, uint16_t why)
{
	const struct message_header header = {.refusal = true, .type = why};

	if (queue_message(stream, &header, NULL, 0, NULL) == 0)
		transport_flush(stream->transport);
}

/* ---- positions and the write step ---- */

/* Counts the bytes that the kernel has taken, not those that have left the buffer: the end of a connection
 * empties the buffer too. */
uint64_t message_stream_sent_position(const struct ferry_message_stream *stream)
{
	return transport_bytes_sent(stream->transport);
}

uint64_t message_stream_end_position(const struct ferry_message_stream *stream)
{
	return transport_bytes_written(stream->transport);
}

bool message_stream_can_send(const struct ferry_message_stream *stream)
{
	return transport_can_send(stream->transport);
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
	stream->sent = sent;
	stream->sent_argument = argument;
}
