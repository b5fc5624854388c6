/* Walks of the model (model_walk.h) by seeds. A walk that fails prints its steps, and the command that repeats it. */

#include <stdio.h>
#include <stdlib.h>

#include "model_trace.h"
#include "model_walk.h"
#include "set_clock.h"
#include "test.h"

enum { WALKS = 2000, PROCESSES = 40, STEPS = 60 };

static bool goes_on(unsigned int steps)
{
	return steps < STEPS;
}

LOOP_TEST(random_calls_at_both_ends_fit_the_model, PROCESSES)
{
	const char *count = getenv("FERRY_MODEL_WALKS");
	uint32_t walks = count != NULL ? (uint32_t)strtoul(count, NULL, 0) : WALKS;
	uint32_t first = support_seed();
	int64_t start = clock_time();

	for (uint32_t n = (uint32_t)_i; n < walks; n += PROCESSES) {
		char command[128];
		int fds_before = count_open_fds();
		snprintf(command, sizeof(command), "FERRY_TEST_SEED=%u FERRY_MODEL_WALKS=1", first + n);
		trace_begin(command);
		support_reseed(first + n);
		model_walk(goes_on);
		wait_for_threads(fds_before);
		demand(count_open_fds() == fds_before, "%d descriptors, and %d before", count_open_fds(),
		       fds_before);
	}
	clock_advance(start - clock_time()); /* check cannot report a test of more than 4,294 s */
}
