/* A loop that runs late finds a timeout and its descriptor ready in one turn. libevent then reports the timeout alone; a
 * transport serves the descriptor. */

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_struct.h>

#include "plain_link.h"
#include "test.h"
#include "wire.h"

static const struct timeval soon = {.tv_usec = 1000};

/* Longer than the timeout: it is due when the loop runs next. */
static void be_late(void)
{
	usleep(5000);
}

static struct bufferevent *near_bev(void)
{
	return ferry_transport_get_bufferevent(near.transport);
}

static void wait_for_event(int fd, short what)
{
	ck_assert_int_eq(poll(&(struct pollfd){.fd = fd, .events = what}, 1, -1), 1);
}

/* The descriptor to which the near end writes. */
static int near_out(void)
{
	return event_get_fd(&near_bev()->ev_write);
}

/* The next timeout would be a true one. */
static void end_timeouts(struct recorder *recorder, char event)
{
	if (event == EVENT_DATA || event == EVENT_READ_LOST)
		bufferevent_set_timeouts(ferry_transport_get_bufferevent(recorder->transport), NULL, NULL);
}

/* _i: link, and whether the far end sends a byte or ends. */
LOOP_TEST(what_has_arrived_is_read_and_no_timeout_is_reported, 2 * LINK_KINDS)
{
	bool ends = _i / LINK_KINDS == 1;
	open_plain_link(_i % LINK_KINDS);
	pump_turns(2);
	if (ends)
		end_far_output();
	else
		ck_assert_int_eq(write(far_out, "x", 1), 1);
	wait_for_event(event_get_fd(&near_bev()->ev_read), POLLIN);
	near.hook = end_timeouts;
	bufferevent_set_timeouts(near_bev(), &soon, NULL);
	be_late();

	pump_turns(3);

	ck_assert_uint_eq(near.lost, 0);
	ck_assert_uint_eq(recorder_length(&near), !ends);
	ck_assert_uint_eq(near.read_lost, ends);
	close_plain_link();
}

static void drain_far(void)
{
	char bytes[65536];

	while (read(far_in, bytes, sizeof(bytes)) > 0)
		continue;
}

/* Late in every turn, until the queue of the kernel is empty and does not change any more. */
LOOP_TEST(a_writer_that_can_write_writes_and_no_timeout_is_reported, LINK_KINDS)
{
	open_plain_link(_i);
	wire_fill(near_out());
	write_text("x");
	pump_turns(3);
	bufferevent_set_timeouts(near_bev(), NULL, &soon);
	while (poll(&(struct pollfd){.fd = near_out(), .events = POLLOUT}, 1, 1) == 0)
		drain_far();

	for (int i = 0; i < 5; i++) {
		be_late();
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		drain_far();
	}

	ck_assert_uint_eq(near.lost, 0);
	ck_assert_uint_eq(stats_of(near.transport).bytes_queued, 0);
	close_plain_link();
}
