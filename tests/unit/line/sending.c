/* The program sends lines. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/thread.h>

#include "line_reader.h"
#include "recorder.h"
#include "test.h"

/* NOLINTBEGIN(bugprone-not-null-terminated-result): these are bytes, and no strings */

LOOP_TEST(a_line_is_sent_with_its_delimiter, READER_WAYS)
{
	open_reader(_i);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "one", 3), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, NULL, 0), 0);
	set_delimiter("\r\n");
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "t\nw\ro", 5), 0);
	expect_sent_text("one\n\nt\nw\ro\r\n");
	close_reader();
}

struct refusal {
	const char *delimiter, *line;
	bool refused;
};

static const struct refusal refusals[] = {
    {"\n", "a\nb", true},   {"\n", "\n", true},    {"\n", "a\r", false},  {"\r\n", "a\r\nb", true},
    {"\r\n", "a\r", false}, {"\n\n", "a\n", true}, {"\n\n", "\n", true},  {"\n\n", "a\nb", false},
    {"aab", "a", false},    {"aab", "xaa", false}, {"abab", "xab", true}, {"abab", "xaba", false},
    {"abab", "ab", true},   {"aaa", "xa", true},   {"abc", "ab", false},
};

TEST(a_line_that_the_peer_would_see_as_others_is_refused)
{
	open_reader(0);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		const struct refusal *refusal = &refusals[i];
		set_delimiter(refusal->delimiter);
		ck_assert_msg(ferry_line_stream_send(reader.stream, refusal->line, strlen(refusal->line)) ==
		                  (refusal->refused ? -EILSEQ : 0),
		              "%zu", i);
	}
	close_reader();
}

LOOP_TEST(nothing_is_sent_on_a_closed_connection, READER_WAYS)
{
	open_reader(_i);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_lose_connection(reader.transport), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "x", 1), -EPIPE);
	expect_reader_lost(0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "x", 1), -EPIPE);
	close_reader();
}

static unsigned int pauses;
static size_t queued_at_pause;

static void note_pause(void *context)
{
	(void)context;
	pauses++;
	queued_at_pause = (size_t)stats_of(reader.transport).bytes_queued;
}

static void note_resume(void *context)
{
	(void)context;
}

static const struct ferry_producer_callbacks push = {.resume_producing = note_resume,
                                                     .pause_producing = note_pause};

LOOP_TEST(a_producer_is_paused_behind_the_delimiter, READER_WAYS)
{
	open_reader(_i);
	pump_turns(2);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(reader.transport), EV_WRITE, 0, 3);
	pauses = 0;
	ck_assert_int_eq(
	    ferry_transport_register_producer(reader.transport, &push, NULL, FERRY_PRODUCER_PUSH), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "12345", 5), 0);
	ck_assert_uint_eq(pauses, 1);
	ck_assert_uint_eq(queued_at_pause, 6);
	close_reader();
}

LOOP_TEST(a_stream_sends_its_lines_and_closes, READER_WAYS)
{
	open_reader(_i);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "last", 4), 0);
	ck_assert_int_eq(ferry_line_stream_lose_connection(reader.stream), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "late", 4), -EPIPE);
	ck_assert_uint_eq(reader.lost, 0); /* not inside the call */
	expect_sent_text("last\n");
	expect_reader_lost(0);
	ck_assert_int_eq(ferry_line_stream_lose_connection(reader.stream), -ENOTCONN);
	ck_assert_int_eq(ferry_line_stream_lose_connection(NULL), -EINVAL);
	close_reader();
}

LOOP_TEST(a_stream_that_closes_its_sending_half_still_receives_lines, READER_WAYS)
{
	open_reader(_i);
	ck_assert_int_eq(ferry_line_stream_lose_write_connection(reader.stream), 0);
	far_text("answer\n");
	expect_story("M[answer]");
	ck_assert_int_eq(ferry_line_stream_lose_write_connection(NULL), -EINVAL);
	close_reader();
}

LOOP_TEST(a_stream_of_lines_is_aborted, READER_WAYS)
{
	open_reader(_i);
	ck_assert_int_eq(ferry_line_stream_abort_connection(reader.stream), 0);
	ck_assert_uint_eq(reader.lost, 0);
	expect_reader_lost(-ECONNABORTED);
	ck_assert_int_eq(ferry_line_stream_abort_connection(reader.stream), -ENOTCONN);
	ck_assert_int_eq(ferry_line_stream_abort_connection(NULL), -EINVAL);
	close_reader();
}

LOOP_TEST(a_line_is_formatted_and_gets_its_delimiter, READER_WAYS)
{
	open_reader(_i);
	ck_assert_int_eq(ferry_line_stream_printf(reader.stream, "%s=%d", "a", 1), 0);
	ck_assert_int_eq(ferry_line_stream_printf(reader.stream, "%s", "two\nlines"), -EILSEQ);
	ck_assert_int_eq(ferry_line_stream_printf(NULL, "x"), -EINVAL);
	set_delimiter("\r\n");
	ck_assert_int_eq(ferry_line_stream_printf(reader.stream, "%0*d", 600, 0), 0);
	char expected[4 + 602 + 1];
	memcpy(expected, "a=1\n", 4);
	memset(expected + 4, '0', 600);
	memcpy(expected + 604, "\r\n", 3);
	expect_sent_text(expected);
	close_reader();
}

BEFORE_ALL
{
	if (evthread_use_pthreads() < 0)
		exit(EXIT_FAILURE);
}

/* NOLINTEND(bugprone-not-null-terminated-result) */
