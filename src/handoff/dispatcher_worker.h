#ifndef FERRY_HANDOFF_DISPATCHER_WORKER_H
#define FERRY_HANDOFF_DISPATCHER_WORKER_H

#include "handoff/dispatcher_fields.h"

/*
 * One worker as its dispatcher sees it: the channel, and the handoffs that were sent there and are not
 * over. It changes the dispatcher's books.
 */

/* Gets what happens to a worker: `draining` when it gets no more handoffs, by whoever's wish; `ready` and `drained` before
 * the user's callbacks; `gone` after them, and the worker is freed then. None runs user code, or changes the dispatcher's
 * books. */
struct dispatcher_worker_observer {
	void (*draining)(void *context);
	void (*ready)(void *context);
	void (*drained)(void *context);
	void (*gone)(void *context);
};

/* Sets the observer; NULL: none. The observer limits the time for the worker's HELLO, in place of the dispatcher. */
void dispatcher_worker_observe(struct ferry_dispatcher_worker *worker,
                               const struct dispatcher_worker_observer *observer, void *context);

/* Writes a handoff that is in no list to the channel. 0: it is in the worker's list, or user code has ended the
 * channel meanwhile, and it is in the queue again or over. -EPIPE: the channel is about to end. -ENOBUFS: it has no
 * room now. After these two the worker cannot be chosen. -ENOMEM. */
int dispatcher_worker_send(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff);

/* Restarts the deadline of a worker that owes an answer if the kernel had no room for its oldest unclaimed handoff, or
 * the channel is not read because this process has no descriptor slot. False: it did not. */
bool dispatcher_worker_excuse(struct ferry_dispatcher_worker *worker);

/* The next turn ends the worker, or the rest of this one. */
void dispatcher_worker_fail(struct ferry_dispatcher_worker *worker, int reason);

/* As ferry_dispatcher_worker_remove(), and worker_lost follows. The observer hears no more. */
void dispatcher_worker_dismiss(struct ferry_dispatcher_worker *worker, int reason);

/* Fences and closes the channel. The worker moves to the dispatcher's ended ones. It may run user code. */
void dispatcher_worker_end(struct ferry_dispatcher_worker *worker, int reason);

#endif
