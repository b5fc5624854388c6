#include "ferry/worker.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "handoff/handoff.h"
#include "kernel/fd_slots.h"
#include "message/receive.h"
#include "message/send.h"
#include "message/wire.h"
#include "transport/transport.h"
#include "util/log.h"

/*
 * A handoff changes hands with its claim: the user's callback runs once the kernel has taken the last
 * byte of it, and never otherwise. So the claim is written at once, and not at the end of the loop's
 * turn; most times that is all. Where the channel is full, the message stays where it is, with its
 * descriptor, and nothing behind it is read: there is no copy that could fail for want of memory, and
 * whatever ends the channel closes the descriptor. The write step tells when the claim has left.
 *
 * The worker's memory lives until the loop has finalised its timer, as the stream's does: a callback may
 * free it.
 */

enum {
	CREDITS_DEFAULT = 256,
	/* After a loss: when to look for free descriptor numbers again, and how many are worth it. */
	LOOK_AGAIN_USEC = 20000,
	NUMBERS_WANTED = 16
};

struct ferry_worker {
	struct ferry_message_stream *stream;
	const struct ferry_worker_callbacks *callbacks;
	void *context;
	struct event *timer;
	struct ferry_worker_stats stats;

	uint64_t epoch; /* the channel's number */
	unsigned int credits;

	uint64_t claim_end; /* the position behind the claim that waits for room in the channel */
	bool claiming;      /* one does */

	uint64_t in_hand; /* the id that the callback has now: */
	bool serving;     /* it runs */
	bool said_done;   /* of that id */

	bool greeted;     /* the dispatcher has said hello */
	bool drain_asked; /* by the dispatcher, and told */
	bool drained;     /* by us */
	bool short_of_numbers;
	bool freed;
};

/* ---- what is said ---- */

static int say(struct ferry_worker *worker, enum handoff_wire_type type, unsigned char *payload,
               size_t length)
{
	int status = message_stream_send_parts(worker->stream, (uint16_t)type,
	                                       &(struct iovec){payload, length}, 1, -1);

	return status == -EPIPE ? -ENOTCONN : status;
}

static int say_hello(struct ferry_worker *worker)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];

	handoff_wire_hello_put(payload,
	                       &(struct handoff_wire_hello){.version_min = HANDOFF_WIRE_VERSION_MIN,
	                                                    .version_max = HANDOFF_WIRE_VERSION_MAX,
	                                                    .credits = worker->credits});
	return say(worker, HANDOFF_WIRE_HELLO, payload, sizeof(payload));
}

static int say_credits(struct ferry_worker *worker, unsigned int credits)
{
	unsigned char payload[HANDOFF_WIRE_CREDITS_SIZE];

	handoff_wire_credits_put(payload, credits);
	return say(worker, HANDOFF_WIRE_CREDITS, payload, sizeof(payload));
}

static int answer(struct ferry_worker *worker, enum handoff_wire_type type,
                  const struct handoff_wire_answer *content)
{
	unsigned char payload[HANDOFF_WIRE_ANSWER_SIZE];

	handoff_wire_answer_put(payload, content);
	return say(worker, type, payload, sizeof(payload));
}

/* With what was answered before, so that the dispatcher knows as much as it can. */
static void break_off(struct ferry_worker *worker, int reason)
{
	message_stream_flush(worker->stream);
	message_stream_end(worker->stream, reason);
}

/* An answer that nobody would repeat. Without memory for it the channel ends: else the dispatcher would
 * wait for it in vain. */
static int must_answer(struct ferry_worker *worker, enum handoff_wire_type type,
                       const struct handoff_wire_handoff *frame, int reason)
{
	int status =
	    answer(worker, type, &(struct handoff_wire_answer){frame->id, frame->epoch, reason});

	if (status == -ENOMEM)
		break_off(worker, status);
	return status;
}

static void accuse(struct ferry_worker *worker, const char *what)
{
	log_line(FERRY_LOG_WARNING, "handoffs on %d: the dispatcher sent %s",
	         (int)bufferevent_getfd(ferry_transport_get_bufferevent(
	             ferry_message_stream_get_transport(worker->stream))),
	         what);
	break_off(worker, -EPROTO);
}

/* ---- short of descriptor numbers ---- */

static int look_again_later(struct ferry_worker *worker)
{
	return event_add(worker->timer, &(struct timeval){.tv_usec = LOOK_AGAIN_USEC});
}

static bool numbers_are_free(const struct ferry_worker *worker)
{
	struct bufferevent *bev =
	    ferry_transport_get_bufferevent(ferry_message_stream_get_transport(worker->stream));

	return fd_slots_are_free(bufferevent_getfd(bev),
	                         worker->credits < NUMBERS_WANTED ? worker->credits : NUMBERS_WANTED);
}

/* Wants no more until there are some. Without memory for the timer, which would say when, it goes on as
 * it is: one loss after the other. */
