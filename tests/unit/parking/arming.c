/* The loop takes no event: a connection wakes rather than wait for ever. And a wake-up that another process has taken
 * away. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "parking_place.h"
#include "test.h"
#include "wire.h"

/* The library's calls of event_add(3) fail while this is set. */
static bool no_events;

int __real_event_add(struct event *event, const struct timeval *timeout);
int __wrap_event_add(struct event *event, const struct timeval *timeout);

int __wrap_event_add(struct event *event, const struct timeval *timeout)
{
	return no_events ? -1 : __real_event_add(event, timeout);
}

static void put(unsigned int number, const char *text)
{
	ck_assert_int_eq(wire_send(clients[number], text, strlen(text), NULL, 0),
	                 (ssize_t)strlen(text));
}

static enum ferry_parking_verdict read_and_stay(struct ferry_handoff *handoff,
                                                const struct ferry_parking_event *event)
{
	(void)event;
	wire_drain(ferry_handoff_get_fd(handoff));
	return FERRY_PARKING_STAY;
}

TEST(a_connection_that_cannot_stay_wakes)
{
	open_parking();
	parking_notes.on_filter = read_and_stay;
	park_new_client(0);
	put(0, "x");
	no_events = true;
	pump_turns(3);
	no_events = false;
	ck_assert_uint_eq(parking_notes.filtered, 1);
	ck_assert_uint_eq(parking_notes.woken, 1);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close_parking();
	close_all_clients(1);
}

static int copies[2];

/* Takes the input of the other one, whose event is active too. */
static void drain_both(void)
{
	wire_drain(copies[0]);
	wire_drain(copies[1]);
}

/* _i: whether the loop takes its event again */
LOOP_TEST(a_connection_whose_input_another_process_reads_stays, 2)
{
	open_parking_without_filter();
	parking_notes.on_woken = drain_both;
	for (unsigned int i = 0; i < 2; i++) {
		struct ferry_handoff *handoff = make_client(PAIR_UNIX, i);
		copies[i] = dup(ferry_handoff_get_fd(handoff));
		ck_assert_int_eq(park_client(handoff, i, 100000), 0);
		put(i, "x");
	}
	no_events = _i == 0;
	pump_turns(3);
	no_events = false;
	ck_assert_uint_eq(parking_notes.woken, _i == 0 ? 2 : 1);
	ck_assert_int_eq(parking_notes.of[0].event.reason, FERRY_PARKING_INPUT);
	if (_i == 0) {
		ck_assert_int_eq(parking_notes.of[1].event.reason, FERRY_PARKING_EVICTED);
		ck_assert_int_eq(parking_notes.of[1].event.error, -ENOMEM);
	}
	ck_assert_uint_eq(parking_stats().idle, _i == 0 ? 0 : 1);
	for (unsigned int i = 0; i < parking_notes.woken; i++)
		ferry_handoff_free(parking_notes.of[i].handoff);
	close_parking();
	close(copies[0]);
	close(copies[1]);
	close_all_clients(2);
}

TEST(pending_wake_ups_come_without_a_timer)
{
	enum { ALL = 200 };
	static const struct ferry_parking_callbacks none = {0};
	static int peers[ALL];

	raise_descriptor_limit();
	ck_assert_int_eq(ferry_parking_new(&parking, base, &none, NULL), 0);
	for (unsigned int i = 0; i < ALL; i++) {
		struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
		peers[i] = clients[0];
		ck_assert_int_eq(ferry_parking_park(parking, handoff, -1, NULL, NULL), 0);
	}
	ck_assert_int_eq(ferry_parking_evict(parking, ALL), ALL);
	no_events = true;
	pump_turns(20);
	no_events = false;
	ck_assert_uint_eq(parking_stats().evicted, ALL);
	for (unsigned int i = 0; i < ALL; i++)
		close(peers[i]);
	close_parking();
}

TEST(a_call_whose_events_are_not_taken_fails)
{
	open_parking();
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	no_events = true;
	ck_assert_int_eq(park_client(handoff, 0, 0), -ENOMEM);
	ck_assert_int_eq(let_client_wait(handoff, 0, 0), -ENOMEM);
	no_events = false;
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	handoff = make_client(PAIR_UNIX, 1);
	no_events = true;
	ck_assert_int_eq(park_client(handoff, 1, 0), -ENOMEM); /* and the other one leaves */
	no_events = false;
	expect_wake_up(0, 0, FERRY_PARKING_EVICTED, -ENOMEM);
	ferry_handoff_free(handoff);
	close_parking();
	close_all_clients(2);
}

TEST(a_look_that_was_not_taken_is_taken_with_the_next_one)
{
	open_parking();
	ck_assert_int_eq(let_client_wait(make_client(PAIR_UNIX, 0), 0, 0), 0);
	no_events = true;
	pump_turns(1);
	while (event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED) > 0)
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
	no_events = false;
	ck_assert_int_eq(let_client_wait(make_client(PAIR_UNIX, 1), 1, 0), 0);
	close(clients[0]);
	expect_wake_up(0, 0, FERRY_PARKING_ENDED, 0);
	close_parking();
	clients[0] = clients[1];
	close_all_clients(1);
}
