/* The bytes of a channel over every kind of socket and over pipes, and the end of each direction. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "poll_log.h"
#include "test.h"

TEST_CASE("bytes");

LOOP_TEST_FROM(bytes_go_both_ways, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	peer_put("hello");
	poll_until_events("{hello}");
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	expect_sent(peer, "answer");
	close_poller();
}

/* Gives a descriptor the number 0, which a program without standard input may get for any. Returns 0; `saved` is what
 * the number was before. */
static int as_number_zero(int fd, int *saved)
{
	*saved = fcntl(0, F_DUPFD_CLOEXEC, 3);
	ck_assert_int_eq(dup3(fd, 0, O_CLOEXEC), 0);
	close(fd);
	return 0;
}

static void restore_number_zero(int saved)
{
	ck_assert(!fd_is_open(0));
	ck_assert_int_eq(dup2(saved, 0), 0);
	close(saved);
}

/* _i: 1: the faucet has the number 0; 2: the sink. */
LOOP_TEST(bytes_go_through_pipes, 3)
{
	int in[2], out[2], saved = -1;

	open_poller();
	make_pipe(in);
	make_pipe(out);
	if (_i > 0)
		*(_i == 1 ? &in[0] : &out[1]) = as_number_zero(_i == 1 ? in[0] : out[1], &saved);
	ck_assert_int_eq(ferry_channel_new_pipes(&channel, poller, in[0], out[1]), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_channel_get_fd(channel), in[0]);
	peer = in[1];
	peer_put("hello");
	poll_until_events("{hello}");
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	expect_sent(out[0], "answer");
	close_peer();
	poll_until_events("X0");
	ck_assert(!fd_is_open(in[0]) && !fd_is_open(out[1]));
	if (_i > 0)
		restore_number_zero(saved);
	close(out[0]);
	close_poller();
}

LOOP_TEST(one_pipe_alone_is_a_channel, 3)
{
	struct ferry_channel *sink;
	int in[2], out[2], saved = -1;
	char byte;

	open_poller();
	make_pipe(in);
	make_pipe(out);
	if (_i > 0)
		*(_i == 1 ? &in[0] : &out[1]) = as_number_zero(_i == 1 ? in[0] : out[1], &saved);
	ck_assert_int_eq(ferry_channel_new_pipes(&channel, poller, in[0], -1), 0);
	ck_assert_int_eq(ferry_channel_new_pipes(&sink, poller, -1, out[1]), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_register(poller, sink), 0);
	peer = in[1];
	peer_put("in");
	poll_until_events("{in}");
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_channel_write(sink, "out", 3), 0);
	expect_sent(out[0], "out");
	ck_assert_int_eq(poll_now(), 0);
	close_peer();
	poll_until_events("X0");
	ck_assert_int_eq(ferry_channel_close(sink), 0);
	poll_until_events("X0");
	ck_assert_int_eq(read(out[0], &byte, 1), 0);
	if (_i > 0)
		restore_number_zero(saved);
	close(out[0]);
	close_poller();
}

LOOP_TEST_FROM(the_end_comes_after_the_data_and_is_the_last_event, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	peer_put("last words");
	close_peer();
	poll_until_events("{last words}X0");
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_send_fd(channel, 0, FERRY_FD_DUP), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_close(channel), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_close_write(channel), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	ck_assert_int_eq(ferry_channel_get_fd(channel), -ENOTCONN);
	ck_assert_ptr_null(ferry_channel_get_transport(channel));
	ck_assert_int_eq(poll_now(), -ENOENT);
	close_poller();
}

TEST(a_reset_is_an_event_after_the_data)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_write(channel, "unread", 6), 0);
	peer_put("before");
	close_peer();
	char expected[32];
	snprintf(expected, sizeof(expected), "{before}X%d", -ECONNRESET);
	poll_until_events(expected);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), -ECONNRESET);
	close_poller();
}

TEST(a_write_to_a_peer_that_is_gone_ends_the_channel)
{
	open_channel(PAIR_UNIX);
	peer_put("before");
	close_peer();
	ck_assert_int_eq(ferry_channel_write(channel, "too late", 8), 0);
	int status = ferry_channel_write(channel, "x", 1);
	ck_assert(status == -EPIPE || status == -ENOTCONN);
	char expected[32];
	snprintf(expected, sizeof(expected), "{before}X%d", -EPIPE);
	poll_until_events(expected);
	close_poller();
}

LOOP_TEST_FROM(a_half_closed_peer_can_be_answered, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_set_half_close(channel, true), 0);
	peer_put("question");
	ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
	poll_until_events("{question}E");
	ck_assert_int_eq(poll_now(), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	ck_assert_int_eq(ferry_channel_close(channel), 0);
	poll_until_events("X0");
	expect_sent(peer, "answer");
	expect_peer_end();
	close_poller();
}

LOOP_TEST_FROM(its_own_half_can_be_closed_first, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_write(channel, "question", 8), 0);
	ck_assert_int_eq(ferry_channel_close_write(channel), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_channel_flush(channel, &deadline), 0);
	expect_sent(peer, "question");
	expect_peer_end();
	peer_put("answer");
	close_peer();
	poll_until_events("{answer}X0");
	close_poller();
}

LOOP_TEST_FROM(much_arrives_whole, PAIR_UNIX, PAIR_TCP + 1)
{
	uint64_t sent = 0, received = 0;

	open_channel((enum pair_kind)_i);
	while (received < 3 * MIB) {
		unsigned char block[8192];
		size_t length = sizeof(block);
		for (size_t i = 0; i < length; i++)
			block[i] = support_byte(sent + i);
		ssize_t count = sent < 3 * MIB ? write(peer, block, length) : 0;
		sent += count > 0 ? (uint64_t)count : 0;
		if (count == (ssize_t)length && sent % 65536 != 0)
			continue;
		int told = ferry_poller_poll(poller, &deadline, events, 1 + (int)(sent / 8192 % 3));
		ck_assert_int_gt(told, 0);
		for (int i = 0; i < told; i++) {
			ck_assert_int_eq(events[i].kind, FERRY_CHANNEL_BYTES);
			size_t same = 0;
			while (same < events[i].length &&
			       (unsigned char)events[i].data[same] == support_byte(received + same))
				same++;
			ck_assert_uint_eq(same, events[i].length);
			received += same;
		}
	}
	ck_assert_uint_eq(received, sent);
	close_poller();
}
