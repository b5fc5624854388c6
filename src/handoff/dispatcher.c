#include "handoff/dispatcher.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

/*
 * The queue, and the turn: one event per dispatcher, which the loop runs when something is to be done or
 * told, or when a time has come. Only there does the user's code run, and only there are workers whose
 * answer is overdue ended, and what has ended is freed.
 */

enum {
	QUEUE_LIMIT = 1024,
	ATTEMPTS_MAX = 3,
	SECOND = 1000000,
	DEADLINE = 5 * SECOND,
	MEMORY_PAUSE = SECOND / 50, /* when there was none */
	TOLD_PER_TURN = 256         /* then others get theirs */
};

/* ---- time ---- */

int64_t dispatcher_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * SECOND + now.tv_nsec / 1000;
}

void dispatcher_want_turn(struct ferry_dispatcher *dispatcher)
{
	dispatcher->again = true;
	/* Not as EV_TIMEOUT: a timer that is set later would take that back. */
	if (!dispatcher->freed && !dispatcher->running)
		event_active(dispatcher->event, EV_READ, 0);
}

void dispatcher_wake_at(struct ferry_dispatcher *dispatcher, int64_t time)
{
	if (dispatcher->freed || time == INT64_MAX)
		return;
	if (dispatcher->wakes_at != 0 && dispatcher->wakes_at <= time)
		return;
	int64_t wait = time - dispatcher_now();
	if (wait < 0)
		wait = 0;
	const struct timeval timeout = {.tv_sec = (time_t)(wait / SECOND),
	                                .tv_usec = (suseconds_t)(wait % SECOND)};
	/* Without memory for the timer: the next answer or handoff tries again. */
	if (event_add(dispatcher->event, &timeout) == 0)
		dispatcher->wakes_at = time;
}

/* ---- one handoff ---- */

void dispatcher_end_handoff(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                            enum ferry_handoff_outcome outcome, int reason)
{
	struct ferry_dispatcher_stats *stats = &dispatcher->stats;

	handoff->state = HANDOFF_ENDED;
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
	handoff_ids_remove(&dispatcher->ids, handoff->place);
	TAILQ_INSERT_TAIL(&dispatcher->outcomes, handoff, link);
	dispatcher_want_turn(dispatcher);
}

static void note_queue_length(struct ferry_dispatcher *dispatcher, int change)
{
	dispatcher->queue_length += (unsigned int)change;
	if (dispatcher->queue_length > dispatcher->stats.queued_max)
		dispatcher->stats.queued_max = dispatcher->queue_length;
	if (dispatcher->queue_length >= dispatcher->queue_limit)
		dispatcher->full = true;
	else if (dispatcher->queue_length <= dispatcher->queue_limit / 2)
		dispatcher->full = false;
	if (dispatcher->full != dispatcher->full_told)
		dispatcher_want_turn(dispatcher);
}

/* New ones belong to the end, what comes back to the start or near it. */
static void enqueue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
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
	handoff->state = HANDOFF_QUEUED;
	note_queue_length(dispatcher, +1);
}

static void dequeue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(&dispatcher->queue, handoff, link);
	note_queue_length(dispatcher, -1);
}

void dispatcher_take_back(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                          bool charged)
{
	if (charged && handoff->attempt == ATTEMPTS_MAX) {
		dispatcher_end_handoff(dispatcher, handoff, FERRY_HANDOFF_EXPIRED,
		                       dispatcher->freed ? -ECANCELED : -EHOSTUNREACH);
		return;
	}
	if (charged)
		handoff->attempt++;
	handoff->worker = NULL; /* which may be gone before the outcome is told */
	enqueue(dispatcher, handoff);
	dispatcher_want_turn(dispatcher);
}

static bool is_a_channel(const struct ferry_dispatcher *dispatcher,
                         const struct ferry_handoff *handoff)
{
	const struct ferry_dispatcher_worker *worker;

	TAILQ_FOREACH (worker, &dispatcher->workers, link)
		if (worker_is_on(worker, &handoff->identity))
			return true;
	return false;
}

/* Gives it to a worker. -EAGAIN: none takes it now. -ENOMEM: nor can it be tried. */
static int place(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	struct ferry_dispatcher_worker *worker;

	while ((worker = choose_worker(dispatcher, handoff)) != NULL) {
		int status = worker_send(worker, handoff);
		if (status != -EPIPE)
			return status;
	}
	return -EAGAIN;
}

