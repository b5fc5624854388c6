#include "channel/sending.h"

#include <errno.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "channel/channel.h"
#include "channel/lifetime.h"
#include "channel/ready.h"
#include "ferry/message.h"
#include "libevent/reentry.h"
#include "transport/interface.h"
#include "util/text.h"

/* ---- writing ---- */

/* 0, -EINVAL or -ENOTCONN. */
static int check_sends(const struct ferry_channel *channel)
{
	if (channel == NULL || !channel->kind->sends)
		return -EINVAL;
	return channel->transport != NULL ? 0 : -ENOTCONN;
}

/* The same for bytes and single descriptors, which would break a stream of messages. */
static int check_sends_bytes(const struct ferry_channel *channel)
{
	int status = check_sends(channel);

	return status == 0 && channel->messages != NULL ? -EINVAL : status;
}

/* Whether the queue takes more. With the transport locked. */
static int make_room(struct ferry_channel *channel, const struct evbuffer *output)
{
	struct ferry_transport *transport = channel->transport;

	if (evbuffer_get_length(output) >= channel->settings.write_limit)
		transport_flush(transport);
	if (transport_is_over(transport))
		return -ENOTCONN;
	if (!transport_takes_output(transport))
		return -EPIPE;
	if (evbuffer_get_length(output) >= channel->settings.write_limit) {
		if (channel->out != CHANNEL_OUT_DRAINING)
			ready_set_out(channel, CHANNEL_OUT_REFUSED);
		return -EAGAIN;
	}
	return 0;
}

static int queue_bytes(struct ferry_channel *channel, struct evbuffer *output, const void *data,
                       size_t length)
{
	struct ferry_transport *transport = channel->transport;

	int status = make_room(channel, output);
	if (status < 0)
		return status;
	if (length > 0 && evbuffer_add(output, data, length) < 0)
		return -ENOMEM;
	transport_flush(transport);
	return 0;
}

int ferry_channel_write(struct ferry_channel *channel, const void *data, size_t length)
{
	int status = check_sends_bytes(channel);
	if (status == -EINVAL || (data == NULL && length > 0))
		return -EINVAL;
	if (status < 0)
		return status;
	struct ferry_poller *poller = channel->poller;
	struct reentry reentry;
	reentry_enter(&reentry, poller->loop.base);
	struct bufferevent *bev = transport_lock(channel->transport);
	status = queue_bytes(channel, bufferevent_get_output(bev), data, length);
	bufferevent_unlock(bev);
	reentry_leave(&reentry);
	poller_settle(poller);
	return status;
}

int ferry_channel_vprintf(struct ferry_channel *channel, const char *format, va_list arguments)
{
	struct text text;

	if (channel == NULL || format == NULL)
		return -EINVAL;
	int status = text_format(&text, format, arguments);
	if (status == 0) {
		status = ferry_channel_write(channel, text.bytes, text.length);
		text_clear(&text);
	}
	return status;
}

int ferry_channel_printf(struct ferry_channel *channel, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	const int status = ferry_channel_vprintf(channel, format, arguments);
	va_end(arguments);
	return status;
}

int ferry_channel_send_message(struct ferry_channel *channel, uint16_t type, const void *payload,
                               size_t length, const int *fds, size_t fd_count,
                               enum ferry_fd_ownership ownership)
{
	int status = check_sends(channel);
	if (status < 0)
		return status;
	if (channel->messages == NULL)
		return -EINVAL;
	struct ferry_poller *poller = channel->poller;
	struct ferry_transport *transport = channel->transport;
	struct reentry reentry;
	reentry_enter(&reentry, poller->loop.base);
	struct bufferevent *bev = transport_lock(transport);
	status = make_room(channel, bufferevent_get_output(bev));
	if (status == 0)
		status = ferry_message_stream_send(channel->messages, type, payload, length, fds, fd_count,
		                                   ownership);
	if (status == 0)
		transport_flush(transport);
	bufferevent_unlock(bev);
	reentry_leave(&reentry);
	poller_settle(poller);
	return status;
}

int ferry_channel_send_fd(struct ferry_channel *channel, int fd, enum ferry_fd_ownership ownership)
{
	int status = check_sends_bytes(channel);
	if (status < 0)
		return status;
	struct ferry_poller *poller = channel->poller;
	status = ferry_transport_send_fd(channel->transport, fd, ownership);
	poller_settle(poller);
	return status;
}

void sending_offer_room(struct ferry_poller *poller)
{
	struct ferry_channel *channel = TAILQ_FIRST(&poller->refused), *next;

	for (; channel != NULL; channel = next) {
		next = TAILQ_NEXT(channel, refused_link);
		if (channel->life != CHANNEL_OPEN) {
			ready_set_out(channel, CHANNEL_OUT_OPEN); /* FERRY_CHANNEL_CLOSED is pending instead */
		} else if (channel->place != CHANNEL_UNREGISTERED &&
		           channel_queued(channel) <= channel->settings.write_limit / 2) {
			ready_set_out(channel, CHANNEL_OUT_WRITABLE);
			ready_wake(channel);
		}
	}
}

/* ---- sending all ---- */

static int run_until_sent(struct ferry_channel *channel, int64_t deadline)
{
	int status = 0;

	while (channel->transport != NULL && channel_queued(channel) > 0) {
		if (status == -ETIMEDOUT)
			return status;
		status = wait_run(&channel->poller->loop, deadline);
		if (status < 0 && status != -ETIMEDOUT)
			return status;
	}
	if (channel->life == CHANNEL_FREED)
		return -ENOTCONN;
	/* A queue is also empty when a broken connection has dropped it. */
	return channel->transport != NULL ? transport_get_error(channel->transport) : channel->reason;
}

int ferry_channel_flush(struct ferry_channel *channel, const struct timeval *timeout)
{
	int64_t deadline;

	int status = check_sends(channel);
	if (status == -EINVAL || wait_deadline(timeout, &deadline) < 0)
		return -EINVAL;
	struct ferry_poller *poller = channel->poller;
	status = run_until_sent(channel, deadline);
	poller_settle(poller);
	return status;
}

bool sending_start_draining(struct ferry_channel *channel)
{
	if (channel->transport == NULL)
		return false;
	/* A broken connection has dropped its queue, and the program has not heard of it. */
	bool queued = channel_queued(channel) > 0 || transport_get_error(channel->transport) < 0;
	if (queued)
		ready_set_out(channel, CHANNEL_OUT_DRAINING);
	ferry_transport_lose_connection(channel->transport);
	return queued;
}

bool sending_is_draining(struct ferry_channel *channel, int *status)
{
	if (channel->out != CHANNEL_OUT_DRAINING)
		return false;
	int error = channel->reason;
	if (channel->transport != NULL) {
		error = transport_get_error(channel->transport);
		/* The connection may still fail when the queue is empty: the last bytes are in the kernel only. */
		if (error == 0)
			return channel_queued(channel) > 0;
	}
	ready_set_out(channel, CHANNEL_OUT_OPEN);
	if (error < 0)
		*status = -EPIPE;
	return false;
}

int ferry_channel_close_write(struct ferry_channel *channel)
{
	int status = check_sends(channel);
	return status < 0 ? status : ferry_transport_lose_write_connection(channel->transport);
}

int ferry_channel_close(struct ferry_channel *channel)
{
	int status = check_sends(channel);
	return status < 0 ? status : ferry_transport_lose_connection(channel->transport);
}
