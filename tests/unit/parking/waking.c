/* A parked connection wakes for each reason once, and its owner has all of it again. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "handoff_info.h"
#include "parking_place.h"
#include "test.h"
#include "wire.h"

static void put(unsigned int number, const char *text)
{
	ck_assert_int_eq(wire_send(clients[number], text, strlen(text), NULL, 0),
	                 (ssize_t)strlen(text));
}

/* _i: enum pair_kind */
LOOP_TEST(input_wakes_and_stays_unread, 2)
{
	char bytes[8];

	open_parking_without_filter();
	struct ferry_handoff *handoff = make_client((enum pair_kind)_i, 0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "www"), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "state", 5), 0);
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.woken, 0);
	ck_assert_uint_eq(parking_stats().idle, 1);
	put(0, "ping");
	pump_until_count(&parking_notes.woken, 1);
	ck_assert_uint_eq(parking_stats().idle, 0);
	ck_assert_uint_eq(parking_stats().input, 1);
	handoff = parking_notes.of[0].handoff;
	const struct ferry_handoff_info info = handoff_info(handoff);
	ck_assert_str_eq(info.name, "www");
	ck_assert_uint_eq(info.id, 0);
	ck_assert_uint_eq(info.attempt, 0);
	ck_assert_ptr_null(info.worker);
	size_t length;
	ck_assert_mem_eq(ferry_handoff_get_blob(handoff, &length), "state", 5);
	ck_assert_uint_eq(length, 5);
	ck_assert_int_eq(read(ferry_handoff_get_fd(handoff), bytes, sizeof(bytes)), 4);
	ck_assert_int_eq(parking_notes.of[0].event.wake_fd, -1);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close_parking();
	close_all_clients(1);
}

TEST(unread_bytes_of_the_handoff_wake_from_the_loop)
{
	open_parking_without_filter();
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "GET", 3), 0);
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	ck_assert_uint_eq(parking_notes.woken, 0);
	pump_until_count(&parking_notes.woken, 1);
	size_t length;
	ck_assert_mem_eq(ferry_handoff_get_bytes(parking_notes.of[0].handoff, &length), "GET", 3);
	ck_assert_uint_eq(length, 3);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close_parking();
	close_all_clients(1);
}

/* _i: enum pair_kind */
LOOP_TEST(the_end_of_the_peer_wakes, 2)
{
	open_parking();
	ck_assert_int_eq(park_client(make_client((enum pair_kind)_i, 0), 0, 0), 0);
	shutdown(clients[0], SHUT_WR);
	expect_wake_up(0, 0, FERRY_PARKING_ENDED, 0);
	ck_assert_uint_eq(parking_stats().ended, 1);
	ck_assert_uint_eq(parking_notes.filtered, 0);
	close_parking();
	close_all_clients(1);
}

TEST(a_reset_wakes_with_its_error)
{
	open_parking();
	ck_assert_int_eq(park_client(make_client(PAIR_TCP, 0), 0, 0), 0);
	ck_assert_int_eq(setsockopt(clients[0], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
	                            sizeof(struct linger)),
	                 0);
	close(clients[0]);
	expect_wake_up(0, 0, FERRY_PARKING_ENDED, -ECONNRESET);
	close_parking();
}

TEST(input_before_the_end_wakes_as_input)
{
	open_parking_without_filter();
	park_new_client(0);
	put(0, "bye");
	shutdown(clients[0], SHUT_WR);
	pump_until_count(&parking_notes.woken, 1);
	ck_assert_uint_eq(wire_drain(ferry_handoff_get_fd(parking_notes.of[0].handoff)), 3);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close_parking();
	close_all_clients(1);
}

TEST(the_second_descriptor_wakes_and_is_the_owners_again)
{
	open_parking_without_filter();
	int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, wake_fd, NULL, &clients[0]), 0);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.woken, 0);
	ck_assert_int_eq(eventfd_write(wake_fd, 1), 0);
	pump_until_count(&parking_notes.woken, 1);
	ck_assert_int_eq(parking_notes.of[0].event.wake_fd, wake_fd);
	ck_assert_uint_eq(parking_stats().wake_fd, 1);
	expect_wake_up(0, 0, FERRY_PARKING_WAKE_FD, 0);
	ck_assert_int_eq(close(wake_fd), 0);
	close_parking();
	close_all_clients(1);
}

TEST(the_second_descriptor_comes_along_with_any_wake_up)
{
	open_parking_without_filter();
	int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, wake_fd, NULL, &clients[0]), 0);
	put(0, "x");
	pump_until_count(&parking_notes.woken, 1);
	ck_assert_int_eq(parking_notes.of[0].event.wake_fd, wake_fd);
	ck_assert_uint_eq(wire_drain(ferry_handoff_get_fd(parking_notes.of[0].handoff)), 1);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close(wake_fd);
	close_parking();
	close_all_clients(1);
}

TEST(a_woken_connection_is_parked_again)
{
	enum { ROUNDS = 20 };

	open_parking_without_filter();
	park_new_client(0);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		put(0, "x");
		pump_until_count(&parking_notes.woken, i + 1);
		struct ferry_handoff *handoff = parking_notes.of[i].handoff;
		ck_assert_uint_eq(wire_drain(ferry_handoff_get_fd(handoff)), 1);
		ck_assert_int_eq(park_client(handoff, 0, i % 2 != 0 ? 100000 : 0), 0);
	}
	ck_assert_uint_eq(parking_stats().parked, ROUNDS + 1);
	close_parking();
	close_all_clients(1);
}

