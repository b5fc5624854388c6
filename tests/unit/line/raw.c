/* The program reads raw bytes between lines, and pauses between two lines. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/thread.h>

#include "line_reader.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static void go_raw_at_raw(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to;
	if (event == '[' && length == 3 && memcmp(bytes, "raw", 3) == 0)
		set_raw(true);
}

TEST_CASE("raw");

LOOP_TEST(the_rest_of_the_input_is_raw_at_once, READER_WAYS)
{
	open_reader(_i);
	reader.hook = go_raw_at_raw;
	far_text("one\nraw\ntwo\nthree");
	expect_story("M[one][raw]{two\nthree}");
	far_text("\nfour\n");
	expect_story("M[one][raw]{two\nthree}{\nfour\n}");
	close_reader();
}

LOOP_TEST(raw_mode_with_nothing_left_waits, READER_WAYS)
{
	open_reader(_i);
	reader.hook = go_raw_at_raw;
	far_text("raw\n");
	expect_story("M[raw]");
	far_text("more");
	expect_story("M[raw]{more}");
	end_far_text();
	expect_story("M[raw]{more}R");
	close_reader();
}

static unsigned int offers;

/* Takes three bytes and switches back to lines. */
static void take_three(struct reader *to, struct evbuffer *input)
{
	char bytes[3];
	offers++;
	if (evbuffer_get_length(input) < 3)
		return;
	ck_assert_int_eq(evbuffer_remove(input, bytes, 3), 3);
	reader_note(to, to->stream, '{', bytes, 3);
	set_raw(false);
}

LOOP_TEST(bytes_that_raw_mode_leaves_are_lines_again, READER_WAYS)
{
	open_reader(_i);
	reader.hook = go_raw_at_raw;
	reader.on_raw = take_three;
	far_text("raw\nab\nline\nraw\nc\nd\nlast");
	end_far_text();
	expect_story("M[raw]{ab\n}[line][raw]{c\nd}[](last)R");
	close_reader();
}

LOOP_TEST(bytes_that_raw_mode_leaves_are_offered_with_more, READER_WAYS)
{
	open_reader(_i);
	reader.hook = go_raw_at_raw;
	reader.on_raw = take_three;
	offers = 0;
	far_text("raw\na");
	expect_story("M[raw]");
	far_text("b");
	expect_story("M[raw]");
	ck_assert_uint_eq(offers, 2);
	far_text("cd\n");
	expect_story("M[raw]{abc}[d]");
	ck_assert_uint_eq(offers, 3);
	close_reader();
}

LOOP_TEST(bytes_that_raw_mode_leaves_at_the_end_stay_in_the_input, READER_WAYS)
{
	open_reader(_i);
	reader.hook = go_raw_at_raw;
	reader.on_raw = take_three;
	offers = 0;
	far_text("raw\nab");
	end_far_text();
	expect_story("M[raw]R");
	ck_assert_uint_eq(offers, 1);
	ck_assert_uint_eq(reader_input_length(), 2);
	/* No callback runs after the end. */
	set_raw(false);
	expect_story("M[raw]R");
	ck_assert_uint_eq(reader_input_length(), 2);
	close_reader();
}

LOOP_TEST(modes_may_be_changed_outside_of_callbacks, READER_WAYS)
{
	open_reader(_i);
	far_text("unfinished");
	expect_story("M");
	set_raw(true);
	set_raw(true);
	ck_assert_uint_eq(reader.events, 1);
	expect_story("M{unfinished}");
	reader.on_raw = take_three;
	far_text("a\n");
	expect_story("M{unfinished}");
	set_raw(false);
	expect_story("M{unfinished}[a]");
	close_reader();
}

LOOP_TEST(raw_mode_from_the_start, READER_WAYS)
{
	open_reader(_i);
	set_raw(true);
	far_text("one\ntwo");
	expect_story("M{one\ntwo}");
	close_reader();
}

LOOP_TEST(raw_mode_ends_the_skipping, READER_WAYS)
{
	open_reader(_i);
	set_max(3, FERRY_LINE_SKIP);
	far_text("12345");
	expect_story("M<123>");
	set_raw(true);
	set_raw(false);
	far_text("67\n");
	expect_story("M<123>[67]");
	close_reader();
}

static size_t body_left;

static void begin_body(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to;
	char number[20] = "";
	if (event != '[' || length < 5 || memcmp(bytes, "len ", 4) != 0)
		return;
	memcpy(number, bytes + 4, length - 4);
	body_left = strtoul(number, NULL, 10);
	if (body_left > 0)
		set_raw(true);
}

static char body[1000];
static size_t body_length;

