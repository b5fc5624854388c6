#ifndef FERRY_UPGRADE_SUCCESSOR_H
#define FERRY_UPGRADE_SUCCESSOR_H

/*
 * The process after this one, as this one sees it: the old process of a takeover, and the child that it may have
 * started for it.
 *
 *     STARTING    the takeover is under way
 *       -> COMMITTED  committed(); the child is watched: died()
 *       -> FAILING    the child is given time to end, then SIGTERM, then SIGKILL
 *            -> failed()
 */

#include <stdbool.h>
#include <sys/types.h>

#include "ferry/upgrade.h"

struct evbuffer;
struct ferry_transport;
struct successor;

struct successor_options {
	struct event_base *base;
	const struct ferry_upgrade_options *upgrade;
	struct ferry_socket_set *set;
};

struct successor_callbacks {
	int (*state_requested)(struct evbuffer *state, void *context);

	/* The successor accepts; the caller owns `taken`, whose sockets must not be used. `pid` may be 0: unknown.
	 * `watched`: died() may follow. */
	void (*committed)(struct ferry_socket_set *taken, pid_t pid, bool watched, void *context);

	/* The last callback. May free the object. */
	void (*failed)(const struct ferry_upgrade_failure *failure, void *context);

	/* After `committed`: the child was killed, and no other process has replaced it. The last callback. May free the
	 * object. */
	void (*died)(int wait_status, void *context);
};

/* Starts the program. 0, or an error of ferry_upgrade_start(). */
int successor_start(struct successor **out, const struct successor_options *options,
                    const struct successor_callbacks *callbacks, void *context);

/* Somebody else has started it. On success the transport is the successor's. */
int successor_serve(struct successor **out, const struct successor_options *options,
                    struct ferry_transport *transport, const struct successor_callbacks *callbacks,
                    void *context);

/* Whether the successor, which has committed and was started here, has a successor of its own. */
bool successor_was_replaced(const struct successor *successor);

/* 0: unknown. */
pid_t successor_get_pid(const struct successor *successor);

/* Kills the child if it has not committed; otherwise it goes on. NULL: does nothing. */
void successor_free(struct successor *successor);

#endif
