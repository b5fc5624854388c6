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
	int errors[12];      /* zero-terminated */
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

/* Sweeps the call in each scenario whose kind has its bit in `kinds`: each of them must make it. */
void sweep_call_of_kinds(const struct fault_sweep *sweep, unsigned int kinds,
                         const char *const *names, const struct swept_call *swept);

/* A scenario whose every call and allocation fails in a run of its own, with each error that this call can return. */
struct scenario {
	const char *name;
	void (*run)(struct event_base *loop, int kind); /* as in fault_sweep */
	int kind;
	enum call here_for; /* it makes this call */
	/* It asks by this call whether the kernel can do something: any error passes for no, and is told. */
	enum call asks_by;
};

/* In run(). Each notes what has happened. An error that a callback or an outcome reported; 0 is none. */
int told(int error);
/* The status of a call. After an error, pump_swept() returns. */
int called(int status);
/* This error is part of the scenario, from now on. At most two. */
void expect_told(int error);
/* The scenario came to its end, as it does without a fault. */
void completed(void);
/* A callback that may come once: fails the run if it comes again. */
void once(bool *flag);

/* Runs the scenario without a fault, with each fault, and, if it makes at most `pairs_of` calls, with each two of them.
 * After each run all has been done, or an error was told. A fault that call_recovers() changes nothing. The scenario must
 * make a call. */
enum { PAIRS_OF = 70 };
void sweep_scenario_of(const struct scenario *scenario, unsigned int pairs_of);

/* Runs the loop until it is true. Gives up after more rounds than any recovery takes. */
void pump_swept(struct event_base *loop, bool (*is_over)(void));

/* For judge(): if `holds` is false, prints the sentence and the scenario's description. The test
 * fails at the end of the sweep, after all such lines. */
void check_that(bool holds, const char *sentence);

/* For run(): makes a transport on `fd`, and closes `fd` if that fails. Calls and allocations of
 * libevent's bufferevent do not count. It lingers for 0.1 seconds: a half-close that failed is waited out in far fewer
 * rounds than a run may take. */
int make_swept_transport(struct ferry_transport **out, struct event_base *loop, int fd);

#endif
