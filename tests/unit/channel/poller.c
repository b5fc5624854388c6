/* A poller and its channels: the turns of many channels, the read limit, registration, and the time for which
 * an event is valid. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "poll_log.h"
#include "test.h"
#include "wire.h"

TEST_CASE("many");

TEST(a_hundred_channels_are_served_without_a_callback)
{
	enum { CHANNELS = 100, ROUNDS = 20 };
	int fars[CHANNELS];
	unsigned int served = 0, ended = 0;

	open_poller();
	for (int i = 0; i < CHANNELS; i++) {
		struct ferry_channel *made = add_channel(PAIR_UNIX, &fars[i]);
		ck_assert_int_eq(ferry_channel_set_lines(made, "\n", 1, 100), 0);
		ck_assert_int_eq(ferry_channel_set_context(made, &fars[i]), 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < CHANNELS; i++)
			ck_assert_int_eq(dprintf(fars[i], "%d %d\n", round, i), round < 10 ? i < 10 ? 4 : 5
			                                                        : i < 10   ? 5
			                                                                   : 6);
		/* One poll returns those that epoll has reported at once. */
		for (int count, all = 0; all < CHANNELS; all += count) {
			count = ferry_poller_poll(poller, &at_once, events, EVENTS_MAX);
			ck_assert_int_gt(count, 0);
			for (int i = 0; i < count; i++, served++) {
				const int *its_far = ferry_channel_get_context(events[i].channel);
				char expected[32];
				int length =
				    snprintf(expected, sizeof(expected), "%d %d", round, (int)(its_far - fars));
				ck_assert_uint_eq(events[i].length, (size_t)length);
				ck_assert_mem_eq(events[i].data, expected, (size_t)length);
				ck_assert_int_eq(
				    ferry_channel_write(events[i].channel, events[i].data, events[i].length), 0);
				expect_sent(*its_far, expected);
			}
		}
	}
	ck_assert_uint_eq(served, CHANNELS * ROUNDS);
	for (int i = 0; i < CHANNELS; i++)
		close(fars[i]);
	int count;
	while ((count = ferry_poller_poll(poller, NULL, events, EVENTS_MAX)) > 0)
		for (int i = 0; i < count; i++, ended++) {
			ck_assert_int_eq(events[i].kind, FERRY_CHANNEL_CLOSED);
			ferry_channel_free(events[i].channel);
		}
	ck_assert_int_eq(count, -ENOENT);
	ck_assert_uint_eq(ended, CHANNELS);
	close_poller();
}

TEST(with_little_room_each_channel_has_its_turn_and_nothing_is_lost)
{
	enum { CHANNELS = 3, LINES = 10 };
	struct ferry_channel *channels[CHANNELS];
	unsigned int told[CHANNELS] = {0};

	open_poller();
	int fars[CHANNELS];
	for (int i = 0; i < CHANNELS; i++) {
		channels[i] = add_channel(PAIR_UNIX, &fars[i]);
		ck_assert_int_eq(ferry_channel_set_lines(channels[i], "\n", 1, 100), 0);
		for (int j = 0; j < LINES; j++)
			ck_assert_int_eq(dprintf(fars[i], "%d\n", j), 2);
	}
	for (int round = 0; round < LINES; round++) {
		ck_assert_int_eq(ferry_poller_poll(poller, &at_once, events, CHANNELS), CHANNELS);
		for (int i = 0; i < CHANNELS; i++)
			for (int j = 0; j < CHANNELS; j++)
				if (events[i].channel == channels[j]) {
					ck_assert_int_eq(events[i].data[0], '0' + (int)told[j]);
					told[j]++;
				}
		for (int j = 0; j < CHANNELS; j++)
			ck_assert_int_eq((int)told[j], round + 1);
	}
	ck_assert_int_eq(poll_now(), 0);
	for (int i = 0; i < CHANNELS; i++)
		close(fars[i]);
	close_poller();
}

TEST(a_peer_that_never_pauses_delays_no_other_channel)
{
	int quiet_far;

	open_lines();
	struct ferry_channel *quiet = add_channel(PAIR_UNIX, &quiet_far);
	wire_fill(peer);
	ck_assert_int_gt(poll_for(1, &at_once), 0);
	wire_fill(peer);
	ck_assert_int_eq(write(quiet_far, "x", 1), 1);
	int polls = 0;
	do {
		ck_assert_int_eq(ferry_poller_poll(poller, &at_once, events, 1), 1);
		wire_fill(peer);
		polls++;
	} while (events[0].channel != quiet);
	ck_assert_int_le(polls, 2);
	close(quiet_far);
	close_poller();
}

