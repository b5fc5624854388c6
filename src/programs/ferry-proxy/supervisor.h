#ifndef FERRY_PROGRAMS_FERRY_PROXY_SUPERVISOR_H
#define FERRY_PROGRAMS_FERRY_PROXY_SUPERVISOR_H

/* The worker processes of one service: so many places, and in each of them a process, started again
 * when it is gone.
 *
 *                 hello                  replaced, drained, its channel over
 *     STARTING ----------> READY ------------------------------------------> LEAVING -> ended
 *         |                                                                    ^
 *         +--------------------------------------------------------------------+
 *
 * A process that is LEAVING has no place any more: the next one is started, while it serves to the end
 * what it has taken. That is so for one that is drained, and for one whose channel was fenced because it
 * gave no answer: it may only have been stopped, and have clients. After the drain timeout it is told to
 * end, by SIGTERM and then by SIGKILL; that is also the bound of how many of them there can be, because
 * a place waits longer and longer between processes that do not live long and serve nobody.
 *
 * This file knows processes; what travels over their channels is the callbacks' affair. */

#include <stdbool.h>

#include <sys/time.h>
#include <sys/types.h>

struct event;
struct event_base;
struct supervisor;

enum worker_process_state { WORKER_PROCESS_STARTING, WORKER_PROCESS_READY, WORKER_PROCESS_LEAVING };

/* One process. For reading only, but for `owner`; valid until `ended` has returned. */
struct worker_process {
	struct supervisor *supervisor;
	struct worker_process *next;
	unsigned int place;
	pid_t pid;
	enum worker_process_state state;
	struct timeval started; /* on the wall clock */
	void *owner;            /* the callbacks' own */

	/* The supervisor's. */
	struct timeval born; /* on the clock that nobody sets */
	struct event *deadline;
	bool terminated;
	bool served;
};

struct supervisor_callbacks {
	/* A process was started; `channel` is this end of its socket, and the callee's. After a negative
	 * errno the process is killed, and started again later. */
	int (*started)(struct worker_process *process, int channel, void *context);

	/* The process is LEAVING because another has its place, or because all are to: it is to get no more
	 * work, and to end when it has done what it has. */
	void (*drain)(struct worker_process *process, void *context);

	/* The process is gone, whatever its channel says. */
	void (*ended)(struct worker_process *process, void *context);
};

struct supervisor_options {
	const char *name;    /* of the service, for people */
	char *const *argv;   /* what to start; the channel is CHILD_PROCESS_FD */
	unsigned int places; /* how many */
	struct timeval drain_timeout;
};

/* The options' texts have to outlive it. Nothing is started yet. 0 or -ENOMEM. */
int supervisor_new(struct supervisor **out, struct event_base *base,
                   const struct supervisor_options *options,
                   const struct supervisor_callbacks *callbacks, void *context);

/* Starts a process in every place. */
void supervisor_start(struct supervisor *supervisor);

/* The process is of use: it has said hello. */
void supervisor_is_ready(struct worker_process *process);

/* The process has served somebody: should it die, that is no reason to keep the next one waiting. */
void supervisor_has_served(struct worker_process *process);

/* The process is of no more use, although it may still run: its channel is over, or it was drained. */
void supervisor_is_leaving(struct worker_process *process);

/* Replaces all processes, one place at a time: a new one is started, and when that is ready the old one
 * is drained. If a new one ends before it is ready, the others stay as they are. */
void supervisor_replace(struct supervisor *supervisor);

/* Drains all processes, and starts none any more. */
void supervisor_retire(struct supervisor *supervisor);

/* SIGTERM for all processes, and SIGKILL for those that are there after the drain timeout; none is
 * started any more. Asked for again: SIGKILL. */
void supervisor_terminate(struct supervisor *supervisor);

/* Whether there is no process. */
bool supervisor_is_empty(const struct supervisor *supervisor);

/* The process that has the place, or NULL: it is to be started again. */
const struct worker_process *supervisor_at(const struct supervisor *supervisor, unsigned int place);

/* How many processes were started in a place. */
unsigned long supervisor_starts(const struct supervisor *supervisor, unsigned int place);

/* Kills and waits for what there is, without a callback. NULL: nothing happens. */
void supervisor_free(struct supervisor *supervisor);

#endif