TEST(a_woken_connection_becomes_a_bufferevent)
{
	struct bufferevent *bev = NULL;

	open_parking_without_filter();
	park_new_client(0);
	put(0, "x");
	pump_until_count(&parking_notes.woken, 1);
	struct ferry_handoff *handoff = parking_notes.of[0].handoff;
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	ck_assert_int_eq(bufferevent_write(bev, "answer", 6), 0);
	bufferevent_enable(bev, EV_READ);
	pump_turns(3);
	ck_assert_uint_eq(wire_drain(clients[0]), 6);
	bufferevent_free(bev);
	pump_turns(2);
	close_parking();
	close_all_clients(1);
}

TEST(a_place_without_callbacks_closes_what_wakes)
{
	static const struct ferry_parking_callbacks none = {0};

	ck_assert_int_eq(ferry_parking_new(&parking, base, &none, NULL), 0);
	int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, wake_fd, NULL, NULL), 0);
	put(0, "x");
	pump_turns(3);
	ck_assert(!fd_is_open(wake_fd));
	ck_assert_uint_eq(parking_stats().input, 1);
	close_parking();
	close_all_clients(1);
}

TEST(free_closes_connections_and_second_descriptors)
{
	open_parking();
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(ferry_parking_park(parking, make_client(PAIR_UNIX, i),
		                                    eventfd(0, EFD_CLOEXEC), &(struct timeval){9, 0}, NULL),
		                 0);
	ck_assert_int_eq(let_client_wait(make_client(PAIR_UNIX, 3), 3, 0), 0);
	close_parking();
	close_all_clients(4);
}

TEST(the_parked_set_can_be_taken)
{
	struct ferry_handoff *handoff = NULL;
	int wake_fd = -2;

	open_parking();
	for (unsigned int i = 0; i < 3; i++)
		park_new_client(i);
	handoff = make_client(PAIR_UNIX, 3);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "GET", 3), 0); /* its wake-up is pending */
	ck_assert_int_eq(
	    ferry_parking_park(parking, handoff, eventfd(0, EFD_CLOEXEC), NULL, &clients[3]), 0);
	for (unsigned int i = 0; i < 4; i++) {
		ck_assert_int_eq(ferry_parking_take_idle(&handoff, parking, i == 3 ? NULL : &wake_fd), 0);
		ck_assert_ptr_eq(handoff_info(handoff).context, &clients[i]);
		ck_assert_int_eq(wake_fd, -1);
		ferry_handoff_free(handoff);
	}
	ck_assert_int_eq(ferry_parking_take_idle(&handoff, parking, &wake_fd), -ENOENT);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.woken, 0);
	ck_assert_uint_eq(parking_stats().taken, 4);
	close_parking();
	close_all_clients(4);
}

TEST(bad_arguments_are_refused_and_change_nothing)
{
	static const struct ferry_parking_callbacks none = {0};
	const struct timeval zero = {0, 0}, negative = {-1, 0}, second = {1, 0};
	struct ferry_handoff *pipe_end = NULL, *out = NULL;
	struct ferry_parking *made = NULL;
	int ends[2];

	open_parking();
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	ck_assert_int_eq(ferry_parking_new(NULL, base, &none, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_new(&made, NULL, &none, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_new(&made, base, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_set_limit(parking, 0), -EINVAL);
	ck_assert_int_eq(ferry_parking_set_limit(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_parking_set_fd_reserve(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_parking_park(NULL, handoff, -1, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_park(parking, NULL, -1, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, -1, &zero, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_wait(parking, handoff, -1, &negative, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_take_idle(NULL, parking, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_take_idle(&out, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_take_waiting(NULL, parking, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_take_waiting(&out, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_parking_evict(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, 9999, &second, NULL), -EBADF);
	int file = make_file(1);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, file, &second, NULL), -EPERM);
	close(file);
	make_pipe(ends);
	ck_assert_int_eq(ferry_handoff_new(&pipe_end, ends[0]), 0);
	ck_assert_int_eq(ferry_parking_park(parking, pipe_end, -1, NULL, NULL), -ENOTSOCK);
	ferry_handoff_free(pipe_end);
	close(ends[1]);
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	ck_assert_int_eq(park_client(handoff, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "www"), -EINVAL);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -EBUSY);
	ck_assert_uint_eq(handoff_info(handoff).id, 0);
	ck_assert_ptr_null(handoff_info(handoff).worker);
	ferry_handoff_free(handoff); /* not the caller's */
	ck_assert_uint_eq(parking_stats().idle, 1);
	close_parking();
	close_all_clients(1);
	handoff = make_client(PAIR_UNIX, 0);
	open_parking();
	close(ferry_handoff_steal_fd(handoff));
	ck_assert_int_eq(park_client(handoff, 0, 0), -EBADF);
	ferry_handoff_free(handoff);
	ferry_parking_free(NULL);
	close_parking();
	close_all_clients(1);
}
