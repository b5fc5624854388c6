#include "ferry/dispatcher.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "handoff/books.h"
#include "handoff/choice.h"
#include "handoff/dispatcher_worker.h"
#include "handoff/preference.h"
#include "kernel/clock.h"

/*
 * The dispatcher's turn, and the public functions. The turn is one event for each dispatcher. The loop
 * runs it when the books want it or when a time has come. Only the turn runs the user's callbacks, ends
 * workers whose answer is overdue, and frees what has ended.
 */

enum {
	QUEUE_LIMIT = 1024,
	DEADLINE = 5 * CLOCK_SECOND,
	UNCLAIMED_LIMIT = 256,            /* of one worker */
	MEMORY_PAUSE = CLOCK_SECOND / 50, /* until a handoff is tried again that failed with -ENOMEM */
	CALLBACKS_PER_TURN = 256          /* then the loop runs its other events */
};

/* ---- the queue ---- */

static bool is_a_channel(const struct ferry_dispatcher *dispatcher,
                         const struct ferry_handoff *handoff)
{
	return handoff->identity.kind == FERRY_DESCRIPTOR_SOCKET &&
	       cookie_set_has(&dispatcher->cookies, handoff->identity.cookie);
}

/* Sends a handoff to a worker. -EAGAIN: no worker has credits. -ENOMEM. */
static int place_handoff(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	struct ferry_dispatcher_worker *worker;

	while ((worker = choice_pick_worker(dispatcher, handoff)) != NULL) {
		int status = dispatcher_worker_send(worker, handoff);
		if (status != -EPIPE && status != -ENOBUFS)
			return status;
	}
	return -EAGAIN;
}

static void place_queued(struct ferry_dispatcher *dispatcher)
{
	struct ferry_handoff *handoff;
	int status = 0;

	while (status == 0 && (handoff = TAILQ_FIRST(&dispatcher->queue)) != NULL) {
		if (is_a_channel(dispatcher, handoff)) { /* of a worker that was added since */
			books_dequeue(dispatcher, handoff);
			books_end_handoff(dispatcher, handoff, FERRY_HANDOFF_REJECTED, -ELOOP);
			continue;
		}
		books_take_first(dispatcher, handoff);
		status = place_handoff(dispatcher, handoff);
		if (status < 0)
			books_return_first(dispatcher, handoff);
		else
			books_confirm_first(dispatcher);
	}
	if (status == -ENOMEM)
		books_wake_at(dispatcher, clock_now() + MEMORY_PAUSE);
	else if (status == -EAGAIN)
		books_wake_at(dispatcher, choice_next_time(&dispatcher->choice));
}

static bool is_overdue(const struct ferry_dispatcher *dispatcher,
                       const struct ferry_handoff *handoff, int64_t now)
{
	return handoff != NULL && handoff->queued_at + dispatcher->queue_usec <= now;
}

/* This process may have been busy or stopped, with the answers that free credits unread in the channels. A handoff
 * expires therefore only if its deadline has passed in two turns, and the loop has read all channels before the
 * second. */
