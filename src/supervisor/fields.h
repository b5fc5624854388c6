#ifndef FERRY_SUPERVISOR_FIELDS_H
#define FERRY_SUPERVISOR_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "ferry/supervisor.h"

#include "process/options.h"
#include "util/queue.h"

/*
 * A supervisor, its places and its processes. Calls and events change flags and wake the turn. The turn alone starts
 * processes, sends signals, runs callbacks and frees what has ended.
 *
 *   settings.c    the options, copied
 *   schedule.c    when the turn runs
 *   report.c      log lines, crashes, and the state
 *   worker.c      one process: its start, its channel, its way out
 *   replacing.c   the steps of a replacement
 *   supervisor.c  the turn, and the public functions
 */

struct child;

struct place {
	struct ferry_supervisor_worker *current;
	struct ferry_supervisor_worker *successor; /* takes the place with the others of its step */
	bool successor_killed;                     /* another one is to be started */
	int64_t start_at;                          /* if there is neither */
	int64_t pause_usec;                        /* the next one */
	uint64_t starts;
	int last_status;
	struct ferry_dispatcher_stats past; /* of processes that are gone */
};

struct ferry_supervisor_worker {
	TAILQ_ENTRY(ferry_supervisor_worker) link;
	struct ferry_supervisor *supervisor;
	struct place *place; /* NULL: the place does not exist any more */
	unsigned int number; /* of the place */
	enum ferry_supervisor_worker_state state;
	uint64_t generation;
	struct child *child;
	struct ferry_dispatcher_worker *dispatcher_worker; /* NULL: its channel has ended */
	void *context;
	struct timeval started; /* on the wall clock */
	int64_t born;
	int64_t deadline; /* 0: none */
	int status;
	enum ferry_supervisor_stop wanted, stage; /* 0: none */
	bool hello;                               /* it is ready */
	bool retires; /* it drains, and the supervisor has not asked for that */
	bool drained; /* it has served all, and its channel is to be closed */
	bool channel_over;
	bool served;
	bool asked; /* to end */
	bool ended;
	bool leaving_pending; /* the callback */
};

TAILQ_HEAD(supervisor_workers, ferry_supervisor_worker);

/* The options, copied. */
struct settings {
	char *name, *program;
	char **argv, **environment;
	struct child_fd *fds; /* the channel is the last one */
	size_t fd_count;
	struct child_limit *limits;
	size_t limit_count;
	struct child_identity identity;
	bool has_identity;
	enum child_group group;
	unsigned int replace_step, crash_limit;
	int64_t crash_window, first_pause, longest_pause, long_life, start_timeout, drain_timeout,
	    kill_timeout;
	struct timeval recall_spread;
};

/* A replacement: the places before `next` are done, those up to `end` are waited for. */
struct replacement {
	bool requested, active;
	unsigned int next, end;
	unsigned int killed; /* new processes that have been started again */
	int error;           /* 0, or why it is to end */
};

struct ferry_supervisor {
	struct event_base *base;
	struct event *event; /* runs the turn */
	struct event *signals[3];
	int64_t wakes_at; /* when the event's timer runs out; 0: no timer */
	struct ferry_dispatcher *dispatcher;
	const struct ferry_supervisor_callbacks *callbacks;
	void *context;
	struct settings settings;
	struct place **places;
	unsigned int place_count;
	struct supervisor_workers workers;
	struct replacement replacement;
	uint64_t generation;
	enum ferry_supervisor_stop stop; /* 0: it runs */
	enum ferry_supervisor_state state, notified;
	int64_t *crashes; /* the times of the last ones, `crash_limit` of them; 0: none */
	unsigned int next_crash;
	int64_t may_log_at;
	unsigned int unlogged;
	uint32_t random;
	pid_t owner; /* the process that has made it */
	bool running, freed;
	struct ferry_supervisor_stats stats;
};

#endif
