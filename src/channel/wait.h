#ifndef FERRY_CHANNEL_WAIT_H
#define FERRY_CHANNEL_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>

struct event;
struct event_base;

/*
 * The loop of a poller, which runs only inside the calls that wait.
 *
 * libevent's loop goes on after EINTR, and a signal that arrives just before the loop sleeps could not wake it
 * in any case. ferry_poller_interrupt() therefore makes a descriptor readable.
 */

/* A deadline that never comes. */
#define WAIT_FOR_EVER INT64_MAX

struct wait_loop {
	struct event_base *base;
	struct event *timer; /* ends a wait; active, it keeps the loop from sleeping */
	struct event *interruption;
	int interruption_fd;
	bool interrupted;
	bool running;
};

/* -EMFILE: too few descriptor slots are free. -ENOMEM. After a failure wait_close() is still due. */
int wait_open(struct wait_loop *loop);

void wait_close(struct wait_loop *loop);

/* The time on the monotonic clock, in microseconds, when `timeout` has passed. NULL: WAIT_FOR_EVER; a timeout
 * of zero: 0. -EINVAL: it is no time. */
int wait_deadline(const struct timeval *timeout, int64_t *deadline);

/* Whether the loop runs, or user code runs inside a call that uses objects of the loop. */
bool wait_is_busy(const struct wait_loop *loop);

/* Runs the loop until something has happened, the deadline has come or the caller was interrupted.
 *
 * -EINTR: interrupted. -ETIMEDOUT: the deadline had passed before, and the loop has run without sleeping.
 * -EBUSY: wait_is_busy(). -ENOMEM, -EIO. */
int wait_run(struct wait_loop *loop, int64_t deadline);

/* Runs the callbacks that are due, without sleeping. 0, or -EIO. */
int wait_turn(struct wait_loop *loop);

/* The same. `*quiet`: no callback was due. */
int wait_turn_and_look(struct wait_loop *loop, bool *quiet);

/* -EINTR if there was an interruption since the last call, else 0. */
int wait_take_interruption(struct wait_loop *loop);

/* Interrupts the caller that waits, or the next one. For signal handlers and for any thread. */
void wait_interrupt(const struct wait_loop *loop);

#endif
