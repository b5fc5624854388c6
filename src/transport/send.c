#include "transport/core.h"

#include <errno.h>
#include <fcntl.h>

#include "kernel/ancillary.h"
#include "kernel/fds.h"
#include "libevent/vectors.h"
#include "util/text.h"

/*
 * Bytes and descriptors enter the stream, after the checks that must be made at the call.
 */

/* Whether bytes may be queued: 0, -EPIPE or -ENOBUFS. */
static int admit(const struct ferry_transport *transport, size_t length)
{
	return transport_takes_output(transport) ? transport_admit_bytes(transport, length) : -EPIPE;
}

int ferry_transport_write(struct ferry_transport *transport, const void *data, size_t length)
{
	if (transport == NULL || (data == NULL && length > 0))
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = admit(transport, length);
	if (status == 0 && length > 0 && evbuffer_add(bufferevent_get_output(bev), data, length) < 0)
		status = -ENOMEM;
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_writev(struct ferry_transport *transport, const struct iovec *parts,
                           size_t count)
{
	const ssize_t length = vectors_length(parts, count);

	if (transport == NULL || length < 0)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = admit(transport, (size_t)length);
	if (status == 0 && length > 0)
		status = vectors_gather(bufferevent_get_output(bev), parts, count);
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_vprintf(struct ferry_transport *transport, const char *format,
                            va_list arguments)
{
	struct text text;

	if (transport == NULL || format == NULL)
		return -EINVAL;
	int status = text_format(&text, format, arguments);
	if (status == 0) {
		status = ferry_transport_write(transport, text.bytes, text.length);
		text_clear(&text);
	}
	return status;
}

int ferry_transport_printf(struct ferry_transport *transport, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	const int status = ferry_transport_vprintf(transport, format, arguments);
	va_end(arguments);
	return status;
}

/* Another thread may add to the buffer: the bytes that are admitted are those which move. */
static int move_bytes(const struct ferry_transport *transport, struct evbuffer *output,
                      struct evbuffer *buffer)
{
	evbuffer_lock(buffer);
	int status = admit(transport, evbuffer_get_length(buffer));
	if (status == 0 && evbuffer_add_buffer(output, buffer) < 0)
		status = -ENOMEM;
	evbuffer_unlock(buffer);
	return status;
}

int ferry_transport_write_buffer(struct ferry_transport *transport, struct evbuffer *buffer)
{
	if (transport == NULL || buffer == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	struct evbuffer *output = bufferevent_get_output(bev);
	const int status = buffer != output ? move_bytes(transport, output, buffer) : -EINVAL;
	bufferevent_unlock(bev);
	return status;
}

/* `count` is more than 0. */
static int duplicate_all(int *out, const int *fds, unsigned int count)
{
	unsigned int i = 0;

	do {
		out[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (out[i] < 0) {
			int status = -errno;
			fds_close(out, i);
			return status;
		}
	} while (++i < count);
	return 0;
}

static int push_fds(struct ferry_transport *transport, const int *fds, unsigned int count,
                    bool lent)
{
	struct outgoing *stream = &transport->out.stream;

	return marks_push_fds(stream->marks, outgoing_end(stream), fds, count, lent);
}

static int push_duplicates(struct ferry_transport *transport, const int *fds, unsigned int count)
{
	int duplicates[ANCILLARY_MAX_FDS];

	int status = duplicate_all(duplicates, fds, count);
	if (status < 0)
		return status;
	status = push_fds(transport, duplicates, count, false);
	if (status < 0)
		fds_close(duplicates, count);
	return status;
}

int transport_queue_fds(struct ferry_transport *transport, const int *fds, unsigned int count,
                        enum ferry_fd_ownership ownership)
{
	struct outgoing *stream = &transport->out.stream;

	if (!stream->carries_fds)
		return -EOPNOTSUPP;
	if (!transport_takes_output(transport))
		return -EPIPE;
	int status = fds_check(fds, count, transport->cookie);
	if (status == 0)
		status = outgoing_need_marks(stream);
	if (status == 0)
		status = marks_admit_fds(stream->marks, &stream->limits, outgoing_end(stream), count);
	if (status < 0)
		return status;
	return ownership == FERRY_FD_DUP ? push_duplicates(transport, fds, count)
	                                 : push_fds(transport, fds, count, false);
}

int transport_lend_fd(struct ferry_transport *transport, int fd)
{
	struct outgoing *stream = &transport->out.stream;

	if (!stream->carries_fds)
		return -EOPNOTSUPP;
	if (!transport_takes_output(transport))
		return -EPIPE;
	int status = outgoing_need_marks(stream);
	if (status == 0)
		status = marks_admit_fds(stream->marks, &stream->limits, outgoing_end(stream), 1);
	return status < 0 ? status : push_fds(transport, &fd, 1, true);
}

int ferry_transport_send_fd(struct ferry_transport *transport, int fd,
                            enum ferry_fd_ownership ownership)
{
	if (transport == NULL || (ownership != FERRY_FD_TAKE && ownership != FERRY_FD_DUP))
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_queue_fds(transport, &fd, 1, ownership);
	if (status == 0 && transport->out.watcher != NULL)
		transport->out.watcher->queued(transport);
	bufferevent_unlock(bev);
	return status;
}
