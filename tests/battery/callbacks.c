/* Deferred callbacks, triggers, priorities, evbuffer callbacks, and the accessors. */

#include <errno.h>
#include <unistd.h>

#include "carrier.h"

/* A bufferevent made with these options; pipes make their own, without any. */

CASE(deferred_callbacks_run_in_the_usual_order, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, BEV_OPT_DEFER_CALLBACKS);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 10);
	pump_until_received(&at_a, 10);
	write_pattern(a.bev, 0, 10);
	far_receive_until(&far, 10);
	pump_turns(3);
	far_close(&far);
	pump_until_event(&at_a);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "rw[reading eof]");

	free_end(&a);
}

CASE(bytes_and_the_end_of_one_turn_are_deferred_in_order, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, BEV_OPT_DEFER_CALLBACKS);
	record(&at_a, a.bev);

	far_send(&far, 10);
	far_close(&far);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "r[reading eof]");

	free_end(&a);
}

CASE(errno_of_a_deferred_error_is_that_of_the_error, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, BEV_OPT_DEFER_CALLBACKS);
	record(&at_a, a.bev);
	write_pattern(a.bev, 0, 10);
	pump_until_output(a.bev, 0);
	pump_turns(3);
	forget(&at_a);

	await_input(far.in);
	far_close(&far);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading error Connection reset by peer]");

	free_end(&a);
}

static void note_depth(struct bufferevent *bev, void *argument)
{
	struct record *at = argument;
	record_read(bev, at);
	/* A deferred callback never runs inside of a call. */
	unsigned int reads = at->reads;
	bufferevent_trigger(bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS);
	ck_assert_uint_eq(at->reads, reads);
	bufferevent_setcb(bev, record_read, record_write, record_event, at);
}

CASE(a_deferred_callback_does_not_run_inside_a_trigger, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, BEV_OPT_DEFER_CALLBACKS);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, note_depth, record_write, record_event, &at_a);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 10);
	pump_until_count(&at_a.reads, 2);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "rr");

	free_end(&a);
	far_close(&far);
}

CASE(triggers_of_one_turn_are_deferred_into_one_callback, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, BEV_OPT_DEFER_CALLBACKS);
	record(&at_a, a.bev);

	for (int i = 0; i < 10; i++) {
		bufferevent_trigger(a.bev, EV_WRITE, 0);
		bufferevent_trigger(a.bev, EV_READ, 0);
		bufferevent_trigger_event(a.bev, BEV_EVENT_TIMEOUT, 0);
		bufferevent_trigger_event(a.bev, BEV_EVENT_CONNECTED, 0);
	}
	ck_assert_str_eq(at_a.log, "");
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "[connected]rw[timeout]");

	free_end(&a);
	far_close(&far);
}

CASE(data_flows_both_ways_with_deferred_callbacks, ON_SOCKETS)
{
	struct end a, b;
	struct record at_a, at_b;
	make_ends(&a, &b, BEV_OPT_DEFER_CALLBACKS);
	record(&at_a, a.bev);
	record(&at_b, b.bev);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 5000000);
	write_pattern(b.bev, 0, 5000000);
	pump_until_received(&at_a, 5000000);
	pump_until_received(&at_b, 5000000);

	free_end(&a);
	free_end(&b);
}

CASE(a_trigger_runs_the_callback_inside_the_call, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_trigger(a.bev, EV_WRITE, 0);
	ck_assert_str_eq(at_a.log, "w");
	bufferevent_trigger(a.bev, EV_READ, 0);
	ck_assert_str_eq(at_a.log, "wr");
	bufferevent_trigger(a.bev, EV_READ | EV_WRITE, 0);
	ck_assert_str_eq(at_a.log, "wrrw");
	errno = ENOTTY;
	bufferevent_trigger_event(a.bev, BEV_EVENT_ERROR | BEV_EVENT_WRITING, 0);
	ck_assert_str_eq(at_a.log, "wrrw[writing error Inappropriate ioctl for device]");
	/* bufferevent_trigger_event() runs the event callback, and disables nothing. */
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_WRITE);
	pump_turns(3);
	ck_assert_uint_eq(at_a.events, 1);

	free_end(&a);
	far_close(&far);
}

CASE(a_trigger_respects_the_low_marks_without_the_ignore_option, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_disable(a.bev, EV_WRITE);
	write_pattern(a.bev, 0, 10);
	bufferevent_setwatermark(a.bev, EV_READ, 1, 0);

	bufferevent_trigger(a.bev, EV_READ | EV_WRITE, 0);
	ck_assert_str_eq(at_a.log, "");
	bufferevent_trigger(a.bev, EV_READ | EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS);
	ck_assert_str_eq(at_a.log, "rw");

	free_end(&a);
	far_close(&far);
}

