#ifndef FERRY_HANDOFF_DISPATCHER_WORKER_H
#define FERRY_HANDOFF_DISPATCHER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "ferry/dispatcher.h"
#include "ferry/message.h"

#include "handoff/handoff.h"
#include "util/queue.h"

/*
 * One worker as its dispatcher sees it: the channel, and the handoffs that were sent there and are not
 * over. It changes the dispatcher's books and runs no user code.
 */

struct ferry_dispatcher_worker {
	struct ferry_dispatcher *dispatcher;
	struct ferry_message_stream *stream; /* the channel; NULL once it has ended */
	TAILQ_ENTRY(ferry_dispatcher_worker)
	link; /* of the dispatcher's workers, or of the ended ones */
	void *context;
	uint64_t epoch;       /* the channel's number */
	uint64_t name;        /* a hash */
	uint64_t last_choice; /* the number of the choice that it won last */

	struct handoff_list unclaimed, claimed;
	unsigned int outstanding, unclaimed_count; /* in both lists, and in the first */
	unsigned int credits;
	int64_t answered_at; /* when it last answered, or was added */
	bool avoided; /* others are chosen first, until the time: it has refused or lost handoffs */
	int64_t avoid_until;
	int64_t avoid_usec; /* for so long the last time; 0: it has served one since */
	uint64_t retries;   /* of its transport, when the deadline was last checked */

	unsigned int version;                /* spoken on the channel; 0 before its HELLO */
	bool draining;                       /* it gets no more handoffs */
	bool broken;                         /* its channel ends in the next turn */
	bool suspect;                        /* its answer was overdue in the last turn */
	bool removed;                        /* by the owner: no callback follows */
	bool ready_pending, drained_pending; /* callbacks of the next turn */
	int reason;                          /* why the channel ends, or has ended */
	struct ferry_dispatcher_stats stats;
};

/* Writes a handoff that is in no list to the channel. -EPIPE: the channel is about to end. -ENOMEM. */
int dispatcher_worker_send(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff);

/* Whether the channel's socket is the descriptor of this identity. */
bool dispatcher_worker_is_on(const struct ferry_dispatcher_worker *worker,
                             const struct handoff_wire_identity *identity);

/* When the next answer becomes overdue. INT64_MAX: the worker owes none. */
int64_t dispatcher_worker_deadline(const struct ferry_dispatcher_worker *worker);

/* Restarts the deadline at `now` if the kernel had no room for the oldest unclaimed handoff. */
void dispatcher_worker_excuse(struct ferry_dispatcher_worker *worker, int64_t now);

/* Fences and closes the channel. The worker moves to the dispatcher's ended ones. */
void dispatcher_worker_end(struct ferry_dispatcher_worker *worker, int reason);

#endif
