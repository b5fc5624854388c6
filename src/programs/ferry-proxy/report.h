#ifndef FERRY_PROGRAMS_FERRY_PROXY_REPORT_H
#define FERRY_PROGRAMS_FERRY_PROXY_REPORT_H

/* The state of ferry-proxy at one moment, as text for Prometheus and as a page for people. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <ferry/dispatcher.h>

#include "programs/shared/answer_counters.h"

struct evbuffer;
struct history;

enum worker_state {
	WORKER_STARTING, /* the process runs, and has not sent its hello */
	WORKER_READY,
	WORKER_DRAINING, /* gets no more handoffs */
	WORKER_WAITING   /* no process: the next one is started after a pause */
};

enum { WORKER_STATES = 4 };

struct worker_snapshot {
	const char *name; /* unique in its service, and the same after a restart: "www-1" */
	pid_t pid;        /* 0: none */
	enum worker_state state;
	bool is_own;            /* the proxy has started the process */
	uint64_t restarts;      /* processes started in its place after the first */
	struct timeval started; /* of the process, on the wall clock; 0: none */

	/* Of all processes in this place; all 0 before the first one. */
	struct ferry_dispatcher_stats stats;
};

struct service_snapshot {
	const char *name;
	const char *root;   /* NULL: others start its workers */
	const char *choice; /* "least" … */
	uint64_t queue_limit;
	bool is_full;
	bool has_answers;           /* the proxy starts its workers, which count their answers */
	struct answer_sums answers; /* 0 without */
	struct ferry_dispatcher_stats stats; /* ferry_dispatcher_get_stats() */
	const struct worker_snapshot *workers;
	size_t worker_count;
};

/* The numbers of clients that the proxy answered itself, by the reason. */
struct refusals {
	uint64_t bad_request; /* 400, 431, 501, 505: the head was refused */
	uint64_t no_route;    /* 404 */
	uint64_t too_slow;    /* 408, or closed without an answer: no complete head in time */
	uint64_t queue_full;  /* 503 */
	uint64_t expired;     /* 503: no worker claimed the client in time, or three attempts failed */
	uint64_t bad_proxy_header; /* closed: the PROXY header was malformed or missing */
	uint64_t bad_client_hello; /* an alert, or 400: the ClientHello was malformed, or none */
	uint64_t no_tls_route; /* an alert: no route has the server name, or a protocol of the client */
	uint64_t failed;       /* 500, or closed: out of memory or descriptors */
};

struct snapshot {
	const char *version; /* FERRY_VERSION */
	pid_t pid;
	struct timeval started;  /* the proxy's start, on the wall clock */
	struct timeval now;      /* when this was filled in */
	uint64_t upgrades;       /* the number of proxies before this one */
	const char *not_serving; /* the reason, "draining" for example; NULL: it serves */

	uint64_t clients;          /* with a head that is being read or answered now */
	uint64_t clients_max;      /* the limit of these */
	uint64_t clients_accepted; /* since the start */
	uint64_t tls_clients;      /* their ClientHello had a route */
	uint64_t clients_gone;     /* the connection ended before their head was complete */
	uint64_t idle;             /* between two requests now */
	uint64_t idle_woken;       /* they have sent their next request */
	uint64_t idle_ended;       /* they have ended */
	uint64_t idle_expired;     /* closed after their timeout */
	uint64_t idle_evicted;     /* closed because descriptors or memory were short */
	uint64_t waiting;          /* with their next request, for room in a queue */
	struct refusals refusals;

	const struct service_snapshot *services;
	size_t service_count;

	const struct history *history; /* NULL: none */
};

/* "starting", "ready", "draining", "waiting". */
const char *worker_state_name(enum worker_state state);

/* The Prometheus text format, version 0.0.4. 0 or -ENOMEM. */
int report_add_metrics(struct evbuffer *out, const struct snapshot *snapshot);

/* The page for people. It refers to no file but those of page_find_file(). 0 or -ENOMEM. */
int report_add_page(struct evbuffer *out, const struct snapshot *snapshot);

#endif
