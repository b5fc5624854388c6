/* White-box: a listener logs at most one line a second about connections that it closed at once. */

#include "endpoint/refusals.h"

#include <stdio.h>
#include <string.h>

#include "ferry/log.h"
#include "set_clock.h"
#include "test.h"

static char logged[512];

static void keep_line(enum ferry_log_level level, const char *line)
{
	size_t length = strlen(logged);

	ck_assert_int_eq(level, FERRY_LOG_WARNING);
	snprintf(logged + length, sizeof(logged) - length, "%s\n", line);
}

/* What one more refusal logs. */
static void expect_lines(struct refusals *refusals, uid_t uid, const char *lines)
{
	logged[0] = '\0';
	ferry_log_set_cb(keep_line);
	refusals_log(refusals, 7, uid, "full");
	ferry_log_set_cb(NULL);
	ck_assert_str_eq(logged, lines);
}

enum { USER = 1234, NOBODY = -1, SECOND = 1000000 };

#define OF_USER "listener 7: a connection of user 1234 was refused: full\n"
#define DROPPED "listener 7: a connection was dropped: full\n"

TEST_CASE("refusals");

TEST(the_first_is_logged_with_its_user)
{
	struct refusals refusals = {0};
	expect_lines(&refusals, USER, OF_USER);
}

TEST(one_without_a_user_names_none)
{
	struct refusals refusals = {0};
	expect_lines(&refusals, (uid_t)NOBODY, DROPPED);
}

TEST(further_ones_are_counted_until_a_second_has_passed)
{
	struct refusals refusals = {0};
	expect_lines(&refusals, USER, OF_USER);
	expect_lines(&refusals, USER, "");
	clock_advance(SECOND - 1);
	expect_lines(&refusals, (uid_t)NOBODY, "");
	clock_advance(1);
	expect_lines(&refusals, USER, OF_USER "listener 7: and 2 connections before it\n");
	expect_lines(&refusals, USER, "");
	clock_advance(SECOND);
	expect_lines(&refusals, USER, OF_USER "listener 7: and 1 connections before it\n");
	clock_advance(SECOND);
	expect_lines(&refusals, USER, OF_USER);
}
