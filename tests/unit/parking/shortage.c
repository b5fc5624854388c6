/* When room or descriptor slots run short, the connection that was idle longest leaves first. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parking_place.h"
#include "test.h"
#include "wire.h"

TEST(a_full_place_evicts_the_one_that_was_idle_longest)
{
	open_parking();
	ck_assert_int_eq(ferry_parking_set_limit(parking, 3), 0);
	for (unsigned int i = 0; i < 5; i++)
		park_new_client(i);
	ck_assert_uint_eq(parking_notes.woken, 0); /* from the loop */
	ck_assert_uint_eq(parking_stats().idle, 3);
	ck_assert_uint_eq(parking_stats().pending, 2);
	expect_wake_up(0, 0, FERRY_PARKING_EVICTED, -ENOBUFS);
	expect_wake_up(1, 1, FERRY_PARKING_EVICTED, -ENOBUFS);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.woken, 2);
	ck_assert_uint_eq(parking_stats().evicted, 2);
	ck_assert_uint_eq(parking_stats().pending, 0);
	ck_assert_uint_eq(parking_stats().idle_max, 3);
	close_parking();
	close_all_clients(5);
}

TEST(a_lower_limit_evicts_the_excess)
{
	open_parking();
	for (unsigned int i = 0; i < 5; i++)
		park_new_client(i);
	ck_assert_int_eq(let_client_wait(make_client(PAIR_UNIX, 5), 5, 0), 0);
	ck_assert_int_eq(ferry_parking_set_limit(parking, 4), 0);
	expect_wake_up(0, 0, FERRY_PARKING_EVICTED, -ENOBUFS);
	expect_wake_up(1, 1, FERRY_PARKING_EVICTED, -ENOBUFS);
	ck_assert_int_eq(ferry_parking_set_limit(parking, 1), 0); /* waiting ones stay */
	expect_wake_up(2, 2, FERRY_PARKING_EVICTED, -ENOBUFS);
	expect_wake_up(3, 3, FERRY_PARKING_EVICTED, -ENOBUFS);
	expect_wake_up(4, 4, FERRY_PARKING_EVICTED, -ENOBUFS);
	ck_assert_uint_eq(parking_stats().waiting, 1);
	close_parking();
	close_all_clients(6);
}

TEST(the_owner_evicts_as_many_as_it_needs)
{
	open_parking();
	for (unsigned int i = 0; i < 3; i++)
		park_new_client(i);
	ck_assert_int_eq(ferry_parking_evict(parking, 2), 2);
	expect_wake_up(0, 0, FERRY_PARKING_EVICTED, -ECANCELED);
	expect_wake_up(1, 1, FERRY_PARKING_EVICTED, -ECANCELED);
	ck_assert_int_eq(ferry_parking_evict(parking, 2), 1);
	expect_wake_up(2, 2, FERRY_PARKING_EVICTED, -ECANCELED);
	ck_assert_int_eq(ferry_parking_evict(parking, 2), 0);
	close_parking();
	close_all_clients(3);
}

TEST(input_makes_a_connection_the_youngest_once_it_is_parked_again)
{
	open_parking();
	for (unsigned int i = 0; i < 3; i++)
		park_new_client(i);
	ck_assert_int_eq(wire_send(clients[0], "x", 1, NULL, 0), 1);
	pump_until_count(&parking_notes.woken, 1);
	struct ferry_handoff *handoff = parking_notes.of[0].handoff;
	ck_assert_uint_eq(wire_drain(ferry_handoff_get_fd(handoff)), 1);
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	ck_assert_int_eq(ferry_parking_evict(parking, 9), 3);
	expect_wake_up(1, 1, FERRY_PARKING_EVICTED, -ECANCELED);
	expect_wake_up(2, 2, FERRY_PARKING_EVICTED, -ECANCELED);
	expect_wake_up(3, 0, FERRY_PARKING_EVICTED, -ECANCELED);
	close_parking();
	close_all_clients(3);
}

TEST(the_reserve_of_descriptor_slots_is_kept_free)
{
	open_parking();
	for (unsigned int i = 0; i < 4; i++)
		park_new_client(i);
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 4);
	limit_descriptors(8);
	ck_assert_int_eq(ferry_parking_set_fd_reserve(parking, 8), 0);
	ck_assert_int_eq(park_client(handoff, 4, 0), 0);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.woken, 0);
	unlimit_descriptors();
	handoff = make_client(PAIR_UNIX, 5);
	limit_descriptors(7);
	ck_assert_int_eq(park_client(handoff, 5, 0), 0);
	expect_wake_up(0, 0, FERRY_PARKING_EVICTED, -EMFILE);
	ck_assert_int_eq(let_client_wait(make_client(PAIR_UNIX, 6), 6, 0), 0);
	expect_wake_up(1, 1, FERRY_PARKING_EVICTED, -EMFILE);
	unlimit_descriptors();
	close_parking();
	close_all_clients(7);
}

/* The newcomer has no older one to push out. */
TEST(a_shortage_does_not_evict_the_newcomer)
{
	open_parking();
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	limit_descriptors(4);
	ck_assert_int_eq(ferry_parking_set_fd_reserve(parking, 8), 0);
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	pump_turns(3);
	unlimit_descriptors();
	ck_assert_uint_eq(parking_stats().idle, 1);
	close_parking();
	close_all_clients(1);
}

/* More pending wake-ups than one turn serves: all come, and the loop's other events run between. */
TEST(many_evictions_leave_the_loop_its_turns)
{
	enum { TURNS_MAX = 100, ALL = 250 };
	static const struct ferry_parking_callbacks none = {0};
	static int peers[ALL];
	unsigned int turns = 0;

	raise_descriptor_limit();
	ck_assert_int_eq(ferry_parking_new(&parking, base, &none, NULL), 0);
	for (unsigned int i = 0; i < ALL; i++) {
		struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
		peers[i] = clients[0];
		ck_assert_int_eq(ferry_parking_park(parking, handoff, -1, NULL, NULL), 0);
	}
	ck_assert_int_eq(ferry_parking_evict(parking, ALL), ALL);
	while (parking_stats().evicted < ALL && turns++ < TURNS_MAX)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(parking_stats().evicted, ALL);
	ck_assert_uint_gt(turns, 1);
	for (unsigned int i = 0; i < ALL; i++)
		close(peers[i]);
	close_parking();
}
