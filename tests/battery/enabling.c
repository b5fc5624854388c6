/* Enabling and disabling, in all orders, in callbacks too. */

#include "carrier.h"

CASE(writing_is_enabled_at_first_and_reading_is_not, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_WRITE);
	far_send(&far, 10);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "");
	ck_assert_uint_eq(input_length(a.bev), 0);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_received(&at_a, 10);

	free_end(&a);
	far_close(&far);
}

CASE(get_enabled_returns_the_enabled_events_in_every_order, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);

	static const struct {
		bool enable;
		short events, result;
	} steps[] = {
	    {true, EV_READ, EV_READ | EV_WRITE},
	    {false, EV_WRITE, EV_READ},
	    {false, EV_WRITE, EV_READ},
	    {true, EV_WRITE, EV_READ | EV_WRITE},
	    {true, EV_READ | EV_WRITE, EV_READ | EV_WRITE},
	    {false, EV_READ | EV_WRITE, 0},
	    {true, EV_WRITE, EV_WRITE},
	    {true, EV_READ, EV_READ | EV_WRITE},
	    {false, EV_READ, EV_WRITE},
	    {false, EV_WRITE, 0},
	    {true, EV_READ, EV_READ},
	};
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int result = steps[i].enable ? bufferevent_enable(a.bev, steps[i].events)
		                             : bufferevent_disable(a.bev, steps[i].events);
		ck_assert_int_eq(result, 0);
		ck_assert_int_eq(bufferevent_get_enabled(a.bev), steps[i].result);
	}

	free_end(&a);
	far_close(&far);
}

CASE(bytes_written_while_writing_is_disabled_leave_when_it_is_enabled, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_disable(a.bev, EV_WRITE);
	write_pattern(a.bev, 0, 100);
	pump_turns(5);
	ck_assert_uint_eq(far_receive_now(&far), 0);
	ck_assert_uint_eq(output_length(a.bev), 100);
	ck_assert_str_eq(at_a.log, "");
	bufferevent_enable(a.bev, EV_WRITE);
	write_pattern(a.bev, 100, 100);
	far_receive_until(&far, 200);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "w");

	free_end(&a);
	far_close(&far);
}

CASE(disabling_writing_in_the_turn_of_the_write_defers_it, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);

	write_pattern(a.bev, 0, 100);
	bufferevent_disable(a.bev, EV_WRITE);
	pump_turns(5);
	ck_assert_uint_eq(far_receive_now(&far), 0);
	bufferevent_enable(a.bev, EV_WRITE);
	far_receive_until(&far, 100);

	free_end(&a);
	far_close(&far);
}

CASE(disabling_writing_stops_it_in_the_middle, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	uint64_t written = fill(&a, 500000);

	bufferevent_disable(a.bev, EV_WRITE);
	size_t left = output_length(a.bev);
	far_receive_until(&far, written - left);
	pump_turns(5);
	ck_assert_uint_eq(far_receive_now(&far), 0);
	ck_assert_uint_eq(output_length(a.bev), left);
	bufferevent_enable(a.bev, EV_WRITE);
	far_receive_until(&far, written);

	free_end(&a);
	far_close(&far);
}

CASE(disabling_reading_stops_it_in_the_middle, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_enable(b.bev, EV_READ);
	write_pattern(a.bev, 0, 20000000);
	pump_until_count(&at_b.reads, 1);

	bufferevent_disable(b.bev, EV_READ);
	uint64_t received = at_b.received;
	pump_turns(10);
	ck_assert_uint_eq(at_b.received, received);
	ck_assert_uint_eq(input_length(b.bev), 0);
	bufferevent_enable(b.bev, EV_READ);
	pump_until_received(&at_b, 20000000);

	free_end(&a);
	free_end(&b);
}

static void disable_reading(struct bufferevent *bev, void *argument)
{
	record_read(bev, argument);
	bufferevent_disable(bev, EV_READ);
}

CASE(reading_can_be_disabled_in_the_read_callback, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, disable_reading, record_write, record_event, &at_a);
	bufferevent_enable(a.bev, EV_READ);

	for (unsigned int i = 1; i <= 10; i++) {
		far_send(&far, 10);
		pump_until_count(&at_a.reads, i);
		far_send(&far, 10);
		pump_turns(3);
		ck_assert_uint_eq(at_a.reads, i);
		/* The rest comes with the next. */
		bufferevent_enable(a.bev, EV_READ);
	}
	pump_turns(3);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_received(&at_a, 200);

	free_end(&a);
	far_close(&far);
}

