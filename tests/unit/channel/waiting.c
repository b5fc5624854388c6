/* The time that a poll waits, signals and interruptions during it, and a poll inside a callback. */

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "poll_log.h"
#include "test.h"

static int64_t milliseconds(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

TEST_CASE("time and signals");

TEST(a_poll_waits_no_shorter_than_its_timeout)
{
	open_channel(PAIR_UNIX);
	int64_t start = milliseconds();
	ck_assert_int_eq(poll_for(1, &soon), 0);
	ck_assert_int_ge(milliseconds() - start, 19);
	peer_put("x");
	ck_assert_int_eq(poll_for(1, NULL), 1);
	const struct timeval endless = {.tv_sec = sizeof(time_t) == 8 ? (time_t)INT64_MAX : INT32_MAX};
	peer_put("y");
	ck_assert_int_eq(poll_for(1, &endless), 1);
	expect_events("{x}{y}");
	close_poller();
}

static struct event *busy;
static unsigned int turns;

/* Another connection that is active in each turn of the loop. */
static void on_busy(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	turns++;
	event_add(busy, &at_once);
}

/* _i: whether the poll waits */
LOOP_TEST(a_poll_returns_as_soon_as_a_turn_has_brought_an_event, 2)
{
	open_channel(PAIR_UNIX);
	busy = event_new(ferry_poller_get_base(poller), -1, 0, on_busy, NULL);
	event_add(busy, &at_once);
	ck_assert_int_eq(poll_now(), 0);
	ck_assert_uint_le(turns, 8); /* nothing has arrived */
	turns = 0;
	peer_put("x");
	ck_assert_int_eq(poll_for(8, _i > 0 ? NULL : &at_once), 1);
	ck_assert_uint_eq(turns, 1);
	expect_events("{x}");
	event_free(busy);
	close_poller();
}

static volatile sig_atomic_t ticks;
static void (*volatile on_third_tick)(void);

static void tick(int number)
{
	(void)number;
	if (++ticks == 3)
		on_third_tick();
}

/* Calls `third` at the third SIGALRM. SA_RESTART is not set, and each signal interrupts a system call. */
static void start_ticking(void (*third)(void))
{
	const struct sigaction action = {.sa_handler = tick};
	const struct itimerval interval = {{0, 5000}, {0, 5000}};

	ticks = 0;
	on_third_tick = third;
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &interval, NULL), 0);
}

static void stop_ticking(void)
{
	const struct itimerval never = {0};
	ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
	ck_assert_int_ge(ticks, 3);
}

static void write_at_far_end(void)
{
	(void)!write(peer, "x", 1);
}

LOOP_TEST(a_signal_does_not_end_a_poll, 2)
{
	open_channel(PAIR_UNIX);
	start_ticking(write_at_far_end);
	ck_assert_int_eq(poll_for(1, _i == 0 ? NULL : &deadline), 1);
	stop_ticking();
	expect_events("{x}");
	close_poller();
}

static void interrupt(void)
{
	errno = E2BIG;
	if (ferry_poller_interrupt(poller) != 0 || errno != E2BIG)
		_exit(1);
}

TEST(an_interruption_does_and_loses_nothing)
{
	open_channel(PAIR_UNIX);
	start_ticking(interrupt);
	ck_assert_int_eq(poll_for(1, NULL), -EINTR);
	stop_ticking();
	ck_assert_int_eq(poll_now(), 0);

	peer_put("x");
	ck_assert_int_eq(ferry_poller_interrupt(poller), 0);
	ck_assert_int_eq(ferry_poller_interrupt(poller), 0);
	ck_assert_int_eq(poll_now(), -EINTR);
	ck_assert_int_eq(poll_now(), 1);
	expect_events("{x}");
	close_poller();
}

TEST(an_interruption_ends_flush_and_close_all)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	start_ticking(interrupt);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), -EINTR);
	stop_ticking();
	start_ticking(interrupt);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), -EINTR);
	stop_ticking();
	free(bytes);
	close_poller();
}

TEST_CASE("a poll inside a callback");

static int statuses[3];

static void call_inside(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	statuses[0] = ferry_poller_poll(poller, NULL, events, 1);
	statuses[1] = ferry_poller_close_all(poller, NULL);
	ferry_channel_write(channel, "out", 3);
	ferry_channel_free(channel);
	statuses[2] = 1;
}

TEST(a_callback_cannot_run_the_loop_again)
{
	open_lines();
	int other;
	add_channel(PAIR_UNIX, &other);
	int fd = ferry_channel_get_fd(channel);
	statuses[2] = 0;
	ck_assert_int_eq(
	    event_base_once(ferry_poller_get_base(poller), -1, EV_TIMEOUT, call_inside, NULL, &at_once),
	    0);
	ck_assert_int_eq(poll_for(1, &soon), 0);
	ck_assert_int_eq(statuses[2], 1);
	ck_assert_int_eq(statuses[0], -EBUSY);
	ck_assert_int_eq(statuses[1], -EBUSY);
	ck_assert(!fd_is_open(fd));
	expect_sent(peer, "out");
	close(other);
	close_poller();
}