static void expire_queued(struct ferry_dispatcher *dispatcher, int64_t now, bool channels_read)
{
	struct ferry_handoff *handoff;
	bool expire = dispatcher->overdue && channels_read;

	while (expire && is_overdue(dispatcher, handoff = TAILQ_FIRST(&dispatcher->waiting), now)) {
		books_dequeue(dispatcher, handoff);
		books_end_handoff(dispatcher, handoff, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	}
	handoff = TAILQ_FIRST(&dispatcher->waiting);
	dispatcher->overdue = is_overdue(dispatcher, handoff, now);
	if (dispatcher->overdue)
		books_wake_at(dispatcher, now);
	else if (handoff != NULL)
		books_wake_at(dispatcher, handoff->queued_at + dispatcher->queue_usec);
}

/* ---- workers ---- */

/* This process may have been busy or stopped, with the answer unread in the channel. A worker is
 * therefore late only if its answer is overdue in two turns, and the loop has read all channels before
 * the second. */
static void judge_overdue(struct ferry_dispatcher_worker *worker, int64_t now, bool channels_read)
{
	if (dispatcher_worker_excuse(worker))
		return;
	if (worker->suspect && channels_read) {
		dispatcher_worker_fail(worker, -ETIMEDOUT);
		return;
	}
	worker->suspect = true;
	books_wake_at(worker->dispatcher, now);
}

/* The end of one may run user code, which may end others. */
static void end_late_workers(struct ferry_dispatcher *dispatcher, int64_t now, bool channels_read)
{
	struct ferry_dispatcher_worker *worker, *next;

	worker = TAILQ_FIRST(&dispatcher->owing);
	for (; worker != NULL && worker->owes_since + dispatcher->answer_usec <= now; worker = next) {
		next = TAILQ_NEXT(worker, owing_link);
		judge_overdue(worker, now, channels_read);
	}
	if (worker != NULL)
		books_wake_at(dispatcher, worker->owes_since + dispatcher->answer_usec);
	while ((worker = TAILQ_FIRST(&dispatcher->failed)) != NULL)
		dispatcher_worker_end(worker, worker->reason);
}

/* ---- callbacks ---- */

static const struct ferry_dispatcher_callbacks no_callbacks = {0};

/* The handoff is the owner's again. */
static void notify_returned(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	struct ferry_dispatcher_worker *worker = handoff->worker;

	handoff->state = HANDOFF_OWN;
	handoff->worker = NULL;
	handoff->id = 0;
	handoff->attempt = 0;
	handoff->sent = false;
	dispatcher->callbacks->handoff_returned(dispatcher, worker, handoff, dispatcher->context);
}

static void notify_outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(&dispatcher->outcomes, handoff, link);
	if (handoff->state == HANDOFF_BACK && dispatcher->callbacks->handoff_returned != NULL) {
		notify_returned(dispatcher, handoff);
		return;
	}
	if (handoff->state == HANDOFF_BACK) { /* the dispatcher is freed */
		handoff->outcome = FERRY_HANDOFF_EXPIRED;
		handoff->reason = -ECANCELED;
	}
	handoff->state = HANDOFF_NOTIFIED;
	if (handoff->outcome_cb != NULL)
		handoff->outcome_cb(dispatcher, handoff, handoff->outcome, handoff->reason,
		                    handoff->context);
	handoff_destroy(handoff);
}

/* One of its pending callbacks; the worker is ready before it is drained. */
static void notify_of_worker(struct ferry_dispatcher *dispatcher,
                             struct ferry_dispatcher_worker *worker)
{
	const struct ferry_dispatcher_callbacks *callbacks = dispatcher->callbacks;
	bool ready = worker->ready_pending;

	if (ready)
		worker->ready_pending = false;
	else
		worker->drained_pending = false;
	if (!worker->drained_pending)
		TAILQ_REMOVE(&dispatcher->to_notify, worker, notify_link);
	if (worker->observer != NULL && ready)
		worker->observer->ready(worker->observer_context);
	else if (worker->observer != NULL)
		worker->observer->drained(worker->observer_context);
	if (ready && callbacks->worker_ready != NULL)
		callbacks->worker_ready(dispatcher, worker, dispatcher->context);
	if (!ready && callbacks->worker_drained != NULL)
		callbacks->worker_drained(dispatcher, worker, dispatcher->context);
}

static void notify_of_end(struct ferry_dispatcher *dispatcher,
                          struct ferry_dispatcher_worker *worker)
{
	TAILQ_REMOVE(&dispatcher->ended, worker, link);
	assert(TAILQ_FIRST(&dispatcher->ended) != worker); /* for the static analyzer */
	if (!worker->removed && dispatcher->callbacks->worker_lost != NULL)
		dispatcher->callbacks->worker_lost(dispatcher, worker, worker->reason, dispatcher->context);
	if (worker->observer != NULL)
		worker->observer->gone(worker->observer_context);
	free(worker);
}

/* Runs one pending callback, which may change everything. False: none is pending. A worker's outcomes
 * come before its end, because they name it. */
