#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "ferry/producer.h"

#include "libevent/reentry.h"
#include "transport/end.h"

/*
 * The producer of a transport: paused and resumed by the number of bytes and descriptors in the stream.
 *
 * Descriptors that have no byte to travel with do not count. Only the producer can write that byte: if they paused
 * it, they would never leave, and it would never be resumed.
 */
struct producer {
	struct ferry_transport *transport;
	const struct ferry_producer_callbacks *callbacks;
	void *context;
	/* For resume_producing. Push: pause_producing was called last. Pull: the last chunk was written. */
	bool waits;
};

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

/* The callbacks below may free the producer: the functions do not touch it after the call. */

static void push_queued(void *argument)
{
	struct producer *producer = argument;

	if (producer->waits || !over_high(producer->transport))
		return;
	producer->waits = true;
	run_outside_loop(producer->transport, producer->callbacks->pause_producing, producer->context);
}

static void push_sent(void *argument, bool empty)
{
	(void)empty;
	struct producer *producer = argument;

	if (!producer->waits || !under_low(producer->transport))
		return;
	producer->waits = false;
	producer->callbacks->resume_producing(producer->context);
}

static void pull_queued(void *argument)
{
	struct producer *producer = argument;
	producer->waits = true;
}

static void pull_sent(void *argument, bool empty)
{
	struct producer *producer = argument;

	if (!empty || !producer->waits)
		return;
	producer->waits = false;
	producer->callbacks->resume_producing(producer->context);
}

/* A producer that waits, and has no way to be told, waits no longer: its next write fails. It may hold reading paused
 * meanwhile, and the connection would never end. */
static bool waits_untold(const struct producer *producer)
{
	const struct ferry_transport *transport = producer->transport;

	return producer->callbacks->stop_producing == NULL && producer->waits &&
	       transport->out.half == OUT_BROKEN && !transport_is_over(transport);
}

static void connection_ended(void *argument)
{
	struct producer *producer = argument;
	const struct ferry_transport *transport = producer->transport;
	const struct ferry_producer_callbacks *callbacks = producer->callbacks;
	void *context = producer->context;
	bool untold = waits_untold(producer);

	free(producer);
	if (untold)
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
	struct producer *producer = malloc(sizeof(*producer));
	if (producer == NULL)
		return -ENOMEM;
	*producer = (struct producer){transport, callbacks, context, mode == FERRY_PRODUCER_PULL};
	transport_set_watcher(transport, mode == FERRY_PRODUCER_PUSH ? &push_watcher : &pull_watcher,
	                      producer);
	if (mode == FERRY_PRODUCER_PUSH)
		push_queued(producer);
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
		free(transport->out.watcher_argument);
		transport_set_watcher(transport, NULL, NULL);
		transport_settle_close(transport);
		status = 0;
	}
	bufferevent_unlock(bev);
	return status;
}