CASE(a_trigger_can_be_deferred, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_trigger(a.bev, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
	bufferevent_trigger_event(a.bev, BEV_EVENT_EOF, BEV_TRIG_DEFER_CALLBACKS);
	ck_assert_str_eq(at_a.log, "");
	pump_turns(2);
	ck_assert_str_eq(at_a.log, "r[eof]");

	free_end(&a);
	far_close(&far);
}

CASE(a_flush_changes_nothing, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	write_pattern(a.bev, 0, 100);

	ck_assert_int_eq(bufferevent_flush(a.bev, EV_READ | EV_WRITE, BEV_FLUSH), 0);
	ck_assert_int_eq(bufferevent_flush(a.bev, EV_WRITE, BEV_FINISHED), 0);
	ck_assert_uint_eq(output_length(a.bev), 100);
	ck_assert_str_eq(at_a.log, "");
	far_receive_until(&far, 100);

	free_end(&a);
	far_close(&far);
}

static bool has_stopped_reading(void *bev)
{
	return (bufferevent_get_enabled(bev) & EV_READ) == 0;
}

CASE(without_callbacks_bytes_gather_and_ends_are_silent, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	bufferevent_setcb(a.bev, NULL, NULL, NULL, NULL);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 1000);
	pump_until_input(a.bev, 1000);
	write_pattern(a.bev, 0, 1000);
	far_receive_until(&far, 1000);
	far_close(&far);
	pump_until(has_stopped_reading, a.bev);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_WRITE);
	ck_assert_uint_eq(input_length(a.bev), 1000);

	free_end(&a);
}

CASE(callbacks_read_back_as_they_were_set, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	bufferevent_data_cb read_cb, write_cb;
	bufferevent_event_cb event_cb;
	void *argument;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	bufferevent_getcb(a.bev, &read_cb, &write_cb, &event_cb, &argument);
	ck_assert(read_cb == record_read);
	ck_assert(write_cb == record_write);
	ck_assert(event_cb == record_event);
	ck_assert_ptr_eq(argument, &at_a);

	free_end(&a);
	far_close(&far);
}

CASE(callbacks_set_before_the_transport_is_made_stay, ON_SOCKETS)
{
	struct end a;
	struct record at_a;
	int fds[2];
	make_carrier_pair(fds);
	struct far far = {.in = fds[1], .out = fds[1]};
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	record(&at_a, bev);
	bufferevent_enable(bev, EV_READ);
	bufferevent_setwatermark(bev, EV_READ, 10, 0);
	far_send(&far, 20);
	write_pattern(bev, 0, 20);

	attach(&a, bev);
	pump_until_received(&at_a, 20);
	far_receive_until(&far, 20);
	ck_assert_int_eq(bufferevent_get_enabled(bev), EV_READ | EV_WRITE);
	pump_turns(3);
	ck_assert_uint_eq(at_a.writes, 1);
	ck_assert_uint_eq(at_a.reads, 1);

	free_end(&a);
	far_close(&far);
}

CASE(a_write_callback_that_is_due_when_the_transport_is_made_comes, ON_SOCKETS)
{
	struct end a;
	struct record at_a;
	int fds[2];
	make_carrier_pair(fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	record(&at_a, bev);
	bufferevent_enable(bev, EV_WRITE);

	attach(&a, bev);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "w");

	free_end(&a);
	close(fds[1]);
}

static void hand_over(struct bufferevent *bev, void *argument)
{
	struct record *at = argument;
	record_read(bev, at);
	bufferevent_setcb(bev, record_read, record_write, record_event, at + 1);
}

CASE(callbacks_can_be_replaced_inside_a_callback, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at[2];
	make_end(&a, &far, 0);
	record(&at[1], a.bev);
	record(&at[0], a.bev);
	bufferevent_setcb(a.bev, hand_over, NULL, NULL, at);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 10);
	pump_until_received(&at[0], 10);
	at[1].received = 10;
	far_send(&far, 10);
	pump_until_received(&at[1], 20);
	ck_assert_uint_eq(at[0].reads, 1);

	free_end(&a);
	far_close(&far);
}

CASE(the_accessors_answer_for_the_users_own_bufferevent, ON_SOCKETS)
{
	struct end a;
	int fds[2];
	make_carrier_pair(fds);
	make_end_on(&a, fds[0], BEV_OPT_CLOSE_ON_FREE);

	ck_assert_int_eq(bufferevent_getfd(a.bev), fds[0]);
	ck_assert_ptr_eq(bufferevent_get_base(a.bev), base);
	ck_assert_ptr_null(bufferevent_get_underlying(a.bev));
	ck_assert_int_eq(bufferevent_get_priority(a.bev), 0);

	free_end(&a);
	close(fds[1]);
}

struct turn {
	char **next; /* the callback appends `name` here */
	char name;
};