static void run_short(struct ferry_worker *worker)
{
	if (worker->short_of_numbers || worker->drained || look_again_later(worker) < 0)
		return;
	worker->short_of_numbers = true;
	if (say_credits(worker, 0) == -ENOMEM)
		break_off(worker, -ENOMEM);
}

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_worker *worker = argument;

	if (!message_stream_can_send(worker->stream))
		return;
	if (!worker->drained &&
	    (!numbers_are_free(worker) || say_credits(worker, worker->credits) == -ENOMEM)) {
		if (look_again_later(worker) < 0)
			break_off(worker, -ENOMEM);
		return;
	}
	worker->short_of_numbers = false;
}

/* ---- a handoff ---- */

/* Everything may be gone when the callback returns, but the memory: the worker's, and the message's,
 * which the handoff looks at. */
static void serve(struct ferry_worker *worker, struct ferry_message *message,
                  const struct handoff_wire_handoff *frame)
{
	struct ferry_handoff handoff;

	handoff_view(&handoff, frame, ferry_message_steal_fd(message, 0));
	worker->stats.claimed++;
	worker->in_hand = frame->id;
	worker->said_done = false;
	worker->serving = true;
	if (worker->callbacks->handoff_received != NULL)
		worker->callbacks->handoff_received(worker, &handoff, worker->context);
	worker->serving = false;
	bool stolen = handoff.fd < 0;
	handoff_close_fd(&handoff);

	if (worker->freed || worker->said_done)
		return;
	if (handoff.state == HANDOFF_REJECTED) {
		worker->stats.rejected++;
		must_answer(worker, HANDOFF_WIRE_REJECT, frame, handoff.reason);
	} else if (!stolen && must_answer(worker, HANDOFF_WIRE_DONE, frame, 0) == 0) {
		worker->stats.done++;
	}
}

/* The kernel has the claim, or does not have it yet, or never will: half a claim is none. */
static void settle_claim(struct ferry_worker *worker, struct ferry_message *message,
                         const struct handoff_wire_handoff *frame)
{
	worker->claiming = false;
	if (message_stream_sent_position(worker->stream) >= worker->claim_end) {
		serve(worker, message, frame);
	} else if (message_stream_can_send(worker->stream)) {
		worker->claiming = true;
		message_defer(message);
	} else {
		worker->stats.unclaimed++;
	}
}

static void claim(struct ferry_worker *worker, struct ferry_message *message,
                  const struct handoff_wire_handoff *frame)
{
	if (must_answer(worker, HANDOFF_WIRE_CLAIM, frame, 0) < 0) {
		worker->stats.unclaimed++;
		return;
	}
	worker->claim_end = message_stream_end_position(worker->stream);
	message_stream_flush(worker->stream);
	settle_claim(worker, message, frame);
	if (worker->claiming)
		worker->stats.waited++;
}

static void on_sent(void *argument)
{
	struct ferry_worker *worker = argument;

	if (worker->claiming) /* it may have to be kept again */
		message_stream_resume(worker->stream);
}

/* Closed with the message. */
static void refuse(struct ferry_worker *worker, const struct handoff_wire_handoff *frame)
{
	worker->stats.refused++;
	must_answer(worker, HANDOFF_WIRE_REJECT, frame, -EBADMSG);
}

static void lose(struct ferry_worker *worker, const struct handoff_wire_handoff *frame)
{
	worker->stats.lost++;
	run_short(worker); /* first: a loss of one that is short is nobody's attempt */
	must_answer(worker, HANDOFF_WIRE_LOST, frame, 0);
}

static bool is_what_was_sent(const struct ferry_message *message,
                             const struct handoff_wire_identity *sent)
{
	struct handoff_wire_identity arrived;

	return handoff_identify(ferry_message_get_fd(message, 0), &arrived) == 0 &&
	       arrived.kind == sent->kind && arrived.cookie == sent->cookie &&
	       arrived.device == sent->device;
}

static void receive_handoff(struct ferry_worker *worker, struct ferry_message *message)
{
	struct handoff_wire_handoff frame;
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);

	const char *fault = handoff_wire_handoff_get(payload, length, &frame);
	if (fault == NULL && ferry_message_get_fd_count(message) != 1)
		fault = "a handoff without a descriptor";
	if (fault != NULL) {
		accuse(worker, fault);
		return;
	}
	if (worker->claiming) { /* it was kept */
		settle_claim(worker, message, &frame);
		return;
	}
	worker->stats.received++;
	if (ferry_message_get_fds_lost(message) > 0)
		lose(worker, &frame);
	else if (!is_what_was_sent(message, &frame.identity))
		refuse(worker, &frame);
	else
		claim(worker, message, &frame);
}

/* ---- other messages ---- */

