/* A write finds that the peer is gone: what the peer has sent still arrives, in portions that the owner's limits and
 * pauses bound, and then the connection ends. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd_receiver.h"
#include "producing.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { MESSAGES = 20, FDS = 8 };

static void send_messages(void)
{
	for (uint32_t i = 0; i < MESSAGES; i++)
		send_marked("x", i * FDS, FDS);
}

/* The peer closes, and the next write finds it gone. */
static void lose_peer(void)
{
	close(receiver_ends[0]);
	receiver_ends[0] = -1;
	ck_assert_int_eq(ferry_transport_write(fd_receiver.transport, "z", 1), 0);
}

static void pause_at_data(struct recorder *recorder, char event)
{
	if (event == EVENT_DATA)
		ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
}

static void resume(void)
{
	ck_assert_int_eq(ferry_transport_resume_reading(fd_receiver.transport), 0);
}

TEST(each_resume_of_a_paused_owner_brings_one_portion)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = pause_at_data;
	send_messages();
	pump_until_fds(&fd_receiver, FDS);
	lose_peer();
	for (unsigned int i = 1; i < MESSAGES; i++) {
		pump_turns(4);
		ck_assert_uint_eq(fd_receiver.fd_count, i * FDS);
		ck_assert_uint_eq(recorder_length(&fd_receiver), i);
		ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_received, i * FDS);
		ck_assert_uint_eq(fd_receiver.lost, 0);
		resume();
	}
	/* Nothing is left: the pause defers nothing. */
	pump_until_lost(&fd_receiver);
	check_received(0, MESSAGES * FDS);
	ck_assert_uint_eq(recorder_length(&fd_receiver), MESSAGES);
	ck_assert_int_eq(fd_receiver.reason, -EPIPE);
	close_fd_receiver();
}

TEST(a_pause_with_nothing_left_defers_no_end)
{
	open_fd_receiver(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	lose_peer();
	pump_until_lost(&fd_receiver);
	ck_assert_int_eq(fd_receiver.reason, -EPIPE);
	close_fd_receiver();
}

static void pause_at_first_fd(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == 1)
		ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
}

TEST(the_descriptors_behind_a_pause_and_their_byte_wait_for_the_resume)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = pause_at_first_fd;
	send_marked("x", 0, FDS);
	pump_until_fds(&fd_receiver, 1);
	lose_peer();
	pump_turns(5);
	ck_assert_uint_eq(fd_receiver.fd_count, 1);
	ck_assert_uint_eq(fd_receiver.data, 0);
	ck_assert_uint_eq(fd_receiver.lost, 0);

	resume();
	pump_until_lost(&fd_receiver);
	check_received(0, FDS);
	check_text("x");
	close_fd_receiver();
}

TEST(a_high_water_mark_bounds_the_rest)
{
	open_fd_receiver(&recorder_protocol);
	struct bufferevent *bev = ferry_transport_get_bufferevent(fd_receiver.transport);
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	bufferevent_setwatermark(bev, EV_READ, 0, 5);
	send_messages();
	lose_peer();
	pump_turns(4);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_received, 0);
	fd_receiver.hook = pause_at_data;
	resume();
	pump_turns(4);
	ck_assert_uint_le(stats_of(fd_receiver.transport).fds_received, 5 * FDS);
	fd_receiver.hook = NULL;
	resume();
	pump_until_lost(&fd_receiver);
	check_received(0, MESSAGES * FDS);
	close_fd_receiver();
}

TEST(the_rest_is_read_even_if_the_user_has_disabled_reading)
{
	open_fd_receiver(&recorder_protocol);
	bufferevent_disable(ferry_transport_get_bufferevent(fd_receiver.transport), EV_READ);
	send_messages();
	lose_peer();
	pump_until_lost(&fd_receiver);
	check_received(0, MESSAGES * FDS);
	close_fd_receiver();
}

TEST(bytes_under_the_low_water_mark_are_delivered_before_the_end)
{
	open_fd_receiver(&recorder_protocol);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(fd_receiver.transport), EV_READ, 1000,
	                         0);
	send_messages();
	lose_peer();
	pump_until_lost(&fd_receiver);
	ck_assert_uint_eq(recorder_length(&fd_receiver), MESSAGES);
	close_fd_receiver();
}

