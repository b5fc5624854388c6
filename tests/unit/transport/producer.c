/* Producers: who is held back, when, and how often it is told. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

static int ends[2];
static struct recorder sender;

/* A producer that writes down what it is told. */
struct producer {
	unsigned int resumed, paused, stopped;
	bool from_loop; /* no callback may run now */
	void (*on_resume)(struct producer *producer);
	void (*on_pause)(struct producer *producer);
	void (*on_stop)(struct producer *producer);
	size_t left; /* for chunks */
};

static struct producer producer;

static void resume(void *context)
{
	struct producer *p = context;
	ck_assert_msg(!p->from_loop, "resumed inside a call");
	p->resumed++;
	if (p->on_resume != NULL)
		p->on_resume(p);
}

static void pause_it(void *context)
{
	struct producer *p = context;
	p->paused++;
	if (p->on_pause != NULL)
		p->on_pause(p);
}

static void stop(void *context)
{
	struct producer *p = context;
	ck_assert_uint_eq(sender.lost, 0);
	p->stopped++;
	ck_assert_uint_eq(p->stopped, 1);
	if (p->on_stop != NULL)
		p->on_stop(p);
}

static const struct ferry_producer_callbacks callbacks = {
    .resume_producing = resume,
    .pause_producing = pause_it,
    .stop_producing = stop,
};

static void open_sender(void)
{
	make_pair(PAIR_UNIX, ends);
	recorder_open(&sender, ends[0], &recorder_protocol);
	pump_turns(2);
}

static void close_sender(void)
{
	recorder_close(&sender);
	if (ends[1] >= 0)
		close(ends[1]);
}

static int register_producer(enum ferry_producer_mode mode)
{
	return ferry_transport_register_producer(sender.transport, &callbacks, &producer, mode);
}

static void open_push(void)
{
	open_sender();
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);
}

/* So that nothing leaves until the test reads. */
static void fill_socket(void)
{
	wire_fill(ends[0]);
}

static void write_bytes(size_t length)
{
	static char zeros[1 << 20];
	ck_assert_uint_le(length, sizeof(zeros));
	ck_assert_int_eq(ferry_transport_write(sender.transport, zeros, length), 0);
}

static void queue_fd(void)
{
	ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(sender.transport, ".", 1), 0);
}

static bool everything_is_sent(void *argument)
{
	(void)argument;
	wire_drain(ends[1]);
	struct ferry_transport_stats stats = stats_of(sender.transport);
	return stats.bytes_queued + stats.fds_queued + stats.files_queued == 0;
}

static void pump_until_sent(void)
{
	pump_until(everything_is_sent, NULL);
}

/* ---- push: the marks ---- */

TEST_CASE("push");

TEST(a_push_producer_is_paused_at_the_64th_descriptor_inside_the_call_and_told_once)
{
	open_push();
	for (unsigned int i = 1; i <= 100; i++) {
		ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
		ck_assert_uint_eq(producer.paused, i < 64 ? 0 : 1);
		ck_assert_int_eq(ferry_transport_write(sender.transport, ".", 1), 0);
		ck_assert_uint_eq(producer.paused, i < 64 ? 0 : 1);
	}
	ck_assert_uint_eq(producer.resumed, 0);

	pump_until_sent();
	pump_turns(3);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

TEST(the_descriptor_mark_can_be_set)
{
	open_push();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 3, 10), 0);
	queue_fd();
	queue_fd();
	ck_assert_uint_eq(producer.paused, 0);
	queue_fd();
	ck_assert_uint_eq(producer.paused, 1);
	pump_until_sent();
	close_sender();
}

TEST(a_push_producer_is_resumed_at_half_of_the_descriptors_mark)
{
	open_push();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 10, 100), 0);
	/* Six at one byte and four more with bytes that the full socket keeps back. */
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	write_bytes(1);
	struct ferry_file_producer *file;
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(10), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, NULL, NULL, &file),
	                 0);
	ferry_file_producer_pause(file);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_uint_eq(producer.paused, 1);

	/* Six are left: more than half. */
	pump_turns(5);
	ck_assert_uint_eq(stats_of(sender.transport).fds_queued, 6);
	ck_assert_uint_eq(producer.resumed, 0);

	write_bytes(1);
	ferry_file_producer_resume(file);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

