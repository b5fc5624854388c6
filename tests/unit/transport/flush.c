/* The hard limit of queued bytes, and ferry_transport_flush(). */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "plain_link.h"
#include "test.h"
#include "wire.h"

enum { MIB = 1024 * 1024 };

static char block[MIB];

TEST_CASE("the byte limit");

static int write_bytes(size_t length)
{
	return ferry_transport_write(near.transport, block, length);
}

TEST(no_limit_of_bytes_is_set_at_first)
{
	open_plain_link(LINK_UNIX);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(write_bytes(MIB), 0);
	close_plain_link();
}

LOOP_TEST(writes_beyond_the_byte_limit_are_refused_whole, LINK_KINDS)
{
	open_plain_link(_i);
	ck_assert_int_eq(ferry_transport_set_byte_limit(near.transport, 1000), 0);
	ck_assert_int_eq(write_bytes(1001), -ENOBUFS);
	ck_assert_int_eq(write_bytes(600), 0);
	ck_assert_int_eq(write_bytes(401), -ENOBUFS);
	ck_assert_int_eq(write_bytes(400), 0);
	ck_assert_int_eq(write_bytes(1), -ENOBUFS);
	ck_assert_int_eq(write_bytes(0), 0);
	ck_assert_uint_eq(stats_of(near.transport).bytes_queued, 1000);

	struct evbuffer *buffer = evbuffer_new();
	evbuffer_add(buffer, block, 10);
	ck_assert_int_eq(ferry_transport_write_buffer(near.transport, buffer), -ENOBUFS);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 10);
	pump_turns(3);
	ck_assert_int_eq(ferry_transport_write_buffer(near.transport, buffer), 0);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 0);
	evbuffer_free(buffer);

	ck_assert_int_eq(ferry_transport_set_byte_limit(near.transport, 0), 0);
	ck_assert_int_eq(write_bytes(MIB), 0);
	ck_assert_int_eq(ferry_transport_set_byte_limit(NULL, 0), -EINVAL);
	close_plain_link();
}

TEST(a_closed_connection_is_reported_before_the_byte_limit)
{
	open_plain_link(LINK_UNIX);
	ck_assert_int_eq(ferry_transport_set_byte_limit(near.transport, 10), 0);
	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	ck_assert_int_eq(write_bytes(11), -EPIPE);
	close_plain_link();
}

TEST(a_line_beyond_the_byte_limit_is_refused_whole)
{
	static const struct ferry_line_callbacks callbacks = {0};
	struct ferry_line_stream *stream;
	char text[16];
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_line_stream_new(&stream, transport, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_transport_set_byte_limit(transport, 6), 0);
	ck_assert_int_eq(ferry_line_stream_send(stream, "hello!", 6), -ENOBUFS);
	ck_assert_int_eq(ferry_line_stream_send(stream, "hello", 5), 0);
	ck_assert_int_eq(ferry_line_stream_send(stream, "", 0), -ENOBUFS);
	pump_turns(2);
	ck_assert_int_eq(read(ends[1], text, sizeof(text)), 6);
	ferry_line_stream_free(stream);
	pump_turns(2);
	close(ends[1]);
}

TEST(a_message_beyond_the_byte_limit_is_refused_whole_with_its_descriptors)
{
	static const struct ferry_message_callbacks callbacks = {0};
	struct ferry_message_stream *stream;
	int ends[2], fd = make_marked_fd(7);

	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_transport_set_byte_limit(transport, 100), 0);
	ck_assert_int_eq(ferry_message_stream_send(stream, 1, block, 100, &fd, 1, FERRY_FD_TAKE),
	                 -ENOBUFS);
	ck_assert(fd_is_open(fd));
	ck_assert_uint_eq(stats_of(transport).fds_queued + stats_of(transport).bytes_queued, 0);
	ck_assert_int_eq(ferry_message_stream_send(stream, 1, block, 84, &fd, 1, FERRY_FD_TAKE), 0);
	ck_assert_uint_eq(stats_of(transport).bytes_queued, 100);
	ferry_message_stream_free(stream);
	pump_turns(2);
	close(ends[1]);
}

