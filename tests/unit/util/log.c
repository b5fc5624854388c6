/* The log callback gets each line with its level. */

#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ferry/log.h"
#include "util/log.h"

static enum ferry_log_level last_level;
static char last_line[1024];
static unsigned int lines;

static void take_line(enum ferry_log_level level, const char *line)
{
	last_level = level;
	snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
	errno = EIO;
}

TEST(without_a_callback_a_line_is_dropped)
{
	ferry_log_set_cb(NULL);
	log_line(FERRY_LOG_WARNING, "nobody hears %d", 1);
	ck_assert_uint_eq(lines, 0);
}

TEST(the_callback_gets_the_level_and_the_line)
{
	ferry_log_set_cb(take_line);
	log_line(FERRY_LOG_WARNING, "%s is %d", "answer", 42);
	ck_assert_uint_eq(lines, 1);
	ck_assert_int_eq(last_level, FERRY_LOG_WARNING);
	ck_assert_str_eq(last_line, "answer is 42");
	log_line(FERRY_LOG_DEBUG, "again");
	ck_assert_int_eq(last_level, FERRY_LOG_DEBUG);
}

TEST(no_line_comes_after_the_callback_is_taken_away)
{
	ferry_log_set_cb(take_line);
	ferry_log_set_cb(NULL);
	log_line(FERRY_LOG_WARNING, "too late");
	ck_assert_uint_eq(lines, 0);
}

TEST(errno_stays_as_it_was)
{
	ferry_log_set_cb(take_line);
	errno = ENOENT;
	log_line(FERRY_LOG_DEBUG, "line");
	ck_assert_int_eq(errno, ENOENT);
}

TEST(a_long_line_is_cut)
{
	ferry_log_set_cb(take_line);
	char text[900];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_line(FERRY_LOG_DEBUG, "%s", text);
	ck_assert_uint_eq(strlen(last_line), 511);
}