/* _i: 0 the default of 64 KiB, 1 a mark of 1,000 bytes. */
LOOP_TEST(a_push_producer_is_paused_when_bytes_exceed_the_high_mark_and_told_once, 2)
{
	open_push();
	size_t high = 65536;
	struct bufferevent *bev = ferry_transport_get_bufferevent(sender.transport);
	if (_i == 1) {
		high = 1000;
		bufferevent_setwatermark(bev, EV_WRITE, 0, high);
	}

	write_bytes(high);
	ck_assert_uint_eq(producer.paused, 0);
	write_bytes(1);
	ck_assert_uint_eq(producer.paused, 1);
	write_bytes(1);
	write_bytes(high);
	ck_assert_uint_eq(producer.paused, 1);

	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

TEST(bytes_written_through_the_bufferevent_count_too)
{
	open_push();
	static char block[40000];
	struct bufferevent *bev = ferry_transport_get_bufferevent(sender.transport);

	ck_assert_int_eq(bufferevent_write(bev, block, sizeof(block)), 0);
	ck_assert_uint_eq(producer.paused, 0);
	ck_assert_int_eq(evbuffer_add(bufferevent_get_output(bev), block, sizeof(block)), 0);

	ck_assert_uint_eq(producer.paused, 1);
	pump_until_sent();
	close_sender();
}

LOOP_TEST(a_push_producer_is_resumed_only_when_bytes_are_at_or_under_the_low_mark, 2)
{
	open_push();
	struct bufferevent *bev = ferry_transport_get_bufferevent(sender.transport);
	bufferevent_setwatermark(bev, EV_WRITE, 500, 1000);
	/* A held file keeps a known number of bytes back. */
	write_bytes(600);
	struct ferry_file_producer *file;
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(10), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, NULL, NULL, &file),
	                 0);
	ferry_file_producer_pause(file);
	write_bytes(500 + (size_t)_i);
	ck_assert_uint_eq(producer.paused, 1);

	pump_turns(5);
	ck_assert_uint_eq(stats_of(sender.transport).bytes_queued, 500 + (size_t)_i);

	ck_assert_uint_eq(producer.resumed, _i == 0 ? 1 : 0);
	ferry_file_producer_resume(file);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

TEST(a_push_producer_is_resumed_only_when_both_are_under_their_marks)
{
	open_push();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 2, 10), 0);
	struct bufferevent *bev = ferry_transport_get_bufferevent(sender.transport);
	bufferevent_setwatermark(bev, EV_WRITE, 0, 1000);
	fill_socket();
	queue_fd();
	queue_fd();
	write_bytes(2000);
	ck_assert_uint_eq(producer.paused, 1);
	/* The file holds back bytes only. */
	struct ferry_file_producer *file;
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(10), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, NULL, NULL, &file),
	                 0);
	ferry_file_producer_pause(file);
	write_bytes(1);
	for (int i = 0; i < 20; i++) {
		wire_drain(ends[1]);
		pump_turns(1);
	}
	ck_assert_uint_eq(stats_of(sender.transport).fds_queued, 0);
	ck_assert_uint_eq(stats_of(sender.transport).bytes_queued, 1);
	ck_assert_uint_eq(producer.resumed, 0);

	ferry_file_producer_resume(file);
	pump_until_sent();
	pump_turns(2);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

TEST(each_change_is_told_once)
{
	open_push();
	for (unsigned int round = 1; round <= 5; round++) {
		write_bytes(100000);
		write_bytes(100000);
		ck_assert_uint_eq(producer.paused, round);
		ck_assert_uint_eq(producer.resumed, round - 1);
		pump_until_sent();
		pump_turns(2);
		ck_assert_uint_eq(producer.resumed, round);
	}
	close_sender();
}

