/* A transport stops its producer when the connection ends, and callbacks of a producer call every function. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "producing.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static void is_unregistered_in_stop(struct producer *p)
{
	(void)p;
	if (producing.transport != NULL)
		ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), -ENOENT);
}

TEST_CASE("the end");

/* _i: push or pull, and three ways to go. */
LOOP_TEST(a_producer_is_stopped_once_before_connection_lost, 6)
{
	open_producing();
	producer.on_stop = is_unregistered_in_stop;
	ck_assert_int_eq(register_producer(_i % 2 == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	pump_turns(2);
	if (_i / 2 == 0) {
		close(producing_ends[1]);
		producing_ends[1] = -1;
		write_bytes(1);
	} else if (_i / 2 == 1) {
		ck_assert_int_eq(ferry_transport_abort_connection(producing.transport), 0);
		ck_assert_uint_eq(producer.stopped, 0);
	} else {
		fill_socket();
		bufferevent_set_timeouts(ferry_transport_get_bufferevent(producing.transport), NULL,
		                         &(struct timeval){.tv_usec = 1000});
		write_bytes(1);
	}

	pump_until_lost(&producing);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_int_lt(producing.reason, 0);
	close_producing();
	ck_assert_uint_eq(producer.stopped, 1);
}

TEST(freeing_the_transport_stops_the_producer_inside_the_call)
{
	open_push();

	recorder_free_transport(&producing);

	ck_assert_uint_eq(producer.stopped, 1);
	close_producing();
}

TEST(stop_producing_may_be_missing)
{
	static const struct ferry_producer_callbacks no_stop = {.resume_producing = producer_resume,
	                                                        .pause_producing = producer_pause};
	open_producing();
	ck_assert_int_eq(ferry_transport_register_producer(producing.transport, &no_stop, &producer,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	ck_assert_int_eq(ferry_transport_abort_connection(producing.transport), 0);
	pump_until_lost(&producing);
	close_producing();
}

/* _i: push or pull, whole or half. Twisted #6461 closes at once on an unpaused push producer. */
LOOP_TEST(closing_waits_for_the_producer, 4)
{
	open_producing();
	ck_assert_int_eq(register_producer(_i % 2 == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	pump_turns(2);
	if (_i / 2 == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(producing.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_lose_write_connection(producing.transport), 0);

	pump_turns(10);
	ck_assert_uint_eq(producing.lost, 0);
	ck_assert_int_eq(wire_expect(producing_ends[1], 0, 1), -EAGAIN);
	/* The producer still writes, bytes and descriptors. */
	queue_fd();
	pump_turns(5);
	ck_assert_uint_eq(wire_drain(producing_ends[1]), 1);
	queue_fd();
	producing.quiet = true;
	ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), 0);
	producing.quiet = false;
	ck_assert_int_eq(ferry_transport_write(producing.transport, "x", 1), -EPIPE);

	pump_turns(5);
	ck_assert_uint_eq(wire_drain(producing_ends[1]), 1);
	ck_assert_int_eq(wire_expect(producing_ends[1], 0, 1), 0);
	if (_i / 2 == 1) {
		ck_assert_uint_eq(producing.lost, 0);
		ck_assert_int_eq(shutdown(producing_ends[1], SHUT_WR), 0);
	}
	pump_until_lost(&producing);
	ck_assert_int_eq(producing.reason, 0);
	ck_assert_uint_eq(producer.stopped, 0);
	close_producing();
}

TEST(a_producer_that_waits_to_be_closed_is_stopped_when_the_peer_goes)
{
	open_push();
	ck_assert_int_eq(ferry_transport_lose_connection(producing.transport), 0);
	close(producing_ends[1]);
	producing_ends[1] = -1;
	/* Reading has stopped: the writing finds it out. */
	write_bytes(1);

	pump_until_lost(&producing);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_int_eq(producing.reason, -EPIPE);
	close_producing();
}

TEST(an_idle_producer_is_stopped_when_the_peer_ends_without_a_callback_for_it)
{
	open_push();
	ck_assert_int_eq(
	    ferry_transport_set_protocol(producing.transport, &recorder_no_half_close, &producing), 0);
	ck_assert_int_eq(shutdown(producing_ends[1], SHUT_WR), 0);

	pump_until_lost(&producing);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_int_eq(producing.reason, 0);
	close_producing();
}

static void free_the_transport(struct producer *p)
{
	(void)p;
	recorder_free_transport(&producing);
}

TEST_CASE("inside callbacks");

LOOP_TEST(the_transport_may_be_freed_in_pause_producing, 3)
{
	open_push();
	producer.on_pause = free_the_transport;
	static char block[70000];
	int fds_before_pause = count_open_fds();

	/* The call that crosses the mark must return safely, though the transport is freed inside it.
	 * Its result does not matter. */
	if (_i == 0) {
		(void)ferry_transport_write(producing.transport, block, sizeof(block));
	} else if (_i == 1) {
		(void)bufferevent_write(ferry_transport_get_bufferevent(producing.transport), block,
		                        sizeof(block));
	} else {
		ck_assert_int_eq(ferry_transport_set_fd_buffer(producing.transport, 1, 10), 0);
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
		(void)ferry_transport_write(producing.transport, ".", 1);
	}

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	pump_turns(3);
	ck_assert_int_eq(count_open_fds(), fds_before_pause - 1);
	close_producing();
}

TEST(the_transport_may_be_freed_in_pause_producing_of_the_registration)
{
	open_producing();
	write_bytes(70000);
	producer.on_pause = free_the_transport;

	(void)register_producer(FERRY_PRODUCER_PUSH);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	close_producing();
}

TEST(a_descriptor_whose_byte_pauses_and_frees_is_closed_once)
{
	open_push();
	producer.on_pause = free_the_transport;
	ck_assert_int_eq(ferry_transport_set_fd_buffer(producing.transport, 1, 10), 0);
	int fd = make_marked_fd(1);

	ck_assert_int_eq(ferry_transport_send_fd(producing.transport, fd, FERRY_FD_TAKE), 0);
	ck_assert(fd_is_open(fd));
	(void)ferry_transport_write(producing.transport, ".", 1);

	ck_assert(!fd_is_open(fd));
	close_producing();
}

LOOP_TEST(the_transport_may_be_freed_in_resume_producing, 2)
{
	open_producing();
	producer.on_resume = free_the_transport;
	ck_assert_int_eq(register_producer(_i == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	if (_i == 0)
		write_bytes(70000);

	while (producing.transport != NULL) {
		pump_turns(1);
		wire_drain(producing_ends[1]);
	}

	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	close_producing();
}

TEST(the_transport_may_be_freed_in_stop_producing)
{
	open_push();
	producer.on_stop = free_the_transport;
	ck_assert_int_eq(ferry_transport_abort_connection(producing.transport), 0);

	while (producing.transport != NULL)
		pump_turns(1);
	pump_turns(3);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_uint_eq(producing.lost, 0);
	close_producing();
}

static struct producer second;

static void hand_over(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), 0);
	ck_assert_int_eq(ferry_transport_register_producer(producing.transport, &producer_callbacks,
	                                                   &second, FERRY_PRODUCER_PUSH),
	                 0);
}

TEST(a_producer_may_be_replaced_in_pause_producing)
{
	open_push();
	producer.on_pause = hand_over;

	write_bytes(70000);

	/* The marks are crossed for the new one too. */
	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(second.paused, 1);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.resumed, 0);
	ck_assert_uint_eq(second.resumed, 1);
	ck_assert_uint_eq(producer.stopped, 0);
	close_producing();
	ck_assert_uint_eq(second.stopped, 1);
}

LOOP_TEST(a_producer_may_be_replaced_in_resume_producing, 2)
{
	open_producing();
	producer.on_resume = hand_over;
	ck_assert_int_eq(register_producer(_i == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	if (_i == 0)
		write_bytes(70000);

	while (producer.resumed == 0) {
		pump_turns(1);
		wire_drain(producing_ends[1]);
	}
	write_bytes(70000);
	pump_until_sent();
	pump_turns(2);

	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(second.paused, 1);
	ck_assert_uint_eq(second.resumed, 1);
	close_producing();
}

static void register_again(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), -EPIPE);
}

TEST(a_producer_cannot_be_registered_in_stop_producing)
{
	open_push();
	producer.on_stop = register_again;
	ck_assert_int_eq(ferry_transport_abort_connection(producing.transport), 0);

	pump_until_lost(&producing);

	ck_assert_uint_eq(producer.stopped, 1);
	close_producing();
}

static void write_much(struct producer *p)
{
	if (p->left-- > 0)
		write_bytes(100000);
}

TEST(a_push_producer_may_cross_the_mark_again_while_it_is_resumed)
{
	open_push();
	producer.on_resume = write_much;
	producer.left = 3;
	write_bytes(100000);

	pump_until_count(&producer.paused, 1);
	while (producer.resumed < 4) {
		pump_turns(1);
		wire_drain(producing_ends[1]);
	}

	ck_assert_uint_eq(producer.paused, 4);
	close_producing();
}

static void end_connection(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(producing.transport), 0);
}

LOOP_TEST(a_producer_may_end_the_connection_in_its_callbacks, 2)
{
	open_producing();
	if (_i == 0) {
		producer.on_pause = end_connection;
		ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);
		write_bytes(70000);
	} else {
		producer.on_resume = end_connection;
		ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	}

	while (producing.lost == 0) {
		pump_turns(1);
		wire_drain(producing_ends[1]);
	}

	ck_assert_int_eq(producing.reason, 0);
	close_producing();
}
