/* A pause of a protocol leaves the socket in the loop until it has something: a short pause costs no system call, and a
 * long one no busy loop. */

#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_struct.h>
#include <event2/event.h>

#include "closes.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("pausing", NULL, check_closes);

static int read_event(short what)
{
	return event_pending(&ferry_transport_get_bufferevent(near.transport)->ev_read, what, NULL);
}

static void open_made_link(int kind)
{
	open_plain_link_with(kind, &recorder_no_half_close);
	pump_turns(2);
	ck_assert_str_eq(near.events, "M");
}

LOOP_TEST(a_short_pause_leaves_the_socket_in_the_loop, LINK_KINDS)
{
	open_made_link(_i);

	ck_assert_int_eq(ferry_transport_pause_reading(near.transport), 0);
	pump_turns(2);
	ck_assert_int_eq(read_event(EV_READ), EV_READ);
	ck_assert_int_eq(ferry_transport_resume_reading(near.transport), 0);

	ck_assert_int_eq(write(far_out, "late", 4), 4);
	pump_until_length(&near, 4);
	close_plain_link();
}

LOOP_TEST(input_during_a_pause_takes_the_socket_out_of_the_loop, LINK_KINDS)
{
	open_made_link(_i);
	ck_assert_int_eq(ferry_transport_pause_reading(near.transport), 0);

	ck_assert_int_eq(write(far_out, "early", 5), 5);
	while (read_event(EV_READ) != 0)
		pump_turns(1);
	ck_assert_str_eq(near.events, "M");

	ck_assert_int_eq(ferry_transport_resume_reading(near.transport), 0);
	pump_until_length(&near, 5);
	ck_assert_str_eq(near.events, "MD");
	close_plain_link();
}

LOOP_TEST(the_end_of_the_peer_during_a_pause_takes_the_socket_out_of_the_loop, LINK_KINDS)
{
	open_made_link(_i);
	ck_assert_int_eq(ferry_transport_pause_reading(near.transport), 0);

	close_plain_far();
	while (read_event(EV_READ) != 0)
		pump_turns(1);

	QUIETLY(ferry_transport_resume_reading(near.transport));
	pump_until_lost(&near);
	close_plain_link();
}

LOOP_TEST(no_read_timeout_runs_during_a_pause, LINK_KINDS)
{
	const struct timeval hour = {.tv_sec = 3600};

	open_made_link(_i);
	ck_assert_int_eq(
	    bufferevent_set_timeouts(ferry_transport_get_bufferevent(near.transport), &hour, NULL), 0);
	ck_assert_int_eq(read_event(EV_TIMEOUT), EV_TIMEOUT);

	ck_assert_int_eq(ferry_transport_pause_reading(near.transport), 0);
	ck_assert_int_eq(read_event(EV_TIMEOUT), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(near.transport), 0);
	ck_assert_int_eq(read_event(EV_TIMEOUT), EV_TIMEOUT);
	close_plain_link();
}
