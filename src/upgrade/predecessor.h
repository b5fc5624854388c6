#ifndef FERRY_UPGRADE_PREDECESSOR_H
#define FERRY_UPGRADE_PREDECESSOR_H

/*
 * The process before this one, as this one sees it: the new process of a takeover.
 *
 *     predecessor_inherit, predecessor_connect
 *       -> received(set)  predecessor_commit  -> ended(0)     this process serves
 *       -> ended(-ECONNRESET), before `received`              the predecessor has died: there is none
 *       -> ended(status)                                      the predecessor goes on
 */

#include <stddef.h>

struct event_base;
struct ferry_socket_set;
struct predecessor;
struct timeval;

struct predecessor_callbacks {
	/* The callee owns the set, and frees `state` by free(3). */
	void (*received)(struct ferry_socket_set *set, void *state, size_t length, void *context);

	/* The last callback. Either may free the object. */
	void (*ended)(int status, void *context);
};

/* The process that has started this one. Owns `channel`, also after a failure. */
int predecessor_inherit(struct predecessor **out, struct event_base *base, int channel,
                        const struct timeval *timeout,
                        const struct predecessor_callbacks *callbacks, void *context);

/* A process that listens at a path. */
int predecessor_connect(struct predecessor **out, struct event_base *base, const char *path,
                        const struct timeval *timeout,
                        const struct predecessor_callbacks *callbacks, void *context);

/* This process accepts. The errors of ferry_takeover_commit(). */
int predecessor_commit(struct predecessor *predecessor);

/* After the end: notifies the predecessor, if it has started this process, that this process has a successor of its
 * own. */
void predecessor_notify_of_successor(struct predecessor *predecessor);

/* Withdraws, if it has not ended. NULL: does nothing. */
void predecessor_free(struct predecessor *predecessor);

#endif
