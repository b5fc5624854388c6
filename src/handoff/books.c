#include "handoff/books.h"

#include <errno.h>

#include "kernel/clock.h"

enum { ATTEMPTS_MAX = 3, LOSSES_MAX = 16 };

/* ---- user code ---- */

void books_enter(struct ferry_dispatcher *dispatcher)
{
	dispatcher->calls++;
}

void books_leave(struct ferry_dispatcher *dispatcher)
{
	if (--dispatcher->calls == 0 && dispatcher->freed)
		dispatcher->destroy(dispatcher);
}

/* ---- the schedule of the turn ---- */

void books_want_turn(struct ferry_dispatcher *dispatcher)
{
	dispatcher->again = true;
	/* Not as EV_TIMEOUT: event_add() with a timeout would cancel that. */
	if (!dispatcher->freed && !dispatcher->running)
		event_active(dispatcher->event, EV_READ, 0);
}

void books_wake_at(struct ferry_dispatcher *dispatcher, int64_t time)
{
	if (dispatcher->freed || time == INT64_MAX)
		return;
	if (dispatcher->wakes_at != 0 && dispatcher->wakes_at <= time)
		return;
	int64_t wait = time - clock_now();
	struct timeval timeout = clock_to_timeval(wait > 0 ? wait : 0);

	/* Without memory for the timer, the next answer or handoff tries again. */
	if (event_add(dispatcher->event, &timeout) == 0)
		dispatcher->wakes_at = time;
}

/* ---- the queue ---- */

static void change_queue_length(struct ferry_dispatcher *dispatcher, int change)
{
	dispatcher->queue_length += (unsigned int)change;
	if (dispatcher->queue_length > dispatcher->stats.queued_max)
		dispatcher->stats.queued_max = dispatcher->queue_length;
	if (dispatcher->queue_length >= dispatcher->queue_limit)
		dispatcher->full = true;
	else if (dispatcher->queue_length <= dispatcher->queue_limit / 2)
		dispatcher->full = false;
	if (dispatcher->full != dispatcher->full_notified)
		books_want_turn(dispatcher);
}

/* Most of them enter last, or come back as the first; one whose loss did not count waits since before that. */
static void start_waiting(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	const struct ferry_handoff *first = TAILQ_FIRST(&dispatcher->waiting);
	struct ferry_handoff *before = TAILQ_LAST(&dispatcher->waiting, handoff_list);

	if (first != NULL && first->queued_at >= handoff->queued_at)
		before = NULL;
	while (before != NULL && before->queued_at > handoff->queued_at)
		before = TAILQ_PREV(before, handoff_list, wait_link);
	if (before == NULL)
		TAILQ_INSERT_HEAD(&dispatcher->waiting, handoff, wait_link);
	else
		TAILQ_INSERT_AFTER(&dispatcher->waiting, before, handoff, wait_link);
}

/* A new handoff belongs at the end; one that comes back belongs at the start or near it. */
void books_enqueue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	const struct ferry_handoff *first = TAILQ_FIRST(&dispatcher->queue);
	struct ferry_handoff *before = TAILQ_LAST(&dispatcher->queue, handoff_list);

	if (first != NULL && first->order > handoff->order)
		before = NULL;
	while (before != NULL && before->order > handoff->order)
		before = TAILQ_PREV(before, handoff_list, link);
	if (before == NULL)
		TAILQ_INSERT_HEAD(&dispatcher->queue, handoff, link);
	else
		TAILQ_INSERT_AFTER(&dispatcher->queue, before, handoff, link);
	if (handoff->queued_at == 0)
		handoff->queued_at = clock_now();
	start_waiting(dispatcher, handoff);
	handoff->state = HANDOFF_QUEUED;
	change_queue_length(dispatcher, +1);
}

void books_dequeue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(&dispatcher->queue, handoff, link);
	TAILQ_REMOVE(&dispatcher->waiting, handoff, wait_link);
	change_queue_length(dispatcher, -1);
}

void books_take_first(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(&dispatcher->queue, handoff, link);
	TAILQ_REMOVE(&dispatcher->waiting, handoff, wait_link);
}

void books_confirm_first(struct ferry_dispatcher *dispatcher)
{
	change_queue_length(dispatcher, -1);
}

void books_return_first(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	TAILQ_INSERT_HEAD(&dispatcher->queue, handoff, link);
	start_waiting(dispatcher, handoff);
}

void books_set_queue_limit(struct ferry_dispatcher *dispatcher, unsigned int limit)
{
	dispatcher->queue_limit = limit;
	change_queue_length(dispatcher, 0);
}

/* ---- one handoff ---- */

/* The handoff's id names it no more, and its callback becomes pending. */
static void close_account(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                          enum handoff_state state)
{
	handoff->state = state;
	handoff_ids_remove(&dispatcher->ids, handoff->place);
	TAILQ_INSERT_TAIL(&dispatcher->outcomes, handoff, link);
	books_want_turn(dispatcher);
}

void books_end_handoff(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason)
{
	struct ferry_dispatcher_stats *stats = &dispatcher->stats;

	handoff->outcome = outcome;
	handoff->reason = reason;
	if (outcome == FERRY_HANDOFF_DONE)
		stats->done++;
	else if (outcome == FERRY_HANDOFF_REJECTED)
		stats->rejected++;
	else if (outcome == FERRY_HANDOFF_EXPIRED)
		stats->expired++;
	else
		stats->kept++;
	close_account(dispatcher, handoff, HANDOFF_ENDED);
}

void books_give_back(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	handoff->returned++;
	close_account(dispatcher, handoff, HANDOFF_BACK);
}

/* Each stay in the queue has the whole of the queue's time: a worker that hung has used up none of it. */
void books_requeue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                   enum books_charge charge)
{
	if (charge == BOOKS_EXCUSED && ++handoff->losses > LOSSES_MAX)
		charge = BOOKS_CHARGED;
	if (charge == BOOKS_CHARGED && handoff->attempt == ATTEMPTS_MAX) {
		books_end_handoff(dispatcher, handoff, FERRY_HANDOFF_EXPIRED,
		                  dispatcher->freed ? -ECANCELED : -EHOSTUNREACH);
		return;
	}
	handoff->attempt += charge == BOOKS_CHARGED;
	if (charge != BOOKS_EXCUSED)
		handoff->queued_at = 0;
	handoff->worker = NULL; /* the worker may be freed before the outcome callback runs */
	books_enqueue(dispatcher, handoff);
	books_want_turn(dispatcher);
}