static void receive_hello(struct ferry_worker *worker, const struct ferry_message *message)
{
	struct handoff_wire_hello hello;
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);

	const char *fault =
	    worker->greeted ? "a second hello" : handoff_wire_hello_get(payload, length, &hello);
	if (fault != NULL) {
		accuse(worker, fault);
		return;
	}
	worker->greeted = true;
	worker->epoch = hello.epoch;
	if (handoff_wire_common_version(&hello) == 0)
		break_off(worker, -EPROTONOSUPPORT);
}

static void receive_drain(struct ferry_worker *worker)
{
	if (worker->drain_asked)
		return;
	worker->drain_asked = true;
	if (worker->callbacks->drain_requested != NULL)
		worker->callbacks->drain_requested(worker, worker->context);
}

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	(void)stream;
	struct ferry_worker *worker = context;
	uint16_t type = ferry_message_get_type(message);

	if (!worker->greeted && type != HANDOFF_WIRE_HELLO) {
		accuse(worker, "something before its hello");
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
	default: /* of a later version */
		worker->stats.ignored++;
		break;
	}
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream;
	struct ferry_worker *worker = context;

	event_del(worker->timer);
	worker->stats.unclaimed += worker->claiming; /* closed with the stream's messages */
	worker->claiming = false;
	if (worker->callbacks->dispatcher_lost != NULL)
		worker->callbacks->dispatcher_lost(worker, reason, worker->context);
}

static const struct ferry_message_callbacks message_callbacks = {
    .message_received = message_received,
    .connection_lost = connection_lost,
};

/* ---- lifetime ---- */

/* What can fail when it says hello, made to fail before the transport is taken. */
static int prepare(struct ferry_worker *worker, struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;

	if (!transport->outgoing.carries_fds)
		return -EOPNOTSUPP;
	if (!transport_takes_output(transport))
		return -ENOTCONN;
	if (evbuffer_expand(bufferevent_get_output(bev),
	                    MESSAGE_HEADER_SIZE + HANDOFF_WIRE_HELLO_SIZE) < 0)
		return -ENOMEM;
	worker->timer = event_new(bufferevent_get_base(bev), -1, 0, on_timer, worker);
	if (worker->timer == NULL)
		return -ENOMEM;
	event_priority_set(worker->timer, bufferevent_get_priority(bev));
	return 0;
}

static int start(struct ferry_worker *worker, struct ferry_transport *transport)
{
	struct bufferevent *bev = transport_lock(transport);

	int status = prepare(worker, transport);
	if (status == 0)
		status = ferry_message_stream_new(&worker->stream, transport, &message_callbacks, worker);
	if (status == 0) {
		ferry_message_stream_set_limits(worker->stream, HANDOFF_WIRE_PAYLOAD_MAX, 1);
		message_stream_set_sent_cb(worker->stream, on_sent, worker);
		(void)say_hello(worker); /* there is room for it */
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
	int status = start(worker, transport);
	if (status < 0) {
		if (worker->timer != NULL)
			event_free(worker->timer);
		free(worker);
		return status;
	}
	*out = worker;
	return 0;
}

/* Runs in the loop, after every callback that was under way. */
static void finalise(struct event *timer, void *argument)
{
	(void)timer;
	free(argument);
}

void ferry_worker_free(struct ferry_worker *worker)
{
	if (worker == NULL || worker->freed)
		return;
	worker->freed = true;
	ferry_message_stream_free(worker->stream);
	event_free_finalize(0, worker->timer, finalise);
}

struct ferry_transport *ferry_worker_get_transport(const struct ferry_worker *worker)
{
	return worker != NULL ? ferry_message_stream_get_transport(worker->stream) : NULL;
}

/* ---- what the user says ---- */

int ferry_worker_set_credits(struct ferry_worker *worker, unsigned int credits)
{
	if (worker == NULL)
		return -EINVAL;
	if (!message_stream_can_send(worker->stream))
		return -ENOTCONN;
	int status = 0;
	if (!worker->short_of_numbers && !worker->drained)
		status = say_credits(worker, credits);
	if (status == 0)
		worker->credits = credits;
	return status;
}

int ferry_worker_drain(struct ferry_worker *worker)
{
	if (worker == NULL)
		return -EINVAL;
	if (!message_stream_can_send(worker->stream))
		return -ENOTCONN;
	int status = worker->drained ? 0 : say(worker, HANDOFF_WIRE_DRAIN, NULL, 0);
	if (status == 0)
		worker->drained = true;
	return status;
}

int ferry_worker_done(struct ferry_worker *worker, uint64_t id)
{
	if (worker == NULL)
		return -EINVAL;
	int status = answer(worker, HANDOFF_WIRE_DONE,
	                    &(struct handoff_wire_answer){.id = id, .epoch = worker->epoch});
	if (status == 0) {
		worker->stats.done++;
		worker->said_done |= worker->serving && id == worker->in_hand;
	}
	return status;
}

int ferry_worker_get_stats(const struct ferry_worker *worker, struct ferry_worker_stats *stats)
{
	if (worker == NULL || stats == NULL)
		return -EINVAL;
	*stats = worker->stats;
	return 0;
}
