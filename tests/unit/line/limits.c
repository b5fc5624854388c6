/* Lines are too long, the program changes the settings between two lines, and callbacks call every function. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/thread.h>

#include "line_reader.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("limits");

LOOP_TEST(a_line_of_the_longest_length_arrives, READER_WAYS)
{
	open_reader(_i);
	set_max(5, FERRY_LINE_LOSE);
	far_text("12345\n1234\n");
	expect_story("M[12345][1234]");
	close_reader();
}

static struct bufferevent *reader_bev(void)
{
	return ferry_transport_get_bufferevent(reader.transport);
}

LOOP_TEST(a_high_water_mark_below_a_line_does_not_stop_the_reading, READER_WAYS)
{
	open_reader(_i);
	bufferevent_setwatermark(reader_bev(), EV_READ, 0, 4);
	far_text("1234");
	expect_story("M");
	far_text("5678\n12\n");
	expect_story("M[12345678][12]");
	close_reader();
}

LOOP_TEST(a_high_water_mark_below_a_line_leaves_the_limit_in_place, READER_WAYS)
{
	open_reader(_i);
	set_max(5, FERRY_LINE_SKIP);
	set_delimiter("\r\n");
	bufferevent_setwatermark(reader_bev(), EV_READ, 0, 1);
	far_text("12345");
	expect_story("M");
	far_text("6789\r");
	expect_story("M<12345>");
	far_text("\n12345\r\n");
	expect_story("M<12345>[12345]");
	close_reader();
}

LOOP_TEST(a_line_that_is_too_long_loses_the_connection, READER_WAYS)
{
	open_reader(_i);
	set_max(5, FERRY_LINE_LOSE);
	far_text("ok\n123456\nnever\n");
	expect_story("M[ok]<12345>X");
	ck_assert_int_eq(reader.reason, -EMSGSIZE);
	close_reader();
}

LOOP_TEST(sixteen_kibibytes_are_the_default_and_more_loses_the_connection, READER_WAYS)
{
	static char line[16384 + 2];
	memset(line, 'x', sizeof(line));
	open_reader(_i);
	line[16384] = '\n';
	far_bytes(line, 16385);
	pump_until_count(&reader.lines, 1);
	line[16384] = 'x';
	far_bytes(line, sizeof(line));
	expect_reader_lost(-EMSGSIZE);
	close_reader();
}

LOOP_TEST(the_rest_of_a_line_that_is_too_long_is_skipped, READER_WAYS)
{
	open_reader(_i);
	set_max(5, FERRY_LINE_SKIP);
	far_text("123456789\nok\n1234567");
	expect_story("M<12345>[ok]<12345>");
	far_text("8901234567890");
	far_text("\n12345\n");
	expect_story("M<12345>[ok]<12345>[12345]");
	close_reader();
}

LOOP_TEST(a_delimiter_in_two_reads_ends_the_skipping, READER_WAYS)
{
	open_reader(_i);
	set_delimiter("\r\n");
	set_max(3, FERRY_LINE_SKIP);
	far_text("12345\r");
	expect_story("M<123>");
	far_text("\nok\r\n");
	expect_story("M<123>[ok]");
	close_reader();
}

LOOP_TEST(the_end_of_a_skipped_line_is_no_incomplete_line, READER_WAYS)
{
	open_reader(_i);
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234567");
	end_far_text();
	expect_story("M<123>R");
	close_reader();
}

/* The delimiter could still arrive: only the peer's end shows that the line is too long. */
LOOP_TEST(an_incomplete_line_may_be_too_long_too, READER_WAYS)
{
	open_reader(_i);
	set_delimiter("\r\n\r\n");
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234\r");
	end_far_text();
	expect_story("M<123>R");
	close_reader();

	open_reader(_i);
	set_delimiter("\r\n\r\n");
	set_max(3, FERRY_LINE_LOSE);
	far_text("1234\r");
	end_far_text();
	expect_story("M<123>X");
	ck_assert_int_eq(reader.reason, -EMSGSIZE);
	close_reader();
}

LOOP_TEST(without_a_callback_the_choice_is_followed, READER_WAYS)
{
	open_reader_with(PAIR_UNIX, reader_ways[_i], &reader_no_half_close);
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234\n123\n");
	expect_story("M[123]");
	set_max(3, FERRY_LINE_LOSE);
	far_text("1234\n");
	expect_story("M[123]X");
	ck_assert_int_eq(reader.reason, -EMSGSIZE);
	close_reader();
}

static void answer_and_leave(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)bytes, (void)length;
	if (event != '<')
		return;
	ck_assert_int_eq(ferry_line_stream_send(to->stream, "too long", 8), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(to->transport), 0);
}

