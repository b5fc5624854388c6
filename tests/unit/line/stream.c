/* Lines over a transport: in any pieces, up to the end of the stream, with descriptors between them. For the
 * splitting itself see scanner.c. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/thread.h>

#include "line_reader.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("lines");

LOOP_TEST(lines_arrive_without_their_delimiter, READER_WAYS)
{
	open_reader(_i);
	far_text("one\ntwo\n\n \nthree\n");
	expect_story("M[one][two][][ ][three]");
	close_reader();
}

LOOP_TEST(a_line_is_delivered_when_its_delimiter_is_there, READER_WAYS)
{
	open_reader(_i);
	set_delimiter("\r\n");
	far_text("on");
	expect_story("M");
	far_text("e\r");
	expect_story("M");
	far_text("\ntwo\r\n");
	expect_story("M[one][two]");
	close_reader();
}

LOOP_TEST(a_line_may_have_zero_bytes, READER_WAYS)
{
	open_reader(_i);
	far_bytes("a\0b\n\0\n", 6);
	pump_until_count(&reader.lines, 2);
	ck_assert_uint_eq(reader.length, 9);
	ck_assert_mem_eq(reader.story, "M[a\0b][\0]", 9);
	close_reader();
}

TEST(lines_arrive_over_tcp_and_pipes)
{
	open_reader_with(PAIR_TCP, 0, &reader_callbacks);
	far_text("one\ntwo\n");
	expect_story("M[one][two]");
	close_reader();

	int to[2], from[2];
	make_pipe(to);
	make_pipe(from);
	memset(&reader, 0, sizeof(reader));
	ck_assert_int_eq(ferry_transport_new_pipes(&reader.transport, base, to[0], from[1]), 0);
	ck_assert_int_eq(
	    ferry_line_stream_new(&reader.stream, reader.transport, &reader_callbacks, &reader), 0);
	ck_assert_int_eq(write(to[1], "one\ntwo", 7), 7);
	close(to[1]);
	expect_story("M[one](two)R");
	free_reader();
	close(from[0]);
}

static const char *first_bytes;

static void note_bytes(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)length;
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(to->transport));
	struct evbuffer_iovec piece;
	if (event != '[')
		return;
	ck_assert_int_ge(evbuffer_peek(input, 1, NULL, &piece, 1), 1);
	ck_assert_ptr_eq(bytes, piece.iov_base);
	ck_assert(first_bytes == NULL || bytes == first_bytes + 6);
	first_bytes = bytes;
}

LOOP_TEST(lines_are_read_in_place, READER_WAYS)
{
	open_reader(_i);
	reader.hook = note_bytes;
	first_bytes = NULL;
	far_text("first\nsecon\nthird\n");
	expect_story("M[first][secon][third]");
	close_reader();
}

TEST(bytes_of_an_earlier_protocol_are_the_first_of_the_lines)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	memset(&reader, 0, sizeof(reader));
	reader.transport = make_transport(fds[0]);
	bufferevent_enable(ferry_transport_get_bufferevent(reader.transport), EV_READ);
	ck_assert_int_eq(wire_send(fds[1], "one\ntw", 6, NULL, 0), 6);
	pump_turns(3);
	reader_ends[1] = fds[1];
	ck_assert_int_eq(
	    ferry_line_stream_new(&reader.stream, reader.transport, &reader_callbacks, &reader), 0);
	expect_story("M[one]");
	far_text("o\n");
	expect_story("M[one][two]");
	close_reader();
}

static void keep_input(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)input, (void)context;
}

static void note_end(struct ferry_transport *transport, void *context)
{
	(void)transport;
	*(unsigned int *)context += 1;
}

/* _i: while reading is paused */
LOOP_TEST(an_end_that_an_earlier_protocol_received_is_the_end_of_the_lines, 2)
{
	static const struct ferry_protocol earlier = {.data_received = keep_input,
	                                              .read_connection_lost = note_end};
	unsigned int heard = 0;
	make_pair(PAIR_UNIX, reader_ends);
	memset(&reader, 0, sizeof(reader));
	reader.transport = make_transport(reader_ends[0]);
	ck_assert_int_eq(ferry_transport_set_protocol(reader.transport, &earlier, &heard), 0);
	far_text("one\nlast");
	end_far_text();
	pump_until_count(&heard, 1);
	if (_i == 1)
		pause_reading();
	ck_assert_int_eq(
	    ferry_line_stream_new(&reader.stream, reader.transport, &reader_callbacks, &reader), 0);
	if (_i == 1) {
		expect_story("M");
		resume_reading();
	}
	expect_story("M[one](last)R");
	close_reader();
}