LOOP_TEST_FROM(no_more_is_read_ahead_than_allowed, PAIR_UNIX, PAIR_TCP + 1)
{
	enum { LIMIT = 4096, ONE_READ = 256 * 1024 };
	struct ferry_transport_stats stats;
	uint64_t sent = 0, told = 0;

	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_set_limits(channel, LIMIT, MIB), 0);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 100), 0);
	static char lines[65536];
	for (size_t i = 0; i < sizeof(lines); i++)
		lines[i] = i % 2 == 0 ? 'x' : '\n';
	for (int i = 0; i < 1000; i++) {
		ssize_t count = write(peer, lines, sizeof(lines));
		sent += count > 0 ? (uint64_t)count : 0;
		ck_assert_int_eq(ferry_poller_poll(poller, &deadline, events, 1), 1);
		told += 2;
		ferry_transport_get_stats(ferry_channel_get_transport(channel), &stats);
		ck_assert_uint_le(stats.bytes_received, told + LIMIT + ONE_READ);
	}
	ck_assert_uint_gt(sent, stats.bytes_received); /* the kernel stops the peer */
	close_poller();
}

TEST_CASE("registering");

TEST(a_channel_that_is_not_registered_has_no_events_and_loses_nothing)
{
	open_lines();
	peer_put("one\ntwo\n");
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), -ENOENT);
	ck_assert_int_eq(poll_now(), -ENOENT);
	peer_put("three\n");
	ck_assert_int_eq(ferry_channel_write(channel, "still", 5), 0);
	expect_sent(peer, "still");
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), -EALREADY);
	poll_until_events("[one][two][three]");
	close_poller();
}

TEST(a_channel_that_is_not_registered_outlives_its_poller)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ferry_poller_free(poller);
	unsigned char *bytes = make_bytes(MIB);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	uint64_t received = 0;
	while (ferry_channel_flush(channel, &at_once) == -ETIMEDOUT) {
		ssize_t count = wire_expect(peer, received, 65536);
		received += count > 0 ? (uint64_t)count : 0;
	}
	int fd = ferry_channel_get_fd(channel);
	ferry_channel_free(channel);
	ck_assert(!fd_is_open(fd));
	free(bytes);
	close_peer();
}

TEST(a_poller_without_channels_has_nothing_to_wait_for)
{
	open_poller();
	ck_assert_int_eq(poll_for(1, NULL), -ENOENT);
	ck_assert_int_eq(poll_for(1, &at_once), -ENOENT);
	close_poller();
}

TEST(a_freed_channel_is_closed_at_once_and_its_events_can_be_looked_at)
{
	open_lines();
	int fd = ferry_channel_get_fd(channel);
	ck_assert_int_eq(ferry_channel_set_context(channel, &peer), 0);
	peer_put("one\ntwo\nthree\n");
	ck_assert_int_eq(poll_for(2, &at_once), 2);
	ferry_channel_free(events[0].channel);
	ck_assert(!fd_is_open(fd));
	ck_assert_mem_eq(events[0].data, "one", 3);
	ck_assert_mem_eq(events[1].data, "two", 3);
	ck_assert_ptr_eq(ferry_channel_get_context(events[1].channel), &peer);
	ferry_channel_free(events[1].channel);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_get_fd(channel), -ENOTCONN);
	ck_assert_int_eq(ferry_poller_register(poller, channel), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_set_lines(channel, NULL, 0, 0), 0);
	expect_peer_end();
	ck_assert_int_eq(poll_now(), -ENOENT);
	close_poller();
}

TEST(events_stay_valid_while_the_loop_runs_for_other_calls)
{
	open_lines();
	int other_far;
	struct ferry_channel *other = add_channel(PAIR_UNIX, &other_far);
	static char text[20000];
	memset(text, 'x', sizeof(text));
	ck_assert_int_eq(write(other_far, text, sizeof(text)), (ssize_t)sizeof(text));
	peer_put("one\ntwo");
	ck_assert_int_ge(poll_now(), 2);
	peer_put(" more\nthree\n");
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), 0);
	ferry_channel_free(other);
	for (int i = 0; i < event_count; i++) {
		if (events[i].channel == channel)
			ck_assert_mem_eq(events[i].data, "one", 3);
		else
			ck_assert_mem_eq(events[i].data, text, events[i].length);
	}
	poll_log_length = 0;
	ck_assert_int_eq(poll_now(), 2);
	expect_events("[two more][three]");
	close(other_far);
	close_poller();
}
