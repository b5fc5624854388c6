#include <errno.h>
#include <sys/uio.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "channel/channel.h"
#include "libevent/vectors.h"
#include "transport/transport.h"

/*
 * What is written is tried at once, so that a program which does something else for a while has sent it as
 * far as the kernel takes it. The rest leaves when the loop runs: in polls and flushes.
 */

size_t channel_queued(const struct ferry_channel *channel)
{
	struct ferry_transport_stats stats;

	if (ferry_transport_get_stats(channel->transport, &stats) < 0)
		return 0;
	return (size_t)stats.bytes_queued + (size_t)stats.files_queued;
}

/* Whether there is a connection to send on. */
static int examine(const struct ferry_channel *channel)
{
	if (channel == NULL || channel->listener != NULL)
		return -EINVAL;
	return channel->transport != NULL ? 0 : -ENOTCONN;
}

/* With the transport locked. */
static int take(struct ferry_channel *channel, const struct iovec *parts, unsigned int count)
{
	struct ferry_transport *transport = channel->transport;
	struct evbuffer *output = bufferevent_get_output(transport->rearm.bev);

	if (evbuffer_get_length(output) >= channel->write_limit)
		transport_flush(transport);
	if (transport_is_over(transport))
		return -ENOTCONN;
	if (!transport_takes_output(transport))
		return -EPIPE;
	if (evbuffer_get_length(output) >= channel->write_limit) {
		poller_note_refused(channel);
		return -EAGAIN;
	}
	int status = vectors_gather(output, parts, count);
	if (status == 0)
		transport_flush(transport);
	return status;
}

int ferry_channel_writev(struct ferry_channel *channel, const struct iovec *parts,
                         unsigned int count)
{
	size_t length = 0;

	int status = examine(channel);
	if (status == -EINVAL || (parts == NULL && count > 0))
		return -EINVAL;
	for (unsigned int i = 0; i < count; i++) {
		if (parts[i].iov_base == NULL && parts[i].iov_len > 0)
			return -EINVAL;
		if (parts[i].iov_len > SIZE_MAX / 2 - length)
			return -EINVAL;
		length += parts[i].iov_len;
	}
	if (status < 0 || length == 0)
		return status;
	struct bufferevent *bev = transport_lock(channel->transport);
	status = take(channel, parts, count);
	bufferevent_unlock(bev);
	return status;
}

int ferry_channel_write(struct ferry_channel *channel, const void *data, size_t length)
{
	return ferry_channel_writev(channel, &(struct iovec){(void *)(uintptr_t)data, length}, 1);
}

int ferry_channel_send_fd(struct ferry_channel *channel, int fd, enum ferry_fd_ownership ownership)
{
	int status = examine(channel);
	return status < 0 ? status : ferry_transport_send_fd(channel->transport, fd, ownership);
}

int ferry_channel_flush(struct ferry_channel *channel, const struct timeval *timeout)
{
	int64_t deadline;

	int status = examine(channel);
	if (status == -EINVAL || poller_deadline(timeout, &deadline) < 0)
		return -EINVAL;
	/* Over, it says why, and nothing if all was sent before. */
	while (channel->transport != NULL && channel_queued(channel) > 0) {
		if (status == -ETIMEDOUT)
			return status;
		status = poller_run(channel->poller, deadline);
		if (status < 0 && status != -ETIMEDOUT)
			return status;
	}
	if (channel->freed)
		return -ENOTCONN;
	return channel->reason;
}

int ferry_channel_close_write(struct ferry_channel *channel)
{
	int status = examine(channel);
	return status < 0 ? status : ferry_transport_lose_write_connection(channel->transport);
}

int ferry_channel_close(struct ferry_channel *channel)
{
	int status = examine(channel);
	return status < 0 ? status : ferry_transport_lose_connection(channel->transport);
}