TEST(a_push_producer_under_the_marks_is_told_nothing)
{
	open_push();
	for (int i = 0; i < 20; i++) {
		write_bytes(1000);
		queue_fd();
		pump_until_sent();
	}
	ck_assert_uint_eq(producer.paused, 0);
	ck_assert_uint_eq(producer.resumed, 0);
	close_sender();
}

/* _i: bytes, or descriptors. */
LOOP_TEST(a_push_producer_registered_over_the_mark_is_paused_inside_the_call, 2)
{
	open_sender();
	if (_i == 0)
		write_bytes(65537);
	else
		for (int i = 0; i < 64; i++)
			queue_fd();

	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);

	ck_assert_uint_eq(producer.paused, 1);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

TEST(a_producer_that_unregistered_is_told_nothing)
{
	open_push();
	write_bytes(70000);
	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_int_eq(ferry_transport_unregister_producer(sender.transport), 0);

	pump_until_sent();
	write_bytes(70000);
	recorder_free_transport(&sender);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 0);
	ck_assert_uint_eq(producer.stopped, 0);
	close_sender();
}

TEST(a_successor_of_a_paused_producer_is_paused_itself)
{
	open_push();
	write_bytes(70000);
	ck_assert_int_eq(ferry_transport_unregister_producer(sender.transport), 0);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);
	ck_assert_uint_eq(producer.paused, 2);

	pump_until_sent();
	pump_turns(2);

	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

/* ---- pull ---- */

static void write_chunk(struct producer *p)
{
	if (p->left == 0) {
		ck_assert_int_eq(ferry_transport_unregister_producer(sender.transport), 0);
		return;
	}
	ck_assert_uint_eq(stats_of(sender.transport).bytes_queued, 0);
	p->left--;
	write_bytes(1000);
}

TEST_CASE("pull");

TEST(a_pull_producer_is_asked_once_each_time_the_stream_is_empty)
{
	open_sender();
	producer.on_resume = write_chunk;
	producer.left = 10;
	producer.from_loop = true;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	producer.from_loop = false;
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);

	size_t received = 0;
	while (sender.lost == 0) {
		pump_turns(1);
		received += wire_drain(ends[1]);
	}
	received += wire_drain(ends[1]);

	ck_assert_uint_eq(received, 10000);
	ck_assert_uint_eq(producer.resumed, 11);
	ck_assert_uint_eq(producer.paused, 0);
	ck_assert_uint_eq(producer.stopped, 0);
	ck_assert_int_eq(sender.reason, 0);
	close_sender();
}

TEST(a_pull_producer_that_wrote_nothing_is_not_asked_again)
{
	open_sender();
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	pump_turns(10);
	ck_assert_uint_eq(producer.resumed, 1);

	/* Once it has written, it is. */
	write_bytes(10);
	pump_until_sent();
	pump_turns(5);
	ck_assert_uint_eq(producer.resumed, 2);
	pump_turns(10);
	ck_assert_uint_eq(producer.resumed, 2);
	close_sender();
}

LOOP_TEST(a_pull_producer_is_not_asked_while_anything_is_queued, 3)
{
	open_sender();
	fill_socket();
	if (_i == 0)
		write_bytes(1);
	else if (_i == 1)
		queue_fd();
	else
		ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(10), FERRY_FD_TAKE,
		                                           0, FERRY_TO_END, NULL, NULL, NULL),
		                 0);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	pump_turns(10);
	ck_assert_uint_eq(producer.resumed, 0);

	pump_until_sent();
	pump_turns(5);

	ck_assert_uint_eq(producer.resumed, 1);
	close_sender();
}

static void send_file_chunk(struct producer *p)
{
	if (p->left == 0)
		return;
	p->left--;
	ck_assert_uint_eq(stats_of(sender.transport).files_queued, 0);
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(100), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, NULL, NULL, NULL),
	                 0);
}

