#ifndef FERRY_LIBEVENT_REENTRY_H
#define FERRY_LIBEVENT_REENTRY_H

#include <stdbool.h>

struct event_base;

/*
 * User code that does not run from the loop: a producer's pause_producing runs inside the call that fills the
 * stream. The objects of that call live until the loop finalises them. User code in there must therefore not
 * run the same loop; with this list a call that would run it returns -EBUSY.
 *
 * The list is the thread's, on its stack, the innermost call first.
 */
struct reentry {
	const struct event_base *base;
	struct reentry *outer;
};

/* A variable of the thread that is there from its start: the other models allocate it at its first use, and end
 * the process if there is no memory. */
#define REENTRY_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

/* Encloses code that may call the user, with objects of `base` in use. */
void reentry_enter(struct reentry *reentry, const struct event_base *base);
void reentry_leave(struct reentry *reentry);

/* Whether this thread is in such code. */
bool reentry_is_inside(const struct event_base *base);

#endif
