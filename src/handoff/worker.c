#include "ferry/worker.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "handoff/returning.h"
#include "handoff/worker_credits.h"
#include "handoff/worker_fields.h"
#include "handoff/worker_reports.h"
#include "kernel/clock.h"
#include "kernel/fd_slots.h"
#include "libevent/deferred_free.h"
#include "message/receive.h"
#include "message/send.h"
#include "message/wire.h"
#include "transport/interface.h"
#include "util/log.h"

/*
 * A handoff changes hands with its claim: the user's callback runs once the kernel has taken the last
 * byte of the claim, and never otherwise. The worker therefore flushes the claim at once instead of at
 * the end of the loop's turn; usually the kernel takes it. If the channel is full, the worker defers
 * the message: it stays in the stream with its descriptor, nothing behind it is read, no copy can fail
 * for want of memory, and the end of the channel closes the descriptor. The stream's sent callback
 * resumes it once the claim has left.
 *
 * A return commits in the same way, in the other direction: once the kernel has taken its last byte, the
 * connection is the dispatcher's, and the copy here is closed. Until then it is this process's.
 *
 * The worker's memory lives until the loop has finalised its timer, because a callback may free the
 * worker.
 */

enum {
	CREDITS_DEFAULT = 256,
	/* After a loss: the time between two checks for free descriptor slots, and how many must be free. */
	SLOTS_CHECK_USEC = 20000,
	SLOTS_WANTED = 16
};

/* ---- sending ---- */

static int send_message(struct ferry_worker *worker, enum handoff_wire_type type,
                        unsigned char *payload, size_t length)
{
	int status = message_stream_send_parts(worker->stream, (uint16_t)type,
	                                       &(struct iovec){payload, length}, 1, -1);

	return status == -EPIPE ? -ENOTCONN : status;
}

static int send_hello(struct ferry_worker *worker)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];

	handoff_wire_hello_put(payload,
	                       &(struct handoff_wire_hello){.version_min = HANDOFF_WIRE_VERSION_MIN,
	                                                    .version_max = HANDOFF_WIRE_VERSION_MAX,
	                                                    .credits = worker->credits});
	return send_message(worker, HANDOFF_WIRE_HELLO, payload, sizeof(payload));
}

static int send_credits(struct ferry_worker *worker, unsigned int credits)
{
	unsigned char payload[HANDOFF_WIRE_CREDITS_SIZE];

	handoff_wire_credits_put(payload, credits);
	return send_message(worker, HANDOFF_WIRE_CREDITS, payload, sizeof(payload));
}

/* The loop has been told to end: no turn follows, perhaps, in which the transport would send the answers. A claim that
 * waits for room would be a connection that nobody serves. */
static void flush_before_the_end(struct ferry_worker *worker)
{
	struct event_base *base = bufferevent_get_base(
	    ferry_transport_get_bufferevent(ferry_message_stream_get_transport(worker->stream)));

	if (worker->claiming || (!event_base_got_break(base) && !event_base_got_exit(base)))
		return;
	worker_reports_send(worker);
	message_stream_flush(worker->stream);
}

/* Flushes the answers that are queued: the dispatcher then knows as much as it can. */
static void end_channel(struct ferry_worker *worker, int reason)
{
	worker_reports_send(worker);
	message_stream_flush(worker->stream);
	message_stream_end(worker->stream, reason);
}

/* Sends an answer that nobody repeats. Without memory for it the channel ends; otherwise the dispatcher
 * would wait for it until the deadline. */
static int send_answer_or_end(struct ferry_worker *worker, enum handoff_wire_type type,
                              const struct handoff_wire_handoff *wire, int reason)
{
	int status = worker_send_answer(worker, type,
	                                &(struct handoff_wire_answer){wire->id, wire->epoch, reason});

	if (status == -ENOMEM)
		end_channel(worker, status);
	return status;
}

static void end_for_fault(struct ferry_worker *worker, const char *what)
{
	log_line(FERRY_LOG_WARNING, "handoffs on %d: the dispatcher sent %s",
	         (int)bufferevent_getfd(ferry_transport_get_bufferevent(
	             ferry_message_stream_get_transport(worker->stream))),
	         what);
	end_channel(worker, -EPROTO);
}