static bool notify_next(struct ferry_dispatcher *dispatcher)
{
	if (!TAILQ_EMPTY(&dispatcher->outcomes))
		notify_outcome(dispatcher, TAILQ_FIRST(&dispatcher->outcomes));
	else if (!TAILQ_EMPTY(&dispatcher->ended))
		notify_of_end(dispatcher, TAILQ_FIRST(&dispatcher->ended));
	else if (dispatcher->freed)
		return false;
	else if (dispatcher->full != dispatcher->full_notified) {
		dispatcher->full_notified = dispatcher->full;
		if (dispatcher->callbacks->full_changed != NULL)
			dispatcher->callbacks->full_changed(dispatcher, dispatcher->full, dispatcher->context);
	} else if (!TAILQ_EMPTY(&dispatcher->to_notify))
		notify_of_worker(dispatcher, TAILQ_FIRST(&dispatcher->to_notify));
	else
		return false;
	return true;
}

/* ---- the turn ---- */

static void destroy_dispatcher(struct ferry_dispatcher *dispatcher)
{
	struct ferry_dispatcher_worker *worker;
	struct ferry_handoff *handoff;

	books_enter(dispatcher);      /* for good */
	preference_close(dispatcher); /* no worker is chosen any more: none need inherit keys */
	while ((worker = TAILQ_FIRST(&dispatcher->workers)) != NULL)
		dispatcher_worker_end(worker, -ECANCELED);
	while ((handoff = TAILQ_FIRST(&dispatcher->queue)) != NULL) {
		books_dequeue(dispatcher, handoff);
		books_end_handoff(dispatcher, handoff, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	}
	dispatcher->callbacks = &no_callbacks;
	while (notify_next(dispatcher))
		;
	handoff_ids_clear(&dispatcher->ids);
	choice_clear(dispatcher);
	cookie_set_clear(&dispatcher->cookies);
	event_free(dispatcher->event);
	free(dispatcher);
}

/* Runs another turn after the loop's other events. Without memory for the timer: before them. */
static void defer_turn(struct ferry_dispatcher *dispatcher, int64_t now)
{
	books_wake_at(dispatcher, now);
	if (dispatcher->wakes_at == 0)
		books_want_turn(dispatcher);
}

/* EV_TIMEOUT: libevent runs timers after it has run the readable channels. */
static void on_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct ferry_dispatcher *dispatcher = argument;
	int64_t now = clock_now();
	unsigned int count = 0;

	dispatcher->wakes_at =
	    0; /* libevent has removed the timer; the next three calls set it again */
	dispatcher->running = true;
	books_enter(dispatcher);
	end_late_workers(dispatcher, now, (what & EV_TIMEOUT) != 0);
	place_queued(dispatcher);
	expire_queued(dispatcher, now, (what & EV_TIMEOUT) != 0);
	dispatcher->again = false;
	while (!dispatcher->freed && count < CALLBACKS_PER_TURN && notify_next(dispatcher))
		count++;
	dispatcher->running = false;
	if (!dispatcher->freed && (dispatcher->again || count == CALLBACKS_PER_TURN))
		defer_turn(dispatcher, now);
	books_leave(dispatcher);
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
	dispatcher->event = event_new(base, -1, 0, on_turn, dispatcher);
	if (dispatcher->event == NULL) {
		free(dispatcher);
		return -ENOMEM;
	}
	dispatcher->base = base;
	dispatcher->destroy = destroy_dispatcher;
	dispatcher->callbacks = callbacks != NULL ? callbacks : &no_callbacks;
	dispatcher->context = context;
	TAILQ_INIT(&dispatcher->workers);
	TAILQ_INIT(&dispatcher->ended);
	TAILQ_INIT(&dispatcher->failed);
	TAILQ_INIT(&dispatcher->owing);
	TAILQ_INIT(&dispatcher->to_notify);
	TAILQ_INIT(&dispatcher->queue);
	TAILQ_INIT(&dispatcher->waiting);
	TAILQ_INIT(&dispatcher->outcomes);
	dispatcher->queue_limit = QUEUE_LIMIT;
	dispatcher->queue_usec = DEADLINE;
	dispatcher->answer_usec = DEADLINE;
	dispatcher->unclaimed_limit = UNCLAIMED_LIMIT;
	*out = dispatcher;
	return 0;
}

