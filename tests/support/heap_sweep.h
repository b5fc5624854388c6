#ifndef FERRY_TESTS_HEAP_SWEEP_H
#define FERRY_TESTS_HEAP_SWEEP_H

/* Runs a scenario again and again; another allocation fails each time. A program that uses this is
 * linked as for heap.h. */

#include "ferry/ferry.h"

#include "support.h"

/* Runs a scenario under heap_watch(): first without a failure, then once for each of its
 * allocations, which fails. The loop is new each time, and turns at least every two milliseconds.
 * `judge` checks the outcome, and frees all that the scenario still owns; `failing` is 0 for the
 * run in which nothing fails. Fails the test if memory or a descriptor leaks, or if there are no
 * more than `at_least` allocations. */
void sweep_scenario(void (*scenario)(struct event_base *loop), void (*judge)(unsigned long failing),
                    unsigned long at_least);

/* For a scenario: makes a transport on `fd`. The allocations of its bufferevent do not count. */
int sweep_make_transport(struct ferry_transport **out, struct event_base *loop, int fd);

/* One call of the library that changes nothing when it fails. */
struct swept_function {
	const char *name;
	void (*prepare)(void);
	int (*call)(void);
	void (*unchanged)(void); /* after it has failed: then it is called again, and succeeds */
	void (*done)(void);
	unsigned long at_least;  /* allocations */
	unsigned long unnoticed; /* by libevent, which then succeeds without */
};

/* Makes each allocation of the call fail in turn, in a loop that has no memory yet of any descriptor.
 * `clean_up` gives back all that the functions have made. */
void sweep_function(const struct swept_function *function, void (*clean_up)(void));

#endif
