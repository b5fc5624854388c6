#ifndef FERRY_HANDOFF_BOOKS_H
#define FERRY_HANDOFF_BOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "ferry/dispatcher.h"

#include "handoff/handoff.h"
#include "handoff/ids.h"
#include "util/queue.h"

/*
 * The dispatcher's books: its workers, its queue, the handoffs whose outcome is pending, and the event of
 * its turn. Answers, fences and the ends of channels change the books at once. User code runs only in the
 * turn, one callback after the other, with the books complete before each.
 *
 *   dispatcher.c         the turn, and the public functions
 *   choice.c             which worker gets a handoff
 *   dispatcher_worker.c  one worker: its channel, what was sent there, its answers, its end
 *   fence.c              what is left in a channel that has ended
 *   books.c              the queue, the pending outcomes, the schedule of the turn
 *   ids.c                which handoff an answer names
 */

struct ferry_dispatcher_worker;
TAILQ_HEAD(worker_list, ferry_dispatcher_worker);

struct ferry_dispatcher {
	struct event_base *base;
	const struct ferry_dispatcher_callbacks *callbacks;
	void *context;
	struct event *event; /* runs the turn */
	int64_t wakes_at;    /* when the event's timer runs out; 0: no timer */

	struct worker_list workers, ended;
	struct handoff_list queue;    /* in the order in which they were accepted */
	struct handoff_list waiting;  /* the same, in the order in which they entered it */
	struct handoff_list outcomes; /* over; their outcome callback is pending */
	struct handoff_ids ids;
	uint64_t epoch;   /* of the newest channel */
	uint64_t choices; /* number of times that a worker was chosen */

	enum ferry_dispatch_choice choice;
	unsigned int queue_length, queue_limit;
	int64_t queue_usec, answer_usec;
	unsigned int unclaimed_limit; /* of one worker */
	bool overdue;                 /* the deadline of a queued handoff had passed in the last turn */
	bool full, full_notified;
	bool running; /* the turn is */
	bool again;   /* another turn was requested while this one runs */
	bool freed;
	struct ferry_dispatcher_stats stats;
};

/* Runs the turn soon. */
void books_want_turn(struct ferry_dispatcher *dispatcher);

/* Schedules the turn no later than `time`. */
void books_wake_at(struct ferry_dispatcher *dispatcher, int64_t time);

/* Puts a handoff into the queue, by the order in which it was accepted. */
void books_enqueue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff);

void books_dequeue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff);

/* Takes the first handoff out of the queue, for an attempt to send it. It counts as queued until one of
 * the next two follows: books_confirm_first(), or books_return_first() after a failure. */
void books_take_first(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff);
void books_confirm_first(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff);
void books_return_first(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff);

/* Sets the length at which the queue is full. */
void books_set_queue_limit(struct ferry_dispatcher *dispatcher, unsigned int limit);

/* Ends a handoff that is in no list: its outcome becomes pending. */
void books_end_handoff(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason);

/* Gives a handoff that is in no list back to the owner: its callback becomes pending. */
void books_give_back(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff);

/* How a handoff comes back from a worker. */
enum books_charge {
	BOOKS_CHARGED, /* that counts as an attempt */
	BOOKS_FREE,    /* the worker has not looked at it */
	BOOKS_EXCUSED  /* the worker had no descriptor slot, and has stated that; LOSSES_MAX times */
};

/* Queues a handoff that a worker had, in front of all that were accepted later. After the last attempt it ends
 * instead. */
void books_requeue(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                   enum books_charge charge);

#endif