LOOP_TEST(an_answer_to_a_line_that_is_too_long_is_sent, READER_WAYS)
{
	open_reader(_i);
	reader.hook = answer_and_leave;
	set_max(5, FERRY_LINE_LOSE);
	far_text("123456\nnever\n");
	expect_story("M<12345>X");
	ck_assert_int_eq(reader.reason, 0);
	expect_sent_text("too long\n");
	close_reader();
}

static void go_raw_when_exceeded(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '<')
		set_raw(true);
}

LOOP_TEST(raw_mode_takes_the_rest_of_a_line_that_is_too_long, READER_WAYS)
{
	open_reader(_i);
	reader.hook = go_raw_when_exceeded;
	set_max(5, FERRY_LINE_LOSE);
	far_text("1234567\nrest");
	expect_story("M<12345>{67\nrest}");
	close_reader();
}

static void skip_when_exceeded(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '<')
		set_max(10, FERRY_LINE_SKIP);
}

LOOP_TEST(the_choice_may_be_changed_when_a_line_is_too_long, READER_WAYS)
{
	open_reader(_i);
	reader.hook = skip_when_exceeded;
	set_max(3, FERRY_LINE_LOSE);
	far_text("1234567890\n1234567890\n12345678901\n");
	expect_story("M<123>[1234567890]<1234567890>");
	close_reader();
}

/* A peer never sends a delimiter. _i: the way */
LOOP_TEST(no_more_is_buffered_than_the_longest_line_and_a_read, READER_WAYS)
{
	enum { BLOCK = 8192, LONGEST = 20000, READ_MAX = 256 * 1024 };
	static char block[BLOCK];
	size_t most = 0;
	memset(block, 'x', sizeof(block));
	open_reader(_i);
	set_max(LONGEST, FERRY_LINE_SKIP);
	for (int i = 0; i < 500; i++) {
		ck_assert_int_ge(wire_send(reader_ends[1], block, sizeof(block), NULL, 0), 1);
		pump_turns(1);
		most = reader_input_length() > most ? reader_input_length() : most;
	}
	pump_turns(3);
	ck_assert_uint_eq(reader_input_length(), 0);
	ck_assert_uint_gt(most, LONGEST - BLOCK);
	ck_assert_uint_le(most, LONGEST + 1 + READ_MAX);
	ck_assert_uint_eq(reader.events, 2);
	far_text("\nok\n");
	pump_until_count(&reader.lines, 1);
	close_reader();
}

static void obey(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to;
	if (event != '[' || length < 2)
		return;
	if (bytes[0] == 'd')
		ck_assert_int_eq(ferry_line_stream_set_delimiter(reader.stream, bytes + 1, length - 1), 0);
	if (bytes[0] == 'm')
		set_max((size_t)(bytes[1] - '0'), FERRY_LINE_SKIP);
}

TEST_CASE("settings");

LOOP_TEST(a_delimiter_set_in_a_callback_ends_the_next_line, READER_WAYS)
{
	open_reader(_i);
	reader.hook = obey;
	far_text("one\nd;;\na\nb;c;;d, ;;x\n;;y, z");
	expect_story("M[one][d;;][a\nb;c][d, ][x\n;;y]");
	close_reader();
}

LOOP_TEST(a_length_set_in_a_callback_bounds_the_next_line, READER_WAYS)
{
	open_reader(_i);
	reader.hook = obey;
	far_text("123456\nm3\n123\n1234\nm5\n12345\n");
	expect_story("M[123456][m3][123]<123>[m5][12345]");
	close_reader();
}

LOOP_TEST(settings_look_at_an_unfinished_line_again, READER_WAYS)
{
	open_reader(_i);
	far_text("a;b");
	expect_story("M");
	set_delimiter(";");
	ck_assert_uint_eq(reader.events, 1);
	expect_story("M[a]");
	far_text("cd");
	expect_story("M[a]");
	set_max(2, FERRY_LINE_SKIP);
	expect_story("M[a]<bc>");
	far_text(";ok;");
	expect_story("M[a]<bc>[ok]");
	close_reader();
}

TEST(bad_arguments_are_refused)
{
	static const struct ferry_line_callbacks none = {.line_received = reader_on_line};
	open_reader_with(PAIR_UNIX, 0, &none);
	struct ferry_line_stream *stream = reader.stream, *out = NULL;
	ck_assert_int_eq(ferry_line_stream_new(NULL, reader.transport, &reader_callbacks, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_line_stream_new(&out, NULL, &reader_callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_new(&out, reader.transport, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(NULL, "\n", 1), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, "", 0), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, "0123456789abcdefg", 17), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, "0123456789abcdef", 16), 0);
	ck_assert_int_eq(ferry_line_stream_set_max_length(NULL, 1, FERRY_LINE_SKIP), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 0, FERRY_LINE_SKIP), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, (1 << 30) + 1, FERRY_LINE_SKIP),
	                 -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 1 << 30, FERRY_LINE_SKIP), 0);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 1, (enum ferry_line_overflow)0),
	                 -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 1, (enum ferry_line_overflow)3),
	                 -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_raw(NULL, true), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_raw(stream, true), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_raw(stream, false), 0);
	ck_assert_int_eq(ferry_line_stream_send(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_send(stream, NULL, 1), -EINVAL);
	ck_assert_ptr_null(ferry_line_stream_get_transport(NULL));
	ck_assert_ptr_null(out);
	ferry_line_stream_free(NULL);
	close_reader();
}

