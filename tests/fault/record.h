#ifndef FERRY_TESTS_FAULT_RECORD_H
#define FERRY_TESTS_FAULT_RECORD_H

/* What the sweeps have done, in a file of the build folder: tests/fault/PROGRAM.seen. Its lines begin with
 *
 *     scenario CALLS RUNS PAIRS NAME
 *     part RUNS NAME             more runs of a scenario
 *     call NAME                  a scenario makes it, and it failed
 *     error FUNCTION ERRNO       a public function returned it
 *     failure
 *
 * tests/fault/summary.sh reads them. Each program prints its own sums in a closing line. */

struct recorded_scenario {
	const char *name;
	unsigned int calls, runs, pairs; /* runs: those of pairs too */
};

void record_scenario(const struct recorded_scenario *scenario);
void record_part_of(const char *scenario, unsigned int runs);
void record_call(const char *name);
void record_failure(void);

/* Records the status of a public function if it is an error, and returns it. seen_calls.h passes the status of each
 * call through it. */
int record_status(const char *function, int status);

#endif