/* A peer that has only stopped reading could go on for ever. */
TEST(a_peer_that_goes_on_sending_is_read_as_far_as_it_had_sent)
{
	static char block[10000];

	open_fd_receiver(&recorder_protocol);
	ck_assert_int_eq(wire_send(receiver_ends[0], block, sizeof(block), NULL, 0), sizeof(block));
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	ck_assert_int_eq(shutdown(receiver_ends[0], SHUT_RD), 0);
	ck_assert_int_eq(ferry_transport_write(fd_receiver.transport, "z", 1), 0);
	pump_turns(4);
	ck_assert_int_eq(wire_send(receiver_ends[0], block, sizeof(block), NULL, 0), sizeof(block));
	resume();
	pump_until_lost(&fd_receiver);
	ck_assert_uint_eq(recorder_length(&fd_receiver), sizeof(block));
	ck_assert_int_eq(fd_receiver.reason, -EPIPE);
	close_fd_receiver();
}

/* ---- an owner that takes the input by hand ---- */

static unsigned int halves_ended, ends;
static int reason_of_end;

static void leave_input(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)input, (void)context;
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
}

static void count_half(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	halves_ended++;
}

static void count_end(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)context;
	ends++;
	reason_of_end = reason;
}

/* Nothing is left to be read or delivered when the owner resumes, and no callback but the last one is due. */
TEST(an_owner_that_has_taken_the_input_during_the_pause_gets_the_end)
{
	static const struct ferry_protocol protocol = {.data_received = leave_input,
	                                               .read_connection_lost = count_half,
	                                               .connection_lost = count_end};
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct ferry_transport *transport = make_transport(fds[0]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &protocol, NULL), 0);
	/* Under the mark, it is delivered together with the end of the peer's half. */
	bufferevent_setwatermark(bev, EV_READ, 1000, 0);
	ck_assert_int_eq(write(fds[1], "rest", 4), 4);
	close(fds[1]);
	pump_until_count(&halves_ended, 1);
	ck_assert_int_eq(ferry_transport_write(transport, "z", 1), 0);
	pump_turns(4);
	ck_assert_uint_eq(ends, 0);

	ck_assert_int_eq(evbuffer_drain(bufferevent_get_input(bev), 4), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_until_count(&ends, 1);
	ck_assert_int_eq(reason_of_end, -EPIPE);
	ferry_transport_free(transport);
	pump_turns(3);
}

static void free_at(struct recorder *recorder, char event)
{
	if (event == *(const char *)recorder->argument)
		recorder_free_transport(recorder);
}

/* _i: the event at which the owner frees the transport. */
LOOP_TEST(the_transport_may_be_freed_while_the_rest_arrives, 2)
{
	static char events[] = {EVENT_FD, EVENT_DATA};

	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = free_at;
	fd_receiver.argument = &events[_i];
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	send_messages();
	lose_peer();
	pump_turns(4);
	resume();
	pump_until_fds(&fd_receiver, 1);
	pump_turns(3);
	ck_assert_ptr_null(fd_receiver.transport);
	ck_assert_uint_eq(fd_receiver.lost, 0);
	close_fd_receiver();
}