void ferry_dispatcher_free(struct ferry_dispatcher *dispatcher)
{
	if (dispatcher == NULL || dispatcher->freed)
		return;
	books_enter(dispatcher);
	dispatcher->freed = true;
	books_leave(dispatcher);
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

/* The handoff is in no list. -ENOBUFS: it is the owner's again. */
static int accept_handoff(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff)
{
	handoff->state = HANDOFF_QUEUED; /* user code that runs from here on cannot hand it off again */
	handoff->order = ++dispatcher->orders;
	/* Handoffs that wait go first. */
	int status = TAILQ_EMPTY(&dispatcher->queue) ? place_handoff(dispatcher, handoff) : -EAGAIN;
	if (status < 0 && dispatcher->queue_length >= dispatcher->queue_limit) {
		handoff_ids_remove(&dispatcher->ids, handoff->place);
		handoff->state = HANDOFF_OWN;
		return -ENOBUFS;
	}
	dispatcher->stats.accepted++;
	if (status < 0) {
		books_enqueue(dispatcher, handoff);
		books_want_turn(dispatcher);
	}
	return 0;
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
	handoff->idle_usec = 0;
	handoff->queued_at = 0;
	handoff->losses = 0;
	books_enter(dispatcher);
	status = accept_handoff(dispatcher, handoff);
	books_leave(dispatcher);
	return status;
}

bool ferry_dispatcher_is_full(const struct ferry_dispatcher *dispatcher)
{
	return dispatcher != NULL && dispatcher->full;
}

/* ---- settings ---- */

int ferry_dispatcher_set_choice(struct ferry_dispatcher *dispatcher,
                                enum ferry_dispatch_choice choice)
{
	if (dispatcher == NULL ||
	    (choice != FERRY_DISPATCH_LEAST_OUTSTANDING && choice != FERRY_DISPATCH_ROUND_ROBIN &&
	     choice != FERRY_DISPATCH_BY_KEY))
		return -EINVAL;
	return choice_set_rule(dispatcher, choice);
}

int ferry_dispatcher_set_queue_limit(struct ferry_dispatcher *dispatcher, unsigned int limit)
{
	if (dispatcher == NULL || limit == 0)
		return -EINVAL;
	books_set_queue_limit(dispatcher, limit);
	return 0;
}

int ferry_dispatcher_set_unclaimed_limit(struct ferry_dispatcher *dispatcher, unsigned int limit)
{
	struct ferry_dispatcher_worker *worker;

	if (dispatcher == NULL || limit == 0)
		return -EINVAL;
	dispatcher->unclaimed_limit = limit;
	TAILQ_FOREACH (worker, &dispatcher->workers, link)
		choice_update(worker);
	books_want_turn(dispatcher);
	return 0;
}

/* 0, or negative: not a time to wait for. */
static int64_t timeout_from_timeval(const struct timeval *time)
{
	return time != NULL && time->tv_sec <= INT32_MAX ? clock_from_timeval(time) : -EINVAL;
}

int ferry_dispatcher_set_timeouts(struct ferry_dispatcher *dispatcher, const struct timeval *queue,
                                  const struct timeval *answer)
{
	int64_t queue_usec = timeout_from_timeval(queue);
	int64_t answer_usec = timeout_from_timeval(answer);
	struct ferry_dispatcher_worker *worker;

	if (dispatcher == NULL || queue_usec <= 0 || answer_usec <= 0)
		return -EINVAL;
	dispatcher->queue_usec = queue_usec;
	dispatcher->answer_usec = answer_usec;
	TAILQ_FOREACH (worker, &dispatcher->owing, owing_link)
		worker->suspect = false;
	books_want_turn(dispatcher);
	return 0;
}

int ferry_dispatcher_get_stats(const struct ferry_dispatcher *dispatcher,
                               struct ferry_dispatcher_stats *stats)
{
	if (dispatcher == NULL || stats == NULL)
		return -EINVAL;
	*stats = dispatcher->stats;
	stats->queued = dispatcher->queue_length;
	return 0;
}
