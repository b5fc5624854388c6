/* A connection that leaves a place has the time for which it was idle there. The clock is the test's. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/dispatcher.h"

#include "handoff_info.h"
#include "parking_place.h"
#include "set_clock.h"
#include "test.h"
#include "wire.h"

static void put(unsigned int number)
{
	ck_assert_int_eq(wire_send(clients[number], "ping", 4, NULL, 0), 4);
}

/* Waits for a wake-up without a look at its handoff, which expect_wake_up() frees. */
static struct ferry_handoff *woken(unsigned int index)
{
	pump_until_count(&parking_notes.woken, index + 1);
	return parking_notes.of[index].handoff;
}

static uint64_t idle_msec(const struct ferry_handoff *handoff)
{
	return handoff_info(handoff).idle_msec;
}

TEST(each_wake_up_has_the_time_since_the_connection_was_parked)
{
	open_parking_without_filter();
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	ck_assert_uint_eq(idle_msec(handoff), 0);
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	ck_assert_int_eq(park_client(make_client(PAIR_UNIX, 1), 1, 5000), 0);
	clock_advance(3000000);
	put(0);
	ck_assert_uint_eq(idle_msec(woken(0)), 3000);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	clock_advance(2500000);
	ck_assert_uint_eq(idle_msec(woken(1)), 5500);
	expect_wake_up(1, 1, FERRY_PARKING_TIMEOUT, -ETIMEDOUT);
	park_new_client(2);
	clock_advance(7000);
	ck_assert_int_eq(ferry_parking_evict(parking, 1), 1);
	ck_assert_uint_eq(idle_msec(woken(2)), 7);
	expect_wake_up(2, 2, FERRY_PARKING_EVICTED, -ECANCELED);
	close_parking();
	close_all_clients(3);
}

/* For the next release: the rest of the timeout is the timeout there. */
TEST(one_that_is_taken_has_it_and_waits_for_the_rest_elsewhere)
{
	struct ferry_handoff *handoff;

	open_parking_without_filter();
	ck_assert_int_eq(park_client(make_client(PAIR_UNIX, 0), 0, 10000), 0);
	clock_advance(4000000);
	ck_assert_int_eq(ferry_parking_take_idle(&handoff, parking, NULL), 0);
	ck_assert_uint_eq(idle_msec(handoff), 4000);
	ck_assert_int_eq(park_client(handoff, 0, 10000 - (int)idle_msec(handoff)), 0);
	clock_advance(5900000);
	pump_turns(5);
	ck_assert_uint_eq(parking_notes.woken, 0);
	clock_advance(200000);
	ck_assert_uint_eq(idle_msec(woken(0)), 6100); /* in the last place alone */
	expect_wake_up(0, 0, FERRY_PARKING_TIMEOUT, -ETIMEDOUT);
	close_parking();
	close_all_clients(1);
}

static enum ferry_parking_verdict verdict;

static enum ferry_parking_verdict read_ping(struct ferry_handoff *handoff,
                                            const struct ferry_parking_event *event)
{
	char bytes[8];
	(void)event;
	ck_assert_int_eq(read(ferry_handoff_get_fd(handoff), bytes, sizeof(bytes)), 4);
	return verdict;
}

/* _i: FERRY_PARKING_STAY, FERRY_PARKING_RENEW */
LOOP_TEST_FROM(only_a_renewal_begins_anew, FERRY_PARKING_STAY, FERRY_PARKING_RENEW + 1)
{
	open_parking();
	parking_notes.on_filter = read_ping;
	verdict = (enum ferry_parking_verdict)_i;
	ck_assert_int_eq(park_client(make_client(PAIR_UNIX, 0), 0, 10000), 0);
	clock_advance(4000000);
	put(0);
	pump_until_count(&parking_notes.filtered, 1);
	clock_advance(1000000);
	verdict = FERRY_PARKING_WAKE;
	put(0);
	ck_assert_uint_eq(idle_msec(woken(0)), _i == FERRY_PARKING_RENEW ? 1000 : 5000);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close_parking();
	close_all_clients(1);
}

/* _i: whether its peer has gone meanwhile */
LOOP_TEST(one_that_waited_for_a_worker_was_not_idle, 2)
{
	struct ferry_handoff *handoff;

	open_parking_without_filter();
	ck_assert_int_eq(let_client_wait(make_client(PAIR_UNIX, 0), 0, 0), 0);
	clock_advance(3000000);
	if (_i == 1) {
		close(clients[0]);
		ck_assert_uint_eq(idle_msec(woken(0)), 0);
		expect_wake_up(0, 0, FERRY_PARKING_ENDED, 0);
		clients[0] = -1;
	} else {
		ck_assert_int_eq(ferry_parking_take_waiting(&handoff, parking, NULL), 0);
		ck_assert_uint_eq(idle_msec(handoff), 0);
		ferry_handoff_free(handoff);
	}
	close_parking();
	if (_i == 0)
		close_all_clients(1);
}

static void keep(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                 enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)outcome, (void)reason;
	*(uint64_t *)context = idle_msec(handoff);
}

TEST(a_connection_that_was_handed_off_is_not_idle)
{
	static const struct ferry_dispatcher_callbacks callbacks = {.worker_lost = NULL};
	struct ferry_dispatcher *dispatcher;
	struct ferry_handoff *handoff;
	uint64_t seen = 1;

	open_parking_without_filter();
	park_new_client(0);
	clock_advance(3000000);
	ck_assert_int_eq(ferry_parking_take_idle(&handoff, parking, NULL), 0);
	ck_assert_uint_eq(idle_msec(handoff), 3000);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, keep, &seen), 0);
	ferry_dispatcher_free(dispatcher);
	ck_assert_uint_eq(seen, 0);
	close_parking();
	close_all_clients(1);
}
