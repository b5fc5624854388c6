#ifndef FERRY_UPGRADE_CORE_H
#define FERRY_UPGRADE_CORE_H

/*
 * The object that joins both ends of an upgrade, in the order of a process's life:
 *
 *     STARTING      a predecessor is asked, or there is none          started()
 *     PREPARING     until ferry_upgrade_ready()
 *     COMMITTING    the predecessor stops                             serving()
 *     SERVING       a successor may be started, and may fail          failed()
 *     REPLACED      the successor accepts                             replaced()
 *     OVER          finished() or rejected() has run
 *
 *   core.c       memory, the process, calls from the loop
 *   joining.c    STARTING to SERVING: predecessor.c, taker.c
 *   leaving.c    SERVING to OVER: candidates.c, successor.c, giver.c
 *   upgrade.c    making and freeing
 *   signals.c    signals, if they are asked for
 */

#include <stdbool.h>
#include <sys/types.h>

#include "ferry/upgrade.h"

#include "upgrade/candidates.h"
#include "upgrade/giver.h"
#include "upgrade/output.h"
#include "upgrade/predecessor.h"
#include "upgrade/successor.h"
#include "upgrade/taker.h"

struct event;
struct ferry_listener;

/* The socket of a set by which connections are given. */
#define UPGRADE_CONNECTIONS ".connections"

enum { UPGRADE_SIGNALS = 5, UPGRADE_RESTARTS = 5, UPGRADE_GENERATION_SIZE = 8 };

enum upgrade_phase {
	UPGRADE_STARTING,
	UPGRADE_PREPARING,
	UPGRADE_COMMITTING,
	UPGRADE_SERVING,
	UPGRADE_REPLACED,
	UPGRADE_OVER
};

struct ferry_upgrade {
	struct event_base *base;
	struct ferry_upgrade_options options;
	const struct ferry_upgrade_callbacks *callbacks;
	void *context;
	pid_t owner; /* the process that has made the object */
	enum upgrade_phase phase;
	struct ferry_socket_set *set;

	/* STARTING to SERVING */
	char *path;               /* of the predecessor; NULL: none, or it has started this process */
	bool inherited;           /* the descriptors of inheritance.h are there */
	pid_t parent;             /* the predecessor then */
	int64_t give_up_at;       /* its death is waited for until then */
	bool had_predecessor;     /* the set is its set */
	void *state;              /* the predecessor's */
	size_t state_length;      /* without the generation */
	unsigned long generation; /* the number of processes before this one */
	struct predecessor *predecessor;
	struct taker *taker;
	struct output *output; /* of programs that were started before this process was ready */

	/* SERVING to OVER */
	char *control; /* the name of the socket of ferry_upgrade_listen() */
	struct ferry_listener *listener;
	struct candidates *candidates; /* that the listener has accepted */
	struct successor *successor;
	struct giver *giver;
	uint64_t received;             /* connections of predecessors */
	struct ferry_socket_set *kept; /* REPLACED: for a successor that is killed; not used */
	unsigned int restarts;
	bool restarting;
	bool finishing;
	struct event *probation; /* pending: this process stays */
	struct event *again;     /* another attempt to start a successor that was killed */

	struct event *signals[UPGRADE_SIGNALS];
	struct event *turn; /* runs `in_turn` from the loop */
	void (*in_turn)(struct ferry_upgrade *upgrade);
	bool freed;
	unsigned int calls; /* on the stack that may run user code */
};

/* These enclose each call that may run user code. If that frees the object, the last one releases its memory. */
void upgrade_enter(struct ferry_upgrade *upgrade);
void upgrade_leave(struct ferry_upgrade *upgrade);

/* Whether this process has made the object. */
bool upgrade_is_owner(const struct ferry_upgrade *upgrade);

/* Runs a function from the loop; one at a time. */
int upgrade_init_turn(struct ferry_upgrade *upgrade);
void upgrade_run_in_turn(struct ferry_upgrade *upgrade,
                         void (*function)(struct ferry_upgrade *upgrade));

/* After a time; at once without memory for the timer. */
void upgrade_run_later(struct ferry_upgrade *upgrade,
                       void (*function)(struct ferry_upgrade *upgrade),
                       const struct timeval *delay);

/* Releases the memory of an object whose parts are freed. */
void upgrade_release(struct ferry_upgrade *upgrade);

/* joining.c. -ENOTSOCK and its like: the sockets of activation. */
int upgrade_join(struct ferry_upgrade *upgrade);

/* leaving.c: the control socket, if there is one; and the process that gets connections from this one, by the set that it
 * serves. */
int upgrade_accept_successors(struct ferry_upgrade *upgrade);
void upgrade_reach(struct ferry_upgrade *upgrade, const struct ferry_socket_set *taken);

#endif
