#ifndef FERRY_HANDOFF_WORKER_FIELDS_H
#define FERRY_HANDOFF_WORKER_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "ferry/worker.h"

#include "handoff/handoff.h"
#include "util/queue.h"

/* The worker's fields, for worker.c, worker_credits.c, worker_reports.c, worker_client.c and returning.c. */

enum { WORKER_REPORTS_MAX = 16 };

/* What a worker client has of its worker. Without a client the functions are NULL. */
struct worker_keeper {
	/* Runs before the user's drain_requested. */
	void (*drained)(struct ferry_worker *worker);
	/* Runs once: before the user's dispatcher_lost, or when the worker is freed. */
	void (*ended)(struct ferry_worker *worker);
	struct ferry_worker_client *client;
	struct worker_source *source; /* the socket that it is connected to, or NULL */
	TAILQ_ENTRY(ferry_worker) link;
};

struct ferry_worker {
	struct ferry_message_stream *stream;
	const struct ferry_worker_callbacks *callbacks;
	void *context;
	struct event *timer;
	struct ferry_worker_stats stats;

	uint64_t epoch;       /* the channel's number */
	unsigned int version; /* spoken on the channel; 0 before the dispatcher's HELLO */
	unsigned int credits;
	unsigned int outstanding; /* claimed, and not reported, rejected or returned */
	bool scarce;              /* of the credits that others may use, none or few are left */
	bool scarce_notified;
	struct handoff_list returning; /* returned, and not taken by the kernel as a whole */

	uint64_t claim_end; /* the stream position behind the newest claim */
	bool claiming;      /* the claim waits for room in the channel, its message is deferred */

	bool serving;        /* handoff_received runs */
	uint64_t serving_id; /* for this handoff */
	bool done_sent;      /* for this handoff */

	uint64_t reports[WORKER_REPORTS_MAX]; /* ids of served handoffs, not reported yet */
	unsigned int report_count;

	bool drain_requested; /* the dispatcher's DRAIN has arrived */
	bool drained;         /* our DRAIN was sent */
	bool short_of_slots;
	bool freed;

	struct worker_keeper keeper;
};

#endif
