/* A connection waits for a worker: input does not wake it, and the end of its peer does. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handoff_info.h"
#include "parking_place.h"
#include "test.h"
#include "wire.h"

static void put(unsigned int number, const char *text)
{
	ck_assert_int_eq(wire_send(clients[number], text, strlen(text), NULL, 0),
	                 (ssize_t)strlen(text));
}

static void wait_new_client(enum pair_kind kind, unsigned int number)
{
	struct ferry_handoff *handoff = make_client(kind, number);

	put(number, "GET");
	ck_assert_int_eq(let_client_wait(handoff, number, 0), 0);
}

TEST(unread_input_does_not_spin)
{
	open_parking();
	wait_new_client(PAIR_UNIX, 0);
	wait_new_client(PAIR_TCP, 1);
	/* Neither is registered: only the timer of the look is. */
	ck_assert_int_eq(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), 1);
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(event_base_loop(base, EVLOOP_NONBLOCK), 0);
		ck_assert_int_eq(event_base_get_num_events(base, EVENT_BASE_COUNT_ACTIVE), 0);
	}
	ck_assert_uint_eq(parking_notes.woken, 0);
	ck_assert_uint_eq(parking_stats().waiting, 2);
	close_parking();
	close_all_clients(2);
}

TEST(they_are_taken_in_the_order_in_which_they_came)
{
	struct ferry_handoff *handoff = NULL;
	int wake_fd;

	open_parking();
	for (unsigned int i = 0; i < 3; i++)
		wait_new_client(PAIR_UNIX, i);
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert_int_eq(ferry_parking_take_waiting(&handoff, parking, &wake_fd), 0);
		ck_assert_ptr_eq(handoff_info(handoff).context, &clients[i]);
		ck_assert_int_eq(wake_fd, -1);
		ck_assert_uint_eq(wire_drain(ferry_handoff_get_fd(handoff)), 3);
		ferry_handoff_free(handoff);
	}
	ck_assert_int_eq(ferry_parking_take_waiting(&handoff, parking, &wake_fd), -ENOENT);
	ck_assert_uint_eq(parking_stats().waited, 3);
	close_parking();
	close_all_clients(3);
}

TEST(a_peer_that_closes_meanwhile_is_noticed_and_counted)
{
	open_parking();
	for (unsigned int i = 0; i < 3; i++)
		wait_new_client(PAIR_UNIX, i);
	close(clients[1]);
	expect_wake_up(0, 1, FERRY_PARKING_ENDED, 0);
	ck_assert_uint_eq(parking_stats().ended_waiting, 1);
	ck_assert_uint_eq(parking_stats().ended, 0);
	ck_assert_uint_eq(parking_stats().waiting, 2);
	ck_assert_uint_eq(parking_notes.filtered, 0);
	close_parking();
	clients[1] = clients[2];
	close_all_clients(2);
}

TEST(a_reset_meanwhile_has_its_error)
{
	open_parking();
	wait_new_client(PAIR_TCP, 0);
	ck_assert_int_eq(setsockopt(clients[0], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
	                            sizeof(struct linger)),
	                 0);
	close(clients[0]);
	expect_wake_up(0, 0, FERRY_PARKING_ENDED, -ECONNRESET);
	close_parking();
}

/* The second has sent nothing, and its end leaves nothing to answer. */
TEST(a_peer_that_has_asked_and_ended_its_half_waits_on)
{
	open_parking();
	wait_new_client(PAIR_TCP, 0);
	shutdown(clients[0], SHUT_WR);
	ck_assert_int_eq(let_client_wait(make_client(PAIR_TCP, 1), 1, 0), 0);
	shutdown(clients[1], SHUT_WR);
	struct ferry_handoff *handoff = make_client(PAIR_TCP, 2);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "GET", 3), 0);
	ck_assert_int_eq(let_client_wait(handoff, 2, 0), 0);
	shutdown(clients[2], SHUT_WR);
	expect_wake_up(0, 1, FERRY_PARKING_ENDED, 0);
	ck_assert_uint_eq(parking_stats().waiting, 2);
	ck_assert_int_eq(ferry_parking_take_waiting(&handoff, parking, NULL), 0);
	ck_assert_uint_eq(wire_drain(ferry_handoff_get_fd(handoff)), 3);
	ferry_handoff_free(handoff);
	close_parking();
	close_all_clients(3);
}

TEST(the_deadline_ends_the_wait)
{
	open_parking();
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	put(0, "GET");
	ck_assert_int_eq(let_client_wait(handoff, 0, 20), 0);
	pump_until_count(&parking_notes.woken, 1);
	wire_drain(ferry_handoff_get_fd(handoff));
	expect_wake_up(0, 0, FERRY_PARKING_TIMEOUT, -ETIMEDOUT);
	ck_assert_uint_eq(parking_stats().expired, 1);
	close_parking();
	close_all_clients(1);
}

/* Its number may be 0, as that of the first descriptor of a program without standard input. */
TEST(a_second_descriptor_that_nobody_takes_is_closed)
{
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	int saved = fcntl(0, F_DUPFD_CLOEXEC, 3), wake_fd = eventfd(1, EFD_CLOEXEC);

	open_parking();
	ck_assert_int_eq(dup3(wake_fd, 0, O_CLOEXEC), 0);
	ck_assert_int_eq(ferry_parking_wait(parking, handoff, 0, NULL, NULL), 0);
	ck_assert_int_eq(ferry_parking_take_waiting(&handoff, parking, NULL), 0);
	ck_assert(!fd_is_open(0));
	ck_assert_int_eq(dup2(saved, 0), 0);
	close(saved);
	close(wake_fd);
	ferry_handoff_free(handoff);
	close_parking();
	close_all_clients(1);
}

TEST(the_second_descriptor_is_kept_and_wakes_nobody)
{
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	int wake_fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), taken = -1;

	open_parking();
	ck_assert_int_eq(ferry_parking_wait(parking, handoff, wake_fd, NULL, NULL), 0);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.woken, 0);
	ck_assert_int_eq(ferry_parking_take_waiting(&handoff, parking, &taken), 0);
	ck_assert_int_eq(taken, wake_fd);
	close(taken);
	ferry_handoff_free(handoff);
	close_parking();
	close_all_clients(1);
}

TEST(a_place_full_of_waiting_connections_refuses)
{
	open_parking();
	ck_assert_int_eq(ferry_parking_set_limit(parking, 2), 0);
	wait_new_client(PAIR_UNIX, 0);
	wait_new_client(PAIR_UNIX, 1);
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 2);
	ck_assert_int_eq(park_client(handoff, 2, 0), -ENOBUFS);
	ck_assert_int_eq(let_client_wait(handoff, 2, 0), -ENOBUFS);
	ferry_handoff_free(handoff);
	close_parking();
	close_all_clients(3);
}

/* More than one poll(2) looks at. */
TEST(many_that_wait_are_all_looked_at)
{
	enum { COUNT_OF_THEM = 600 };
	static int peers[COUNT_OF_THEM];
	static const struct ferry_parking_callbacks none = {0};

	raise_descriptor_limit();
	ck_assert_int_eq(ferry_parking_new(&parking, base, &none, NULL), 0);
	for (unsigned int i = 0; i < COUNT_OF_THEM; i++) {
		struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
		peers[i] = clients[0];
		ck_assert_int_eq(ferry_parking_wait(parking, handoff, -1, NULL, NULL), 0);
	}
	for (unsigned int i = 0; i < COUNT_OF_THEM; i++)
		close(peers[i]);
	while (parking_stats().ended_waiting < COUNT_OF_THEM)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(parking_stats().waiting, 0);
	close_parking();
}
