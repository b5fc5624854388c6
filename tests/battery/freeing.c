/* An end can be freed in any callback, and runs no callback after that. The sanitizers and valgrind
 * find uses after the free, and leaks. */

#include <errno.h>
#include <unistd.h>

#include "carrier.h"

/* An end whose first callback of a kind frees it. */
struct doomed {
	struct end end;
	struct far far;
	struct record record;
	bool freed;
};

static void free_it(struct doomed *doomed)
{
	ck_assert(!doomed->freed);
	free_end(&doomed->end);
	doomed->freed = true;
}

static void free_on_data(struct bufferevent *bev, void *argument)
{
	(void)bev;
	free_it(argument);
}

static void free_on_event(struct bufferevent *bev, short what, void *argument)
{
	struct doomed *doomed = argument;
	record_event(bev, what, &doomed->record);
	free_it(doomed);
}

static void make_doomed(struct doomed *doomed, int options)
{
	*doomed = (struct doomed){0};
	make_end(&doomed->end, &doomed->far, options);
	doomed->record.bev = doomed->end.bev;
}

/* Nothing more is heard of it, whatever comes. */
static void end_doomed(struct doomed *doomed)
{
	pump_until_set(&doomed->freed);
	unsigned int events = doomed->record.events;
	if (doomed->far.out >= 0) {
		/* It may be gone already, and a raw write has no MSG_NOSIGNAL. */
		far_end_sending(&doomed->far);
		far_receive_to_the_end(&doomed->far);
	}
	far_close(&doomed->far);
	pump_turns(5);
	ck_assert_uint_eq(doomed->record.events, events);
}

static void freed_in_the_read_callback(int options)
{
	struct doomed doomed;
	make_doomed(&doomed, options);
	bufferevent_setcb(doomed.end.bev, free_on_data, NULL, NULL, &doomed);
	bufferevent_enable(doomed.end.bev, EV_READ);

	far_send(&doomed.far, 60000);
	pump_until_set(&doomed.freed);
	/* With bytes unread, the end of a unix socket or of TCP is a reset. */
	pump_turns(5);
	far_close(&doomed.far);
}

CASE(an_end_is_freed_in_the_read_callback, ON_ALL)
{
	freed_in_the_read_callback(0);
}

CASE(an_end_is_freed_in_the_deferred_read_callback, ON_SOCKETS)
{
	freed_in_the_read_callback(BEV_OPT_DEFER_CALLBACKS);
}

static void freed_in_the_write_callback(int options)
{
	struct doomed doomed;
	make_doomed(&doomed, options);
	bufferevent_setcb(doomed.end.bev, NULL, free_on_data, NULL, &doomed);

	write_pattern(doomed.end.bev, 0, 1000);
	pump_until_set(&doomed.freed);
	far_receive_until(&doomed.far, 1000);
	end_doomed(&doomed);
}

CASE(an_end_is_freed_in_the_write_callback, ON_ALL)
{
	freed_in_the_write_callback(0);
}

CASE(an_end_is_freed_in_the_deferred_write_callback, ON_SOCKETS)
{
	freed_in_the_write_callback(BEV_OPT_DEFER_CALLBACKS);
}

CASE(an_end_is_freed_in_the_write_callback_with_more_queued, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	shrink_buffers(&doomed.end, &doomed.far);
	bufferevent_setwatermark(doomed.end.bev, EV_WRITE, 5000000, 0);
	bufferevent_setcb(doomed.end.bev, NULL, free_on_data, NULL, &doomed);

	write_pattern(doomed.end.bev, 0, 5000000);
	end_doomed(&doomed);
	ck_assert_uint_lt(doomed.far.received, 5000000);
}

static void freed_in_the_eof_callback(int options)
{
	struct doomed doomed;
	make_doomed(&doomed, options);
	bufferevent_setcb(doomed.end.bev, NULL, NULL, free_on_event, &doomed);
	bufferevent_enable(doomed.end.bev, EV_READ);

	far_end_sending(&doomed.far);
	pump_until_set(&doomed.freed);
	ck_assert_str_eq(doomed.record.log, "[reading eof]");
	far_receive_to_the_end(&doomed.far);
	far_close(&doomed.far);
	pump_turns(5);
}

CASE(an_end_is_freed_in_the_eof_callback, ON_ALL)
{
	freed_in_the_eof_callback(0);
}

CASE(an_end_is_freed_in_the_deferred_eof_callback, ON_SOCKETS)
{
	freed_in_the_eof_callback(BEV_OPT_DEFER_CALLBACKS);
}

static void freed_in_the_error_callback(int options)
{
	struct doomed doomed;
	make_doomed(&doomed, options);
	bufferevent_setcb(doomed.end.bev, NULL, NULL, free_on_event, &doomed);

	far_close(&doomed.far);
	while (!doomed.freed) {
		write_pattern(doomed.end.bev, 0, 100);
		pump_past(1);
	}
	ck_assert_str_eq(doomed.record.log, "[writing error Broken pipe]");
	pump_turns(5);
	ck_assert_uint_eq(doomed.record.events, 1);
}

