#include <errno.h>
#include <stdbool.h>

#include "ferry/producer.h"

#include "libevent/reentry.h"
#include "transport/end.h"

/*
 * The producer of a transport: paused and resumed by the number of bytes and descriptors in the stream.
 *
 * Descriptors that have no byte to travel with do not count. Only the producer can write that byte: if they paused
 * it, they would never leave, and it would never be resumed.
 *
 * A push producer waits since pause_producing; a pull producer since it has written its last chunk.
 */

/* The mark if libevent's high-water mark is 0. */
static const size_t default_high = (size_t)64 * 1024;

static unsigned int fds_to_send(const struct ferry_transport *transport)
{
	const struct outgoing *stream = &transport->out.stream;

	return marks_fds_to_send(stream->marks, outgoing_end(stream));
}

static bool over_high(const struct ferry_transport *transport)
{
	size_t high = 0;
	bufferevent_getwatermark(transport->rearm.bev, EV_WRITE, NULL, &high);
	return evbuffer_get_length(transport->out.stream.buffer) > (high != 0 ? high : default_high) ||
	       fds_to_send(transport) >= transport->out.fd_high;
}

static bool under_low(const struct ferry_transport *transport)
{
	size_t low = 0;
	bufferevent_getwatermark(transport->rearm.bev, EV_WRITE, &low, NULL);
	return evbuffer_get_length(transport->out.stream.buffer) <= low &&
	       fds_to_send(transport) <= transport->out.fd_high / 2;
}

/* Two callbacks run inside the user's call that caused them. */
static void run_outside_loop(const struct ferry_transport *transport,
                             void (*callback)(void *context), void *context)
{
	struct reentry reentry;

	reentry_enter(&reentry, bufferevent_get_base(transport->rearm.bev));
	callback(context);
	reentry_leave(&reentry);
}

/* The callbacks below may register another producer: the functions do not touch this one after the call. */

static void push_queued(struct ferry_transport *transport)
{
	struct transport_out *out = &transport->out;

	if (out->producer_waits || !over_high(transport))
		return;
	out->producer_waits = true;
	run_outside_loop(transport, out->producer->pause_producing, out->producer_context);
}

static void resume(struct ferry_transport *transport)
{
	transport->out.producer_waits = false;
	transport->out.producer->resume_producing(transport->out.producer_context);
}

static void push_sent(struct ferry_transport *transport, bool empty)
{
	(void)empty;
	if (transport->out.producer_waits && under_low(transport))
		resume(transport);
}

static void pull_queued(struct ferry_transport *transport)
{
	transport->out.producer_waits = true;
}

static void pull_sent(struct ferry_transport *transport, bool empty)
{
	if (empty && transport->out.producer_waits)
		resume(transport);
}

/* A producer that waits, and has no way to be told, waits no longer: its next write fails. It may hold reading paused
 * meanwhile, and the connection would never end. */
static bool waits_untold(const struct ferry_transport *transport)
{
	return transport->out.producer->stop_producing == NULL && transport->out.producer_waits &&
	       transport->out.half == OUT_BROKEN && !transport_is_over(transport);
}

static void connection_ended(struct ferry_transport *transport)
{
	const struct ferry_producer_callbacks *callbacks = transport->out.producer;
	void *context = transport->out.producer_context;

	if (waits_untold(transport))
		callbacks->resume_producing(context);
	else if (callbacks->stop_producing != NULL)
		run_outside_loop(transport, callbacks->stop_producing, context);
}

static const struct transport_watcher push_watcher = {"push producer", push_queued, push_sent,
                                                      connection_ended};
static const struct transport_watcher pull_watcher = {"pull producer", pull_queued, pull_sent,
                                                      connection_ended};

static int register_producer(struct ferry_transport *transport,
                             const struct ferry_producer_callbacks *callbacks, void *context,
                             enum ferry_producer_mode mode)
{
	if (transport->out.watcher != NULL)
		return -EBUSY;
	if (!transport_takes_output(transport))
		return -EPIPE;
	transport->out.producer = callbacks;
	transport->out.producer_context = context;
	transport->out.producer_waits = mode == FERRY_PRODUCER_PULL;
	transport_set_watcher(transport, mode == FERRY_PRODUCER_PUSH ? &push_watcher : &pull_watcher);
	if (mode == FERRY_PRODUCER_PUSH)
		push_queued(transport);
	else
		transport_want_write(transport);
	return 0;
}

int ferry_transport_register_producer(struct ferry_transport *transport,
                                      const struct ferry_producer_callbacks *callbacks,
                                      void *context, enum ferry_producer_mode mode)
{
	if (transport == NULL || callbacks == NULL || callbacks->resume_producing == NULL)
		return -EINVAL;
	if (mode != FERRY_PRODUCER_PULL &&
	    (mode != FERRY_PRODUCER_PUSH || callbacks->pause_producing == NULL))
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = register_producer(transport, callbacks, context, mode);
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_unregister_producer(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = -ENOENT;
	if (transport->out.watcher != NULL) {
		transport_set_watcher(transport, NULL);
		transport_settle_close(transport);
		status = 0;
	}
	bufferevent_unlock(bev);
	return status;
}