TEST_CASE("flushing");

/* A thread that reads the far end until `expected` bytes have come. */
static struct {
	pthread_t thread;
	int fd;
	size_t expected, arrived;
	bool intact; /* the bytes are support_byte() from 0 on */
} far_reader;

static void *read_far(void *argument)
{
	static unsigned char buffer[65536];

	(void)argument;
	while (far_reader.arrived < far_reader.expected) {
		struct pollfd poll_fd = {.fd = far_reader.fd, .events = POLLIN};
		(void)poll(&poll_fd, 1, 1000);
		ssize_t length = read(far_reader.fd, buffer, sizeof(buffer));
		if (length == 0)
			break;
		for (ssize_t i = 0; i < length; i++)
			far_reader.intact &= buffer[i] == support_byte(far_reader.arrived + (uint64_t)i);
		far_reader.arrived += length > 0 ? (size_t)length : 0;
	}
	return NULL;
}

static void start_reader(size_t expected)
{
	far_reader.fd = far_in;
	far_reader.expected = expected;
	far_reader.arrived = 0;
	far_reader.intact = true;
	ck_assert_int_eq(pthread_create(&far_reader.thread, NULL, read_far, NULL), 0);
}

static void expect_all(void)
{
	ck_assert_int_eq(pthread_join(far_reader.thread, NULL), 0);
	ck_assert_uint_eq(far_reader.arrived, far_reader.expected);
	ck_assert(far_reader.intact);
}

static void write_pattern(uint64_t position, size_t length)
{
	unsigned char *bytes = malloc(length);

	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(position + i);
	ck_assert_int_eq(ferry_transport_write(near.transport, bytes, length), 0);
	free(bytes);
}

static int flush_for(time_t seconds)
{
	near.quiet = true;
	int status = ferry_transport_flush(near.transport, &(struct timeval){.tv_sec = seconds});
	near.quiet = false;
	return status;
}

/* Bytes, a file and bytes. `finished` runs from the loop. */
static unsigned int finished_count;

static void on_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	(void)producer, (void)context;
	ck_assert(!near.quiet);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(sent, MIB);
	finished_count++;
}

LOOP_TEST(a_flush_sends_bytes_and_files_without_the_loop, LINK_KINDS)
{
	static const struct ferry_file_callbacks callbacks = {.finished = on_finished};

	open_plain_link(_i);
	start_reader(2 * MIB + 10);
	ck_assert_int_eq(ferry_transport_send_file(NULL, near.transport, make_file(MIB), FERRY_FD_TAKE,
	                                           0, FERRY_TO_END, 0, &callbacks, NULL),
	                 0);
	write_pattern(MIB, MIB + 10);
	ck_assert_int_eq(flush_for(60), 0);
	ck_assert_uint_eq(finished_count, 0);
	ck_assert_uint_eq(stats_of(near.transport).bytes_queued, 0);
	expect_all();
	pump_until_count(&finished_count, 1);
	write_text("then as before");
	expect_far_text("then as before");
	close_plain_link();
}

static unsigned int write_callbacks;

static void on_writable(struct bufferevent *bev, void *argument)
{
	(void)bev, (void)argument;
	ck_assert(!near.quiet);
	write_callbacks++;
}

TEST(the_write_callback_for_flushed_bytes_runs_from_the_loop)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	near.transport = make_transport(ends[0]);
	bufferevent_setcb(ferry_transport_get_bufferevent(near.transport), NULL, on_writable, NULL,
	                  NULL);
	ck_assert_int_eq(write_bytes(100), 0);
	ck_assert_int_eq(flush_for(0), 0);
	ck_assert_uint_eq(write_callbacks, 0);
	pump_until_count(&write_callbacks, 1);
	ck_assert_uint_eq(wire_drain(ends[1]), 100);
	ferry_transport_free(near.transport);
	near.transport = NULL;
	pump_turns(2);
	close(ends[1]);
}

