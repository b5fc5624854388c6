/* A transport pauses and resumes a push producer at its watermarks, and asks a pull producer for each piece. */

#include <errno.h>
#include <unistd.h>

#include "producing.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("push");

TEST(a_push_producer_is_paused_once_by_the_byte_of_the_64th_descriptor_inside_the_call)
{
	open_push();
	for (unsigned int i = 1; i <= 100; i++) {
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
		ck_assert_uint_eq(producer.paused, i <= 64 ? 0 : 1);
		ck_assert_int_eq(ferry_transport_write(producing.transport, ".", 1), 0);
		ck_assert_uint_eq(producer.paused, i < 64 ? 0 : 1);
	}
	ck_assert_uint_eq(producer.resumed, 0);

	pump_until_sent();
	pump_turns(3);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

TEST(the_descriptor_mark_can_be_set)
{
	open_push();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(producing.transport, 3, 10), 0);
	queue_fd();
	queue_fd();
	ck_assert_uint_eq(producer.paused, 0);
	queue_fd();
	ck_assert_uint_eq(producer.paused, 1);
	pump_until_sent();
	close_producing();
}

/* The producer of a relay is the other side's reading: a pause would hold back the very byte. */
TEST(descriptors_without_a_byte_never_pause_a_push_producer)
{
	open_push();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(producing.transport, 253), 0);
	for (int i = 0; i < 253; i++)
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
	pump_turns(3);
	ck_assert_uint_eq(producer.paused, 0);

	write_bytes(1);
	ck_assert_uint_eq(producer.paused, 1);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

TEST(a_push_producer_registered_with_descriptors_that_wait_for_a_byte_is_not_paused)
{
	open_producing();
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);
	ck_assert_uint_eq(producer.paused, 0);
	close_producing();
}

TEST(a_push_producer_is_resumed_while_descriptors_wait_for_a_byte)
{
	open_push();
	for (int i = 0; i < 64; i++)
		queue_fd();
	ck_assert_uint_eq(producer.paused, 1);
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
	pump_until_count(&producer.resumed, 1);
	ck_assert_uint_eq(stats_of(producing.transport).fds_queued, 64);
	close_producing();
}

