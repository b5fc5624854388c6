#include "message/send.h"

#include <errno.h>

#include "libevent/vectors.h"
#include "message/core.h"
#include "message/wire.h"
#include "transport/interface.h"

/*
 * From a message to the transport's output: the header and the payload are queued together with the
 * descriptors, or nothing is.
 */

/* Writes the frame behind the end of the buffer, without adding it. Returns the number of pieces, or
 * -ENOMEM. */
static int write_frame_ahead(struct evbuffer *output, const struct message_header *header,
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

/* Adds the bytes to the output last: that runs a producer's pause_producing, which may write or free the
 * stream, and the message must be complete by then. */
static int queue_message(struct ferry_transport *transport, const struct message_header *header,
                         const struct iovec *parts, unsigned int part_count,
                         const struct enclosure *enclosure)
{
	struct evbuffer *output = bufferevent_get_output(ferry_transport_get_bufferevent(transport));
	struct evbuffer_iovec pieces[VECTORS_PIECES];

	if (!transport_takes_output(transport))
		return -EPIPE;
	int count = write_frame_ahead(output, header, parts, part_count, pieces);
	if (count < 0)
		return count;
	int status = queue_enclosure(transport, enclosure, header->fd_count);
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
	if (fd_count > 0 && ownership != FERRY_FD_TAKE && ownership != FERRY_FD_DUP)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	int status = 0;
	if (length > stream->max_payload || fd_count > stream->max_fds)
		status = -EMSGSIZE;
	else if (fd_count > 0 && ownership == FERRY_FD_TAKE && has_duplicates(fds, fd_count))
		status = -EINVAL;
	else if (transport_takes_output(stream->transport))
		status = transport_admit_bytes(stream->transport, MESSAGE_HEADER_SIZE + length);
	if (status == 0) {
		struct message_header header = {false, type, (uint32_t)length, (uint16_t)fd_count};
		struct iovec part = {(void *)(uintptr_t)payload, length};
		struct enclosure enclosure = {.fds = fds, .ownership = ownership};
		status = queue_message(stream->transport, &header, &part, 1, &enclosure);
	}
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
                              const struct iovec *parts, unsigned int count, int fd)
{
	struct enclosure enclosure = {.fds = &fd, .lent = true};
	size_t length = 0;

	for (unsigned int i = 0; i < count; i++)
		length += parts[i].iov_len;
	struct bufferevent *bev = transport_lock(stream->transport);
	int status = -EMSGSIZE;
	if (length <= stream->max_payload && (fd < 0 || stream->max_fds > 0))
		status = fd >= 0 ? admit_enclosed(stream, MESSAGE_HEADER_SIZE + length) : 0;
	if (status == 0) {
		struct message_header header = {false, type, (uint32_t)length, fd >= 0};
		status = queue_message(stream->transport, &header, parts, count, &enclosure);
	}
	bufferevent_unlock(bev);
	return status;
}

void message_stream_send_refusal(struct ferry_message_stream *stream, uint16_t why)
{
	const struct message_header header = {.refusal = true, .type = why};

	if (queue_message(stream->transport, &header, NULL, 0, NULL) == 0)
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