/* ---- the queue ---- */

static void place_queued(struct ferry_dispatcher *dispatcher)
{
	struct ferry_handoff *handoff;
	int status = 0;

	while (status == 0 && (handoff = TAILQ_FIRST(&dispatcher->queue)) != NULL) {
		if (is_a_channel(dispatcher, handoff)) { /* since it was handed off */
			dequeue(dispatcher, handoff);
			dispatcher_end_handoff(dispatcher, handoff, FERRY_HANDOFF_REJECTED, -ELOOP);
			continue;
		}
		TAILQ_REMOVE(&dispatcher->queue, handoff, link);
		status = place(dispatcher, handoff);
		if (status < 0)
			TAILQ_INSERT_HEAD(&dispatcher->queue, handoff, link);
		else
			note_queue_length(dispatcher, -1);
	}
	if (status == -ENOMEM)
		dispatcher_wake_at(dispatcher, dispatcher_now() + MEMORY_PAUSE);
}

static void expire_queued(struct ferry_dispatcher *dispatcher, int64_t now)
{
	struct ferry_handoff *handoff;

	while ((handoff = TAILQ_FIRST(&dispatcher->queue)) != NULL &&
	       handoff->taken_at + dispatcher->queue_usec <= now) {
		dequeue(dispatcher, handoff);
		dispatcher_end_handoff(dispatcher, handoff, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	}
	if (handoff != NULL)
		dispatcher_wake_at(dispatcher, handoff->taken_at + dispatcher->queue_usec);
}

/* ---- workers ---- */

/* This process may have been busy, or stopped, and the answer be here unread. So a worker that seems late
 * is late only if it still seems so when the loop has looked at all channels once more. */
static bool is_late(struct ferry_dispatcher_worker *worker, int64_t now, bool looked)
{
	bool suspect = worker->suspect;

	worker_excuse(worker, now);
	worker->suspect = worker_is_late_at(worker) <= now;
	if (!worker->suspect)
		dispatcher_wake_at(worker->dispatcher, worker_is_late_at(worker));
	else if (!suspect || !looked)
		dispatcher_wake_at(worker->dispatcher, now);
	return worker->suspect && suspect && looked;
}

static void end_late_workers(struct ferry_dispatcher *dispatcher, int64_t now, bool looked)
{
	struct ferry_dispatcher_worker *worker, *next;

	for (worker = TAILQ_FIRST(&dispatcher->workers); worker != NULL; worker = next) {
		next = TAILQ_NEXT(worker, link);
		if (worker->reason != 0)
			worker_end(worker, worker->reason);
		else if (is_late(worker, now, looked))
			worker_end(worker, -ETIMEDOUT);
	}
}

/* ---- telling ---- */

static const struct ferry_dispatcher_callbacks no_callbacks = {0};

static void tell_outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(&dispatcher->outcomes, handoff, link);
	handoff->state = HANDOFF_TOLD;
	if (handoff->outcome_cb != NULL)
		handoff->outcome_cb(dispatcher, handoff, handoff->outcome, handoff->reason,
		                    handoff->context);
	handoff_destroy(handoff);
}

static bool tell_worker(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker)
{
	const struct ferry_dispatcher_callbacks *callbacks = dispatcher->callbacks;

	if (worker->ready_due) {
		worker->ready_due = false;
		if (callbacks->worker_ready != NULL)
			callbacks->worker_ready(dispatcher, worker, dispatcher->context);
		return true;
	}
	if (worker->drained_due) {
		worker->drained_due = false;
		if (callbacks->worker_drained != NULL)
			callbacks->worker_drained(dispatcher, worker, dispatcher->context);
		return true;
	}
	return false;
}

static void tell_end(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker)
{
	TAILQ_REMOVE(&dispatcher->ended, worker, link);
	assert(TAILQ_FIRST(&dispatcher->ended) != worker); /* which an analyzer cannot see */
	if (!worker->silent && dispatcher->callbacks->worker_lost != NULL)
		dispatcher->callbacks->worker_lost(dispatcher, worker, worker->reason, dispatcher->context);
	free(worker);
}

