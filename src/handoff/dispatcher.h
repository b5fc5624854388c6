#ifndef FERRY_HANDOFF_DISPATCHER_H
#define FERRY_HANDOFF_DISPATCHER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "ferry/dispatcher.h"

#include "handoff/handoff.h"
#include "handoff/ids.h"
#include "message/receive.h"
#include "message/send.h"

/*
 * A dispatcher and its workers:
 *
 *   dispatcher.c         the object, its queue, and the turn: what the loop does for it
 *   dispatcher_worker.c  one worker: its channel, what was sent there, the answers, the end
 *   choice.c             which worker gets a handoff
 *   fence.c              what is left in a channel that has ended
 *   ids.c                which handoff an answer means
 *
 * What happens is written down at once, and told to the user in the turn: no user code runs in between.
 */

struct ferry_dispatcher_worker {
	struct ferry_dispatcher *dispatcher;
	struct ferry_message_stream *stream;       /* NULL once the channel has ended */
	TAILQ_ENTRY(ferry_dispatcher_worker) link; /* of the workers, or of the ended */
	void *context;
	uint64_t epoch;
	uint64_t name; /* a hash */
	uint64_t turn; /* when it was last chosen */

	struct handoff_list unclaimed, claimed;
	unsigned int outstanding, unclaimed_count; /* in both, and in the first */
	unsigned int credits;
	int64_t heard_at; /* when it last answered, or was added */
	uint64_t retries; /* of its transport, when its answer was last looked for */

	bool greeted;                /* it has said hello */
	bool draining;               /* it is to get no more */
	bool broken;                 /* its channel is about to end */
	bool suspect;                /* it seems to be late */
	bool silent;                 /* removed by the owner, who is told nothing more */
	bool ready_due, drained_due; /* to be told */
	int reason;                  /* why the channel is about to end, or has */
	struct ferry_dispatcher_stats stats;
};

TAILQ_HEAD(worker_list, ferry_dispatcher_worker);

struct ferry_dispatcher {
	struct event_base *base;
	const struct ferry_dispatcher_callbacks *callbacks;
	void *context;
	struct event *event; /* the turn */
	int64_t wakes_at;    /* when the event's timer runs out; 0: it does not run */

	struct worker_list workers, ended;
	struct handoff_list queue;    /* in the order of being taken */
	struct handoff_list outcomes; /* those that are over, to be told */
	struct handoff_ids ids;
	uint64_t epoch; /* the last one given */
	uint64_t turns;

	enum ferry_dispatch_choice choice;
	unsigned int queue_length, queue_limit;
	int64_t queue_usec, answer_usec;
	bool full, full_told;
	bool running; /* in the turn */
	bool again;   /* another one is wanted */
	bool freed;
	struct ferry_dispatcher_stats stats;
};

/* ---- dispatcher.c ---- */

/* Has the turn run soon. */
void dispatcher_want_turn(struct ferry_dispatcher *dispatcher);

/* Has it run at the latest when this time has come. */
void dispatcher_wake_at(struct ferry_dispatcher *dispatcher, int64_t time);

/* A handoff that no list has is over. */
void dispatcher_end_handoff(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                            enum ferry_handoff_outcome outcome, int reason);

/* One that was with a worker goes elsewhere, in front of all that came later; `charged`: that was an
 * attempt. */
void dispatcher_take_back(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                          bool charged);

/* The monotonic clock, in µs. */
int64_t dispatcher_now(void);

/* ---- dispatcher_worker.c ---- */

/* Writes a handoff, which no list has, to the worker. -EPIPE: the channel is about to end. -ENOMEM. */
int worker_send(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff);

/* Whether the channel is this socket. */
bool worker_is_on(const struct ferry_dispatcher_worker *worker,
                  const struct handoff_wire_identity *identity);

/* When the answer that is due is late, or INT64_MAX. */
int64_t worker_is_late_at(const struct ferry_dispatcher_worker *worker);

/* Gives it more time, if the kernel has been short of what it needs to take the handoff that is due. */
void worker_excuse(struct ferry_dispatcher_worker *worker, int64_t now);

/* Ends the channel: the fence. The worker goes to the ended ones. */
void worker_end(struct ferry_dispatcher_worker *worker, int reason);

/* Whether there is nothing in hand any more, and it was to be drained. */
void worker_look_drained(struct ferry_dispatcher_worker *worker);

/* ---- choice.c ---- */

/* The worker that gets it, or NULL. */
struct ferry_dispatcher_worker *choose_worker(const struct ferry_dispatcher *dispatcher,
                                              const struct ferry_handoff *handoff);

#endif
