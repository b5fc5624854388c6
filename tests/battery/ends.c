/* The end of a connection: EOF, half-close, errors. No signal kills the process. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "carrier.h"

CASE(a_peer_that_closes_is_one_eof_event_and_disables_reading, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);

	far_close(&far);
	pump_until_event(&at_a);
	ck_assert_int_eq(at_a.what, BEV_EVENT_READING | BEV_EVENT_EOF);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_WRITE);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "[reading eof]");

	free_end(&a);
}

CASE(a_peer_that_ends_its_half_is_one_eof_event_and_disables_reading, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);

	far_end_sending(&far);
	pump_until_event(&at_a);
	ck_assert_int_eq(at_a.what, BEV_EVENT_READING | BEV_EVENT_EOF);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_WRITE);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "[reading eof]");

	free_end(&a);
	far_close(&far);
}

CASE(bytes_sent_before_the_end_are_read_before_the_end, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	far_send(&far, 60000);
	far_end_sending(&far);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_uint_eq(at_a.received, 60000);
	ck_assert_int_eq(at_a.what, BEV_EVENT_READING | BEV_EVENT_EOF);

	free_end(&a);
	far_close(&far);
}

CASE(a_last_byte_and_the_end_are_a_read_callback_and_then_the_event, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 1);
	far_close(&far);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "r[reading eof]");

	free_end(&a);
}

CASE(bytes_below_the_low_mark_stay_in_the_input_at_the_end, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setwatermark(a.bev, EV_READ, 100, 0);
	bufferevent_enable(a.bev, EV_READ);

	far_send(&far, 50);
	far_close(&far);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading eof]");
	ck_assert_uint_eq(input_length(a.bev), 50);

	free_end(&a);
}

CASE(no_end_comes_while_reading_is_disabled, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	far_close(&far);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "");
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading eof]");

	free_end(&a);
}

CASE(the_end_comes_again_when_reading_is_enabled_again, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	far_end_sending(&far);
	pump_until_event(&at_a);

	bufferevent_enable(a.bev, EV_READ);
	pump_until_count(&at_a.events, 2);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "[reading eof][reading eof]");

	free_end(&a);
	far_close(&far);
}

CASE(after_the_peer_has_ended_its_half_this_one_goes_on_sending, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 10);
	far_end_sending(&far);
	pump_until_event(&at_a);
	forget(&at_a);

	write_pattern(a.bev, 0, 3000000);
	far_receive_until(&far, 3000000);
	pump_turns(3);
	ck_assert_str_eq(at_a.log, "w");

	free_end(&a);
	far_close(&far);
}

CASE(output_that_waits_when_the_peer_ends_its_half_still_leaves, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	uint64_t written = fill(&a, 100000);

	far_end_sending(&far);
	pump_until_event(&at_a);
	ck_assert_str_eq(at_a.log, "[reading eof]");
	far_receive_until(&far, written);

	free_end(&a);
	far_close(&far);
}

static void end_sending_too(struct bufferevent *bev, short what, void *argument)
{
	struct end *end = ((void **)argument)[0];
	struct record *at = ((void **)argument)[1];
	record_event(bev, what, at);
	end_sending(end);
}

CASE(both_halves_end_one_after_the_other_with_data_on_the_way, ON_ALL)
{
	struct end a, b;
	struct record at_a, at_b;
	make_ends(&a, &b, 0);
	record(&at_a, a.bev);
	record(&at_b, b.bev);
	void *argument[] = {&b, &at_b};
	bufferevent_setcb(b.bev, NULL, NULL, end_sending_too, argument);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 30000);
	write_pattern(b.bev, 0, 30000);
	pump_until_output(a.bev, 0);
	pump_until_output(b.bev, 0);
	end_sending(&a);
	pump_until_event(&at_a);
	ck_assert_int_eq(at_a.what, BEV_EVENT_READING | BEV_EVENT_EOF);
	ck_assert_int_eq(at_b.what, BEV_EVENT_READING | BEV_EVENT_EOF);
	ck_assert_uint_eq(at_a.received, 30000);
	ck_assert_uint_eq(input_length(b.bev), 30000);
	ck_assert_uint_eq(at_a.events, 1);
	ck_assert_uint_eq(at_b.events, 1);

	free_end(&a);
	free_end(&b);
}

/* If the receiver closes with bytes unread, a unix socket and TCP reset the connection: the
 * sender's next call fails. */