/* Sends again and again, up to a number that a turn of the loop never reaches. */
enum { ANSWERS_MAX = 1000, IN_A_TURN = 4 };

static unsigned int answers;
static int answers_from;
static int others[2]; /* a pipe of somebody else, with a byte since the first answer */
static unsigned int answers_before; /* its event */

static void note_answers(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	answers_before = answers;
}

static bool is_last_answer(void)
{
	if (++answers == 1)
		ck_assert_int_eq(write(others[1], "x", 1), 1);
	return answers == ANSWERS_MAX || answers_before > 0;
}

static void write_and_flush(struct bufferevent *bev, void *transport)
{
	char byte;

	(void)bev;
	if (is_last_answer())
		return;
	while (read(answers_from, &byte, 1) == 1)
		continue;
	ck_assert_int_eq(ferry_transport_write(transport, "x", 1), 0);
	ck_assert_int_eq(ferry_transport_flush(transport, &(struct timeval){0}), 0);
}

static void write_and_flush_file(struct ferry_file_producer *producer, int status, uint64_t sent,
                                 void *context);

static const struct ferry_file_callbacks answer_callbacks = {.finished = write_and_flush_file};

static void send_answer_file(struct ferry_transport *transport)
{
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, make_file(1), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, &answer_callbacks, transport),
	                 0);
	ck_assert_int_eq(ferry_transport_flush(transport, &(struct timeval){0}), 0);
}

static void write_and_flush_file(struct ferry_file_producer *producer, int status, uint64_t sent,
                                 void *context)
{
	char byte;

	(void)producer, (void)status, (void)sent;
	if (is_last_answer())
		return;
	ck_assert_int_eq(read(answers_from, &byte, 1), 1);
	send_answer_file(context);
}

/* _i: in the write callback; in `finished` of a file */
LOOP_TEST(callbacks_that_flush_leave_the_loop_to_others, 2)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	make_pipe(others);
	answers = answers_before = 0;
	answers_from = ends[1];
	struct ferry_transport *transport = make_transport(ends[0]);
	struct event *other = event_new(base, others[0], EV_READ, note_answers, NULL);
	event_add(other, NULL);
	if (_i == 0) {
		bufferevent_setcb(ferry_transport_get_bufferevent(transport), NULL, write_and_flush, NULL,
		                  transport);
		ck_assert_int_eq(ferry_transport_write(transport, "x", 1), 0);
	} else {
		send_answer_file(transport);
	}
	pump_until_count(&answers_before, 1);
	ck_assert_uint_le(answers_before, IN_A_TURN);
	event_free(other);
	close(others[0]);
	close(others[1]);
	ferry_transport_free(transport);
	pump_turns(2);
	close(ends[1]);
}

LOOP_TEST(a_flush_ends_at_its_deadline_when_the_peer_reads_nothing, LINK_KINDS)
{
	open_plain_link(_i);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(write_bytes(MIB), 0);
	ck_assert_int_eq(flush_for(0), -ETIMEDOUT);
	ck_assert_uint_gt(stats_of(near.transport).bytes_sent, 0);
	near.quiet = true;
	ck_assert_int_eq(ferry_transport_flush(near.transport, &(struct timeval){.tv_usec = 5000}),
	                 -ETIMEDOUT);
	near.quiet = false;
	size_t arrived = 0;
	while (arrived < (size_t)8 * MIB) {
		static char buffer[MIB];
		ssize_t length = read(far_in, buffer, sizeof(buffer));
		arrived += length > 0 ? (size_t)length : 0;
		pump_turns(1);
	}
	close_plain_link();
}

TEST(a_flush_sends_descriptors_in_their_order)
{
	struct wire_read result;
	char text[8];

	open_plain_link(LINK_UNIX);
	int fd = make_marked_fd(5);
	write_text("ab");
	ck_assert_int_eq(ferry_transport_send_fd(near.transport, fd, FERRY_FD_TAKE), 0);
	write_text("c");
	ck_assert_int_eq(flush_for(0), 0);
	wire_receive(far_in, text, sizeof(text), &result);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 5);
	wire_close_fds(&result);
	ck_assert_uint_eq(stats_of(near.transport).fds_queued, 0);
	close_plain_link();
}

