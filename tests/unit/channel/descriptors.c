/* Descriptors of a channel: their order among the bytes, who owns them, and descriptors that are lost. */

#include <errno.h>
#include <unistd.h>

#include "poll_log.h"
#include "test.h"
#include "wire.h"

TEST_CASE("descriptors");

TEST(a_descriptor_comes_before_its_line_and_after_the_one_before)
{
	open_lines();
	peer_put("plain\nbegin");
	ck_assert_int_eq(poll_now(), 1);
	peer_put_fd("ning\n", 1);
	peer_put_fd("second\nthird\n", 2);
	peer_put_fd("x", 3);
	ck_assert_int_eq(poll_now(), 6);
	expect_events("[plain]F1[beginning]F2[second][third]F3");
	close_poller();
}

TEST(a_descriptor_comes_before_its_bytes)
{
	open_channel(PAIR_UNIX);
	peer_put_fd("a", 1);
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	peer_put_fd("bc", 2);
	ck_assert_int_eq(poll_now(), 3);
	expect_events("F1{a}F2{bc}");
	close_poller();
}

TEST(a_stolen_descriptor_is_the_callers_and_the_others_are_closed)
{
	open_channel(PAIR_UNIX);
	peer_put_fd("a", 1);
	peer_put_fd("b", 2);
	ck_assert_int_eq(poll_now(), 4);
	int first = events[0].fd, second = events[2].fd;
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[0]), first);
	ck_assert_int_eq(events[0].fd, -1);
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[0]), -ENOENT);
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[1]), -ENOENT);
	ck_assert_int_eq(poll_now(), 0);
	ck_assert(fd_is_open(first) && !fd_is_open(second));
	events[2].fd = second;
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[2]), -ENOENT);
	ck_assert_uint_eq(marked_number(first), 1);
	close(first);
	close_poller();
}

TEST(descriptors_that_nobody_polls_are_closed)
{
	open_channel(PAIR_UNIX);
	for (uint32_t i = 0; i < 100; i++)
		peer_put_fd("x", i);
	ck_assert_int_eq(poll_for(10, &at_once), 10);
	close_poller();
}

TEST(descriptors_keep_their_order_when_there_are_many)
{
	uint32_t next = 0;

	open_channel(PAIR_UNIX);
	for (uint32_t i = 0; i < 200; i++)
		peer_put_fd("x", i);
	while (next < 200) {
		int polled = ferry_poller_poll(poller, &at_once, events, 7);
		ck_assert_int_gt(polled, 0);
		for (int i = 0; i < polled; i++)
			if (events[i].kind == FERRY_CHANNEL_FD)
				ck_assert_uint_eq(marked_number(events[i].fd), next++);
	}
	close_poller();
}

TEST(lost_descriptors_are_an_event)
{
	open_channel(PAIR_UNIX);
	peer_put_fd("x", 1);
	limit_descriptors(0);
	ck_assert_int_eq(poll_now(), 2);
	unlimit_descriptors();
	expect_events("L{x}");
	close_poller();
}

TEST(descriptors_are_sent)
{
	struct wire_read result;
	char byte;

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_send_fd(channel, make_marked_fd(7), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), 0);
	wire_receive(peer, &byte, 1, &result);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 7);
	wire_close_fds(&result);
	ck_assert_int_eq(ferry_channel_send_fd(channel, -1, FERRY_FD_DUP), -EBADF);
	close_poller();
}