TEST(a_pull_producer_may_write_files)
{
	open_sender();
	producer.on_resume = send_file_chunk;
	producer.left = 5;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);

	pump_until_count(&producer.resumed, 6);

	ck_assert_uint_eq(stats_of(sender.transport).files_sent, 5);
	close_sender();
}

static void queue_fd_only(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
}

TEST(a_pull_producer_that_queued_a_descriptor_without_a_byte_is_not_spun)
{
	open_sender();
	producer.on_resume = queue_fd_only;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);

	pump_turns(20);

	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(stats_of(sender.transport).fds_queued, 1);
	close_sender();
}

TEST(a_large_pulled_stream_arrives_whole)
{
	open_sender();
	producer.on_resume = write_chunk;
	producer.left = 500;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	struct recorder receiver;
	recorder_open(&receiver, ends[1], &recorder_no_half_close);
	ends[1] = -1;

	pump_until_lost(&receiver);
	pump_until_lost(&sender);

	ck_assert_uint_eq(recorder_length(&receiver), 500 * 1000);
	recorder_close(&receiver);
	close_sender();
}

/* ---- registration ---- */

TEST_CASE("registration");

TEST(a_second_producer_is_refused_and_the_first_goes_on)
{
	open_push();
	struct producer other = {0};

	ck_assert_int_eq(ferry_transport_register_producer(sender.transport, &callbacks, &other,
	                                                   FERRY_PRODUCER_PUSH),
	                 -EBUSY);
	ck_assert_int_eq(ferry_transport_register_producer(sender.transport, &callbacks, &other,
	                                                   FERRY_PRODUCER_PULL),
	                 -EBUSY);

	write_bytes(70000);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(other.paused + other.resumed + other.stopped, 0);
	close_sender();
}

