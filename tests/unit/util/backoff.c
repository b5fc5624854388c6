/* Pauses between attempts, from a microsecond to the longest time that a setter accepts. */

#include <stdint.h>

#include "kernel/clock.h"
#include "util/backoff.h"

#include "test.h"

enum { DRAWS = 1000 };

static const int64_t pauses[] = {1,
                                 3,
                                 CLOCK_SECOND / 20,
                                 2 * CLOCK_SECOND,
                                 INT64_C(86400) * 365 * 20 * CLOCK_SECOND,
                                 INT64_C(86400) * 365 * 1000 * CLOCK_SECOND};

enum { PAUSES = sizeof(pauses) / sizeof(pauses[0]) };

TEST_CASE("backoff");

LOOP_TEST(jitter_makes_a_pause_longer_by_up_to_a_quarter, PAUSES)
{
	const int64_t usec = pauses[_i];
	uint32_t random = support_random_below(1000);
	int64_t longest = 0;
	for (unsigned int i = 0; i < DRAWS; i++) {
		const int64_t with_jitter = backoff_add_jitter(&random, usec);
		ck_assert_int_ge(with_jitter, usec);
		ck_assert_int_le(with_jitter, usec + usec / 4);
		longest = with_jitter > longest ? with_jitter : longest;
	}
	ck_assert_int_ge(longest, usec + usec / 5);
}

LOOP_TEST(a_pause_doubles_up_to_the_longest, PAUSES)
{
	const int64_t longest = pauses[_i];
	int64_t usec = 1;
	for (unsigned int i = 0; i < 64; i++) {
		const int64_t next = backoff_double(usec, longest);
		ck_assert(next == 2 * usec || next == longest);
		ck_assert_int_le(next, longest);
		usec = next;
	}
	ck_assert_int_eq(usec, longest);
}
