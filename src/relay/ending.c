#include "relay/ending.h"

#include <errno.h>
#include <sys/socket.h>

#include <event2/bufferevent.h>

#include "kernel/clock.h"
#include "kernel/send_queue.h"
#include "libevent/deferred_free.h"
#include "relay/splice.h"
#include "transport/interface.h"

/* A peer that takes nothing for so long gets no rest before a reset. */
enum { RESET_WAIT = 2 * CLOCK_SECOND };

/*
 * The end of one side becomes the end of the other:
 *
 *   the peer of one side            the other side
 *   has shut down its sending half  the same, behind all that was passed on
 *   has closed                      closes, behind all that was passed on
 *   has broken the connection       is aborted, behind all that was passed on
 */

/* ---- pausing ---- */

void relay_pause(struct relay_end *end, enum relay_pause why)
{
	if (end->pauses == 0 && end->transport != NULL && !end->muted)
		(void)ferry_transport_pause_reading(end->transport); /* or it is over */
	end->pauses |= why;
}

int relay_resume(struct relay_end *end, enum relay_pause why)
{
	int status = 0;

	if (end->pauses == (unsigned int)why && !end->muted)
		status = ferry_transport_resume_reading(end->transport);
	if (status == -ENOMEM)
		return status;
	end->pauses &= ~(unsigned int)why;
	return 0;
}

static evutil_socket_t socket_of(const struct relay_end *end)
{
	return bufferevent_getfd(ferry_transport_get_bufferevent(end->transport));
}

void relay_mute(struct relay_end *end)
{
	if (end->muted || end->lost || end->transport == NULL)
		return;
	relay_splice_stop(end);
	end->muted = true;
	shutdown(socket_of(end), SHUT_RD);
	if (end->pauses != 0 && ferry_transport_resume_reading(end->transport) == -ENOMEM)
		(void)ferry_transport_abort_connection(end->transport);
}

/* ---- the reason ---- */

/* The first end counts; but behind a clean one data may be lost on the other side, and descriptors on either. */
static void note_reason(struct ferry_relay *relay, enum ferry_relay_side side, int reason)
{
	bool again = relay->side == side && reason != -ENODATA;

	if (relay->has_reason && (relay->reason != 0 || again))
		return;
	if (relay->has_reason && reason == 0)
		return;
	relay->has_reason = true;
	relay->side = side;
	relay->reason = reason;
}

void relay_note_closing(struct ferry_relay *relay)
{
	if (relay->closing_since != 0)
		return;
	relay->closing_since = clock_now();
	event_active(relay->timer, EV_TIMEOUT, 0);
}

/* ---- passing on ---- */

static void stop_splices(struct ferry_relay *relay)
{
	relay_splice_stop(&relay->ends[0]);
	relay_splice_stop(&relay->ends[1]);
}

/* No producer delays the close of `to` any more. */
static void close_when_sent(struct relay_end *to)
{
	to->ending = true;
	stop_splices(to->relay);
	(void)ferry_transport_unregister_producer(to->transport);
	(void)ferry_transport_lose_connection(to->transport);
}

void relay_pass_end(struct relay_end *end)
{
	struct ferry_relay *relay = end->relay;
	struct relay_end *to = end->other;

	if (end->end_passed || to->transport == NULL)
		return;
	end->end_passed = true;
	relay_splice_stop(end); /* what is in the pipe was sent before */
	if (relay->callbacks->side_ended != NULL)
		relay->callbacks->side_ended(relay, end->side, end->closed, relay->context);
	if (relay->freed)
		return;
	if (end->closed) {
		note_reason(relay, end->side, 0);
		relay_note_closing(relay);
		close_when_sent(to);
	} else {
		(void)ferry_transport_unregister_producer(to->transport);
		(void)ferry_transport_lose_write_connection(to->transport);
	}
}

/* The kernel still has bytes that a reset would drop. It drops none of a unix socket. */
static int unacknowledged(const struct relay_end *end)
{
	if (transport_carries_fds(end->transport))
		return 0;
	int queue = send_queue_length(socket_of(end));
	return queue > 1 ? queue : 0; /* 1: the end of file is unacknowledged */
}

bool relay_is_resetting(struct relay_end *end, int64_t now)
{
	if (!end->resetting || end->lost)
		return false;
	int queue = unacknowledged(end);
	if (queue != end->queue) {
		end->queue = queue;
		end->queue_since = now;
	}
	if (queue > 0 && now - end->queue_since < RESET_WAIT)
		return true;
	(void)ferry_transport_abort_connection(end->transport);
	return false;
}

