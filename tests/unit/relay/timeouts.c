/* The timeouts, by a clock that only the test moves. */

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
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

/* TCP may stand still for a moment, and then take more. */
static void fill(enum pair_kind kind)
{
	static char block[65536];
	struct pollfd look = {.fd = peers[FERRY_RELAY_CLIENT], .events = POLLOUT};

	for (int idle = 0; idle < 10; pump_turns(2)) {
		(void)poll(&look, 1, kind == PAIR_TCP ? 20 : 0);
		idle = wire_send(look.fd, block, sizeof(block), NULL, 0) > 0 ? 0 : idle + 1;
	}
}

static int send_queue(enum ferry_relay_side side)
{
	int length;

	ck_assert_int_eq(ioctl(relay_fds[side], SIOCOUTQ, &length), 0);
	return length;
}

/* The server takes bytes until the relay's queue in the kernel differs. TCP acknowledges what fills a part of its
 * window, and when it wants to. */
static void take_from_the_queue(void)
{
	static char block[65536];
	struct pollfd look = {.fd = peers[FERRY_RELAY_SERVER], .events = POLLIN};
	int before = send_queue(FERRY_RELAY_SERVER);

	while (send_queue(FERRY_RELAY_SERVER) == before)
		if (poll(&look, 1, 1) > 0)
			ck_assert_int_gt(read(look.fd, block, sizeof(block)), 0);
}

/* TCP may have stood still for a moment: what moves later has the relay live longer. */
static void expect_timeout_at_last(void)
{
	while (relay_notes.ended == 0)
		pass_time(3 * SECOND);
	expect_timeout();
}

/* The reader takes little at a time, from the kernel's queue alone. */
LOOP_TEST(a_slow_reader_keeps_a_relay_alive, 2)
{
	enum pair_kind kind = _i ? PAIR_TCP : PAIR_UNIX;

	open_relay(kind, kind, &noting);
	fill(kind);
	ferry_relay_set_idle_timeout(relay, &(struct timeval){8, 0});
	pump_turns(2);
	for (int i = 0; i < 5; i++) {
		take_from_the_queue();
		pass_time(3 * SECOND);
		ck_assert_uint_eq(relay_notes.ended, 0);
	}
	expect_timeout_at_last();
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
	fill(kind);
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
	expect_timeout_at_last();
	close_relay();
}