/* _i: what the owner calls instead of resuming. */
LOOP_TEST(an_owner_that_does_not_want_the_rest_ends_the_connection, 2)
{
	open_fd_receiver(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	send_messages();
	lose_peer();
	pump_turns(4);
	ck_assert_uint_eq(fd_receiver.lost, 0);
	ck_assert_int_eq(_i == 0 ? ferry_transport_lose_connection(fd_receiver.transport)
	                         : ferry_transport_abort_connection(fd_receiver.transport),
	                 0);
	pump_until_lost(&fd_receiver);
	ck_assert_int_eq(fd_receiver.reason, -EPIPE);
	ck_assert_uint_eq(fd_receiver.fd_count, 0);
	close_fd_receiver();
}

/* It would never be resumed. */
TEST(the_producer_is_stopped_though_the_end_waits_for_the_owner)
{
	open_push();
	ck_assert_int_eq(ferry_transport_pause_reading(producing.transport), 0);
	ck_assert_int_eq(wire_send(producing_ends[1], "rest", 4, NULL, 0), 4);
	close(producing_ends[1]);
	producing_ends[1] = -1;
	write_bytes(1);
	pump_turns(4);
	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_uint_eq(producing.lost, 0);

	ck_assert_int_eq(ferry_transport_resume_reading(producing.transport), 0);
	pump_until_lost(&producing);
	ck_assert_uint_eq(recorder_length(&producing), 4);
	close_producing();
}

/* An owner that reads again when the producer is resumed, as an echo does. */
static void resume_reading(void *context)
{
	struct producer *p = context;
	p->resumed++;
	ck_assert_int_eq(ferry_transport_write(producing.transport, "z", 1), -EPIPE);
	ck_assert_int_eq(ferry_transport_resume_reading(producing.transport), 0);
}

/* Else the owner would wait for ever. _i: a push or a pull producer. */
LOOP_TEST(a_waiting_producer_that_cannot_be_stopped_is_resumed_a_last_time, 2)
{
	static const struct ferry_producer_callbacks untold = {.resume_producing = resume_reading,
	                                                       .pause_producing = producer_pause};

	open_producing();
	ck_assert_int_eq(ferry_transport_pause_reading(producing.transport), 0);
	ck_assert_int_eq(wire_send(producing_ends[1], "rest", 4, NULL, 0), 4);
	close(producing_ends[1]);
	producing_ends[1] = -1;
	write_bytes(1 << 20);
	ck_assert_int_eq(
	    ferry_transport_register_producer(producing.transport, &untold, &producer,
	                                      _i == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL),
	    0);
	pump_until_lost(&producing);
	ck_assert_int_eq(producing.reason, -EPIPE);
	ck_assert_uint_eq(recorder_length(&producing), 4);
	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

/* ---- whether the peer has closed ---- */

static bool closed_at_end;

static void note_closed(struct recorder *recorder, char event)
{
	if (event == EVENT_READ_LOST)
		closed_at_end = ferry_transport_peer_has_closed(recorder->transport);
}

/* _i: the peer shuts its sending half down, or closes. */
LOOP_TEST(a_close_differs_from_a_half_close_in_read_connection_lost, 2)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = note_closed;
	ck_assert(!ferry_transport_peer_has_closed(fd_receiver.transport));
	if (_i == 0) {
		ck_assert_int_eq(shutdown(receiver_ends[0], SHUT_WR), 0);
	} else {
		close(receiver_ends[0]);
		receiver_ends[0] = -1;
	}
	pump_until_count(&fd_receiver.read_lost, 1);
	ck_assert(closed_at_end == (_i == 1));
	close_fd_receiver();
}

TEST(a_close_after_a_half_close_is_seen_later)
{
	open_fd_receiver(&recorder_protocol);
	ck_assert_int_eq(shutdown(receiver_ends[0], SHUT_WR), 0);
	pump_until_count(&fd_receiver.read_lost, 1);
	ck_assert(!ferry_transport_peer_has_closed(fd_receiver.transport));
	close(receiver_ends[0]);
	receiver_ends[0] = -1;
	ck_assert(ferry_transport_peer_has_closed(fd_receiver.transport));
	close_fd_receiver();
}

/* Both halves hang a unix socket up. */
TEST(a_half_close_of_both_sides_is_no_close)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = note_closed;
	closed_at_end = true;
	ck_assert_int_eq(ferry_transport_lose_write_connection(fd_receiver.transport), 0);
	pump_turns(2);
	ck_assert_int_eq(shutdown(receiver_ends[0], SHUT_WR), 0);
	pump_until_count(&fd_receiver.read_lost, 1);
	ck_assert(!closed_at_end);
	close_fd_receiver();
}

/* _i: the peer has closed, or this side ends the connection. */
LOOP_TEST(the_end_of_the_connection_keeps_whether_the_peer_had_closed, 2)
{
	open_fd_receiver(&recorder_no_half_close);
	if (_i == 0) {
		close(receiver_ends[0]);
		receiver_ends[0] = -1;
	} else {
		ck_assert_int_eq(ferry_transport_lose_connection(fd_receiver.transport), 0);
	}
	pump_until_lost(&fd_receiver);
	ck_assert(ferry_transport_peer_has_closed(fd_receiver.transport) == (_i == 0));
	close_fd_receiver();
}

TEST(on_tcp_a_close_looks_like_a_half_close)
{
	make_pair(PAIR_TCP, receiver_ends);
	recorder_open(&fd_receiver, receiver_ends[1], &recorder_protocol);
	closed_at_end = true;
	fd_receiver.hook = note_closed;
	close(receiver_ends[0]);
	receiver_ends[0] = -1;
	pump_until_count(&fd_receiver.read_lost, 1);
	ck_assert(!closed_at_end);
	close_fd_receiver();
}

