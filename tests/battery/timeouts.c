/* Timeouts: the events that start, restart and end them. A later timer (pump_past()) proves that a
 * timeout did not run; the deadline of a timeout proves that it was restarted. No verdict depends
 * on the time that a step took. */

#include "carrier.h"

CASE(a_read_timeout_comes_once_and_disables_reading, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_set_timeouts(a.bev, &soon, NULL);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_WRITE);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "[reading timeout]");

	free_end(&a);
	far_close(&far);
}

CASE(reading_goes_on_after_a_timeout_when_it_is_enabled_again, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, &soon, NULL);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);

	far_send(&far, 10);
	pump_turns(3);
	ck_assert_uint_eq(at_a.reads, 0);
	bufferevent_set_timeouts(a.bev, &never, NULL);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_received(&at_a, 10);
	/* And the timeout runs again. */
	forget(&at_a);
	bufferevent_set_timeouts(a.bev, &soon, NULL);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading timeout]");

	free_end(&a);
	far_close(&far);
}

static void enable_reading_again(struct bufferevent *bev, short what, void *argument)
{
	record_event(bev, what, argument);
	bufferevent_enable(bev, EV_READ);
}

CASE(a_read_timeout_comes_again_when_its_callback_enables_reading, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, record_read, record_write, enable_reading_again, &at_a);
	bufferevent_set_timeouts(a.bev, &soon, NULL);
	bufferevent_enable(a.bev, EV_READ);

	pump_until_count(&at_a.events, 3);
	far_send(&far, 10);
	pump_until_received(&at_a, 10);

	free_end(&a);
	far_close(&far);
}

CASE(no_read_timeout_comes_while_reading_is_disabled, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_set_timeouts(a.bev, &soon, NULL);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "");
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_disable(a.bev, EV_READ);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "");

	free_end(&a);
	far_close(&far);
}

CASE(a_read_timeout_set_while_reading_applies_at_once, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	pump_turns(3);

	bufferevent_set_timeouts(a.bev, &soon, NULL);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading timeout]");

	free_end(&a);
	far_close(&far);
}

CASE(a_longer_read_timeout_replaces_a_shorter_one, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_set_timeouts(a.bev, &soon, NULL);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_set_timeouts(a.bev, &never, NULL);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "");

	free_end(&a);
	far_close(&far);
}

static bool is_later(struct timeval a, struct timeval b)
{
	return evutil_timercmp(&a, &b, >);
}

CASE(arriving_bytes_renew_the_read_timeout, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	struct timeval first, second;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, &never, NULL);
	bufferevent_enable(a.bev, EV_READ);
	pump_past(1);
	ck_assert(deadline(a.bev, EV_READ, &first));

	pump_past(1);
	far_send(&far, 1);
	pump_until_received(&at_a, 1);
	ck_assert(deadline(a.bev, EV_READ, &second));
	ck_assert(is_later(second, first));

	free_end(&a);
	far_close(&far);
}

CASE(a_write_timeout_comes_when_the_peer_takes_nothing_and_disables_writing, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	uint64_t written = fill(&a, 100000);
	size_t left = output_length(a.bev);

	bufferevent_set_timeouts(a.bev, NULL, &soon);
	pump_until_event(&at_a);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), 0);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "[writing timeout]");
	ck_assert_uint_eq(output_length(a.bev), left);

	/* Nothing is lost by it. */
	bufferevent_set_timeouts(a.bev, NULL, &never);
	bufferevent_enable(a.bev, EV_WRITE);
	far_receive_until(&far, written);

	free_end(&a);
	far_close(&far);
}

CASE(a_write_timeout_set_before_the_write_comes_too, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, NULL, &soon);

	write_pattern(a.bev, 0, 5000000);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[writing timeout]");

	free_end(&a);
	far_close(&far);
}

