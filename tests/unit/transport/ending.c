/* A connection ends with the right reason. ferry sends pending bytes first if the program asks for it, and
 * refuses calls after the end. */

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "closes.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("reasons", NULL, check_closes);

LOOP_TEST(closing_flushes_and_is_lost_with_0, LINK_KINDS)
{
	open_plain_link(_i);
	write_text("flushed");
	QUIETLY(ferry_transport_lose_connection(near.transport));
	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);

	expect_far_text("flushed");
	ck_assert_int_eq(far_end(), 0);
	ck_assert_str_eq(near.events, "MX");
	close_plain_link();
}

LOOP_TEST(without_a_half_close_callback_the_peers_end_is_lost_with_0, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_no_half_close);
	pump_turns(2);
	write_text("flushed");
	ck_assert_int_eq(write(far_out, "last", 4), 4);
	end_far_output();

	check_lost(0);

	ck_assert_str_eq(near.events, "MDX");
	ck_assert_uint_eq(recorder_length(&near), 4);
	expect_far_text("flushed");
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

TEST(a_reset_is_lost_with_econnreset)
{
	open_plain_link(LINK_TCP);
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	setsockopt(far_in, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close_plain_far();

	check_lost(-ECONNRESET);

	ck_assert_str_eq(near.events, "MX");
	close_plain_link();
}

TEST(unread_bytes_at_the_peers_close_are_lost_with_econnreset)
{
	open_plain_link(LINK_UNIX);
	write_text("never read");
	pump_turns(3);
	close_plain_far();

	check_lost(-ECONNRESET);

	close_plain_link();
}

LOOP_TEST(a_timeout_is_lost_with_etimedout, 2 * LINK_KINDS)
{
	open_plain_link(_i % LINK_KINDS);
	struct timeval soon = {.tv_usec = 2000};
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	if (_i / LINK_KINDS == 0) {
		bufferevent_set_timeouts(bev, &soon, NULL);
	} else {
		static char block[1 << 20];
		for (int i = 0; i < 8; i++)
			ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
		pump_turns(3);
		bufferevent_set_timeouts(bev, NULL, &soon);
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	}

	check_lost(-ETIMEDOUT);

	close_plain_link();
}

LOOP_TEST(aborting_drops_the_queue_and_is_lost_with_econnaborted, LINK_KINDS)
{
	open_plain_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	pump_turns(3);
	ck_assert_uint_gt(stats_of(near.transport).bytes_queued, 0);

	QUIETLY(ferry_transport_abort_connection(near.transport));

	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), -ENOTCONN);
	check_lost(-ECONNABORTED);
	ck_assert_uint_eq(stats_of(near.transport).bytes_queued, 0);
	close_plain_link();
}

TEST(aborting_resets_a_tcp_connection)
{
	open_plain_link(LINK_TCP);
	write_text("dropped");
	QUIETLY(ferry_transport_abort_connection(near.transport));
	ck_assert_int_eq(far_end(), -ECONNRESET);
	check_lost(-ECONNABORTED);
	close_plain_link();
}

LOOP_TEST(a_close_that_waits_can_be_aborted, LINK_KINDS)
{
	open_plain_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	pump_turns(5);
	ck_assert_uint_eq(near.lost, 0);

	QUIETLY(ferry_transport_abort_connection(near.transport));

	check_lost(-ECONNABORTED);
	close_plain_link();
}

LOOP_TEST(a_peer_that_goes_while_the_close_waits_ends_the_connection, LINK_KINDS)
{
	open_plain_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	pump_turns(5);
	ck_assert_uint_eq(near.lost, 0);

	close_plain_far();

	pump_until_lost(&near);
	ck_assert(near.reason == -EPIPE || near.reason == -ECONNRESET);
	close_plain_link();
}

