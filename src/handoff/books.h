#ifndef FERRY_HANDOFF_BOOKS_H
#define FERRY_HANDOFF_BOOKS_H

#include "handoff/dispatcher_fields.h"

/*
 * The dispatcher's books: its workers, its queue, the handoffs whose outcome is pending, and the event of
 * its turn. Answers, fences and the ends of channels change the books at once. The dispatcher's callbacks run
 * only in the turn, one after the other, with the books complete before each.
 *
 * Other user code may run wherever a channel's output grows or drains: callbacks of the buffer, and those of a
 * producer on the transport. There the books are complete too, and the dispatcher lives until books_leave().
 *
 *   dispatcher_fields.h  the fields
 *   dispatcher.c         the turn, and the public functions
 *   choice.c             which worker gets a handoff
 *   preference.c         which worker a key prefers
 *   cookies.c            whether a descriptor is a channel
 *   dispatcher_worker.c  one worker: its channel, what was sent there, its answers, its end
 *   fence.c              what is left in a channel that has ended
 *   books.c              the queue, the pending outcomes, the schedule of the turn
 *   ids.c                which handoff an answer names
 */

/* These two enclose each call that may run user code. If that frees the dispatcher, the last books_leave() destroys
 * it. */
void books_enter(struct ferry_dispatcher *dispatcher);
void books_leave(struct ferry_dispatcher *dispatcher);

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
void books_confirm_first(struct ferry_dispatcher *dispatcher);
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
