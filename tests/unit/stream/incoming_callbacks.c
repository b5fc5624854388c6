/* Callbacks for received descriptors end the connection, pause it, or replace the protocol. */

#include <errno.h>
#include <unistd.h>

#include "fd_receiver.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static unsigned int hook_at; /* descriptors before the hook acts */

static void free_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == hook_at)
		recorder_free_transport(recorder);
}

static void abort_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == hook_at)
		ck_assert_int_eq(ferry_transport_abort_connection(recorder->transport), 0);
}

static void lose_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == hook_at)
		ck_assert_int_eq(ferry_transport_lose_connection(recorder->transport), 0);
}

TEST_CASE("callbacks that end it");

/* _i: after which of six descriptors. */
LOOP_TEST_FROM(freeing_in_the_callback_closes_the_rest_of_the_read, 1, 7)
{
	open_fd_receiver(&recorder_protocol);
	hook_at = (unsigned int)_i;
	fd_receiver.hook = free_in_hook;
	send_marked("bytes", 0, 6);
	send_marked("and more", 6, 6);
	int open_before = count_open_fds();

	pump_turns(5);

	check_received(0, hook_at);
	ck_assert_ptr_null(fd_receiver.transport);
	/* The socket is gone, the descriptors of the test are there. */
	ck_assert_int_eq(count_open_fds(), open_before - 1 + _i);
	ck_assert_uint_eq(fd_receiver.data, 0);
	close_fd_receiver();
}

LOOP_TEST_FROM(aborting_in_the_callback_closes_the_rest_of_the_read, 1, 7)
{
	open_fd_receiver(&recorder_protocol);
	hook_at = (unsigned int)_i;
	fd_receiver.hook = abort_in_hook;
	send_marked("bytes", 0, 6);

	pump_until_lost(&fd_receiver);

	check_received(0, hook_at);
	ck_assert_int_eq(fd_receiver.reason, -ECONNABORTED);
	ck_assert_uint_eq(fd_receiver.data, 0);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_unclaimed, 6 - hook_at);
	close_fd_receiver();
}

LOOP_TEST_FROM(closing_in_the_callback_closes_the_rest_of_the_read, 1, 7)
{
	open_fd_receiver(&recorder_protocol);
	hook_at = (unsigned int)_i;
	fd_receiver.hook = lose_in_hook;
	send_marked("bytes", 0, 6);

	pump_until_lost(&fd_receiver);

	check_received(0, hook_at);
	ck_assert_int_eq(fd_receiver.reason, 0);
	ck_assert_uint_eq(fd_receiver.data, 0);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_unclaimed, 6 - hook_at);
	close_fd_receiver();
}

static void free_at_loss(struct recorder *recorder, char event)
{
	if (event == EVENT_FDS_LOST)
		recorder_free_transport(recorder);
}

TEST(freeing_in_the_loss_callback_is_allowed)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = free_at_loss;
	send_marked("bytes", 0, 5);

	limit_descriptors(2);
	pump_turns(5);
	unlimit_descriptors();

	ck_assert_uint_eq(fd_receiver.fds_lost, 1);
	ck_assert_uint_eq(fd_receiver.data, 0);
	check_received(0, 2);
	close_fd_receiver();
}

static void free_transport(struct ferry_transport *transport, int fd, void *context)
{
	(void)context;
	cb_fds++;
	close(fd);
	ferry_transport_free(transport);
}

TEST(a_bufferevents_descriptor_callback_may_free_too)
{
	make_pair(PAIR_UNIX, receiver_ends);
	struct ferry_transport *transport = make_transport(receiver_ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_setcb(bev, note_read, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_READ);
	ferry_transport_set_fd_cb(transport, free_transport, NULL);
	send_marked("bytes", 0, 6);

	pump_turns(5);

	ck_assert_uint_eq(cb_fds, 1);
	ck_assert_uint_eq(cb_reads, 0);
	ck_assert_uint_eq(cb_events, 0);
	close(receiver_ends[0]);
}

static void pause_at_first(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == 1)
		ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
}

TEST_CASE("callbacks that change things");