CASE(a_peer_that_closes_with_bytes_unread_is_a_reset, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_enable(a.bev, EV_READ);
	write_pattern(a.bev, 0, 100);
	pump_until_output(a.bev, 0);
	forget(&at_a);

	await_input(far.in);
	far_close(&far);
	pump_until_event(&at_a);
	ck_assert_int_eq(at_a.what, BEV_EVENT_READING | BEV_EVENT_ERROR);
	ck_assert_int_eq(at_a.error, ECONNRESET);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), EV_WRITE);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "[reading error Connection reset by peer]");

	free_end(&a);
}

CASE(bytes_the_peer_sent_before_the_reset_are_read_before_the_reset, ON_SOCKETS)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	write_pattern(a.bev, 0, 100);
	pump_until_output(a.bev, 0);
	forget(&at_a);

	far_send(&far, 900);
	far_close(&far);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_uint_eq(at_a.received, 900);
	ck_assert_str_eq(at_a.log, "r[reading error Connection reset by peer]");

	free_end(&a);
}

/* On TCP the first write after the peer has closed is taken; its answer is a reset. */
static void write_until_refused(struct end *near, struct record *at)
{
	uint64_t position = 0;
	while (at->events == 0) {
		write_pattern(near->bev, position, 100);
		position += 100;
		pump_past(1);
	}
}

CASE(a_write_to_a_peer_that_has_closed_is_a_broken_pipe_and_disables_writing, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, record_read, NULL, record_event, &at_a);

	far_close(&far);
	write_until_refused(&a, &at_a);
	ck_assert_int_eq(at_a.what, BEV_EVENT_WRITING | BEV_EVENT_ERROR);
	ck_assert_int_eq(at_a.error, EPIPE);
	ck_assert_int_eq(bufferevent_get_enabled(a.bev), 0);
	ck_assert_uint_gt(output_length(a.bev), 0);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "[writing error Broken pipe]");

	free_end(&a);
}

CASE(a_broken_pipe_leaves_the_peers_bytes_to_be_read, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	bufferevent_setcb(a.bev, record_read, NULL, record_event, &at_a);
	far_send(&far, 900);

	far_close(&far);
	write_until_refused(&a, &at_a);
	ck_assert_str_eq(at_a.log, "[writing error Broken pipe]");
	forget(&at_a);
	bufferevent_enable(a.bev, EV_READ);
	pump_until_event(&at_a);
	ck_assert_uint_eq(at_a.received, 900);
	ck_assert_str_eq(at_a.log, "r[reading eof]");

	free_end(&a);
}

CASE(output_that_waits_when_the_peer_closes_is_an_error, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);
	fill(&a, 100000);

	far_close(&far);
	pump_until_event(&at_a);
	pump_turns(5);
	ck_assert_uint_eq(at_a.events, 1);
	ck_assert_int_eq(at_a.what, BEV_EVENT_WRITING | BEV_EVENT_ERROR);
	/* The kernel names it differently: the peer closed with bytes unread. */
	ck_assert_int_eq(at_a.error, carrier_is_tcp() ? ECONNRESET : EPIPE);
	ck_assert_uint_gt(output_length(a.bev), 0);

	free_end(&a);
}

static volatile sig_atomic_t pipe_signals;

static void count_signal(int number)
{
	(void)number;
	pipe_signals++;
}

/* In all other cases SIGPIPE has its default action under ferry, and is ignored under stock. */
CASE(stock_fault_a_broken_pipe_raises_no_signal, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	signal(SIGPIPE, count_signal);

	far_close(&far);
	write_until_refused(&a, &at_a);
	ck_assert_int_eq(at_a.error, EPIPE);
	if (carrier_is_ferry())
		ck_assert_int_eq(pipe_signals, 0);
	else
		ck_assert_int_eq(pipe_signals, 1);

	free_end(&a);
}

CASE(freeing_closes_the_socket_and_the_peer_sees_the_end, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	int fd = bufferevent_getfd(a.bev);

	write_pattern(a.bev, 0, 100);
	pump_until_output(a.bev, 0);
	free_end(&a);
	far_receive_to_the_end(&far);
	ck_assert_uint_eq(far.received, 100);
	pump_turns(3);
	ck_assert(!fd_is_open(fd));

	far_close(&far);
}

CASE(freeing_without_close_on_free_leaves_the_connection_open, ON_SOCKETS)
{
	struct end a;
	int fds[2];
	char byte;
	make_carrier_pair(fds);
	make_end_on(&a, fds[0], 0);

	free_end(&a);
	pump_turns(3);
	ck_assert(fd_is_open(fds[0]));
	ck_assert_int_eq(read(fds[1], &byte, 1), -1);
	ck_assert_int_eq(errno, EAGAIN);

	close(fds[0]);
	close(fds[1]);
}
