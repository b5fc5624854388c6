#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "kernel/clock.h"
#include "libevent/fields.h"
#include "transport/core.h"
#include "transport/write.h"

/*
 * Writing without the loop. ferry_transport_flush(): until all is sent or a deadline; the callbacks that are due then
 * wait for the loop. ferry_transport_try_write(): one write of bytes that are not queued.
 */

enum {
	BYTES_PER_STEP = 16 * 1024 * 1024,
	NAP_MSEC = 2, /* while the kernel has no memory, and no poll reports when it has some again */
	POLL_MSEC_MAX = 60 * 1000
};

static int msec_until(int64_t deadline)
{
	int64_t left = deadline == INT64_MAX ? INT64_MAX : deadline - clock_now();

	if (left <= 0)
		return 0;
	return left / 1000 >= POLL_MSEC_MAX ? POLL_MSEC_MAX : (int)((left + 999) / 1000);
}

/* Waits for `events` on `fd`, or for a short while if that is -1. False: the deadline has come. */
static bool wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	int msec = msec_until(deadline);

	if (msec == 0)
		return false;
	if (fd < 0 && msec > NAP_MSEC)
		msec = NAP_MSEC;
	(void)poll(&poll_fd, 1, msec); /* after an error the next write finds out what is the matter */
	return true;
}

/* The connection attempt stays libevent's, which reports its result from the loop. */
static int wait_until_connected(const struct ferry_transport *transport, int64_t deadline)
{
	struct sockaddr_storage address;
	int fd = rearm_write_fd(&transport->rearm);

	if (!transport_is_connecting(transport))
		return 0;
	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
		if (poll(&poll_fd, 1, 0) > 0)
			break;
		if (!wait_for(fd, POLLOUT, deadline))
			return -ETIMEDOUT;
	}
	return getpeername(fd, (struct sockaddr *)&address, &(socklen_t){sizeof(address)}) == 0
	           ? 0
	           : -ENOTCONN;
}

/* The next item is a file that is paused, or that waits for its source. */
static int wait_for_file(struct ferry_transport *transport, int64_t deadline)
{
	struct outgoing_file *file = outgoing_paused_file(&transport->out.stream);

	if (file == NULL || file->waiting == 0)
		return -EAGAIN;
	/* A file on the disk is read by the write itself: the caller wants to wait. */
	if (file->waiting == FILE_SOURCE_COLD)
		warmth_give_up(&file->source.warmth, file_source_position(&file->source));
	else if (!wait_for(file->source.fd, POLLIN, deadline))
		return -ETIMEDOUT;
	file->waiting = 0;
	return 0;
}

static int write_once(struct ferry_transport *transport)
{
	size_t sent = 0;
	int fd = rearm_write_fd(&transport->rearm);

	if (fd < 0)
		return -ENOTCONN;
	/* The loop stands still: a transport that is next could not send. */
	if (transport->out.stream.marks != NULL)
		in_flight_take_turn(&transport->out.stream.marks->in_flight);
	int state = outgoing_flush(&transport->out.stream, fd, BYTES_PER_STEP,
	                           transport_steps(transport)->adopt, &sent);
	transport_count_written(transport, sent);
	transport->out.step.flushed |= sent > 0;
	/* A callback of the user's on the output buffer may have ended the connection. */
	if (transport_is_over(transport))
		return -ENOTCONN;
	if (state < 0)
		transport_write_will_fail(transport, state);
	return state;
}

/* 0: the next write is worth a try. */
static int wait_for_state(struct ferry_transport *transport, int state, int64_t deadline)
{
	int fd = rearm_write_fd(&transport->rearm);

	switch (state) {
	case OUTGOING_FULL:
		return wait_for(fd, POLLOUT, deadline) ? 0 : -ETIMEDOUT;
	case OUTGOING_NO_MEMORY:
		return wait_for(-1, 0, deadline) ? 0 : -ETIMEDOUT;
	case OUTGOING_PAUSED:
		return wait_for_file(transport, deadline);
	default:
		return 0;
	}
}

static int write_until(struct ferry_transport *transport, int64_t deadline)
{
	int status = wait_until_connected(transport, deadline);

	while (status == 0 && !outgoing_is_sent(&transport->out.stream)) {
		int state = write_once(transport);
		if (state < 0)
			return state;
		if (!outgoing_is_sent(&transport->out.stream))
			status = wait_for_state(transport, state, deadline);
	}
	return status;
}

static int check_flush(const struct ferry_transport *transport)
{
	if (transport_is_over(transport))
		return -ENOTCONN;
	if (transport->out.error < 0)
		return transport->out.error;
	/* A callback on the output buffer, which the flush on the stack has not drained to the end. */
	return transport->out.stream.flushing ? -EBUSY : 0;
}

int ferry_transport_flush(struct ferry_transport *transport, const struct timeval *timeout)
{
	int64_t usec = timeout != NULL ? clock_from_timeval(timeout) : 0;

	if (transport == NULL || usec < 0)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = check_flush(transport);
	if (status == 0)
		status = write_until(transport, timeout != NULL ? clock_now() + usec : INT64_MAX);
	if (!transport_is_over(transport) && transport->out.step.flushed) {
		transport->out.step.unnotified = true;
		transport_notify_later(transport);
	}
	if (status < 0 && transport_can_send(transport))
		transport_want_write(transport);
	bufferevent_unlock(bev);
	return status;
}

/* Whether the write step would send bytes at once: nothing is before them, and nothing holds them up. */
static bool may_write_now(const struct ferry_transport *transport)
{
	const struct transport_out *out = &transport->out;

	return outgoing_is_sent(&out->stream) && !out->stream.flushing && !out->step.running &&
	       out->error == 0 && out->watcher == NULL && !transport_is_connecting(transport) &&
	       transport->rearm.write_gate == NULL && marks_fd_count(out->stream.marks) == 0 &&
	       (fields_enabled(transport->rearm.bev) & EV_WRITE) != 0 &&
	       rearm_write_fd(&transport->rearm) >= 0;
}

static ssize_t write_now(struct ferry_transport *transport, const void *data, size_t length)
{
	ev_ssize_t budget = bufferevent_get_max_to_write(transport->rearm.bev);

	if (budget <= 0 || length == 0 || !may_write_now(transport))
		return 0;
	if (length > (size_t)budget)
		length = (size_t)budget;
	ssize_t sent =
	    outgoing_send(&transport->out.stream, rearm_write_fd(&transport->rearm), data, length);
	if (sent >= 0)
		transport_count_written(transport, (size_t)sent);
	else
		transport_write_will_fail(transport, (int)sent);
	return sent > 0 ? sent : 0;
}

ssize_t ferry_transport_try_write(struct ferry_transport *transport, const void *data,
                                  size_t length)
{
	if (transport == NULL || (data == NULL && length > 0))
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	ssize_t sent = transport_takes_output(transport) ? write_now(transport, data, length) : -EPIPE;
	bufferevent_unlock(bev);
	return sent;
}