/* ---- short of descriptor slots ---- */

static int check_slots_later(struct ferry_worker *worker)
{
	return event_add(worker->timer, &(struct timeval){.tv_usec = SLOTS_CHECK_USEC});
}

static bool slots_are_free(const struct ferry_worker *worker)
{
	struct bufferevent *bev =
	    ferry_transport_get_bufferevent(ferry_message_stream_get_transport(worker->stream));

	return fd_slots_are_free(bufferevent_getfd(bev),
	                         worker->credits < SLOTS_WANTED ? worker->credits : SLOTS_WANTED);
}

/* States 0 credits until slots are free. Without memory for the timer that checks, the worker goes on
 * as before, and may lose one descriptor after the other. */
static void suspend_credits(struct ferry_worker *worker)
{
	if (worker->short_of_slots || worker->drained || check_slots_later(worker) < 0)
		return;
	worker->short_of_slots = true;
	if (send_credits(worker, 0) == -ENOMEM)
		end_channel(worker, -ENOMEM);
}

static void check_slots(struct ferry_worker *worker)
{
	if (!worker->drained &&
	    (!slots_are_free(worker) || send_credits(worker, worker->credits) == -ENOMEM)) {
		if (check_slots_later(worker) < 0)
			end_channel(worker, -ENOMEM);
		return;
	}
	worker->short_of_slots = false;
}

/* Whatever activates the timer, libevent has removed it. */
static void on_timer(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct ferry_worker *worker = argument;

	worker_reports_send(worker);
	if (worker->freed || !message_stream_can_send(worker->stream))
		return;
	if (worker->short_of_slots && (what & EV_TIMEOUT) != 0)
		check_slots(worker);
	else if (worker->short_of_slots && check_slots_later(worker) < 0)
		end_channel(worker, -ENOMEM);
	worker_credits_notify(worker);
}

/* ---- a handoff ---- */

/* The callback may free the worker. Its memory stays, and that of the message, which the handoff points
 * into. */
static void serve_handoff(struct ferry_worker *worker, struct ferry_message *message,
                          const struct handoff_wire_handoff *wire)
{
	struct ferry_handoff handoff;

	handoff_view(&handoff, wire, ferry_message_steal_fd(message, 0));
	worker->stats.claimed++;
	worker_credits_use(worker);
	worker->serving_id = wire->id;
	worker->done_sent = false;
	worker->serving = true;
	if (worker->callbacks->handoff_received != NULL)
		worker->callbacks->handoff_received(worker, &handoff, worker->context);
	worker->serving = false;
	bool stolen = handoff.fd < 0;
	handoff_close_fd(&handoff);

	if (worker->freed || worker->done_sent)
		return;
	if (handoff.state == HANDOFF_REJECTED) {
		worker->stats.rejected++;
		worker_credits_free(worker);
		send_answer_or_end(worker, HANDOFF_WIRE_REJECT, wire, handoff.reason);
	} else if (!stolen && send_answer_or_end(worker, HANDOFF_WIRE_DONE, wire, 0) == 0) {
		worker->stats.done++;
		worker_credits_free(worker);
	}
}

/* Three cases, if the worker was not freed meanwhile: the kernel has taken the whole claim (serve the handoff), part of it or none yet
 * (defer), or the channel is broken (drop the handoff). */
static void settle_claim(struct ferry_worker *worker, struct ferry_message *message,
                         const struct handoff_wire_handoff *wire)
{
	worker->claiming = false;
	if (worker->freed) {
		worker->stats.unclaimed++;
	} else if (message_stream_sent_position(worker->stream) >= worker->claim_end) {
		serve_handoff(worker, message, wire);
	} else if (message_stream_can_send(worker->stream)) {
		worker->claiming = true;
		message_defer(message);
	} else {
		worker->stats.unclaimed++;
	}
}

