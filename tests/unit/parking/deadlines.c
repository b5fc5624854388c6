/* The deadlines of parked connections, with a clock that the test moves. */

#include <errno.h>

#include "parking_place.h"
#include "set_clock.h"
#include "test.h"

TEST(a_deadline_wakes_in_the_order_of_the_deadlines)
{
	static const int milliseconds[] = {40, 10, 30, 20};
	static const unsigned int order[] = {1, 3, 2, 0};

	open_parking();
	for (unsigned int i = 0; i < 4; i++)
		ck_assert_int_eq(park_client(make_client(PAIR_UNIX, i), i, milliseconds[i]), 0);
	for (unsigned int i = 0; i < 4; i++) {
		pump_turns(3);
		ck_assert_uint_eq(parking_notes.woken, i);
		clock_advance(10000);
		expect_wake_up(i, order[i], FERRY_PARKING_TIMEOUT, -ETIMEDOUT);
	}
	ck_assert_uint_eq(parking_stats().expired, 4);
	close_parking();
	close_all_clients(4);
}