CASE(an_end_is_freed_in_the_error_callback, ON_ALL)
{
	freed_in_the_error_callback(0);
}

CASE(an_end_is_freed_in_the_deferred_error_callback, ON_SOCKETS)
{
	freed_in_the_error_callback(BEV_OPT_DEFER_CALLBACKS);
}

CASE(an_end_is_freed_in_the_reset_callback, ON_SOCKETS)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	bufferevent_setcb(doomed.end.bev, NULL, NULL, free_on_event, &doomed);
	write_pattern(doomed.end.bev, 0, 100);
	pump_until_output(doomed.end.bev, 0);
	bufferevent_enable(doomed.end.bev, EV_READ);

	far_close(&doomed.far);
	pump_until_set(&doomed.freed);
	ck_assert_str_eq(doomed.record.log, "[reading error Connection reset by peer]");
	pump_turns(5);
}

CASE(an_end_is_freed_in_the_read_timeout_callback, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	bufferevent_setcb(doomed.end.bev, NULL, NULL, free_on_event, &doomed);
	bufferevent_set_timeouts(doomed.end.bev, &soon, NULL);
	bufferevent_enable(doomed.end.bev, EV_READ);

	end_doomed(&doomed);
	ck_assert_str_eq(doomed.record.log, "[reading timeout]");
}

CASE(an_end_is_freed_in_the_write_timeout_callback, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	shrink_buffers(&doomed.end, &doomed.far);
	bufferevent_setcb(doomed.end.bev, NULL, NULL, free_on_event, &doomed);
	bufferevent_set_timeouts(doomed.end.bev, NULL, &soon);

	write_pattern(doomed.end.bev, 0, 5000000);
	end_doomed(&doomed);
	ck_assert_str_eq(doomed.record.log, "[writing timeout]");
}

static void free_on_buffer(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                           void *argument)
{
	(void)buffer, (void)info;
	struct doomed *doomed = argument;
	if (!doomed->freed)
		free_it(doomed);
}

static void free_on_drain(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                          void *argument)
{
	if (info->n_deleted > 0)
		free_on_buffer(buffer, info, argument);
}

CASE(an_end_is_freed_in_a_callback_on_the_input_when_bytes_arrive, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	bufferevent_setcb(doomed.end.bev, free_on_data, NULL, free_on_event, &doomed);
	evbuffer_add_cb(bufferevent_get_input(doomed.end.bev), free_on_buffer, &doomed);
	bufferevent_enable(doomed.end.bev, EV_READ);

	far_send(&doomed.far, 100);
	end_doomed(&doomed);
}

static void drain_all(struct bufferevent *bev, void *argument)
{
	(void)argument;
	evbuffer_drain(bufferevent_get_input(bev), input_length(bev));
}

CASE(an_end_is_freed_in_a_callback_on_the_input_when_it_is_drained, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	bufferevent_setcb(doomed.end.bev, drain_all, NULL, free_on_event, &doomed);
	evbuffer_add_cb(bufferevent_get_input(doomed.end.bev), free_on_drain, &doomed);
	bufferevent_enable(doomed.end.bev, EV_READ);

	far_send(&doomed.far, 100);
	end_doomed(&doomed);
}

/* Not for stock: after the callback, libevent adds the write event of the freed bufferevent, and
 * crashes in the loop. */
CASE(an_end_is_freed_in_a_callback_on_the_output_when_it_is_written_to, ON_FERRY)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	evbuffer_add_cb(bufferevent_get_output(doomed.end.bev), free_on_buffer, &doomed);

	bufferevent_write(doomed.end.bev, "x", 1);
	ck_assert(doomed.freed);
	end_doomed(&doomed);
	ck_assert_uint_eq(doomed.far.received, 0);
}

CASE(an_end_is_freed_in_a_callback_on_the_output_when_it_is_sent, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	evbuffer_add_cb(bufferevent_get_output(doomed.end.bev), free_on_drain, &doomed);

	write_pattern(doomed.end.bev, 0, 1000);
	end_doomed(&doomed);
	ck_assert_uint_eq(doomed.far.received, 1000);
}

CASE(an_end_is_freed_inside_a_trigger, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	bufferevent_setcb(doomed.end.bev, free_on_data, free_on_data, free_on_event, &doomed);

	bufferevent_trigger(doomed.end.bev, EV_WRITE, 0);
	ck_assert(doomed.freed);
	end_doomed(&doomed);
}

CASE(an_end_is_freed_with_deferred_callbacks_pending, ON_SOCKETS)
{
	struct doomed doomed;
	make_doomed(&doomed, BEV_OPT_DEFER_CALLBACKS);
	record(&doomed.record, doomed.end.bev);

	bufferevent_trigger(doomed.end.bev, EV_READ | EV_WRITE, 0);
	bufferevent_trigger_event(doomed.end.bev, BEV_EVENT_EOF, 0);
	free_it(&doomed);
	pump_turns(5);
	ck_assert_str_eq(doomed.record.log, "");
	end_doomed(&doomed);
}