static bool tell_workers(struct ferry_dispatcher *dispatcher)
{
	struct ferry_dispatcher_worker *worker;

	TAILQ_FOREACH (worker, &dispatcher->workers, link)
		if (tell_worker(dispatcher, worker))
			return true;
	return false;
}

/* One thing after the other: each callback may change everything. False: there is nothing to be told.
 * A worker's outcomes come before its end, so that they can name it. */
static bool tell(struct ferry_dispatcher *dispatcher)
{
	if (!TAILQ_EMPTY(&dispatcher->outcomes))
		tell_outcome(dispatcher, TAILQ_FIRST(&dispatcher->outcomes));
	else if (!TAILQ_EMPTY(&dispatcher->ended))
		tell_end(dispatcher, TAILQ_FIRST(&dispatcher->ended));
	else if (dispatcher->freed)
		return false;
	else if (dispatcher->full != dispatcher->full_told) {
		dispatcher->full_told = dispatcher->full;
		if (dispatcher->callbacks->full_changed != NULL)
			dispatcher->callbacks->full_changed(dispatcher, dispatcher->full, dispatcher->context);
	} else
		return tell_workers(dispatcher);
	return true;
}

/* ---- the turn ---- */

static void destroy(struct ferry_dispatcher *dispatcher)
{
	struct ferry_dispatcher_worker *worker;
	struct ferry_handoff *handoff;

	while ((worker = TAILQ_FIRST(&dispatcher->workers)) != NULL)
		worker_end(worker, -ECANCELED);
	while ((handoff = TAILQ_FIRST(&dispatcher->queue)) != NULL) {
		dequeue(dispatcher, handoff);
		dispatcher_end_handoff(dispatcher, handoff, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	}
	dispatcher->callbacks = &no_callbacks;
	while (tell(dispatcher))
		;
	handoff_ids_clear(&dispatcher->ids);
	event_free(dispatcher->event);
	free(dispatcher);
}

/* When the loop has come round; without memory for that, at once. */
static void go_on_later(struct ferry_dispatcher *dispatcher, int64_t now)
{
	dispatcher_wake_at(dispatcher, now);
	if (dispatcher->wakes_at == 0)
		dispatcher_want_turn(dispatcher);
}

/* The loop has run all channels that were readable when a timer comes. */
static void turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct ferry_dispatcher *dispatcher = argument;
	int64_t now = dispatcher_now();
	unsigned int told = 0;

	dispatcher->wakes_at = 0; /* libevent has taken the timer off; each of these sets it again */
	dispatcher->running = true;
	end_late_workers(dispatcher, now, (what & EV_TIMEOUT) != 0);
	place_queued(dispatcher);
	expire_queued(dispatcher, now);
	dispatcher->again = false;
	while (!dispatcher->freed && told < TOLD_PER_TURN && tell(dispatcher))
		told++;
	dispatcher->running = false;
	if (dispatcher->freed)
		destroy(dispatcher);
	else if (dispatcher->again || told == TOLD_PER_TURN)
		go_on_later(dispatcher, now);
}

/* ---- for the user ---- */

int ferry_dispatcher_new(struct ferry_dispatcher **out, struct event_base *base,
                         const struct ferry_dispatcher_callbacks *callbacks, void *context)
{
	if (out == NULL || base == NULL)
		return -EINVAL;
	struct ferry_dispatcher *dispatcher = calloc(1, sizeof(*dispatcher));
	if (dispatcher == NULL)
		return -ENOMEM;
	dispatcher->event = event_new(base, -1, 0, turn, dispatcher);
	if (dispatcher->event == NULL) {
		free(dispatcher);
		return -ENOMEM;
	}
	dispatcher->base = base;
	dispatcher->callbacks = callbacks != NULL ? callbacks : &no_callbacks;
	dispatcher->context = context;
	TAILQ_INIT(&dispatcher->workers);
	TAILQ_INIT(&dispatcher->ended);
	TAILQ_INIT(&dispatcher->queue);
	TAILQ_INIT(&dispatcher->outcomes);
	dispatcher->queue_limit = QUEUE_LIMIT;
	dispatcher->queue_usec = DEADLINE;
	dispatcher->answer_usec = DEADLINE;
	*out = dispatcher;
	return 0;
}

void ferry_dispatcher_free(struct ferry_dispatcher *dispatcher)
{
	if (dispatcher == NULL || dispatcher->freed)
		return;
	dispatcher->freed = true;
	if (!dispatcher->running)
		destroy(dispatcher);
}

