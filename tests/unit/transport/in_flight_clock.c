/* The limit of descriptors in flight: the time at which a transport tries again, and at which its write timeout comes.
 * The clock stands still but for these tests. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "links.h"
#include "recorder.h"
#include "set_clock.h"
#include "test.h"
#include "wire.h"

enum { LINKS = 3, MSEC = 1000 };

/* A transport with one descriptor in flight has its share. */
static void open_clock_links(void)
{
	open_limited_links(LINKS, 2);
}

static struct bufferevent *bev_of(const struct link *link)
{
	return ferry_transport_get_bufferevent(link->near.transport);
}

static void send_messages(struct link *link, unsigned int count)
{
	while (count-- > 0) {
		ck_assert_int_eq(
		    ferry_transport_send_fd(link->near.transport, make_marked_fd(count), FERRY_FD_TAKE), 0);
		ck_assert_int_eq(ferry_transport_write(link->near.transport, "n", 1), 0);
	}
	pump_turns(2);
}

static void receive_message(struct link *link)
{
	struct wire_read got;
	char byte;

	wire_receive(link->far, &byte, 1, &got);
	ck_assert_int_eq(got.bytes, 1);
	ck_assert_uint_eq(got.fd_count, 1);
	wire_close_fds(&got);
}

static uint64_t retries(const struct link *link)
{
	return stats_of(link->near.transport).send_retries;
}

static uint64_t queued(const struct link *link)
{
	return stats_of(link->near.transport).fds_queued;
}

static void pass_time(int64_t usec)
{
	clock_advance(usec);
	pump_turns(3);
}

/* Moves the clock by steps of 1 ms until the transport has tried again, and returns the number of steps. */
static int msec_until_try(const struct link *link)
{
	uint64_t before = retries(link);
	int msec = 0;

	while (retries(link) == before) {
		ck_assert_int_lt(msec++, 1000);
		pass_time(MSEC);
	}
	return msec;
}

static void set_write_timeout(struct link *link, int64_t usec)
{
	struct timeval timeout = {.tv_sec = usec / (1000 * MSEC), .tv_usec = usec % (1000 * MSEC)};

	ck_assert_int_eq(bufferevent_set_timeouts(bev_of(link), NULL, &timeout), 0);
}

TEST_CASE("tries");

TEST(the_pauses_become_longer_up_to_100_msec)
{
	static const int pauses[] = {1, 2, 4, 8, 16, 32, 64, 100, 100};

	open_clock_links();
	send_messages(&links[0], 2);
	ck_assert_uint_eq(retries(&links[0]), 1);
	pump_turns(50);
	ck_assert_uint_eq(retries(&links[0]), 1);
	for (int i = 0; i < COUNT(pauses); i++)
		ck_assert_int_eq(msec_until_try(&links[0]), pauses[i]);
	close_links();
}

TEST(the_pauses_begin_again_after_each_message)
{
	open_clock_links();
	send_messages(&links[0], 3);
	while (msec_until_try(&links[0]) < 16)
		continue;
	receive_message(&links[0]);
	ck_assert_int_eq(msec_until_try(&links[0]), 32);
	ck_assert_uint_eq(queued(&links[0]), 1);
	ck_assert_int_eq(msec_until_try(&links[0]), 1);
	close_links();
}

TEST(more_output_does_not_put_the_next_try_off)
{
	open_clock_links();
	send_messages(&links[0], 2);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(ferry_transport_write(links[0].near.transport, "n", 1), 0);
		pump_turns(2);
	}
	receive_message(&links[0]);
	pass_time(MSEC);
	ck_assert_uint_eq(queued(&links[0]), 0);
	close_links();
}

TEST(bytes_from_the_peer_cause_a_try_at_once)
{
	open_clock_links();
	send_messages(&links[0], 2);
	while (msec_until_try(&links[0]) < 100)
		continue;
	receive_message(&links[0]);
	pump_turns(3);
	ck_assert_uint_eq(queued(&links[0]), 1);
	ck_assert_int_eq(write(links[0].far, "read", 4), 4);
	pump_turns(3);
	ck_assert_uint_eq(queued(&links[0]), 0);
	close_links();
}

TEST_CASE("the write timeout");

/* A try later than the timeout itself. */
TEST(the_timeout_ends_a_wait_for_the_peer)
{
	open_clock_links();
	set_write_timeout(&links[0], 1000 * MSEC);
	send_messages(&links[0], 2);
	for (int msec = 0; msec < 999; msec++)
		pass_time(MSEC);
	ck_assert_uint_eq(links[0].near.lost, 0);
	for (int msec = 0; msec < 101; msec++)
		pass_time(MSEC);
	ck_assert_uint_eq(links[0].near.lost, 1);
	ck_assert_int_eq(links[0].near.reason, -ETIMEDOUT);
	close_links();
}

TEST(a_peer_that_reads_within_the_timeout_is_waited_for)
{
	enum { MESSAGES = 20 };

	open_clock_links();
	set_write_timeout(&links[0], 1000 * MSEC);
	send_messages(&links[0], MESSAGES);
	for (int i = 0; i < MESSAGES; i++) {
		for (int msec = 0; msec < 800; msec += 50)
			pass_time(50 * MSEC);
		receive_message(&links[0]);
		for (int msec = 0; msec < 100; msec += 50)
			pass_time(50 * MSEC);
	}
	ck_assert_uint_eq(links[0].near.lost, 0);
	ck_assert_uint_eq(queued(&links[0]), 0);
	close_links();
}

TEST(no_timeout_runs_while_others_have_the_whole_limit)
{
	open_clock_links();
	send_messages(&links[0], 1);
	send_messages(&links[1], 1);
	set_write_timeout(&links[2], 1000 * MSEC);
	send_messages(&links[2], 1);
	for (int i = 0; i < 50; i++)
		pass_time(100 * MSEC);
	ck_assert_uint_eq(links[2].near.lost, 0);
	receive_message(&links[1]);
	pass_time(100 * MSEC);
	receive_message(&links[2]);
	close_links();
}

static void disable_on_timeout(struct bufferevent *bev, short what, void *argument)
{
	unsigned int *timeouts = argument;

	ck_assert_int_eq(what, BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT);
	ck_assert_int_eq(bufferevent_get_enabled(bev) & EV_WRITE, 0);
	++*timeouts;
}

TEST(a_bufferevent_that_is_enabled_after_its_timeout_has_all_of_it_again)
{
	unsigned int timeouts = 0;
	struct link link;
	int ends[2];

	ferry_in_flight_set_limit(2);
	make_pair(PAIR_UNIX, ends);
	link = (struct link){.near.transport = make_transport(ends[0]), .far = ends[1]};
	bufferevent_setcb(bev_of(&link), NULL, NULL, disable_on_timeout, &timeouts);
	set_write_timeout(&link, 1000 * MSEC);
	send_messages(&link, 2);
	for (unsigned int round = 1; round <= 3; round++) {
		for (int i = 0; i < 12; i++)
			pass_time(100 * MSEC);
		ck_assert_uint_eq(timeouts, round);
		bufferevent_enable(bev_of(&link), EV_WRITE);
		pump_turns(3);
		pass_time(800 * MSEC);
		ck_assert_uint_eq(timeouts, round);
	}
	ferry_transport_free(link.near.transport);
	close(link.far);
}