LOOP_TEST(the_peers_last_bytes_are_delivered_before_epipe, LINK_KINDS)
{
	open_plain_link(_i);
	ck_assert_int_eq(write(far_out, "last words", 10), 10);
	if (_i == LINK_PIPES) {
		close(far_in);
		far_in = -1;
	} else {
		close_plain_far();
	}
	write_text("too late");
	/* TCP accepts the first packet after the peer's close; a later write fails, after the reset has
	 * come back. */
	for (pump_turns(5); near.lost == 0; pump_turns(1))
		(void)ferry_transport_write(near.transport, "x", 1);

	check_lost(near.reason);
	ck_assert(near.reason == -EPIPE || (_i == LINK_TCP && near.reason == -ECONNRESET));
	ck_assert_uint_eq(recorder_length(&near), 10);
	close_plain_link();
}

TEST_CASE("half-close", NULL, check_closes);

LOOP_TEST(ending_ones_own_half_leaves_the_other_open, LINK_KINDS)
{
	open_plain_link(_i);
	write_text("request");
	QUIETLY(ferry_transport_lose_write_connection(near.transport));
	QUIETLY(ferry_transport_lose_write_connection(near.transport));
	expect_far_text("request");
	ck_assert_int_eq(far_end(), 0);
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_int_eq(ferry_transport_write(near.transport, "x", 1), -EPIPE);

	ck_assert_int_eq(write(far_out, "answer", 6), 6);
	pump_until_length(&near, 6);
	ck_assert_uint_eq(near.lost, 0);
	end_far_output();

	check_lost(0);
	ck_assert_str_eq(near.events, "MDRX");
	close_plain_link();
}

LOOP_TEST(the_peers_half_may_end_first, LINK_KINDS)
{
	open_plain_link(_i);
	ck_assert_int_eq(write(far_out, "request", 7), 7);
	end_far_output();
	pump_until_count(&near.read_lost, 1);
	pump_turns(5);
	ck_assert_str_eq(near.events, "MDR");

	write_text("answer");
	expect_far_text("answer");
	write_text("more");
	QUIETLY(ferry_transport_lose_write_connection(near.transport));

	expect_far_text("more");
	check_lost(0);
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

LOOP_TEST(after_the_peers_half_ended_closing_ends_it, LINK_KINDS)
{
	open_plain_link(_i);
	end_far_output();
	pump_until_count(&near.read_lost, 1);
	write_text("answer");
	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);

	expect_far_text("answer");
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

LOOP_TEST(after_ones_own_half_ended_closing_ends_it, LINK_KINDS)
{
	open_plain_link(_i);
	QUIETLY(ferry_transport_lose_write_connection(near.transport));
	pump_turns(3);
	ck_assert_uint_eq(near.lost, 0);

	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);
	close_plain_link();
}

static void end_own_half(struct recorder *recorder, char event)
{
	if (event == EVENT_READ_LOST)
		ck_assert_int_eq(ferry_transport_lose_write_connection(recorder->transport), 0);
}

LOOP_TEST(ones_own_half_may_be_ended_in_the_callback_for_the_peers, LINK_KINDS)
{
	open_plain_link(_i);
	near.hook = end_own_half;
	write_text("first");
	end_far_output();

	check_lost(0);

	ck_assert_str_eq(near.events, "MRX");
	expect_far_text("first");
	close_plain_link();
}

enum { LARGE = 10 << 20 };

TEST_CASE("flushing", NULL, check_closes);

/* _i: link, whole or half. */
LOOP_TEST(closing_flushes_ten_megabytes_to_a_slow_reader, 2 * LINK_KINDS)
{
	open_plain_link(_i % LINK_KINDS);
	bool half = _i / LINK_KINDS == 1;
	unsigned char *bytes = malloc(LARGE);
	for (size_t i = 0; i < LARGE; i++)
		bytes[i] = support_byte(i);
	ck_assert_int_eq(ferry_transport_write(near.transport, bytes, LARGE), 0);
	free(bytes);
	if (half)
		QUIETLY(ferry_transport_lose_write_connection(near.transport));
	else
		QUIETLY(ferry_transport_lose_connection(near.transport));

	uint64_t position = 0;
	ssize_t n = -EAGAIN;
	while (n != 0) {
		n = wire_expect(far_in, position, 1 + support_random_below(60000));
		ck_assert(n >= 0 || n == -EAGAIN);
		if (n > 0)
			position += (uint64_t)n;
		pump_turns(1);
	}

	ck_assert_uint_eq(position, LARGE);
	if (half) {
		ck_assert_uint_eq(near.lost, 0);
		end_far_output();
	}
	check_lost(0);
	close_plain_link();
}

