/* The timeouts, by a clock that only the test moves. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/ferry.h"

#include "relay_link.h"
#include "set_clock.h"
#include "test.h"
#include "wire.h"

enum { SECOND = 1000000 };

static void put(int side)
{
	ck_assert_int_eq(wire_send(peers[side], "x", 1, NULL, 0), 1);
	pump_turns(4);
}

static void pass_time(int64_t usec)
{
	clock_advance(usec);
	pump_turns(4);
}

static void expect_timeout(void)
{
	pump_turns(8);
	ck_assert_uint_eq(relay_notes.ended, 1);
	ck_assert_int_eq(relay_notes.reason, -ETIMEDOUT);
}

LOOP_TEST(a_relay_on_which_nothing_moves_ends, 4)
{
	open_relay(_i & 1 ? PAIR_TCP : PAIR_UNIX, _i & 2 ? PAIR_TCP : PAIR_UNIX, &noting);
	ck_assert_int_eq(ferry_relay_set_idle_timeout(relay, &(struct timeval){8, 0}), 0);
	pump_turns(2);
	for (int i = 0; i < 7; i++)
		pass_time(SECOND);
	ck_assert_uint_eq(relay_notes.ended, 0);
	pass_time(3 * SECOND);
	expect_timeout();
	close_relay();
}

/* _i: the sender */
LOOP_TEST(bytes_of_one_direction_keep_a_relay_alive, 2)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	ferry_relay_set_idle_timeout(relay, &(struct timeval){8, 0});
	pump_turns(2);
	for (int i = 0; i < 20; i++) {
		put(_i);
		pass_time(3 * SECOND);
		ck_assert_uint_eq(relay_notes.ended, 0);
	}
	for (int i = 0; i < 5; i++)
		pass_time(3 * SECOND);
	expect_timeout();
	close_relay();
}

static void fill(void)
{
	static char block[65536];

	for (int idle = 0; idle < 10; pump_turns(2))
		idle = wire_send(peers[0], block, sizeof(block), NULL, 0) > 0 ? 0 : idle + 1;
}

/* The reader takes little at a time, from the kernel's queue alone. */
LOOP_TEST(a_slow_reader_keeps_a_relay_alive, 2)
{
	/* TCP acknowledges what fills a part of its window. */
	static char block[1 << 20];
	size_t piece = _i ? sizeof(block) : 65536;

	open_relay(_i ? PAIR_TCP : PAIR_UNIX, _i ? PAIR_TCP : PAIR_UNIX, &noting);
	fill();
	ferry_relay_set_idle_timeout(relay, &(struct timeval){8, 0});
	pump_turns(2);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_gt(read(peers[1], block, piece), 0);
		pass_time(3 * SECOND);
		ck_assert_uint_eq(relay_notes.ended, 0);
	}
	for (int i = 0; i < 5; i++)
		pass_time(3 * SECOND);
	expect_timeout();
	close_relay();
}

TEST(the_idle_timeout_waits_for_the_server)
{
	open_half_relay(PAIR_UNIX, &noting);
	ferry_relay_set_idle_timeout(relay, &(struct timeval){8, 0});
	pass_time(100 * SECOND);
	ck_assert_uint_eq(relay_notes.ended, 0);
	ck_assert_int_eq(bring_server(PAIR_UNIX), 0);
	pump_turns(2);
	pass_time(7 * SECOND);
	ck_assert_uint_eq(relay_notes.ended, 0);
	pass_time(4 * SECOND);
	expect_timeout();
	close_relay();
}

TEST(a_timeout_can_be_removed)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	ferry_relay_set_idle_timeout(relay, &(struct timeval){8, 0});
	pass_time(SECOND);
	ck_assert_int_eq(ferry_relay_set_idle_timeout(relay, NULL), 0);
	pass_time(100 * SECOND);
	pass_time(100 * SECOND);
	ck_assert_uint_eq(relay_notes.ended, 0);
	close_relay();
}

/* _i: bit 0: the timeout is set late; bit 1: the kind */
LOOP_TEST(a_peer_that_does_not_take_the_rest_is_cut_at_the_deadline, 4)
{
	enum pair_kind kind = _i & 2 ? PAIR_TCP : PAIR_UNIX;

	open_relay(kind, kind, &noting);
	if ((_i & 1) == 0)
		ck_assert_int_eq(ferry_relay_set_close_timeout(relay, &(struct timeval){8, 0}), 0);
	fill();
	pass_time(100 * SECOND);
	const struct linger at_once = {.l_onoff = 1};
	setsockopt(peers[0], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close_peer(FERRY_RELAY_CLIENT);
	pump_turns(10);
	for (int i = 0; i < 5; i++)
		pass_time(SECOND / 2); /* until it is known */
	if (_i & 1)
		ferry_relay_set_close_timeout(relay, &(struct timeval){8, 0});
	for (int i = 0; i < 5; i++)
		pass_time(SECOND);
	ck_assert_uint_eq(relay_notes.ended, 0);
	for (int i = 0; i < 4; i++)
		pass_time(SECOND);
	expect_timeout();
	close_relay();
}
