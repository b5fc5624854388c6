#ifndef FERRY_HANDOFF_DISPATCHER_FIELDS_H
#define FERRY_HANDOFF_DISPATCHER_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "ferry/dispatcher.h"
#include "ferry/message.h"

#include "handoff/cookies.h"
#include "handoff/handoff.h"
#include "handoff/ids.h"
#include "util/queue.h"
#include "util/tournament.h"

/* The fields of a dispatcher and of its workers, for the files that books.h lists. */

struct dispatcher_worker_observer;

/* One worker as its dispatcher sees it: the channel, and the handoffs that were sent there and are not over. What each
 * handoff uses stands first: of many workers it is no longer in the processor's cache. */
struct ferry_dispatcher_worker {
	struct ferry_dispatcher *dispatcher;
	struct ferry_message_stream *stream;       /* the channel; NULL once it has ended */
	uint64_t epoch;                            /* the channel's number */
	uint64_t last_choice;                      /* the number of the choice that it won last */
	struct tournament_node eligible_node;      /* of the dispatcher's choice */
	unsigned int version;                      /* spoken on the channel; 0 before its HELLO */
	unsigned int outstanding, unclaimed_count; /* in both lists of handoffs, and in the first */
	unsigned int credits;

	bool joined;   /* it is ready, and has not begun to leave */
	bool draining; /* it gets no more handoffs */
	bool full;     /* its channel has no room until some of it is sent */
	bool broken;   /* its channel has ended, or will */
	bool failed;   /* the next turn ends it, for `reason` */
	bool owes;     /* an answer, or its HELLO */
	bool suspect;  /* its answer was overdue in the last turn */
	bool avoided;  /* others are chosen first, until the time: it has refused or lost handoffs */
	bool pardoned; /* its CREDITS have ended that, and it has served none since */
	bool removed;  /* by the owner: no callback follows */
	bool ready_pending, drained_pending; /* callbacks of the next turn */

	struct handoff_list unclaimed, claimed;
	TAILQ_ENTRY(ferry_dispatcher_worker) owing_link;
	int64_t owes_since; /* if `owes`: since its last answer, or since it owes one */
	uint64_t retries;   /* of its transport, when the deadline was last checked */
	const struct dispatcher_worker_observer *observer; /* NULL: none */
	int64_t avoid_usec; /* avoided for so long the last time; 0: it has served one since */
	struct ferry_dispatcher_stats stats;

	TAILQ_ENTRY(ferry_dispatcher_worker)
	link; /* of the dispatcher's workers, or of the ended ones */
	TAILQ_ENTRY(ferry_dispatcher_worker) failed_link;
	TAILQ_ENTRY(ferry_dispatcher_worker) notify_link;
	struct tournament_node avoided_node; /* of the dispatcher's choice */
	int reason;                          /* why the channel ends, or has ended */
	struct cookie_node cookie;           /* of the channel */
	void *context;
	void *observer_context;
	uint64_t name; /* a hash */
	int64_t avoid_until;
};

TAILQ_HEAD(worker_list, ferry_dispatcher_worker);

/* What choice.c knows. */
struct choice {
	enum ferry_dispatch_choice rule;
	struct tournament eligible; /* the workers that may get a handoff */
	struct tournament avoided;  /* those that are chosen last, by the time until which they are */
	size_t joined;              /* number of workers that have joined, the avoided ones included */
	uint64_t count;             /* number of times that a worker was chosen */
	struct ferry_dispatcher_worker **preferred; /* by keys, see preference.h; NULL: no table yet */
};

struct ferry_dispatcher {
	struct event_base *base;
	const struct ferry_dispatcher_callbacks *callbacks;
	void *context;
	struct event *event; /* runs the turn */
	int64_t wakes_at;    /* when the event's timer runs out; 0: no timer */

	struct worker_list workers, ended;
	struct worker_list failed;    /* the turn ends them */
	struct worker_list owing;     /* owe an answer; the one that owes it longest first */
	struct worker_list to_notify; /* a callback for them is pending */
	struct choice choice;
	struct cookie_set cookies;    /* of the channels */
	struct handoff_list queue;    /* in the order in which they were accepted */
	struct handoff_list waiting;  /* the same, in the order in which they entered it */
	struct handoff_list outcomes; /* over; their outcome callback is pending */
	struct handoff_ids ids;
	uint64_t epoch;  /* of the newest channel */
	uint64_t orders; /* of the handoff that was offered last */

	unsigned int queue_length, queue_limit;
	int64_t queue_usec, answer_usec;
	unsigned int unclaimed_limit; /* of one worker */
	bool overdue;                 /* the deadline of a queued handoff had passed in the last turn */
	bool full, full_notified;
	bool running; /* the turn is */
	bool again;   /* another turn was requested while this one runs */
	bool freed;
	unsigned int calls; /* books_enter() without books_leave() */
	void (*destroy)(struct ferry_dispatcher *dispatcher);
	struct ferry_dispatcher_stats stats; /* the sums over the workers too */
};

#endif