static int check_hand_off(const struct ferry_dispatcher *dispatcher,
                          const struct ferry_handoff *handoff)
{
	if (handoff->state != HANDOFF_OWN)
		return -EINVAL;
	if (handoff->fd < 0)
		return -EBADF;
	if (dispatcher->freed)
		return -ESHUTDOWN;
	return is_a_channel(dispatcher, handoff) ? -ELOOP : 0;
}

int ferry_dispatcher_hand_off(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                              ferry_handoff_outcome_cb outcome, void *context)
{
	if (dispatcher == NULL || handoff == NULL)
		return -EINVAL;
	int status = check_hand_off(dispatcher, handoff);
	if (status < 0)
		return status;
	status = handoff_ids_add(&dispatcher->ids, handoff, &handoff->place);
	if (status < 0)
		return status;
	handoff->outcome_cb = outcome;
	handoff->context = context;
	handoff->taken_at = dispatcher_now();
	/* Behind those that wait, if any do. */
	status = TAILQ_EMPTY(&dispatcher->queue) ? place(dispatcher, handoff) : -EAGAIN;
	if (status < 0 && dispatcher->queue_length >= dispatcher->queue_limit) {
		handoff_ids_remove(&dispatcher->ids, handoff->place);
		return -ENOBUFS;
	}
	handoff->order = ++dispatcher->stats.accepted;
	if (status < 0) {
		enqueue(dispatcher, handoff);
		dispatcher_want_turn(dispatcher);
	}
	return 0;
}

bool ferry_dispatcher_is_full(const struct ferry_dispatcher *dispatcher)
{
	return dispatcher != NULL && dispatcher->full;
}

struct ferry_dispatcher_worker *ferry_handoff_get_worker(const struct ferry_handoff *handoff)
{
	return handoff != NULL ? handoff->worker : NULL;
}

/* ---- settings ---- */

int ferry_dispatcher_set_choice(struct ferry_dispatcher *dispatcher,
                                enum ferry_dispatch_choice choice)
{
	if (dispatcher == NULL ||
	    (choice != FERRY_DISPATCH_LEAST_OUTSTANDING && choice != FERRY_DISPATCH_ROUND_ROBIN &&
	     choice != FERRY_DISPATCH_BY_KEY))
		return -EINVAL;
	dispatcher->choice = choice;
	return 0;
}

int ferry_dispatcher_set_queue_limit(struct ferry_dispatcher *dispatcher, unsigned int limit)
{
	if (dispatcher == NULL || limit == 0)
		return -EINVAL;
	dispatcher->queue_limit = limit;
	note_queue_length(dispatcher, 0);
	return 0;
}

/* 0: not a time to wait for. */
static int64_t to_usec(const struct timeval *time)
{
	if (time == NULL || time->tv_sec < 0 || time->tv_usec < 0 || time->tv_usec >= SECOND ||
	    time->tv_sec > INT32_MAX)
		return 0;
	return (int64_t)time->tv_sec * SECOND + time->tv_usec;
}

int ferry_dispatcher_set_timeouts(struct ferry_dispatcher *dispatcher, const struct timeval *queue,
                                  const struct timeval *answer)
{
	if (dispatcher == NULL || to_usec(queue) == 0 || to_usec(answer) == 0)
		return -EINVAL;
	dispatcher->queue_usec = to_usec(queue);
	dispatcher->answer_usec = to_usec(answer);
	dispatcher_want_turn(dispatcher);
	return 0;
}

int ferry_dispatcher_get_stats(const struct ferry_dispatcher *dispatcher,
                               struct ferry_dispatcher_stats *stats)
{
	const struct ferry_dispatcher_worker *worker;
	struct ferry_dispatcher_stats one;

	if (dispatcher == NULL || stats == NULL)
		return -EINVAL;
	*stats = dispatcher->stats;
	stats->queued = dispatcher->queue_length;
	for (worker = TAILQ_FIRST(&dispatcher->workers); worker != NULL;
	     worker = TAILQ_NEXT(worker, link)) {
		ferry_dispatcher_worker_get_stats(worker, &one);
		stats->outstanding += one.outstanding;
		stats->unclaimed += one.unclaimed;
		stats->credits += one.credits;
		stats->workers += one.workers;
	}
	return 0;
}