TEST_CASE("end");

LOOP_TEST(an_incomplete_line_is_delivered_before_the_peers_end, READER_WAYS)
{
	open_reader(_i);
	far_text("one\ntwo");
	end_far_text();
	expect_story("M[one](two)R");
	/* This end can still send. */
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "late", 4), 0);
	expect_sent_text("late\n");
	close_reader();
}

LOOP_TEST(a_complete_last_line_is_no_incomplete_one, READER_WAYS)
{
	open_reader(_i);
	far_text("one\n");
	end_far_text();
	expect_story("M[one]R");
	close_reader();
}

LOOP_TEST(half_a_delimiter_at_the_end_is_part_of_the_incomplete_line, READER_WAYS)
{
	open_reader(_i);
	set_delimiter("\r\n");
	far_text("one\r");
	end_far_text();
	expect_story("M(one\r)R");
	close_reader();
}

LOOP_TEST(without_half_close_the_connection_ends_when_all_is_sent, READER_WAYS)
{
	open_reader_with(PAIR_UNIX, reader_ways[_i], &reader_no_half_close);
	pump_turns(2);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "out", 3), 0);
	far_text("one\ntwo");
	end_far_text();
	expect_story("M[one](two)X");
	ck_assert_int_eq(reader.reason, 0);
	expect_sent_text("out\n");
	close_reader();
}

LOOP_TEST(without_a_callback_an_incomplete_line_is_dropped, READER_WAYS)
{
	static const struct ferry_line_callbacks few = {.connection_made = reader_on_made,
	                                                .connection_lost = reader_on_lost};
	open_reader_with(PAIR_UNIX, reader_ways[_i], &few);
	far_text("one\ntwo");
	end_far_text();
	expect_story("MX");
	ck_assert_int_eq(reader.reason, 0);
	close_reader();
}

LOOP_TEST(an_error_makes_no_incomplete_line, READER_WAYS)
{
	open_reader_with(PAIR_TCP, reader_ways[_i], &reader_callbacks);
	far_text("one\ntwo");
	expect_story("M[one]");
	struct linger reset = {.l_onoff = 1, .l_linger = 0};
	setsockopt(reader_ends[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close_far_end();
	expect_story("M[one]X");
	ck_assert_int_eq(reader.reason, -ECONNRESET);
	close_reader();
}

TEST_CASE("descriptors");

LOOP_TEST(descriptors_come_before_the_bytes_they_came_with, READER_WAYS)
{
	open_reader(_i);
	pump_turns(2);
	int fds[2] = {make_marked_fd(1), make_marked_fd(2)};
	far_text("one\n");
	expect_story("M[one]");
	ck_assert_int_eq(wire_send(reader_ends[1], "two\nthr", 7, fds, 2), 7);
	expect_story("M[one]FF[two]");
	ck_assert_int_eq(wire_send(reader_ends[1], "ee\n", 3, fds, 1), 3);
	expect_story("M[one]FF[two]F[three]");
	close(fds[0]);
	close(fds[1]);
	close_reader();
}

LOOP_TEST(without_a_callback_descriptors_are_closed_and_counted, READER_WAYS)
{
	open_reader_with(PAIR_UNIX, reader_ways[_i], &reader_no_half_close);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(reader_ends[1], "one\n", 4, &fd, 1), 4);
	close(fd);
	expect_story("M[one]");
	ck_assert_uint_eq(stats_of(reader.transport).fds_unclaimed, 1);
	close_reader();
}

/* _i: 1: with a callback */
LOOP_TEST(lost_descriptors_are_reported_or_end_the_connection, 2)
{
	open_reader_with(PAIR_UNIX, 0, _i == 0 ? &reader_no_half_close : &reader_callbacks);
	pump_turns(2);
	int fds[2] = {make_marked_fd(1), make_marked_fd(2)};
	ck_assert_int_eq(wire_send(reader_ends[1], "one\n", 4, fds, 2), 4);
	close(fds[0]);
	close(fds[1]);
	limit_descriptors(0);
	pump_until_count(&reader.events, 2);
	unlimit_descriptors();
	if (_i == 0)
		expect_reader_lost(-EMSGSIZE);
	else
		expect_story("ML[one]");
	close_reader();
}

LOOP_TEST(a_descriptor_travels_with_the_line_sent_after_it, READER_WAYS)
{
	char bytes[100];
	struct wire_read result;
	open_reader(_i);
	int fd = make_marked_fd(7);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "before", 6), 0);
	ck_assert_int_eq(ferry_transport_send_fd(reader.transport, fd, FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "", 0), 0);
	pump_turns(3);
	wire_receive(reader_ends[1], bytes, 7, &result);
	ck_assert_uint_eq(result.fd_count, 0);
	wire_receive(reader_ends[1], bytes, sizeof(bytes), &result);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 7);
	wire_close_fds(&result);
	close_reader();
}