static void claim_handoff(struct ferry_worker *worker, struct ferry_message *message,
                          const struct handoff_wire_handoff *wire)
{
	worker_reports_send(worker);
	worker->claim_end = message_stream_end_position(worker->stream) + MESSAGE_HEADER_SIZE +
	                    HANDOFF_WIRE_ANSWER_SIZE;
	worker->claiming = true; /* user code that frees the worker meanwhile takes the claim back */
	if (send_answer_or_end(worker, HANDOFF_WIRE_CLAIM, wire, 0) < 0) {
		worker->claiming = false;
		worker->stats.unclaimed++;
		return;
	}
	message_stream_flush(worker->stream);
	settle_claim(worker, message, wire);
	if (worker->claiming)
		worker->stats.waited++;
}

static void on_sent(void *argument)
{
	struct ferry_worker *worker = argument;

	returning_settle(worker);
	if (worker->claiming) /* the message may be deferred again */
		message_stream_resume(worker->stream);
}

/* The descriptor is closed with the message. */
static void refuse_handoff(struct ferry_worker *worker, const struct handoff_wire_handoff *wire)
{
	worker->stats.refused++;
	send_answer_or_end(worker, HANDOFF_WIRE_REJECT, wire, -EBADMSG);
}

static void report_loss(struct ferry_worker *worker, const struct handoff_wire_handoff *wire)
{
	worker->stats.lost++;
	suspend_credits(worker); /* first: the dispatcher does not count the loss as an attempt then */
	send_answer_or_end(worker, HANDOFF_WIRE_LOST, wire, 0);
}

static void receive_handoff(struct ferry_worker *worker, struct ferry_message *message)
{
	struct handoff_wire_handoff wire;
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);

	const char *fault = handoff_wire_handoff_get(payload, length, &wire);
	if (fault == NULL && ferry_message_get_fd_count(message) != 1)
		fault = "a handoff without a descriptor";
	if (fault != NULL) {
		end_for_fault(worker, fault);
		return;
	}
	if (worker->claiming) { /* the message was deferred */
		settle_claim(worker, message, &wire);
		return;
	}
	worker->stats.received++;
	if (ferry_message_get_fds_lost(message) > 0)
		report_loss(worker, &wire);
	else if (!handoff_is_descriptor(ferry_message_get_fd(message, 0), &wire.identity))
		refuse_handoff(worker, &wire);
	else
		claim_handoff(worker, message, &wire);
}

/* ---- other messages ---- */

static void receive_hello(struct ferry_worker *worker, const struct ferry_message *message)
{
	struct handoff_wire_hello hello;
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);

	const char *fault =
	    worker->version != 0 ? "a second hello" : handoff_wire_hello_get(payload, length, &hello);
	if (fault != NULL) {
		end_for_fault(worker, fault);
		return;
	}
	worker->epoch = hello.epoch;
	worker->version = handoff_wire_common_version(&hello, HANDOFF_WIRE_VERSION_MAX);
	if (worker->version == 0)
		end_channel(worker, -EPROTONOSUPPORT);
}

static void receive_drain(struct ferry_worker *worker)
{
	if (worker->drain_requested)
		return;
	worker->drain_requested = true;
	if (worker->keeper.drained != NULL)
		worker->keeper.drained(worker);
	if (worker->callbacks->drain_requested != NULL)
		worker->callbacks->drain_requested(worker, worker->context);
	worker_reports_send(worker);
}

static void receive_recall(struct ferry_worker *worker, const struct ferry_message *message)
{
	struct timeval spread;
	uint32_t msec;
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);

	const char *fault = handoff_wire_recall_get(payload, length, &msec);
	if (fault != NULL) {
		end_for_fault(worker, fault);
		return;
	}
	spread = clock_to_timeval((int64_t)msec * 1000);
	if (worker->callbacks->recall_requested != NULL)
		worker->callbacks->recall_requested(worker, &spread, worker->context);
}

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	(void)stream;
	struct ferry_worker *worker = context;
	uint16_t type = ferry_message_get_type(message);

	if (worker->freed) /* it still sends what was queued, and takes nothing */
		return;
	if (worker->version == 0 && type != HANDOFF_WIRE_HELLO) {
		end_for_fault(worker, "something before its hello");
		return;
	}
	switch (type) {
	case HANDOFF_WIRE_HELLO:
		receive_hello(worker, message);
		break;
	case HANDOFF_WIRE_HANDOFF:
		receive_handoff(worker, message);
		break;
	case HANDOFF_WIRE_DRAIN:
		receive_drain(worker);
		break;
	case HANDOFF_WIRE_RECALL:
		receive_recall(worker, message);
		break;
	default: /* for a later version */
		worker->stats.ignored++;
		break;
	}
	if (!worker->freed)
		flush_before_the_end(worker);
}