TEST(a_connection_that_is_over_gets_no_lines)
{
	struct recorder recorder;
	struct ferry_line_stream *stream = NULL;
	make_pair(PAIR_UNIX, reader_ends);
	recorder_open(&recorder, reader_ends[0], &recorder_protocol);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	ck_assert_int_eq(ferry_line_stream_new(&stream, recorder.transport, &reader_callbacks, NULL),
	                 -ENOTCONN);
	ck_assert_ptr_null(stream);
	pump_until_lost(&recorder);
	recorder_close(&recorder);
	close_far_end();
}

enum { DO_FREE, DO_LOSE, DO_ABORT, DO_COUNT };

static const char doing_events[] = "M[(<{FR";
static char doing_at;
static int doing;

static void do_it(struct reader *to, char event, const char *bytes, size_t length)
{
	char copy[100];
	ck_assert_uint_lt(length, sizeof(copy));
	if (length > 0)
		memcpy(copy, bytes, length);
	if (event == '[' && length == 3 && memcmp(bytes, "raw", 3) == 0)
		set_raw(true);
	if (event != doing_at)
		return;
	struct ferry_line_stream *stream = to->stream;
	if (doing == DO_FREE) {
		free_reader();
		ferry_line_stream_free(stream); /* the loop releases the memory, later */
	} else if (doing == DO_LOSE) {
		ck_assert_int_eq(ferry_transport_lose_connection(to->transport), 0);
	} else {
		ck_assert_int_eq(ferry_transport_abort_connection(to->transport), 0);
	}
	/* The bytes are valid until the callback returns. */
	if (length > 0)
		ck_assert_mem_eq(bytes, copy, length);
}

/* Expects a story with every callback, up to the first `event`, and then `more`. */
static void expect_until(char event, const char *more)
{
	static const char story[] = "MF[one]<123>[raw]{body}(la)R";
	const char *at = strchr(story, event);
	char text[100];
	size_t length = (size_t)(at - story) + 1;
	if (strchr("[(<{", event) != NULL)
		length += strcspn(at, "])>}");
	snprintf(text, sizeof(text), "%.*s%s", (int)length, story, more);
	expect_story(text);
}

static void take_four(struct reader *to, struct evbuffer *input)
{
	char bytes[4];
	ck_assert_int_eq(evbuffer_remove(input, bytes, 4), 4);
	reader_note(to, to->stream, '{', bytes, 4);
	if (to->stream != NULL)
		set_raw(false);
}

TEST_CASE("anything");

/* _i: the callback, and its action */
LOOP_TEST(any_callback_may_end_it_all, (int)(sizeof(doing_events) - 1) * DO_COUNT)
{
	doing_at = doing_events[_i / DO_COUNT];
	doing = _i % DO_COUNT;
	for (int way = 0; way < READER_WAYS; way++) {
		static const char text[] = "one\n12345\nraw\nbodyla";
		open_reader(way);
		reader.hook = do_it;
		reader.on_raw = take_four;
		set_max(3, FERRY_LINE_SKIP);
		int fd = make_marked_fd(1);
		ck_assert_int_eq(wire_send(reader_ends[1], text, sizeof(text) - 1, &fd, 1),
		                 (ssize_t)sizeof(text) - 1);
		close(fd);
		end_far_text();
		expect_until(doing_at, doing == DO_FREE ? "" : "X");
		if (doing != DO_FREE)
			ck_assert_int_eq(reader.reason, doing == DO_LOSE ? 0 : -ECONNABORTED);
		close_reader();
		pump_turns(3);
	}
}

static void free_when_lost(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == 'X') {
		free_reader();
		reader.reason = 1;
	}
}

LOOP_TEST(connection_lost_may_free_the_stream, READER_WAYS)
{
	open_reader(_i);
	reader.hook = free_when_lost;
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_abort_connection(reader.transport), 0);
	pump_until_count(&reader.lost, 1);
	ck_assert_int_eq(reader.reason, 1);
	close_far_end();
}

BEFORE_ALL
{
	if (evthread_use_pthreads() < 0)
		exit(EXIT_FAILURE);
}