CASE(no_write_timeout_runs_while_there_is_nothing_to_write, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	struct timeval due;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, NULL, &soon);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "");

	/* None that comes soon from here on: it could come before the loop gets to write. */
	bufferevent_set_timeouts(a.bev, NULL, &never);
	write_pattern(a.bev, 0, 100);
	pump_until_count(&at_a.writes, 1);
	ck_assert(!deadline(a.bev, EV_WRITE, &due));
	bufferevent_enable(a.bev, EV_WRITE);
	pump_until_count(&at_a.writes, 2);
	ck_assert(!deadline(a.bev, EV_WRITE, &due));
	bufferevent_set_timeouts(a.bev, NULL, &soon);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "ww");

	free_end(&a);
	far_close(&far);
}

CASE(no_write_timeout_comes_while_writing_is_disabled, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, NULL, &soon);

	bufferevent_disable(a.bev, EV_WRITE);
	write_pattern(a.bev, 0, 100);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "");
	bufferevent_set_timeouts(a.bev, NULL, &never);
	bufferevent_enable(a.bev, EV_WRITE);
	far_receive_until(&far, 100);

	free_end(&a);
	far_close(&far);
}

CASE(leaving_bytes_renew_the_write_timeout, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	struct timeval first, second;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, NULL, &never);
	fill(&a, 2000000);
	ck_assert(deadline(a.bev, EV_WRITE, &first));

	pump_past(1);
	size_t left = output_length(a.bev);
	while (output_length(a.bev) == left) {
		far_receive_now(&far);
		pump_turns(1);
	}
	ck_assert_uint_gt(output_length(a.bev), 0);
	ck_assert(deadline(a.bev, EV_WRITE, &second));
	ck_assert(is_later(second, first));

	free_end(&a);
	far_close(&far);
}

CASE(bytes_written_to_a_full_socket_do_not_renew_the_write_timeout, ON_ALL)
{
	struct end a;
	struct far far;
	struct timeval first, second;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	bufferevent_set_timeouts(a.bev, NULL, &never);
	uint64_t written = fill(&a, 100000);
	ck_assert(deadline(a.bev, EV_WRITE, &first));

	pump_past(2);
	write_pattern(a.bev, written, 100);
	pump_turns(3);
	ck_assert(deadline(a.bev, EV_WRITE, &second));
	/* libevent returns deadlines in wall-clock time, and may have corrected its clock by a little
	 * between the two calls. */
	struct timeval difference;
	evutil_timersub(&second, &first, &difference);
	ck_assert_int_le(difference.tv_sec * 1000000 + difference.tv_usec, 1000);

	free_end(&a);
	far_close(&far);
}

CASE(each_direction_has_a_timeout_of_its_own, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	fill(&a, 100000);

	bufferevent_set_timeouts(a.bev, &never, &soon);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[writing timeout]");
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_READ);
	bufferevent_set_timeouts(a.bev, &soon, &soon);
	pump_until_count(&at_a.events, 2);
	ck_assert_str_eq(at_a.log, "[writing timeout][reading timeout]");
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), 0);

	free_end(&a);
	far_close(&far);
}

CASE(clearing_timeouts_that_run_stops_them, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	fill(&a, 100000);

	bufferevent_set_timeouts(a.bev, &soon, &soon);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_set_timeouts(a.bev, NULL, NULL);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "");
	far_send(&far, 1);
	pump_until_received(&at_a, 1);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "r");

	free_end(&a);
	far_close(&far);
}

/* An event of libevent's remembers the timeout that it was last added with. Stock clears it only if
 * the event is pending, and the next activity brings it back. */
CASE(stock_fault_a_read_timeout_cleared_while_reading_is_disabled_stays_away, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, &soon, NULL);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_disable(a.bev, EV_READ);

	bufferevent_set_timeouts(a.bev, NULL, NULL);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 1);
	pump_until_received(&at_a, 1);
	if (carrier_is_ferry()) {
		pump_past(PAST_SOON_MS);
		ck_assert_str_eq(at_a.log, "r");
		ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_READ | EV_WRITE);
		far_send(&far, 1);
		pump_until_received(&at_a, 2);
		pump_past(PAST_SOON_MS);
		ck_assert_str_eq(at_a.log, "rr");
	} else {
		pump_until_event(&at_a);
		ck_assert_str_eq(at_a.log, "r[reading timeout]");
	}

	free_end(&a);
	far_close(&far);
}