/* All is sent, or will never be. */
static void abort_now(void *context)
{
	struct relay_end *end = context;

	if (end->relay->freed)
		return;
	end->resetting = true;
	end->queue_since = clock_now();
	if (relay_is_resetting(end, end->queue_since))
		event_active(end->relay->timer, EV_TIMEOUT, 0);
}

static const struct ferry_producer_callbacks until_sent = {.resume_producing = abort_now,
                                                           .stop_producing = abort_now};

static bool has_queue(const struct relay_end *end)
{
	struct ferry_transport_stats stats;

	(void)ferry_transport_get_stats(end->transport, &stats);
	return stats.bytes_queued > 0 || stats.files_queued > 0;
}

/* A pull producer is asked for more when all is sent. There is none behind a half-close that is not sent yet: then
 * the end of file tells the peer. */
static void abort_when_sent(struct relay_end *to)
{
	to->ending = true;
	stop_splices(to->relay);
	(void)ferry_transport_unregister_producer(to->transport);
	relay_mute(to);
	int status = has_queue(to) ? ferry_transport_register_producer(to->transport, &until_sent, to,
	                                                               FERRY_PRODUCER_PULL)
	                           : -ENOENT;
	if (status == -EPIPE)
		(void)ferry_transport_lose_connection(to->transport);
	else if (status < 0)
		abort_now(to);
}

/* Whether the peer has ended, and all that it had sent was received. The kernel reports a unix peer that has closed as
 * an error, if it left bytes unread or if somebody writes to it. */
static bool is_clean(const struct relay_end *end)
{
	bool closed = (end->reason == -EPIPE || end->reason == -ECONNRESET) &&
	              transport_carries_fds(end->transport) &&
	              ferry_transport_peer_has_closed(end->transport);

	return end->reason == 0 || closed;
}

static void finish(struct ferry_relay *relay)
{
	if (relay->notified)
		return;
	relay->notified = true;
	event_del(relay->timer);
	if (relay->callbacks->relay_ended != NULL)
		relay->callbacks->relay_ended(relay, relay->side, relay->reason, relay->context);
	else
		relay_free(relay);
}

void relay_pass_loss(struct relay_end *end)
{
	struct ferry_relay *relay = end->relay;
	struct relay_end *to = end->other;

	if (to->transport == NULL && !relay->closing)
		return;
	stop_splices(relay);
	note_reason(relay, end->side, is_clean(end) ? 0 : end->reason);
	if (to->transport == NULL || to->lost) {
		end->end_passed = true;
		relay_settle(relay);
		return;
	}
	relay_note_closing(relay);
	if (!is_clean(end)) {
		end->end_passed = true;
		abort_when_sent(to);
	} else if (end->half_ended || end->ending) {
		end->end_passed = true;
		close_when_sent(to);
	} else {
		end->closed = true; /* the first that is known of its end */
		relay_pass_end(end);
	}
}

void relay_settle(struct ferry_relay *relay)
{
	bool over = relay->has_reason;

	for (int i = 0; i < 2; i++) {
		const struct relay_end *end = &relay->ends[i];
		over &= end->transport == NULL ? relay->closing : end->lost && end->end_passed;
	}
	if (over)
		finish(relay);
}

/* ---- the owner's end ---- */

void relay_abort(struct ferry_relay *relay, enum ferry_relay_side side, int reason)
{
	if (!relay->has_reason)
		relay->side = side;
	if (!relay->has_reason || relay->reason == 0)
		relay->reason = reason;
	relay->has_reason = true;
	relay->closing = true;
	event_active(relay->timer, EV_TIMEOUT, 0);
	for (int i = 0; i < 2; i++) {
		struct relay_end *end = &relay->ends[i];
		relay_splice_free(end);
		if (end->transport == NULL || end->lost)
			continue;
		(void)ferry_transport_unregister_producer(end->transport);
		(void)ferry_transport_abort_connection(end->transport);
	}
}

void relay_close(struct ferry_relay *relay)
{
	if (relay->closing || relay->close_behind != NULL)
		return;
	if (relay->filtering != NULL) {
		relay->close_behind = relay->filtering;
		return;
	}
	note_reason(relay, FERRY_RELAY_CLIENT, 0);
	relay->closing = true;
	relay_note_closing(relay);
	for (int i = 0; i < 2; i++)
		if (relay->ends[i].transport != NULL && !relay->ends[i].lost)
			close_when_sent(&relay->ends[i]);
}

void relay_free(struct ferry_relay *relay)
{
	if (relay->freed)
		return;
	relay->freed = true;
	for (int i = 0; i < 2; i++)
		relay_splice_free(&relay->ends[i]);
	for (int i = 0; i < 2; i++)
		ferry_transport_free(relay->ends[i].transport);
	if (relay->filtered != NULL)
		evbuffer_free(relay->filtered);
	deferred_free(relay->timer, NULL);
}
