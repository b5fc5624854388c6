/* What a successor writes on its standard error is passed on, its end is kept, and nobody waits for anybody. */

#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <event2/event.h>

#include "ferry/upgrade.h"
#include "upgrade/output.h"

static struct output *output;
static int writer, log_fds[2];

static void open_output(void)
{
	int fds[2];
	make_pipe(log_fds);
	ck_assert_int_eq(output_make_pipe(fds), 0);
	writer = fds[1];
	ck_assert_int_eq(output_new(&output, base, fds[0], log_fds[1]), 0);
}

static void close_output(void)
{
	output_free(output);
	close(writer);
	close(log_fds[0]);
	close(log_fds[1]);
}

static void say(const char *text)
{
	ck_assert_int_eq(write(writer, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect_passed_on(const char *text)
{
	char found[256] = "";
	(void)!read(log_fds[0], found, sizeof(found) - 1);
	ck_assert_str_eq(found, text);
}

static int count_events(void)
{
	return event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED);
}

TEST_CASE("output", open_output, close_output);

TEST(lines_are_passed_on_and_kept)
{
	say("one\n");
	pump_turns(2);
	expect_passed_on("one\n");
	say("two\n");
	output_read(output);
	expect_passed_on("two\n");
	ck_assert_str_eq(output_get_text(output), "one\ntwo\n");
}

/* A loop that still listened would find the end of the pipe for ever. */
TEST(a_writer_that_closes_its_output_leaves_no_event)
{
	say("last");
	close(writer);
	ck_assert_int_eq(count_events(), 1);
	pump_turns(2);
	ck_assert_int_eq(count_events(), 0);
	ck_assert_str_eq(output_get_text(output), "last");
	writer = dup(log_fds[1]);
	output_read(output); /* nothing more */
	ck_assert_str_eq(output_get_text(output), "last");
}

TEST(a_line_that_was_cut_is_left_out)
{
	char block[1000];
	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(write(writer, block, sizeof(block)), sizeof(block));
		output_read(output);
	}
	const size_t length = strlen(output_get_text(output));
	ck_assert_uint_eq(length, FERRY_UPGRADE_OUTPUT_MAX); /* there is no other line */
	say("\nnext\n");
	output_read(output);
	ck_assert_str_eq(output_get_text(output), "next\n");
}

TEST(zero_bytes_do_not_end_the_text)
{
	ck_assert_int_eq(write(writer, "a\0b\n", 4), 4);
	output_read(output);
	ck_assert_str_eq(output_get_text(output), "a?b\n");
}

TEST(a_log_that_nobody_reads_delays_nobody)
{
	char block[4096];
	memset(block, '.', sizeof(block));
	ck_assert_int_eq(fcntl(log_fds[1], F_SETFL, O_NONBLOCK), 0);
	while (write(log_fds[1], block, sizeof(block)) > 0)
		;
	ck_assert_int_eq(fcntl(log_fds[1], F_SETFL, 0), 0); /* as most programs' standard error */
	say("not passed on\n");
	output_read(output);
	ck_assert_str_eq(output_get_text(output), "not passed on\n");
}

TEST(a_log_that_is_closed_kills_nobody)
{
	close(log_fds[0]);
	log_fds[0] = dup(log_fds[1]);
	say("not passed on\n");
	output_read(output);
	ck_assert_str_eq(output_get_text(output), "not passed on\n");
}

/* The writer may go on for ever: one turn reads a limited part. */
TEST(a_turn_ends)
{
	char block[4096];
	int before = 0, after = 0;
	memset(block, '.', sizeof(block));
	ck_assert_int_gt(fcntl(writer, F_SETPIPE_SZ, 1 << 20), 0);
	while (write(writer, block, sizeof(block)) > 0)
		;
	ck_assert_int_eq(ioctl(writer, FIONREAD, &before), 0);
	output_read(output);
	ck_assert_int_eq(ioctl(writer, FIONREAD, &after), 0);
	ck_assert_int_lt(after, before);
	ck_assert_int_gt(after, before / 2);
}