LOOP_TEST(closing_stops_reading, LINK_KINDS)
{
	open_plain_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	ck_assert_int_eq(write(far_out, "ignored", 7), 7);

	pump_turns(10);

	ck_assert_uint_eq(near.data, 0);
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	check_lost(-ECONNABORTED);
	close_plain_link();
}

static void resume_nothing(void *context)
{
	(void)context;
}

static void check_over(struct ferry_transport *t)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = resume_nothing};
	struct evbuffer *buffer = evbuffer_new();
	struct ferry_transport_stats stats;
	int file = make_file(10);
	evbuffer_add(buffer, "kept", 4);

	ck_assert_int_eq(ferry_transport_write(t, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_transport_write_buffer(t, buffer), -EPIPE);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 4);
	ck_assert_int_eq(
	    ferry_transport_send_file(NULL, t, file, FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	    -EPIPE);
	ck_assert(fd_is_open(file));
	ck_assert_int_eq(ferry_transport_register_producer(t, &producer, NULL, FERRY_PRODUCER_PULL),
	                 -EPIPE);
	ck_assert_int_eq(ferry_transport_unregister_producer(t), -ENOENT);
	ck_assert_int_eq(ferry_transport_set_protocol(t, &recorder_protocol, &near), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_pause_reading(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_resume_reading(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_lose_connection(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_lose_write_connection(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_abort_connection(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_get_stats(t, &stats), 0);
	ck_assert_ptr_nonnull(ferry_transport_get_bufferevent(t));

	close(file);
	evbuffer_free(buffer);
}

static void check_over_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_LOST)
		check_over(recorder->transport);
}

TEST_CASE("after the end", NULL, check_closes);

LOOP_TEST(calls_after_the_end_fail, LINK_KINDS)
{
	open_plain_link(_i);
	near.hook = check_over_in_hook;
	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	check_over(near.transport);
	check_lost(-ECONNABORTED);
	check_over(near.transport);
	pump_turns(3);
	check_over(near.transport);
	close_plain_link();
}

TEST(a_socket_is_not_taken_after_the_end)
{
	open_plain_link(LINK_UNIX);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, fds[0]), -ENOTCONN);
	check_lost(-ECONNABORTED);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, fds[0]), -ENOTCONN);
	close(fds[0]);
	close(fds[1]);
	close_plain_link();
}

LOOP_TEST(while_closing_nothing_more_can_be_written, LINK_KINDS)
{
	open_plain_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));

	ck_assert_int_eq(ferry_transport_write(near.transport, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
	ck_assert_int_eq(ferry_transport_lose_write_connection(near.transport), 0);
	pump_turns(3);
	ck_assert_uint_eq(near.lost, 0);
	close_plain_link();
}

TEST(null_is_refused)
{
	struct ferry_transport_stats stats;
	struct evbuffer *buffer = evbuffer_new();
	ck_assert_ptr_null(ferry_transport_get_bufferevent(NULL));
	ck_assert_int_eq(ferry_transport_set_socket(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_protocol(NULL, &recorder_protocol, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_write(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_transport_write_buffer(NULL, buffer), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_rate_limit_group(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_lose_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_lose_write_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_abort_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_stats(NULL, &stats), -EINVAL);
	ferry_transport_free(NULL);

	open_plain_link(LINK_UNIX);
	ck_assert_int_eq(ferry_transport_set_protocol(near.transport, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_write(near.transport, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_transport_write(near.transport, NULL, 0), 0);
	ck_assert_int_eq(ferry_transport_write_buffer(near.transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_stats(near.transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, -1), -EINVAL);
	evbuffer_free(buffer);
	close_plain_link();
}
