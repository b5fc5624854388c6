#ifndef FERRY_PROGRAMS_FERRY_PROXY_SUPERVISOR_H
#define FERRY_PROGRAMS_FERRY_PROXY_SUPERVISOR_H

/* The worker processes of one service. The supervisor has a fixed number of places, each with one process,
 * and starts another process when the one of a place has ended.
 *
 *                 hello                  replaced, drained, channel ended
 *     STARTING ----------> READY ------------------------------------------> LEAVING -> ended
 *         |                                                                    ^
 *         +--------------------------------------------------------------------+
 *
 * A process that is LEAVING has no place any more: the next one is started while it serves its clients to
 * the end. This holds for a process that is drained, and for one whose channel was fenced because it gave
 * no answer: that process may only have been stopped, and still have clients. After the drain timeout the
 * supervisor sends SIGTERM, and then SIGKILL. The drain timeout also bounds the number of LEAVING
 * processes, because a place waits longer and longer between processes that end soon and serve no client.
 *
 * The supervisor knows processes only; the owner of the callbacks runs their channels. */

#include <stdbool.h>

#include <sys/time.h>
#include <sys/types.h>

struct event;
struct event_base;
struct supervisor;

enum worker_process_state { WORKER_PROCESS_STARTING, WORKER_PROCESS_READY, WORKER_PROCESS_LEAVING };

/* One process. Read-only except for `owner`; valid until `ended` has returned. */
struct worker_process {
	struct supervisor *supervisor;
	struct worker_process *next;
	unsigned int place;
	pid_t pid;
	enum worker_process_state state;
	struct timeval started; /* on the wall clock */
	void *owner;            /* for the callbacks */

	/* For the supervisor alone. */
	struct timeval born; /* on the monotonic clock */
	struct event *deadline;
	bool terminated;
	bool served;
};

struct supervisor_callbacks {
	/* A process was started. The callee owns `channel`, the proxy's end of the socket pair. If the callee
	 * returns a negative errno, the supervisor kills the process and starts another one later. */
	int (*started)(struct worker_process *process, int channel, void *context);

	/* The process is LEAVING because another one has its place, or because all are to leave. The callee
	 * gives it no more work; the process ends when its last client has. */
	void (*drain)(struct worker_process *process, void *context);

	/* The process has ended, whether or not its channel has. */
	void (*ended)(struct worker_process *process, void *context);
};

struct supervisor_options {
	const char *name;    /* of the service, for messages */
	char *const *argv;   /* of the program; its channel is CHILD_PROCESS_FD */
	int memory;          /* its CHILD_PROCESS_MEMORY_FD, which stays the caller's; -1: none */
	unsigned int places; /* the number of processes */
	struct timeval drain_timeout;
};

/* The caller keeps the texts of the options. Starts no process yet. 0 or -ENOMEM. */
int supervisor_new(struct supervisor **out, struct event_base *base,
                   const struct supervisor_options *options,
                   const struct supervisor_callbacks *callbacks, void *context);

/* Starts a process in every place. */
void supervisor_start(struct supervisor *supervisor);

/* The process has sent its hello. */
void supervisor_is_ready(struct worker_process *process);

/* The process has served a client: if it dies, the next one is started without a long pause. */
void supervisor_has_served(struct worker_process *process);

/* The process gets no more work, although it may still run: its channel has ended, or it is drained. */
void supervisor_is_leaving(struct worker_process *process);

/* Replaces all processes, one place at a time: starts a new one, and drains the old one once the new one is
 * ready. If a new process ends before it is ready, the other old ones stay. */
void supervisor_replace(struct supervisor *supervisor);

/* Drains all processes, and starts no more. */
void supervisor_retire(struct supervisor *supervisor);

/* Sends SIGTERM to all processes, and SIGKILL to those that are left after the drain timeout; starts no
 * more. A second call sends SIGKILL. */
void supervisor_terminate(struct supervisor *supervisor);

/* Whether no process is left. */
bool supervisor_is_empty(const struct supervisor *supervisor);

/* The process that has the place, or NULL while the place waits for its next one. */
const struct worker_process *supervisor_at(const struct supervisor *supervisor, unsigned int place);

/* The number of processes that were started in a place. */
unsigned long supervisor_starts(const struct supervisor *supervisor, unsigned int place);

/* Kills all processes and waits for them, without a callback. NULL: does nothing. */
void supervisor_free(struct supervisor *supervisor);

#endif