static void toggle_reading(struct bufferevent *bev, void *argument)
{
	record_read(bev, argument);
	bufferevent_disable(bev, EV_READ);
	bufferevent_enable(bev, EV_READ);
	bufferevent_enable(bev, EV_READ);
}

CASE(reading_can_be_disabled_and_enabled_again_in_the_read_callback, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_setcb(b.bev, toggle_reading, record_write, record_event, &at_b);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 1000000);
	pump_until_received(&at_b, 1000000);
	ck_assert_int_eq(bufferevent_get_enabled(b.bev), EV_READ | EV_WRITE);

	free_end(&a);
	free_end(&b);
}

static void disable_writing(struct bufferevent *bev, void *argument)
{
	record_write(bev, argument);
	bufferevent_disable(bev, EV_WRITE);
	write_pattern(bev, 100, 100);
}

CASE(writing_can_be_disabled_in_the_write_callback, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, NULL, disable_writing, record_event, &at_a);

	write_pattern(a.bev, 0, 100);
	pump_until_count(&at_a.writes, 1);
	pump_turns(5);
	ck_assert_uint_eq(far_receive_now(&far), 100);
	ck_assert_uint_eq(output_length(a.bev), 100);
	bufferevent_setcb(a.bev, NULL, record_write, record_event, &at_a);
	bufferevent_enable(a.bev, EV_WRITE);
	far_receive_until(&far, 200);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "ww");

	free_end(&a);
	far_close(&far);
}

static void answer_once(struct bufferevent *bev, void *argument)
{
	record_read(bev, argument);
	bufferevent_disable(bev, EV_READ);
	bufferevent_enable(bev, EV_WRITE);
	write_pattern(bev, 0, 100);
}

static void read_again(struct bufferevent *bev, void *argument)
{
	record_write(bev, argument);
	bufferevent_disable(bev, EV_WRITE);
	bufferevent_enable(bev, EV_READ);
}

CASE(each_callback_can_hand_over_to_the_other_direction, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_disable(a.bev, EV_WRITE);
	bufferevent_setcb(a.bev, answer_once, read_again, record_event, &at_a);
	bufferevent_enable(a.bev, EV_READ);

	for (unsigned int i = 1; i <= 5; i++) {
		far_send(&far, 10);
		far.received = 0;
		far_receive_until(&far, 100);
		pump_until_count(&at_a.writes, i);
		ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_READ);
	}
	ck_assert_str_eq(at_a.log, "rwrwrwrwrw");

	free_end(&a);
	far_close(&far);
}

CASE(enabling_twice_delivers_once, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_enable(a.bev, EV_READ);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 10);
	pump_until_received(&at_a, 10);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "r");
	ck_assert_uint_eq(at_a.received, 10);

	free_end(&a);
	far_close(&far);
}

CASE(both_directions_disabled_is_silence, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_disable(a.bev, EV_READ | EV_WRITE);

	far_send(&far, 10);
	write_pattern(a.bev, 0, 10);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "");
	far_close(&far);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "");

	free_end(&a);
}

CASE(random_enabling_and_disabling_loses_nothing, ON_ALL)
{
	struct end a, b;
	struct record at_a, at_b;
	make_ends(&a, &b, 0);
	record(&at_a, a.bev);
	record(&at_b, b.bev);

	struct bufferevent *ends[] = {a.bev, b.bev};
	uint64_t written[] = {0, 0};
	for (int i = 0; i < 3000; i++) {
		uint32_t which = support_random_below(2);
		size_t length = support_random_below(3000);
		short events = (short)(support_random_below(2) ? EV_READ : EV_WRITE);
		switch (support_random_below(4)) {
		case 0:
			write_pattern(ends[which], written[which], length);
			written[which] += length;
			break;
		case 1:
			bufferevent_enable(ends[which], events);
			break;
		case 2:
			bufferevent_disable(ends[which], events);
			break;
		default:
			pump_turns(1);
		}
	}
	bufferevent_enable(a.bev, EV_READ | EV_WRITE);
	bufferevent_enable(b.bev, EV_READ | EV_WRITE);
	pump_until_received(&at_b, written[0]);
	pump_until_received(&at_a, written[1]);
	ck_assert_uint_eq(at_a.events + at_b.events, 0);

	free_end(&a);
	free_end(&b);
}