static void note_turn(struct bufferevent *bev, void *argument)
{
	struct turn *turn = argument;
	evbuffer_drain(bufferevent_get_input(bev), input_length(bev));
	*(*turn->next)++ = turn->name;
}

/* Three ends that are all ready in one turn: those of higher priority go first. */
static void priorities_order_the_callbacks(bool set_before)
{
	struct end ends[3];
	struct far fars[3];
	char order[4] = "", *next = order;
	struct turn turns[3];
	ck_assert_int_eq(event_base_priority_init(base, 3), 0);
	for (int i = 0; i < 3; i++) {
		int priority = (i + 1) % 3; /* 1, 2, 0 */
		if (set_before && carrier != FERRY_PIPES) {
			int fds[2];
			make_carrier_pair(fds);
			fars[i] = (struct far){.in = fds[1], .out = fds[1]};
			struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
			ck_assert_int_eq(bufferevent_priority_set(bev, priority), 0);
			attach(&ends[i], bev);
		} else {
			make_end(&ends[i], &fars[i], 0);
			ck_assert_int_eq(bufferevent_priority_set(ends[i].bev, priority), 0);
		}
		ck_assert_int_eq(bufferevent_get_priority(ends[i].bev), priority);
		turns[i] = (struct turn){&next, (char)('0' + priority)};
		bufferevent_setcb(ends[i].bev, note_turn, NULL, NULL, &turns[i]);
		bufferevent_enable(ends[i].bev, EV_READ);
		far_send(&fars[i], 1);
	}
	for (int i = 0; i < 3; i++)
		await_input(bufferevent_getfd(ends[i].bev));
	pump_turns(3);
	ck_assert_str_eq(order, "012");

	for (int i = 0; i < 3; i++) {
		free_end(&ends[i]);
		far_close(&fars[i]);
	}
}

CASE(priorities_order_the_callbacks_when_set_before, ON_SOCKETS)
{
	priorities_order_the_callbacks(true);
}

CASE(priorities_order_the_callbacks_when_set_afterwards, ON_ALL)
{
	priorities_order_the_callbacks(false);
}

struct sums {
	size_t added, deleted;
	unsigned int calls;
};

static void sum_up(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *argument)
{
	struct sums *sums = argument;
	sums->added += info->n_added;
	sums->deleted += info->n_deleted;
	sums->calls++;
	ck_assert_uint_eq(info->orig_size + info->n_added - info->n_deleted,
	                  evbuffer_get_length(buffer));
	ck_assert_uint_eq(sums->added - sums->deleted, evbuffer_get_length(buffer));
}

CASE(callbacks_on_the_buffers_see_every_byte_come_and_go, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	struct sums output = {0}, input = {0};
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	evbuffer_add_cb(bufferevent_get_output(a.bev), sum_up, &output);
	evbuffer_add_cb(bufferevent_get_input(b.bev), sum_up, &input);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 1000000);
	ck_assert_uint_eq(output.added, 1000000);
	pump_until_received(&at_b, 1000000);
	pump_turns(3);
	ck_assert_uint_eq(output.added, 1000000);
	ck_assert_uint_eq(output.deleted, 1000000);
	ck_assert_uint_eq(input.added, 1000000);
	ck_assert_uint_eq(input.deleted, 1000000);

	free_end(&a);
	free_end(&b);
}

CASE(callbacks_on_the_buffers_set_before_the_transport_is_made_stay, ON_SOCKETS)
{
	struct end a;
	struct sums output = {0};
	int fds[2];
	make_carrier_pair(fds);
	struct far far = {.in = fds[1], .out = fds[1]};
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	evbuffer_add_cb(bufferevent_get_output(bev), sum_up, &output);

	attach(&a, bev);
	write_pattern(bev, 0, 1000);
	far_receive_until(&far, 1000);
	pump_turns(2);
	ck_assert_uint_eq(output.added, 1000);
	ck_assert_uint_eq(output.deleted, 1000);

	free_end(&a);
	far_close(&far);
}

/* The loop runs deferred evbuffer callbacks, after the call that changed the buffer has
 * returned. */
CASE(deferred_callbacks_on_the_buffers_see_every_byte_too, ON_ALL)
{
	struct end a;
	struct far far;
	struct sums output = {0};
	make_end(&a, &far, 0);
	evbuffer_defer_callbacks(bufferevent_get_output(a.bev), base);
	evbuffer_add_cb(bufferevent_get_output(a.bev), sum_up, &output);

	write_pattern(a.bev, 0, 1000);
	far_receive_until(&far, 1000);
	pump_turns(3);
	ck_assert_uint_eq(output.added, 1000);
	ck_assert_uint_eq(output.deleted, 1000);

	free_end(&a);
	far_close(&far);
}
