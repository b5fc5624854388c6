/* A supervisor's pauses, its log lines and its state, with a clock that the test moves. */

#include "test.h"

#include <string.h>
#include <time.h>

#include "set_clock.h"
#include "supervised.h"

enum { SECOND = 1000000, PAUSE = SECOND / 10, LONGEST = SECOND };

/* The clock moves while a process runs, not faster than the real one: without pidfds a timer looks for its end. */
static void pump_with_clock(const unsigned int *counter, unsigned int value)
{
	while (*counter < value) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		clock_advance(1000);
		pump_turns(1);
	}
}

static void use_pauses(int64_t first, int64_t longest)
{
	options.first_pause = (struct timeval){.tv_sec = first / SECOND, .tv_usec = first % SECOND};
	options.longest_pause =
	    (struct timeval){.tv_sec = longest / SECOND, .tv_usec = longest % SECOND};
}

static unsigned int attempts(void)
{
	return notes.started + notes.failed_starts;
}

/* A program that ends at once, and one that is not there. A pause is up to a quarter longer. */
LOOP_TEST(each_start_has_a_longer_pause_before_it_up_to_the_longest, 2)
{
	static const char *const nowhere[] = {"/nowhere/at/all", NULL};
	static const int64_t pauses[] = {PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE, LONGEST, LONGEST};
	if (_i == 0)
		use_script("exit 3");
	else
		use_program(nowhere);
	use_pauses(PAUSE, LONGEST);
	open_supervisor();
	for (unsigned int i = 0; i < COUNT(pauses); i++) {
		/* A pause begins when the place is free. */
		pump_with_clock(_i == 0 ? &notes.leaving : &notes.failed_starts, i + 1);
		clock_advance(pauses[i] - 1);
		pump_turns(2);
		ck_assert_uint_eq(attempts(), i + 1);
		clock_advance(pauses[i] / 4 + 1);
		pump_turns(2);
		ck_assert_uint_eq(attempts(), i + 2);
	}
	close_supervisor();
}

TEST(failed_starts_are_worth_a_line_a_second)
{
	static const char *const nowhere[] = {"/nowhere/at/all", NULL};
	use_program(nowhere);
	options.workers = 4;
	use_pauses(SECOND - 1, SECOND - 1);
	open_supervisor();
	pump_turns(2);
	ck_assert_uint_eq(notes.failed_starts, 4);
	ck_assert_uint_eq(notes.log_lines, 1);
	clock_advance(2 * SECOND);
	pump_turns(2);
	ck_assert_uint_eq(notes.failed_starts, 8);
	ck_assert_uint_eq(notes.log_lines, 2);
	ck_assert_ptr_nonnull(strstr(notes.log, "and 3 more since the last line"));
	close_supervisor();
}

TEST(it_runs_again_when_the_crashes_are_long_ago)
{
	use_script("exit 3");
	options.workers = 2;
	options.crash_limit = 2;
	options.crash_window = (struct timeval){1000, 0};
	use_pauses(INT64_C(2000) * SECOND, INT64_C(2000) * SECOND);
	open_supervisor();
	pump_with_clock(&notes.heard[FERRY_SUPERVISOR_FAILING], 1);
	clock_advance(INT64_C(900) * SECOND);
	pump_turns(2);
	ck_assert_uint_eq(notes.heard[FERRY_SUPERVISOR_RUNNING], 0);
	clock_advance(INT64_C(100) * SECOND);
	pump_turns(2);
	ck_assert_uint_eq(notes.heard[FERRY_SUPERVISOR_RUNNING], 1);
	close_supervisor();
}