TEST(pausing_in_the_callback_defers_the_rest_and_loses_none)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = pause_at_first;
	send_marked("bytes", 0, 6);

	pump_turns(5);
	check_received(0, 1);
	ck_assert_uint_eq(fd_receiver.data, 0);
	ck_assert_int_eq(ferry_transport_resume_reading(fd_receiver.transport), 0);
	pump_until_length(&fd_receiver, 5);

	check_received(0, 6);
	ck_assert_str_eq(fd_receiver.events, "MFFFFFFD");
	close_fd_receiver();
}

TEST(freeing_closes_deferred_descriptors)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = pause_at_first;
	send_marked("bytes", 0, 6);
	pump_turns(5);

	/* The fixture counts. */
	close_fd_receiver();
}

static void pause_then_resume(struct recorder *recorder, char event)
{
	if (event != EVENT_FD)
		return;
	recorder->quiet = true;
	ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(recorder->transport), 0);
	recorder->quiet = false;
}

TEST(pausing_and_resuming_in_the_callback_changes_nothing)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = pause_then_resume;
	send_marked("bytes", 0, 6);

	pump_until_length(&fd_receiver, 5);

	check_received(0, 6);
	check_text("bytes");
	close_fd_receiver();
}

static struct recorder successor;

static void hand_over_at_first(struct recorder *recorder, char event)
{
	if (event != EVENT_FD || recorder->fd_count != 1)
		return;
	struct ferry_transport *transport = recorder->transport;
	recorder->transport = NULL; /* no callback of the old protocol any more */
	recorder_attach(&successor, transport, &recorder_protocol);
}

TEST(a_protocol_set_in_the_callback_gets_the_rest_after_connection_made)
{
	open_fd_receiver(&recorder_protocol);
	fd_receiver.hook = hand_over_at_first;
	send_marked("bytes", 0, 6);

	pump_turns(5);

	check_received(0, 1);
	ck_assert_str_eq(successor.events, "MFFFFFD");
	ck_assert_uint_eq(successor.fd_count, 5);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert_uint_eq(marked_number(successor.fds[i]), 1 + i);
	recorder_close(&successor);
	close_fd_receiver();
}

TEST(a_paused_transport_delivers_nothing_until_resumed)
{
	open_fd_receiver(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	ck_assert_int_eq(ferry_transport_pause_reading(fd_receiver.transport), 0);
	send_marked("bytes", 0, 2);
	pump_turns(5);
	ck_assert_str_eq(fd_receiver.events, "M");

	fd_receiver.quiet = true;
	ck_assert_int_eq(ferry_transport_resume_reading(fd_receiver.transport), 0);
	fd_receiver.quiet = false;
	pump_until_length(&fd_receiver, 5);

	ck_assert_str_eq(fd_receiver.events, "MFFD");
	close_fd_receiver();
}

static size_t offered[8];
static unsigned int offers;

static void leave_bytes(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	ck_assert_uint_lt(offers, 8);
	offered[offers++] = evbuffer_get_length(input);
}

TEST(bytes_left_in_the_input_are_offered_again)
{
	static const struct ferry_protocol lazy = {.data_received = leave_bytes};
	make_pair(PAIR_UNIX, receiver_ends);
	struct ferry_transport *transport = make_transport(receiver_ends[1]);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &lazy, NULL), 0);

	wire_send(receiver_ends[0], "abc", 3, NULL, 0);
	pump_turns(5);
	ck_assert_uint_eq(offers, 1);
	ck_assert_uint_eq(offered[0], 3);

	wire_send(receiver_ends[0], "de", 2, NULL, 0);
	pump_turns(5);
	ck_assert_uint_eq(offers, 2);
	ck_assert_uint_eq(offered[1], 5);

	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	ck_assert_uint_eq(offers, 2);
	pump_turns(5);
	ck_assert_uint_eq(offers, 3);
	ck_assert_uint_eq(offered[2], 5);

	/* Not when it was not paused: a callback that resumes to be sure would be called for ever. */
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_turns(5);
	ck_assert_uint_eq(offers, 3);
	ferry_transport_free(transport);
	close(receiver_ends[0]);
}