TEST(bad_arguments_are_refused)
{
	static const struct ferry_producer_callbacks no_resume = {.pause_producing = pause_it};
	static const struct ferry_producer_callbacks no_pause = {.resume_producing = resume};
	open_sender();
	struct ferry_transport *t = sender.transport;

	ck_assert_int_eq(ferry_transport_register_producer(NULL, &callbacks, NULL, FERRY_PRODUCER_PUSH),
	                 -EINVAL);
	ck_assert_int_eq(ferry_transport_register_producer(t, NULL, NULL, FERRY_PRODUCER_PUSH),
	                 -EINVAL);
	ck_assert_int_eq(ferry_transport_register_producer(t, &no_resume, NULL, FERRY_PRODUCER_PUSH),
	                 -EINVAL);
	ck_assert_int_eq(ferry_transport_register_producer(t, &no_resume, NULL, FERRY_PRODUCER_PULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_transport_register_producer(t, &no_pause, NULL, FERRY_PRODUCER_PUSH),
	                 -EINVAL);
	ck_assert_int_eq(register_producer((enum ferry_producer_mode)0), -EINVAL);
	ck_assert_int_eq(register_producer((enum ferry_producer_mode)3), -EINVAL);
	ck_assert_int_eq(ferry_transport_unregister_producer(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_unregister_producer(t), -ENOENT);

	ck_assert_int_eq(
	    ferry_transport_register_producer(t, &no_pause, &producer, FERRY_PRODUCER_PULL), 0);
	ck_assert_int_eq(ferry_transport_unregister_producer(t), 0);
	ck_assert_int_eq(ferry_transport_unregister_producer(t), -ENOENT);
	close_sender();
}

LOOP_TEST(a_producer_is_refused_when_nothing_can_be_sent_any_more, 3)
{
	open_sender();
	if (_i == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	else if (_i == 1)
		ck_assert_int_eq(ferry_transport_lose_write_connection(sender.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), -EPIPE);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), -EPIPE);

	recorder_free_transport(&sender);
	ck_assert_uint_eq(producer.stopped, 0);
	close_sender();
}

/* ---- the end ---- */

static void is_unregistered_in_stop(struct producer *p)
{
	(void)p;
	if (sender.transport != NULL)
		ck_assert_int_eq(ferry_transport_unregister_producer(sender.transport), -ENOENT);
}

TEST_CASE("the end");

/* _i: push or pull, and three ways to go. */
LOOP_TEST(a_producer_is_stopped_once_before_connection_lost, 6)
{
	open_sender();
	producer.on_stop = is_unregistered_in_stop;
	ck_assert_int_eq(register_producer(_i % 2 == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	pump_turns(2);
	if (_i / 2 == 0) {
		close(ends[1]);
		ends[1] = -1;
		write_bytes(1);
	} else if (_i / 2 == 1) {
		ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
		ck_assert_uint_eq(producer.stopped, 0);
	} else {
		fill_socket();
		bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL,
		                         &(struct timeval){.tv_usec = 1000});
		write_bytes(1);
	}

	pump_until_lost(&sender);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_int_lt(sender.reason, 0);
	close_sender();
	ck_assert_uint_eq(producer.stopped, 1);
}

TEST(freeing_the_transport_stops_the_producer_inside_the_call)
{
	open_push();

	recorder_free_transport(&sender);

	ck_assert_uint_eq(producer.stopped, 1);
	close_sender();
}

TEST(stop_producing_may_be_missing)
{
	static const struct ferry_producer_callbacks no_stop = {.resume_producing = resume,
	                                                        .pause_producing = pause_it};
	open_sender();
	ck_assert_int_eq(ferry_transport_register_producer(sender.transport, &no_stop, &producer,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	pump_until_lost(&sender);
	close_sender();
}

/* _i: push or pull, whole or half. Twisted #6461 closes at once on an unpaused push producer. */
LOOP_TEST(closing_waits_for_the_producer, 4)
{
	open_sender();
	ck_assert_int_eq(register_producer(_i % 2 == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	pump_turns(2);
	if (_i / 2 == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_lose_write_connection(sender.transport), 0);

	pump_turns(10);
	ck_assert_uint_eq(sender.lost, 0);
	ck_assert_int_eq(wire_expect(ends[1], 0, 1), -EAGAIN);
	/* The producer still writes, bytes and descriptors. */
	queue_fd();
	pump_turns(5);
	ck_assert_uint_eq(wire_drain(ends[1]), 1);
	queue_fd();
	sender.quiet = true;
	ck_assert_int_eq(ferry_transport_unregister_producer(sender.transport), 0);
	sender.quiet = false;
	ck_assert_int_eq(ferry_transport_write(sender.transport, "x", 1), -EPIPE);

	pump_turns(5);
	ck_assert_uint_eq(wire_drain(ends[1]), 1);
	ck_assert_int_eq(wire_expect(ends[1], 0, 1), 0);
	if (_i / 2 == 1) {
		ck_assert_uint_eq(sender.lost, 0);
		ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	}
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, 0);
	ck_assert_uint_eq(producer.stopped, 0);
	close_sender();
}

TEST(a_producer_that_waits_to_be_closed_is_stopped_when_the_peer_goes)
{
	open_push();
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	close(ends[1]);
	ends[1] = -1;
	/* Reading has stopped: the writing finds it out. */
	write_bytes(1);

	pump_until_lost(&sender);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_int_eq(sender.reason, -EPIPE);
	close_sender();
}

TEST(an_idle_producer_is_stopped_when_the_peer_ends_and_nobody_wants_half_a_connection)
{
	open_push();
	ck_assert_int_eq(
	    ferry_transport_set_protocol(sender.transport, &recorder_no_half_close, &sender), 0);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);

	pump_until_lost(&sender);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_int_eq(sender.reason, 0);
	close_sender();
}

/* ---- callbacks that do things ---- */

static void free_the_transport(struct producer *p)
{
	(void)p;
	recorder_free_transport(&sender);
}

TEST_CASE("inside callbacks");

LOOP_TEST(the_transport_may_be_freed_in_pause_producing, 3)
{
	open_push();
	producer.on_pause = free_the_transport;
	static char block[70000];
	int fds_before_pause = count_open_fds();

	/* The call that crossed the mark comes back, whatever it says. */
	if (_i == 0) {
		(void)ferry_transport_write(sender.transport, block, sizeof(block));
	} else if (_i == 1) {
		(void)bufferevent_write(ferry_transport_get_bufferevent(sender.transport), block,
		                        sizeof(block));
	} else {
		ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 1, 10), 0);
		(void)ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP);
	}

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	pump_turns(3);
	ck_assert_int_eq(count_open_fds(), fds_before_pause - 1);
	close_sender();
}

TEST(the_transport_may_be_freed_in_pause_producing_of_the_registration)
{
	open_sender();
	write_bytes(70000);
	producer.on_pause = free_the_transport;

	(void)register_producer(FERRY_PRODUCER_PUSH);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	close_sender();
}

TEST(a_descriptor_given_in_the_call_that_pauses_and_frees_is_closed_once)
{
	open_push();
	producer.on_pause = free_the_transport;
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 1, 10), 0);
	int fd = make_marked_fd(1);

	/* It was queued before the producer was told, so it went with the transport. */
	ck_assert_int_eq(ferry_transport_send_fd(sender.transport, fd, FERRY_FD_TAKE), 0);

	ck_assert(!fd_is_open(fd));
	close_sender();
}

