#ifndef FERRY_TESTS_FAULT_SWEEP_H
#define FERRY_TESTS_FAULT_SWEEP_H

/* A scenario that is run again and again, with another allocation or system call failing each time. */

#include "faults.h"

#include "ferry/ferry.h"

#include "support.h"

/* A system call that the sweep makes fail, and the errors that it fails with. */
struct swept_call {
	enum call call;
	const char *name;
	int errors[10];      /* zero-terminated */
	int recoverable[10]; /* the errors after which the scenario still completes */
};

enum fault { FAULT_NONE, FAULT_RECOVERABLE, FAULT_FATAL };

struct fault_sweep {
	/* Called armed, with a new loop. */
	void (*run)(struct event_base *loop, int kind);

	/* Called after run() and some more turns of the loop, disarmed. Checks the outcome by
	 * check_that(). A recoverable fault changes nothing of the outcome. */
	void (*judge)(enum fault fault);

	/* Prints what has happened, with the end of the line. */
	void (*describe)(void);

	/* Each of the first `first` calls fails in a run of its own. The rest is sampled in steps of a
	 * `parts`-th, because a long series of the same call finds nothing new. */
	unsigned int first, parts;

	/* Whether the loop turns every two milliseconds, whatever happens. */
	bool ticks;
};

/* Both sweep the scenario of this kind; `name` stands in the printed lines. Both fail the test if a
 * check_that() failed; the first also if the scenario makes no more than `at_least` allocations.
 * The second returns the count of calls in a run in which nothing fails. */
void sweep_allocations(const struct fault_sweep *sweep, int kind, const char *name,
                       unsigned long at_least);
unsigned int sweep_call(const struct fault_sweep *sweep, int kind, const char *name,
                        const struct swept_call *swept);

/* For judge(): if `holds` is false, prints the sentence and the scenario's description. The test
 * fails at the end of the sweep, after all such lines. */
void check_that(bool holds, const char *sentence);

/* For run(): makes a transport on `fd`, and closes `fd` if that fails. Calls and allocations of
 * libevent's bufferevent do not count. It lingers for 0.1 seconds: a half-close that failed is waited out in far fewer
 * rounds than a run may take. */
int make_swept_transport(struct ferry_transport **out, struct event_base *loop, int fd);

#endif