CASE(stock_fault_a_write_timeout_cleared_while_writing_is_disabled_stays_away, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	uint64_t written = fill(&a, 2000000);
	size_t left = output_length(a.bev);
	bufferevent_set_timeouts(a.bev, NULL, &soon);
	bufferevent_disable(a.bev, EV_WRITE);

	bufferevent_set_timeouts(a.bev, NULL, NULL);
	bufferevent_enable(a.bev, EV_WRITE);
	while (output_length(a.bev) == left) {
		far_receive_now(&far);
		pump_turns(1);
	}
	if (carrier_is_ferry()) {
		pump_past(PAST_SOON_MS);
		ck_assert_str_eq(at_a.log, "");
		ck_assert_uint_gt(output_length(a.bev), 0);
		far_receive_until(&far, written);
	} else {
		pump_until_event(&at_a);
		ck_assert_str_eq(at_a.log, "[writing timeout]");
	}

	free_end(&a);
	far_close(&far);
}

/* The same fault with a longer timeout in place of none: the event is added with the new one. */
CASE(a_read_timeout_changed_while_reading_is_disabled_is_the_new_one, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_set_timeouts(a.bev, &soon, NULL);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_disable(a.bev, EV_READ);

	bufferevent_set_timeouts(a.bev, &never, NULL);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 1);
	pump_until_received(&at_a, 1);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "r");

	free_end(&a);
	far_close(&far);
}

CASE(no_read_timeout_comes_while_the_high_mark_suspends_reading, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, NULL, record_write, record_event, &at_a);
	bufferevent_setwatermark(a.bev, EV_READ, 0, 100);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 100);
	pump_until_input(a.bev, 100);

	bufferevent_set_timeouts(a.bev, &soon, NULL);
	pump_past(PAST_SOON_MS);
	ck_assert_str_eq(at_a.log, "");
	evbuffer_drain(bufferevent_get_input(a.bev), 50);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading timeout]");

	free_end(&a);
	far_close(&far);
}

CASE(no_timeout_comes_while_a_rate_limit_suspends_both_directions, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	/* 100 bytes each way, and then no more in this test's life. */
	const struct timeval tick = {.tv_sec = 2000000};
	struct ev_token_bucket_cfg *cfg = ev_token_bucket_cfg_new(100, 100, 100, 100, &tick);
	ck_assert_ptr_nonnull(cfg);
	ck_assert_int_eq(bufferevent_set_rate_limit(a.bev, cfg), 0);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 200);
	write_pattern(a.bev, 0, 200);
	far_receive_until(&far, 100);
	pump_until_received(&at_a, 100);

	bufferevent_set_timeouts(a.bev, &soon, &soon);
	pump_past(PAST_SOON_MS);
	ck_assert_uint_eq(at_a.events, 0);
	bufferevent_set_timeouts(a.bev, NULL, NULL);
	bufferevent_set_rate_limit(a.bev, NULL);
	far_receive_until(&far, 200);
	pump_until_received(&at_a, 200);

	free_end(&a);
	far_close(&far);
	pump_turns(3);
	ev_token_bucket_cfg_free(cfg);
}

static void clear_timeouts(struct bufferevent *bev, void *argument)
{
	record_read(bev, argument);
	bufferevent_set_timeouts(bev, NULL, NULL);
}

CASE(timeouts_can_be_cleared_in_the_read_callback, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	struct timeval due;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, clear_timeouts, record_write, record_event, &at_a);
	bufferevent_set_timeouts(a.bev, &never, NULL);
	bufferevent_enable(a.bev, EV_READ);
	ck_assert(deadline(a.bev, EV_READ, &due));

	far_send(&far, 1);
	pump_until_count(&at_a.reads, 1);
	ck_assert(!deadline(a.bev, EV_READ, &due));
	far_send(&far, 1);
	pump_until_count(&at_a.reads, 2);
	ck_assert(!deadline(a.bev, EV_READ, &due));

	free_end(&a);
	far_close(&far);
}