LOOP_TEST(the_transport_may_be_freed_in_resume_producing, 2)
{
	open_sender();
	producer.on_resume = free_the_transport;
	ck_assert_int_eq(register_producer(_i == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	if (_i == 0)
		write_bytes(70000);

	while (sender.transport != NULL) {
		pump_turns(1);
		wire_drain(ends[1]);
	}

	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(producer.stopped, 1);
	close_sender();
}

TEST(the_transport_may_be_freed_in_stop_producing)
{
	open_push();
	producer.on_stop = free_the_transport;
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);

	while (sender.transport != NULL)
		pump_turns(1);
	pump_turns(3);

	ck_assert_uint_eq(producer.stopped, 1);
	ck_assert_uint_eq(sender.lost, 0);
	close_sender();
}

static struct producer second;

static void hand_over(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(ferry_transport_unregister_producer(sender.transport), 0);
	ck_assert_int_eq(ferry_transport_register_producer(sender.transport, &callbacks, &second,
	                                                   FERRY_PRODUCER_PUSH),
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
	close_sender();
	ck_assert_uint_eq(second.stopped, 1);
}

LOOP_TEST(a_producer_may_be_replaced_in_resume_producing, 2)
{
	open_sender();
	producer.on_resume = hand_over;
	ck_assert_int_eq(register_producer(_i == 0 ? FERRY_PRODUCER_PUSH : FERRY_PRODUCER_PULL), 0);
	if (_i == 0)
		write_bytes(70000);

	while (producer.resumed == 0) {
		pump_turns(1);
		wire_drain(ends[1]);
	}
	write_bytes(70000);
	pump_until_sent();
	pump_turns(2);

	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(second.paused, 1);
	ck_assert_uint_eq(second.resumed, 1);
	close_sender();
}

static void register_again(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), -EPIPE);
}

TEST(a_producer_cannot_be_registered_when_it_is_told_to_stop)
{
	open_push();
	producer.on_stop = register_again;
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);

	pump_until_lost(&sender);

	ck_assert_uint_eq(producer.stopped, 1);
	close_sender();
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
		wire_drain(ends[1]);
	}

	ck_assert_uint_eq(producer.paused, 4);
	close_sender();
}

static void end_connection(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(ferry_transport_unregister_producer(sender.transport), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
}

LOOP_TEST(a_producer_may_end_the_connection_in_its_callbacks, 2)
{
	open_sender();
	if (_i == 0) {
		producer.on_pause = end_connection;
		ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);
		write_bytes(70000);
	} else {
		producer.on_resume = end_connection;
		ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	}

	while (sender.lost == 0) {
		pump_turns(1);
		wire_drain(ends[1]);
	}

	ck_assert_int_eq(sender.reason, 0);
	close_sender();
}
