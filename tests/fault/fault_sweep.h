#ifndef FERRY_TESTS_FAULT_SWEEP_H
#define FERRY_TESTS_FAULT_SWEEP_H

/* A scenario that is run again and again, with another allocation or system call failing each time. */

#include "faults.h"

#include "ferry/ferry.h"

#include "support.h"

/* A system call that is swept: with what it fails. */
struct swept_call {
	enum call call;
	const char *name;
	int errors[10];      /* zero-terminated */
	int recoverable[10]; /* of them, those that change nothing */
};

enum fault { FAULT_NONE, FAULT_RECOVERABLE, FAULT_FATAL };

struct fault_sweep {
	/* Called armed, with a new loop. */
	void (*run)(struct event_base *loop, int kind);

	/* After that and some more turns, disarmed; by check_that(). What is recoverable changes nothing. */
	void (*judge)(enum fault fault);

	/* Prints what has happened, with the end of the line. */
	void (*describe)(void);

	/* The first so many calls fail one after the other; of the rest every so-manieth part, because a long
	 * run of the same call brings nothing new. */
	unsigned int first, parts;

	/* Whether the loop turns every two milliseconds, whatever happens. */
	bool ticks;
};

/* Of the scenario's kind, which has a name for who reads what failed. Both fail the test if something did
 * not hold; the first also if there are no more than `at_least` allocations. The second returns how often
 * the call is made when nothing fails. */
void sweep_allocations(const struct fault_sweep *sweep, int kind, const char *name,
                       unsigned long at_least);
unsigned int sweep_call(const struct fault_sweep *sweep, int kind, const char *name,
                        const struct swept_call *swept);

/* For judge(): what does not hold is described, and fails the test at the sweep's end, so that one test
 * shows all of it. */
void check_that(bool holds, const char *sentence);

/* For run(): a transport on `fd`, which is closed if it fails. What is libevent's does not count. */
int make_swept_transport(struct ferry_transport **out, struct event_base *loop, int fd);

#endif
