#ifndef FERRY_TESTS_FAULT_SWEEP_H
#define FERRY_TESTS_FAULT_SWEEP_H

/* A scenario that is run again and again, with another allocation or system call failing each time. */

#include "faults.h"

#include "ferry/ferry.h"

#include "support.h"

/* What a scenario of many calls has of its own. */
struct large_scenario {
	/* Called after each run and some more turns of the loop, disarmed, before what all scenarios have in common is
	 * judged. Notes what has happened, and checks by check_that() what only this scenario has. NULL: there is nothing. */
	void (*judge)(void);

	/* Prints what has happened, with the end of the line; or NULL. */
	void (*describe)(void);

	/* Each of the first `first` system calls of a kind fails in runs of its own. The rest is sampled in steps of a
	 * `parts`-th, because a long series of the same call finds nothing new. */
	unsigned int first, parts;

	/* Faults that change nothing here, besides those that call_recovers(); 0: any of this call. Ends with CALL_NONE. */
	struct {
		enum call call;
		int error;
	} unharmed_by[8];
};

/* A scenario whose every call and allocation fails in a run of its own, with each error that this call can return. */
struct scenario {
	const char *name;
	void (*run)(struct event_base *loop, int kind); /* called armed, with a new loop */
	int kind;
	enum call here_for; /* it makes this call */
	/* It asks by this call whether the kernel can do something: any error passes for no, and is told. */
	enum call asks_by;
	const struct large_scenario *large; /* NULL: it is none */
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

/* Runs the scenario with each `shares`-th fault, from number `share` on: one test may not take all the time. */
void sweep_share_of(const struct scenario *scenario, unsigned int share, unsigned int shares);

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