TEST(a_flush_needs_no_enabled_writing)
{
	open_plain_link(LINK_UNIX);
	bufferevent_disable(ferry_transport_get_bufferevent(near.transport), EV_WRITE);
	write_text("held");
	pump_turns(2);
	ck_assert_uint_eq(stats_of(near.transport).bytes_queued, 4);
	ck_assert_int_eq(flush_for(0), 0);
	expect_far_text("held");
	close_plain_link();
}

TEST(a_flush_waits_for_the_source_of_a_file)
{
	int pipe_ends[2];

	open_plain_link(LINK_UNIX);
	make_pipe(pipe_ends);
	ck_assert_int_eq(ferry_transport_send_file(NULL, near.transport, pipe_ends[0], FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	pump_turns(2);
	ck_assert_int_eq(flush_for(0), -ETIMEDOUT);
	ck_assert_int_eq(write(pipe_ends[1], "late", 4), 4);
	close(pipe_ends[1]);
	ck_assert_int_eq(flush_for(60), 0);
	expect_far_text("late");
	close_plain_link();
}

TEST(a_flush_does_not_wait_for_a_paused_file)
{
	struct ferry_file_producer *producer;

	open_plain_link(LINK_UNIX);
	ck_assert_int_eq(ferry_transport_send_file(&producer, near.transport, make_file(100),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ferry_file_producer_pause(producer);
	ck_assert_int_eq(flush_for(60), -EAGAIN);
	ferry_file_producer_resume(producer);
	ck_assert_int_eq(flush_for(60), 0);
	close_plain_link();
}

LOOP_TEST(a_flush_to_a_peer_that_is_gone_returns_the_error_and_the_loop_reports_it, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_no_half_close);
	pump_turns(2);
	ck_assert_int_eq(write_bytes(MIB), 0);
	close_plain_far();
	int status = flush_for(60);
	ck_assert(status == -EPIPE || status == -ECONNRESET);
	pump_until_lost(&near);
	ck_assert_int_eq(flush_for(60), -ENOTCONN);
	close_plain_link();
}

static int status_in_callback;

static void flush_in_drain(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                           void *argument)
{
	(void)buffer, (void)argument;
	if (info->n_deleted > 0)
		status_in_callback = ferry_transport_flush(near.transport, NULL);
}

TEST(a_flush_in_the_middle_of_a_write_is_refused)
{
	open_plain_link(LINK_UNIX);
	struct evbuffer *output =
	    bufferevent_get_output(ferry_transport_get_bufferevent(near.transport));
	struct evbuffer_cb_entry *entry = evbuffer_add_cb(output, flush_in_drain, NULL);
	write_text("x");
	pump_turns(2);
	ck_assert_int_eq(status_in_callback, -EBUSY);
	evbuffer_remove_cb_entry(output, entry);
	expect_far_text("x");
	close_plain_link();
}

static void flush_in_callback(struct recorder *recorder, char event)
{
	if (event != EVENT_DATA)
		return;
	ck_assert_int_eq(ferry_transport_write(recorder->transport, "answer", 6), 0);
	ck_assert_int_eq(ferry_transport_flush(recorder->transport, NULL), 0);
	ck_assert_int_eq(ferry_transport_flush(recorder->transport, &(struct timeval){-1, 0}), -EINVAL);
	ck_assert_int_eq(ferry_transport_flush(NULL, NULL), -EINVAL);
}

LOOP_TEST(a_callback_may_flush, LINK_KINDS)
{
	open_plain_link(_i);
	near.hook = flush_in_callback;
	ck_assert_int_eq(write(far_out, "question", 8), 8);
	pump_until_count(&near.data, 1);
	expect_far_text("answer");
	close_plain_link();
}
