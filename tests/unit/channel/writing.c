/* Writes of a channel: the queue and its limit, flush, and close. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "poll_log.h"
#include "test.h"
#include "wire.h"

TEST_CASE("writing");

LOOP_TEST_FROM(a_mebibyte_goes_through_the_smallest_buffers, PAIR_UNIX, PAIR_TCP + 1)
{
	unsigned char *bytes = make_bytes(MIB);
	uint64_t received = 0;

	open_channel((enum pair_kind)_i);
	wire_shrink(ferry_channel_get_fd(channel));
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), -ETIMEDOUT);
	while (received < MIB) {
		ssize_t count = wire_expect(peer, received, 4096);
		if (count > 0)
			received += (uint64_t)count;
		else
			ck_assert_int_eq(count, -EAGAIN);
		ck_assert_int_eq(poll_now(), 0);
	}
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	free(bytes);
	close_poller();
}

/* The peer receives no more, and can still send: the connection is not over yet. */
static void refuse_bytes(void)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(shutdown(peer, SHUT_RD), 0);
}

TEST(flush_fails_if_the_peer_receives_no_more)
{
	refuse_bytes();
	ck_assert_int_eq(ferry_channel_write(channel, "late", 4), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), -EPIPE);
	close_poller();
}

TEST(close_all_reports_output_that_the_peer_does_not_receive)
{
	refuse_bytes();
	ck_assert_int_eq(ferry_channel_write(channel, "late", 4), 0);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), -EPIPE);
	channel = NULL;
	close_poller();
}

TEST(flush_waits_for_the_reader)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	pid_t reader = fork();
	ck_assert_int_ge(reader, 0);
	if (reader == 0) {
		char block[65536];
		fcntl(peer, F_SETFL, 0);
		for (ssize_t left = MIB, count; left > 0; left -= count)
			if ((count = read(peer, block, sizeof(block))) <= 0)
				_exit(1);
		raise(SIGKILL); /* if it exits, valgrind reports the parent's memory as leaks */
	}
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	free(bytes);
	close_poller();
	int status;
	ck_assert_int_eq(waitpid(reader, &status, 0), reader);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Nothing fits into the socket. Then the peer reads. */
TEST(flush_waits_for_bytes_and_for_files)
{
	struct ferry_transport_stats stats;

	open_channel(PAIR_UNIX);
	wire_fill(ferry_channel_get_fd(channel));
	struct ferry_transport *transport = ferry_channel_get_transport(channel);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, make_file(1), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ferry_transport_get_stats(transport, &stats);
	ck_assert_uint_eq(stats.bytes_queued, 1);
	ck_assert_uint_eq(stats.files_queued, 1);
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), -ETIMEDOUT);
	wire_drain(peer);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	ck_assert_uint_eq(wire_drain(peer), 2);
	close_poller();
}

TEST(writes_leave_in_their_order)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_write(channel, "one ", 4), 0);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 0), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "two", 3), 0);
	expect_sent(peer, "one two");
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 1), -EINVAL);
	close_poller();
}

TEST(a_full_queue_refuses_a_write_and_an_event_comes_once_there_is_room)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 256 * 1024, 100000), 0);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EAGAIN);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EAGAIN);
	ck_assert_int_eq(poll_now(), 0);
	uint64_t received = 0;
	while (poll_log_length == 0) {
		ssize_t count = wire_expect(peer, received, 4096);
		received += count > 0 ? (uint64_t)count : 0;
		ck_assert_int_ge(poll_now(), 0);
	}
	expect_events("W");
	struct ferry_transport_stats stats;
	ferry_transport_get_stats(ferry_channel_get_transport(channel), &stats);
	ck_assert_uint_le(stats.bytes_queued, 50000);
	ck_assert_int_eq(poll_now(), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "y", 1), 0);
	while (received < MIB) {
		ssize_t count =
		    wire_expect(peer, received, MIB - received < 4096 ? (size_t)(MIB - received) : 4096);
		received += count > 0 ? (uint64_t)count : 0;
		ck_assert_int_eq(poll_now(), 0);
	}
	expect_sent(peer, "y");
	free(bytes);
	close_poller();
}

TEST(no_bytes_get_the_errors_of_bytes)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_printf(channel, "%s", ""), 0);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 256 * 1024, 100000), 0);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_printf(channel, "%s", ""), -EAGAIN);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 0), -EAGAIN);
	while (poll_log_length == 0) {
		wire_drain(peer);
		ck_assert_int_ge(poll_now(), 0);
	}
	expect_events("W");
	ck_assert_int_eq(ferry_channel_printf(channel, "%s", ""), 0);
	ck_assert_int_eq(ferry_channel_close_write(channel), 0);
	ck_assert_int_eq(ferry_channel_printf(channel, "%s", ""), -EPIPE);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 0), -EPIPE);
	free(bytes);
	close_poller();
}

TEST(a_program_that_only_writes_needs_no_polls)
{
	char block[4096] = {0};
	uint64_t sent = 0, received = 0;

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 256 * 1024, 10000), 0);
	while (received < 2 * MIB) {
		int status = ferry_channel_write(channel, block, sizeof(block));
		ck_assert(status == 0 || status == -EAGAIN);
		sent += status == 0 ? sizeof(block) : 0;
		if (status == -EAGAIN)
			received += wire_drain(peer);
	}
	ck_assert_uint_ge(sent, received);
	close_poller();
}

LOOP_TEST_FROM(queued_bytes_are_sent_before_a_close, PAIR_UNIX, PAIR_TCP + 1)
{
	unsigned char *bytes = make_bytes(MIB);
	uint64_t received = 0;
	ssize_t count;

	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_close(channel), 0);
	int status = ferry_channel_write(channel, "x", 1);
	/* -ENOTCONN if the kernel has taken everything at once. */
	ck_assert(status == -EPIPE || status == -ENOTCONN);
	while ((count = wire_expect(peer, received, 65536)) != 0) {
		received += count > 0 ? (uint64_t)count : 0;
		poll_now();
	}
	ck_assert_uint_eq(received, MIB);
	close_peer(); /* on TCP the close waits for it */
	if (poll_log_length == 0)
		poll_until_events("X0");
	else
		expect_events("X0");
	free(bytes);
	close_poller();
}

TEST(a_channel_sends_a_text)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_printf(channel, "%s %u", "half", 2U), 0);
	expect_sent(peer, "half 2");
	ck_assert_int_eq(ferry_channel_printf(NULL, "x"), -EINVAL);
	ck_assert_int_eq(ferry_channel_close_write(channel), 0);
	ck_assert_int_eq(ferry_channel_printf(channel, "x"), -EPIPE);
	close_poller();
}