/* The channel's end closes the returns that are left. */
static void release_worker(struct ferry_worker *worker)
{
	returning_settle(worker);
	ferry_message_stream_free(worker->stream);
	returning_destroy(worker);
	deferred_free(worker->timer, NULL);
}

/* Whether there was a client that kept the worker. */
static bool leave_keeper(struct ferry_worker *worker)
{
	void (*ended)(struct ferry_worker *) = worker->keeper.ended;

	worker->keeper.drained = worker->keeper.ended = NULL;
	if (ended != NULL)
		ended(worker);
	return ended != NULL;
}

/* The callbacks may free the worker; its memory stays. */
static void notify_of_end(struct ferry_worker *worker, int reason)
{
	returning_fail(worker);
	if (!worker->freed)
		worker_credits_end(worker);
	if (worker->freed)
		return;
	bool kept = leave_keeper(worker);
	if (worker->callbacks->dispatcher_lost != NULL)
		worker->callbacks->dispatcher_lost(worker, reason, worker->context);
	if (kept)
		ferry_worker_free(worker);
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream;
	struct ferry_worker *worker = context;

	if (worker->freed) {
		release_worker(worker);
		return;
	}
	event_del(worker->timer);
	worker->stats.unclaimed += worker->claiming; /* closed with the stream's messages */
	worker->claiming = false;
	notify_of_end(worker, reason);
}

static const struct ferry_message_callbacks message_callbacks = {
    .message_received = message_received,
    .connection_lost = connection_lost,
};

/* ---- lifetime ---- */

/* Does what may fail before the transport becomes the worker's: makes room for HELLO, and the timer. */
static int prepare_worker(struct ferry_worker *worker, struct ferry_transport *transport)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	if (!transport_carries_fds(transport))
		return -EOPNOTSUPP;
	if (!transport_takes_output(transport))
		return -ENOTCONN;
	if (evbuffer_expand(bufferevent_get_output(bev),
	                    MESSAGE_HEADER_SIZE + HANDOFF_WIRE_HELLO_SIZE) < 0)
		return -ENOMEM;
	worker->timer = event_new(bufferevent_get_base(bev), -1, 0, on_timer, worker);
	if (worker->timer == NULL)
		return -ENOMEM;
	/* The highest: the bufferevent's own may change while the timer runs, and the work is short. */
	event_priority_set(worker->timer, 0);
	return 0;
}

static int start_worker(struct ferry_worker *worker, struct ferry_transport *transport)
{
	struct bufferevent *bev = transport_lock(transport);

	int status = prepare_worker(worker, transport);
	if (status == 0)
		status = ferry_message_stream_new(&worker->stream, transport, &message_callbacks, worker);
	if (status == 0) {
		ferry_message_stream_set_limits(worker->stream, HANDOFF_WIRE_PAYLOAD_MAX, 1);
		message_stream_set_sent_cb(worker->stream, on_sent, worker);
		(void)send_hello(worker); /* cannot fail: its room is reserved */
	}
	bufferevent_unlock(bev);
	return status;
}