TEST_CASE("many");

/* Lines in random chunks, with pauses, compared with the result of a simple splitter. _i: the way */
LOOP_TEST(random_chunks_with_pauses_arrive_as_lines, READER_WAYS)
{
	static char text[20000], expected[3 * sizeof(text)];
	for (int round = 0; round < 20; round++) {
		size_t length = support_random_below(sizeof(text)), out = 1;
		expected[0] = 'M';
		bool open = false;
		for (size_t i = 0; i < length; i++) {
			text[i] = (char)('a' + support_random_below(9));
			if (support_random_below(40) == 0)
				text[i] = '\n';
			if (!open)
				expected[out++] = '[';
			open = text[i] != '\n';
			expected[out] = text[i];
			if (!open)
				expected[out] = ']';
			out++;
		}
		if (open) {
			size_t start = out;
			while (expected[start - 1] != '[')
				start--;
			expected[start - 1] = '(';
			expected[out++] = ')';
		}
		expected[out++] = 'R';
		open_reader(_i);
		for (size_t at = 0, step = 0; at < length; at += step) {
			step = 1 + support_random_below(2000);
			step = step < length - at ? step : length - at;
			far_bytes(text + at, step);
			if (support_random_below(4) == 0)
				pause_reading();
			pump_turns(1 + (int)support_random_below(2));
			resume_reading();
		}
		end_far_text();
		while (!reader.ended)
			pump_turns(1);
		ck_assert_uint_eq(reader.length, out);
		ck_assert_mem_eq(reader.story, expected, out);
		close_reader();
		pump_turns(2);
	}
}

LOOP_TEST(a_long_line_arrives_byte_by_byte, 2)
{
	enum { LONG_LINE = 20000 };
	open_reader(_i);
	set_max(LONG_LINE, FERRY_LINE_LOSE);
	for (int i = 0; i < LONG_LINE; i++) {
		far_text("x");
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	ck_assert_uint_eq(reader.lines, 0);
	far_text("\n");
	pump_until_count(&reader.lines, 1);
	ck_assert_uint_eq(reader.length, 1 + LONG_LINE + 2);
	close_reader();
}

/* Many lines need no deeper a stack than one. */
LOOP_TEST(many_lines_in_one_read_are_no_recursion, READER_WAYS)
{
	open_reader(_i);
	reader.hook = pause_and_resume;
	static char text[20000];
	memset(text, '\n', sizeof(text));
	size_t sent = 0;
	while (sent < sizeof(text)) {
		ssize_t n = wire_send(reader_ends[1], text + sent, sizeof(text) - sent, NULL, 0);
		sent += n > 0 ? (size_t)n : 0;
		pump_turns(1);
	}
	pump_until_count(&reader.lines, sizeof(text));
	close_reader();
}

BEFORE_ALL
{
	if (evthread_use_pthreads() < 0)
		exit(EXIT_FAILURE);
}