CASE(an_end_is_freed_with_much_in_both_buffers, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	shrink_buffers(&doomed.end, &doomed.far);
	bufferevent_enable(doomed.end.bev, EV_READ);
	far_send(&doomed.far, 2000);
	pump_until_input(doomed.end.bev, 2000);
	fill(&doomed.end, 100000);

	free_it(&doomed);
	end_doomed(&doomed);
}

CASE(an_end_is_freed_before_the_loop_has_ever_run, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	bufferevent_enable(doomed.end.bev, EV_READ | EV_WRITE);
	write_pattern(doomed.end.bev, 0, 100);

	free_it(&doomed);
	end_doomed(&doomed);
	ck_assert_uint_eq(doomed.far.received, 0);
}

CASE(an_end_is_freed_while_a_rate_limit_suspends_it, ON_ALL)
{
	struct doomed doomed;
	make_doomed(&doomed, 0);
	struct ev_token_bucket_cfg *cfg = ev_token_bucket_cfg_new(10, 10, 10, 10, &never);
	bufferevent_set_rate_limit(doomed.end.bev, cfg);
	write_pattern(doomed.end.bev, 0, 100);
	far_receive_until(&doomed.far, 10);

	free_it(&doomed);
	end_doomed(&doomed);
	ev_token_bucket_cfg_free(cfg);
}

/* Both ends of a connection, each of which frees the other. */
static void free_the_other(struct bufferevent *bev, void *argument)
{
	(void)bev;
	struct end **ends = argument;
	free_end(ends[0]);
	free_end(ends[1]);
}

CASE(both_ends_are_freed_in_the_callback_of_one, ON_ALL)
{
	struct end a, b;
	make_ends(&a, &b, 0);
	struct end *ends[] = {&a, &b};
	bufferevent_setcb(a.bev, free_the_other, NULL, NULL, ends);
	bufferevent_setcb(b.bev, free_the_other, NULL, NULL, ends);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 100);
	write_pattern(b.bev, 0, 100);
	while (a.bev != NULL)
		pump_turns(1);
	pump_turns(3);
}

CASE(an_end_is_freed_without_callbacks, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	bufferevent_setcb(a.bev, NULL, NULL, NULL, NULL);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 100);
	write_pattern(a.bev, 0, 100);

	free_end(&a);
	far_receive_to_the_end(&far);
	far_close(&far);
}

CASE(a_stray_bufferevent_free_does_no_harm, ON_FERRY)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	write_pattern(a.bev, 0, 100);
	bufferevent_enable(a.bev, EV_READ);

	bufferevent_free(a.bev);
	pump_turns(5);
	ferry_transport_free(a.transport);
	far_receive_to_the_end(&far);
	far_close(&far);
}

CASE(a_stray_bufferevent_free_in_the_same_turn_does_no_harm, ON_FERRY)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	write_pattern(a.bev, 0, 100);
	far_send(&far, 100);
	bufferevent_enable(a.bev, EV_READ);

	bufferevent_free(a.bev);
	ferry_transport_free(a.transport);
	pump_turns(5);
	far_close(&far);
}

static void stray(struct bufferevent *bev, void *argument)
{
	bufferevent_free(bev);
	*(bool *)argument = true;
}

CASE(a_stray_bufferevent_free_in_a_callback_does_no_harm, ON_FERRY)
{
	struct end a;
	struct far far;
	bool freed = false;
	make_end(&a, &far, 0);
	bufferevent_setcb(a.bev, stray, NULL, NULL, &freed);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 100);
	pump_until_set(&freed);
	pump_turns(5);
	ferry_transport_free(a.transport);
	pump_turns(5);
	far_close(&far);
}

static void free_on_fd(struct ferry_transport *transport, int fd, void *argument)
{
	struct doomed *doomed = argument;
	ck_assert_ptr_eq(transport, doomed->end.transport);
	close(fd);
	free_it(doomed);
}

/* Five more descriptors come in the same read. If one leaks, the descriptor count around the test
 * fails it. */
CASE(an_end_is_freed_in_the_descriptor_callback, 1 << FERRY_UNIX)
{
	struct end sender;
	struct doomed doomed = {0};
	make_ends(&doomed.end, &sender, 0);
	doomed.far = (struct far){.in = -1, .out = -1};
	ferry_transport_set_fd_cb(doomed.end.transport, free_on_fd, &doomed);
	bufferevent_setcb(doomed.end.bev, free_on_data, NULL, free_on_event, &doomed);
	bufferevent_enable(doomed.end.bev, EV_READ);

	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDIN_FILENO, FERRY_FD_DUP), 0);
	bufferevent_write(sender.bev, "x", 1);
	pump_until_set(&doomed.freed);
	pump_turns(5);
	ck_assert_uint_eq(doomed.record.events, 0);

	free_end(&sender);
}