int ferry_worker_new(struct ferry_worker **out, struct ferry_transport *transport,
                     const struct ferry_worker_callbacks *callbacks, void *context)
{
	if (out == NULL || transport == NULL || callbacks == NULL)
		return -EINVAL;
	struct ferry_worker *worker = calloc(1, sizeof(*worker));
	if (worker == NULL)
		return -ENOMEM;
	worker->callbacks = callbacks;
	worker->context = context;
	worker->credits = CREDITS_DEFAULT;
	TAILQ_INIT(&worker->returning);
	int status = start_worker(worker, transport);
	if (status < 0) {
		if (worker->timer != NULL)
			event_free(worker->timer);
		free(worker);
		return status;
	}
	*out = worker;
	return 0;
}

/* Sends what is queued, then ends the channel. The user has disabled writing, perhaps, and cannot enable it any
 * more. False: nothing is left to send, or nothing can be sent. */
static bool linger(struct ferry_worker *worker)
{
	struct ferry_transport *transport = ferry_message_stream_get_transport(worker->stream);

	/* A claim that the kernel takes from now on would be a connection that nobody serves. */
	if (worker->claiming || !message_stream_can_send(worker->stream) ||
	    bufferevent_enable(ferry_transport_get_bufferevent(transport), EV_WRITE) < 0)
		return false;
	worker_reports_send(worker);
	message_stream_flush(worker->stream);
	return message_stream_sent_position(worker->stream) <
	           message_stream_end_position(worker->stream) &&
	       ferry_transport_lose_connection(transport) == 0;
}

void ferry_worker_free(struct ferry_worker *worker)
{
	if (worker == NULL || worker->freed)
		return;
	worker->freed = true;
	leave_keeper(worker);
	event_del(worker->timer);
	if (!linger(worker))
		release_worker(worker);
}

struct ferry_transport *ferry_worker_get_transport(const struct ferry_worker *worker)
{
	return worker != NULL ? ferry_message_stream_get_transport(worker->stream) : NULL;
}

/* ---- for the user ---- */

int ferry_worker_set_credits(struct ferry_worker *worker, unsigned int credits)
{
	if (worker == NULL)
		return -EINVAL;
	worker_reports_send(worker);
	if (!message_stream_can_send(worker->stream))
		return -ENOTCONN;
	int status = 0;
	if (!worker->short_of_slots && !worker->drained)
		status = send_credits(worker, credits);
	if (status == 0) {
		worker->credits = credits;
		worker_credits_weigh(worker);
	}
	return status;
}

int ferry_worker_drain(struct ferry_worker *worker)
{
	if (worker == NULL)
		return -EINVAL;
	if (!message_stream_can_send(worker->stream))
		return -ENOTCONN;
	int status = worker->drained ? 0 : send_message(worker, HANDOFF_WIRE_DRAIN, NULL, 0);
	if (status == 0) {
		worker->drained = true;
		worker_reports_send(worker);
	}
	return status;
}

bool ferry_worker_is_drained(const struct ferry_worker *worker)
{
	return worker != NULL && (worker->drained || worker->drain_requested);
}

static void note_done(struct ferry_worker *worker, uint64_t id)
{
	worker->stats.done++;
	worker_credits_free(worker);
	worker->done_sent |= worker->serving && id == worker->serving_id;
}

int ferry_worker_done(struct ferry_worker *worker, uint64_t id)
{
	if (worker == NULL)
		return -EINVAL;
	int status = worker_send_answer(
	    worker, HANDOFF_WIRE_DONE, &(struct handoff_wire_answer){.id = id, .epoch = worker->epoch});
	if (status == 0) {
		note_done(worker, id);
		flush_before_the_end(worker);
	}
	return status;
}

int ferry_worker_done_later(struct ferry_worker *worker, uint64_t id)
{
	if (worker == NULL)
		return -EINVAL;
	if (!message_stream_can_send(worker->stream))
		return -ENOTCONN;
	if (worker_reports_add(worker, id)) {
		note_done(worker, id);
		return 0;
	}
	worker_reports_send(worker);
	return ferry_worker_done(worker, id);
}

int ferry_worker_get_stats(const struct ferry_worker *worker, struct ferry_worker_stats *stats)
{
	if (worker == NULL || stats == NULL)
		return -EINVAL;
	*stats = worker->stats;
	stats->outstanding = worker->outstanding;
	stats->credits = worker->credits;
	return 0;
}