/* A file is a byte to travel with; when it turns out to have none, its descriptors wait again. */
TEST(descriptors_before_a_file_count_until_the_file_is_stopped)
{
	open_push();
	struct ferry_file_producer *file;
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
	fill_socket();
	ck_assert_int_eq(ferry_transport_send_file(&file, producing.transport, make_file(10),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ck_assert_uint_eq(producer.paused, 1);

	ferry_file_producer_stop(file);
	wire_drain(producing_ends[1]);
	pump_turns(3);

	ck_assert_uint_eq(stats_of(producing.transport).fds_queued, 64);
	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

TEST(a_push_producer_is_resumed_at_half_of_the_descriptors_mark)
{
	open_push();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(producing.transport, 10, 100), 0);
	/* Six at one byte and four more with bytes that the full socket keeps back. */
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
	write_bytes(1);
	struct ferry_file_producer *file;
	ck_assert_int_eq(ferry_transport_send_file(&file, producing.transport, make_file(10),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ferry_file_producer_pause(file);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 0);
	ck_assert_uint_eq(producer.paused, 0);
	write_bytes(1);
	ck_assert_uint_eq(producer.paused, 1);

	/* Six are left: more than half. */
	pump_turns(5);
	ck_assert_uint_eq(stats_of(producing.transport).fds_queued, 6);
	ck_assert_uint_eq(producer.resumed, 0);

	ferry_file_producer_resume(file);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

/* _i: 0 the default of 64 KiB, 1 a mark of 1,000 bytes. */
LOOP_TEST(a_push_producer_is_paused_once_when_bytes_exceed_the_high_mark, 2)
{
	open_push();
	size_t high = 65536;
	struct bufferevent *bev = ferry_transport_get_bufferevent(producing.transport);
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
	close_producing();
}

TEST(bytes_written_through_the_bufferevent_count_too)
{
	open_push();
	static char block[40000];
	struct bufferevent *bev = ferry_transport_get_bufferevent(producing.transport);

	ck_assert_int_eq(bufferevent_write(bev, block, sizeof(block)), 0);
	ck_assert_uint_eq(producer.paused, 0);
	ck_assert_int_eq(evbuffer_add(bufferevent_get_output(bev), block, sizeof(block)), 0);

	ck_assert_uint_eq(producer.paused, 1);
	pump_until_sent();
	close_producing();
}

LOOP_TEST(a_push_producer_is_resumed_only_when_bytes_are_at_or_under_the_low_mark, 2)
{
	open_push();
	struct bufferevent *bev = ferry_transport_get_bufferevent(producing.transport);
	bufferevent_setwatermark(bev, EV_WRITE, 500, 1000);
	/* The bytes behind a paused file stay queued, and their count is known. */
	write_bytes(600);
	struct ferry_file_producer *file;
	ck_assert_int_eq(ferry_transport_send_file(&file, producing.transport, make_file(10),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ferry_file_producer_pause(file);
	write_bytes(500 + (size_t)_i);
	ck_assert_uint_eq(producer.paused, 1);

	pump_turns(5);
	ck_assert_uint_eq(stats_of(producing.transport).bytes_queued, 500 + (size_t)_i);

	ck_assert_uint_eq(producer.resumed, _i == 0 ? 1 : 0);
	ferry_file_producer_resume(file);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

TEST(a_push_producer_is_resumed_only_when_both_are_under_their_marks)
{
	open_push();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(producing.transport, 2, 10), 0);
	struct bufferevent *bev = ferry_transport_get_bufferevent(producing.transport);
	bufferevent_setwatermark(bev, EV_WRITE, 0, 1000);
	fill_socket();
	queue_fd();
	queue_fd();
	write_bytes(2000);
	ck_assert_uint_eq(producer.paused, 1);
	/* The file holds back bytes only. */
	struct ferry_file_producer *file;
	ck_assert_int_eq(ferry_transport_send_file(&file, producing.transport, make_file(10),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ferry_file_producer_pause(file);
	write_bytes(1);
	for (int i = 0; i < 20; i++) {
		wire_drain(producing_ends[1]);
		pump_turns(1);
	}
	ck_assert_uint_eq(stats_of(producing.transport).fds_queued, 0);
	ck_assert_uint_eq(stats_of(producing.transport).bytes_queued, 1);
	ck_assert_uint_eq(producer.resumed, 0);

	ferry_file_producer_resume(file);
	pump_until_sent();
	pump_turns(2);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

TEST(each_change_is_one_callback)
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
	close_producing();
}

TEST(a_push_producer_under_the_marks_gets_no_callback)
{
	open_push();
	for (int i = 0; i < 20; i++) {
		write_bytes(1000);
		queue_fd();
		pump_until_sent();
	}
	ck_assert_uint_eq(producer.paused, 0);
	ck_assert_uint_eq(producer.resumed, 0);
	close_producing();
}

/* _i: bytes, or descriptors. */
LOOP_TEST(a_push_producer_registered_over_the_mark_is_paused_inside_the_call, 2)
{
	open_producing();
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
	close_producing();
}

TEST(an_unregistered_producer_gets_no_callback)
{
	open_push();
	write_bytes(70000);
	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), 0);

	pump_until_sent();
	write_bytes(70000);
	recorder_free_transport(&producing);

	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 0);
	ck_assert_uint_eq(producer.stopped, 0);
	close_producing();
}

TEST(a_successor_of_a_paused_producer_is_paused_itself)
{
	open_push();
	write_bytes(70000);
	ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), 0);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), 0);
	ck_assert_uint_eq(producer.paused, 2);

	pump_until_sent();
	pump_turns(2);

	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

static void write_chunk(struct producer *p)
{
	if (p->left == 0) {
		ck_assert_int_eq(ferry_transport_unregister_producer(producing.transport), 0);
		return;
	}
	ck_assert_uint_eq(stats_of(producing.transport).bytes_queued, 0);
	p->left--;
	write_bytes(1000);
}

TEST_CASE("pull");

TEST(a_pull_producer_is_asked_once_each_time_the_stream_is_empty)
{
	open_producing();
	producer.on_resume = write_chunk;
	producer.left = 10;
	producer.from_loop = true;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	producer.from_loop = false;
	ck_assert_int_eq(ferry_transport_lose_connection(producing.transport), 0);

	size_t received = 0;
	while (producing.lost == 0) {
		pump_turns(1);
		received += wire_drain(producing_ends[1]);
	}
	received += wire_drain(producing_ends[1]);

	ck_assert_uint_eq(received, 10000);
	ck_assert_uint_eq(producer.resumed, 11);
	ck_assert_uint_eq(producer.paused, 0);
	ck_assert_uint_eq(producer.stopped, 0);
	ck_assert_int_eq(producing.reason, 0);
	close_producing();
}

TEST(a_pull_producer_that_wrote_nothing_is_not_asked_again)
{
	open_producing();
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
	close_producing();
}

LOOP_TEST(a_pull_producer_is_not_asked_while_anything_is_queued, 3)
{
	/* Before Linux 6.5 a full unix socket takes some pages more from sendfile(2). */
	enum { MORE_THAN_IS_TAKEN = 2 << 20 };
	open_producing();
	fill_socket();
	if (_i == 0)
		write_bytes(1);
	else if (_i == 1)
		queue_fd();
	else
		ck_assert_int_eq(ferry_transport_send_file(NULL, producing.transport,
		                                           make_file(MORE_THAN_IS_TAKEN), FERRY_FD_TAKE, 0,
		                                           FERRY_TO_END, 0, NULL, NULL),
		                 0);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	pump_turns(10);
	ck_assert_uint_eq(producer.resumed, 0);

	pump_until_sent();
	pump_turns(5);

	ck_assert_uint_eq(producer.resumed, 1);
	close_producing();
}

static void send_file_chunk(struct producer *p)
{
	if (p->left == 0)
		return;
	p->left--;
	ck_assert_uint_eq(stats_of(producing.transport).files_queued, 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, producing.transport, make_file(100),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
}

TEST(a_pull_producer_may_write_files)
{
	open_producing();
	producer.on_resume = send_file_chunk;
	producer.left = 5;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);

	pump_until_count(&producer.resumed, 6);

	ck_assert_uint_eq(stats_of(producing.transport).files_sent, 5);
	close_producing();
}

static void queue_fd_only(struct producer *p)
{
	(void)p;
	ck_assert_int_eq(ferry_transport_send_fd(producing.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
}

TEST(a_pull_producer_that_queued_a_descriptor_without_a_byte_is_not_spun)
{
	open_producing();
	producer.on_resume = queue_fd_only;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);

	pump_turns(20);

	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(stats_of(producing.transport).fds_queued, 1);
	close_producing();
}

TEST(a_large_pulled_stream_arrives_whole)
{
	open_producing();
	producer.on_resume = write_chunk;
	producer.left = 500;
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(producing.transport), 0);
	struct recorder receiver;
	recorder_open(&receiver, producing_ends[1], &recorder_no_half_close);
	producing_ends[1] = -1;

	pump_until_lost(&receiver);
	pump_until_lost(&producing);

	ck_assert_uint_eq(recorder_length(&receiver), 500 * 1000);
	recorder_close(&receiver);
	close_producing();
}

TEST_CASE("registration");

TEST(a_second_producer_is_refused_and_the_first_goes_on)
{
	open_push();
	struct producer other = {0};

	ck_assert_int_eq(ferry_transport_register_producer(producing.transport, &producer_callbacks,
	                                                   &other, FERRY_PRODUCER_PUSH),
	                 -EBUSY);
	ck_assert_int_eq(ferry_transport_register_producer(producing.transport, &producer_callbacks,
	                                                   &other, FERRY_PRODUCER_PULL),
	                 -EBUSY);

	write_bytes(70000);
	pump_until_sent();
	pump_turns(2);
	ck_assert_uint_eq(producer.paused, 1);
	ck_assert_uint_eq(producer.resumed, 1);
	ck_assert_uint_eq(other.paused + other.resumed + other.stopped, 0);
	close_producing();
}

TEST(bad_arguments_are_refused)
{
	static const struct ferry_producer_callbacks no_resume = {.pause_producing = producer_pause};
	static const struct ferry_producer_callbacks no_pause = {.resume_producing = producer_resume};
	open_producing();
	struct ferry_transport *t = producing.transport;

	ck_assert_int_eq(
	    ferry_transport_register_producer(NULL, &producer_callbacks, NULL, FERRY_PRODUCER_PUSH),
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
	close_producing();
}

LOOP_TEST(a_producer_is_refused_when_nothing_can_be_sent_any_more, 3)
{
	open_producing();
	if (_i == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(producing.transport), 0);
	else if (_i == 1)
		ck_assert_int_eq(ferry_transport_lose_write_connection(producing.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_abort_connection(producing.transport), 0);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PUSH), -EPIPE);
	ck_assert_int_eq(register_producer(FERRY_PRODUCER_PULL), -EPIPE);

	recorder_free_transport(&producing);
	ck_assert_uint_eq(producer.stopped, 0);
	close_producing();
}