/* _i: whether the peer resets the connection, of which this side has read nothing yet; and whether it then ends its
 * half, the connection, or aborts it. */
LOOP_TEST(on_tcp_the_end_shows_a_reset, 6)
{
	bool reset = _i % 2 == 1;
	make_pair(PAIR_TCP, receiver_ends);
	recorder_open(&fd_receiver, receiver_ends[1], &recorder_protocol);
	ferry_transport_set_linger_timeout(fd_receiver.transport, &(struct timeval){0});
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	if (reset) {
		setsockopt(receiver_ends[0], SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
		           sizeof(struct linger));
		close(receiver_ends[0]);
		receiver_ends[0] = -1;
	}
	if (_i / 2 == 0)
		ck_assert_int_eq(ferry_transport_lose_write_connection(fd_receiver.transport), 0);
	else if (_i / 2 == 1)
		ck_assert_int_eq(ferry_transport_lose_connection(fd_receiver.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_abort_connection(fd_receiver.transport), 0);
	ck_assert(ferry_transport_peer_has_closed(fd_receiver.transport) == reset);
	close_fd_receiver();
}

/* _i: which of the pipes the peer closes first. */
LOOP_TEST(a_peer_on_pipes_has_closed_when_both_are_closed, 2)
{
	int in[2], out[2];

	make_pipe(in);
	make_pipe(out);
	recorder_open_pipes(&fd_receiver, in[0], out[1], &recorder_protocol);
	pump_turns(2);
	ck_assert(!ferry_transport_peer_has_closed(fd_receiver.transport));
	close(_i == 0 ? in[1] : out[0]);
	ck_assert(!ferry_transport_peer_has_closed(fd_receiver.transport));
	close(_i == 0 ? out[0] : in[1]);
	ck_assert(ferry_transport_peer_has_closed(fd_receiver.transport));
	recorder_close(&fd_receiver);
}

TEST(no_transport_has_no_peer_that_has_closed)
{
	ck_assert(!ferry_transport_peer_has_closed(NULL));
}

/* ---- producers that a close waits for ---- */

static unsigned int lines_with_producer;

static void count_lines(enum ferry_log_level level, const char *line)
{
	(void)level;
	lines_with_producer += strstr(line, "the close waits for the push producer") != NULL;
}

/* _i: a close, or a half-close. */
LOOP_TEST(the_log_names_a_producer_that_a_close_waits_for, 2)
{
	open_push();
	lines_with_producer = 0;
	ferry_log_set_cb(count_lines);
	write_bytes(10);
	ck_assert_int_eq(_i == 0 ? ferry_transport_lose_connection(producing.transport)
	                         : ferry_transport_lose_write_connection(producing.transport),
	                 0);
	ck_assert_uint_eq(lines_with_producer, 0);
	pump_turns(3);
	ck_assert_uint_eq(lines_with_producer, 1);
	write_bytes(10);
	pump_turns(3);
	ck_assert_uint_eq(lines_with_producer, 1);
	ferry_log_set_cb(NULL);
	close_producing();
}

TEST(a_half_close_waits_for_no_producer_once_the_peer_has_closed)
{
	open_push();
	ck_assert_int_eq(ferry_transport_lose_write_connection(producing.transport), 0);
	close(producing_ends[1]);
	producing_ends[1] = -1;
	pump_until_lost(&producing);
	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_int_eq(producing.reason, 0);
	close_producing();
}

/* The peer may still read. */
TEST(a_half_close_waits_for_the_producer_after_a_half_close_of_the_peer)
{
	open_push();
	ck_assert_int_eq(ferry_transport_lose_write_connection(producing.transport), 0);
	ck_assert_int_eq(shutdown(producing_ends[1], SHUT_WR), 0);
	pump_until_count(&producing.read_lost, 1);
	pump_turns(3);
	ck_assert_uint_eq(producer.stopped, 0);
	write_bytes(10);
	ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), 0);
	pump_until_lost(&producing);
	ck_assert_int_eq(producing.reason, 0);
	ck_assert_uint_eq(wire_drain(producing_ends[1]), 10);
	close_producing();
}