static void take_body(struct reader *to, struct evbuffer *input)
{
	size_t length = evbuffer_get_length(input);
	length = length < body_left ? length : body_left;
	ck_assert_int_eq(evbuffer_remove(input, body + body_length, length), (int)length);
	body_length += length;
	body_left -= length;
	if (body_left > 0)
		return;
	reader_note(to, to->stream, '{', body, body_length);
	body_length = 0;
	set_raw(false);
}

/* _i: the packets' size */
LOOP_TEST_FROM(headers_and_bodies_in_packets_of_every_size, 1, 12)
{
	static const char text[] = "len 10\n0123456789len 5\n123\n\nfoo\n\nlen 0\nlen 20\n"
	                           "foo 123\n\n0123456789\nlen 1\nalast";
	for (int way = 0; way < READER_WAYS; way++) {
		open_reader(way);
		reader.hook = begin_body;
		reader.on_raw = take_body;
		for (size_t at = 0; at < sizeof(text) - 1; at += (size_t)_i) {
			size_t left = sizeof(text) - 1 - at;
			far_bytes(text + at, (size_t)_i < left ? (size_t)_i : left);
			pump_turns(1);
		}
		end_far_text();
		expect_story("M[len 10]{0123456789}[len 5]{123\n\n}[foo][][len 0][len 20]"
		             "{foo 123\n\n0123456789\n}[len 1]{a}(last)R");
		close_reader();
	}
}

static void pause_at_each_line(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '[')
		pause_reading();
}

TEST_CASE("pausing");

LOOP_TEST(a_pause_defers_the_next_line, READER_WAYS)
{
	open_reader(_i);
	reader.hook = pause_at_each_line;
	far_text("one\ntwo\nthree\nfo");
	expect_story("M[one]");
	far_text("ur\n");
	expect_story("M[one]");
	resume_reading();
	ck_assert_uint_eq(reader.lines, 1);
	expect_story("M[one][two]");
	resume_reading();
	expect_story("M[one][two][three]");
	resume_reading();
	expect_story("M[one][two][three][four]");
	close_reader();
}

LOOP_TEST(a_pause_that_is_over_defers_nothing, READER_WAYS)
{
	open_reader(_i);
	reader.hook = pause_and_resume;
	far_text("one\ntwo\nthree\n");
	expect_story("M[one][two][three]");
	close_reader();
}

/* After a read with a descriptor the transport reads once more in the same step: if callbacks are deferred, it
 * has read the end before they run. */
static void far_text_with_fd_and_end(const char *text)
{
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(reader_ends[1], text, strlen(text), &fd, 1), (ssize_t)strlen(text));
	close(fd);
	end_far_text();
}

LOOP_TEST(a_pause_defers_the_peers_end_with_its_lines, READER_WAYS)
{
	open_reader(_i);
	reader.hook = pause_at_each_line;
	far_text_with_fd_and_end("one\ntwo\nlast");
	expect_story("MF[one]");
	resume_reading();
	expect_story("MF[one][two]");
	resume_reading();
	expect_story("MF[one][two](last)R");
	close_reader();
}

LOOP_TEST(a_pause_defers_lines_when_both_ends_have_closed, READER_WAYS)
{
	open_reader(_i);
	reader.hook = pause_at_each_line;
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_lose_write_connection(reader.transport), 0);
	pump_turns(2);
	far_text_with_fd_and_end("one\ntwo\nlast");
	expect_story("MF[one]");
	resume_reading();
	expect_story("MF[one][two]");
	resume_reading();
	expect_story("MF[one][two](last)RX");
	ck_assert_int_eq(reader.reason, 0);
	close_reader();
}

static void go_raw_and_pause(struct reader *to, char event, const char *bytes, size_t length)
{
	go_raw_at_raw(to, event, bytes, length);
	if (event == '[' && length == 3 && memcmp(bytes, "raw", 3) == 0)
		pause_reading();
}

LOOP_TEST(a_pause_defers_raw_bytes, READER_WAYS)
{
	open_reader(_i);
	reader.hook = go_raw_and_pause;
	far_text_with_fd_and_end("raw\nab\n");
	expect_story("MF[raw]");
	resume_reading();
	expect_story("MF[raw]{ab\n}R");
	close_reader();
}

static void pause_when_exceeded(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '<')
		pause_reading();
}

LOOP_TEST(a_pause_in_a_line_that_is_too_long_defers_the_next_line, READER_WAYS)
{
	open_reader(_i);
	reader.hook = pause_when_exceeded;
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234567\nok\n");
	expect_story("M<123>");
	resume_reading();
	expect_story("M<123>[ok]");
	close_reader();
}

BEFORE_ALL
{
	if (evthread_use_pthreads() < 0)
		exit(EXIT_FAILURE);
}
