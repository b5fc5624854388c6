/* The steps from a request head to a file: paths, dates, ranges, conditions, types. */

#include "programs/http/condition.h"
#include "programs/http/date.h"
#include "programs/http/mime_type.h"
#include "programs/http/path.h"
#include "programs/http/range.h"
#include "programs/http/text.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static char decoded[32];

static int decode(const char *path)
{
	return http_path_decode(path, strlen(path), decoded, sizeof(decoded));
}

TEST_CASE("paths");

TEST(a_path_is_decoded_relative_to_the_root)
{
	ck_assert_int_eq(decode("/a%20b/%C3%A4.html"), 0);
	ck_assert_str_eq(decoded, "a b/\xc3\xa4.html");
	ck_assert_int_eq(decode("///a//b/"), 0);
	ck_assert_str_eq(decoded, "a//b/");
	ck_assert_int_eq(decode("/"), 0);
	ck_assert_str_eq(decoded, ".");
	ck_assert_int_eq(decode(""), 0);
	ck_assert_str_eq(decoded, ".");
	ck_assert_int_eq(decode("/%2e%2E/x"), 0);
	ck_assert_str_eq(decoded, "../x");
}

TEST(a_path_with_bad_escapes_is_refused)
{
	ck_assert_int_eq(decode("/%"), -EINVAL);
	ck_assert_int_eq(decode("/%4"), -EINVAL);
	ck_assert_int_eq(decode("/%4g"), -EINVAL);
	ck_assert_int_eq(decode("/%%41"), -EINVAL);
	ck_assert_int_eq(decode("/a%00b"), -EINVAL);
	ck_assert_int_eq(decode("/a%2fb"), -ENOENT);
}

TEST(a_path_has_to_fit)
{
	ck_assert_int_eq(decode("/1234567890123456789012345678901"), 0);
	ck_assert_uint_eq(strlen(decoded), 31);
	ck_assert_int_eq(decode("/12345678901234567890123456789012"), -ENAMETOOLONG);
}

static const time_t example = 784111777; /* the date of RFC 9110 section 5.6.7 */

static int parse_date(const char *text, time_t *when)
{
	return http_date_parse(text, strlen(text), 1700000000, when);
}

#define ck_date(text, expected)                         \
	do {                                                \
		time_t parsed = 0;                              \
		ck_assert_int_eq(parse_date(text, &parsed), 0); \
		ck_assert_int_eq(parsed, expected);             \
	} while (0)

TEST_CASE("dates");

TEST(dates_are_written_in_the_preferred_format)
{
	char text[HTTP_DATE_SIZE];
	http_date_format(example, text);
	ck_assert_str_eq(text, "Sun, 06 Nov 1994 08:49:37 GMT");
	http_date_format(0, text);
	ck_assert_str_eq(text, "Thu, 01 Jan 1970 00:00:00 GMT");
	if (sizeof(time_t) < sizeof(int64_t))
		return;
	http_date_format((time_t)INT64_MAX, text);
	ck_assert_str_eq(text, "Fri, 31 Dec 9999 23:59:59 GMT");
	http_date_format((time_t)INT64_MIN, text);
	ck_assert_str_eq(text, "Wed, 01 Jan 1000 00:00:00 GMT");
}

/* Of every year from 1000 to 9999, at every hour, and every day of four centuries. */
TEST(the_c_library_writes_the_same_dates)
{
	const int64_t first = -30610224000, last = 253402300799, year_1900 = -2208988800;
	char text[HTTP_DATE_SIZE], expected[HTTP_DATE_SIZE];
	for (int64_t when = first; when <= last;
	     when += when >= year_1900 && when < year_1900 + 12622780800 ? 86399 : 86400 * 59 + 3661) {
		time_t time = (time_t)when;
		struct tm tm;
		ck_assert_ptr_nonnull(gmtime_r(&time, &tm));
		ck_assert_uint_gt(strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &tm),
		                  0);
		http_date_format(time, text);
		ck_assert_str_eq(text, expected);
	}
}

TEST_CASE("text");

TEST(text_is_appended_up_to_the_end_of_its_memory)
{
	char bytes[48];
	struct http_text text = {.bytes = bytes, .size = sizeof(bytes)};
	http_text_add(&text, "a ");
	http_text_add_number(&text, 0);
	http_text_add_number(&text, UINT64_MAX);
	http_text_add(&text, " ");
	http_text_add_hex(&text, 0xfedcba9876543210);
	http_text_add_hex(&text, 0);
	ck_assert_uint_eq(text.length, 41);
	ck_assert_mem_eq(bytes, "a 018446744073709551615 fedcba98765432100", 41);
	http_text_add(&text, "12345678"); /* a piece that does not fit */
	ck_assert_uint_eq(text.length, 41);
	http_text_add(&text, "1234567");
	ck_assert_uint_eq(text.length, sizeof(bytes));
	ck_assert_mem_eq(bytes + 41, "1234567", 7);
	http_text_add_number(&text, 1);
	ck_assert_uint_eq(text.length, sizeof(bytes));
}

TEST_CASE("dates that are read");

TEST(dates_are_read_in_three_formats)
{
	ck_date("Sun, 06 Nov 1994 08:49:37 GMT", example);
	ck_date("Sunday, 06-Nov-94 08:49:37 GMT", example);
	ck_date("Sun Nov  6 08:49:37 1994", example);
	ck_date("Wed Nov 16 08:49:37 1994", example + 864000);
	ck_date("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800);
	ck_date("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800);
}

TEST(a_year_of_two_digits_is_at_most_50_years_ahead)
{
	ck_date("Sunday, 01-Jan-73 00:00:00 GMT", 3250454400); /* 2073, parsed in 2023 */
	ck_date("Tuesday, 01-Jan-74 00:00:00 GMT", 126230400); /* 1974 */
}

TEST(what_is_read_is_what_was_written)
{
	for (int i = 0; i < 10000; i++) {
		time_t when = (time_t)support_random() * 58; /* to the year 9863 */
		char text[HTTP_DATE_SIZE];
		http_date_format(when, text);
		ck_date(text, when);
	}
}

TEST(bad_dates_are_refused)
{
	static const char *const bad[] = {"",
	                                  "Sun, 06 Nov 1994 08:49:37",
	                                  "Sun, 06 Nov 1994 08:49:37 GMT ",
	                                  "Sun, 6 Nov 1994 08:49:37 GMT",
	                                  "Son, 06 Nov 1994 08:49:37 GMT",
	                                  "Sun, 06 Nov 1994 08:49:37 CET",
	                                  "Sun, 06 Nov 1994 24:00:00 GMT",
	                                  "Sun, 06 Nov 1994 08:60:37 GMT",
	                                  "Sun, 06 Nov 1994 08:49:61 GMT",
	                                  "Wed, 31 Feb 2024 08:49:37 GMT",
	                                  "Thu, 00 Feb 2024 08:49:37 GMT",
	                                  "Sun, 06 Nov 1994 -8:49:37 GMT",
	                                  "Sunday, 06 Nov 94 08:49:37 GMT",
	                                  "Sun Nov 6 08:49:37 1994",
	                                  "784111777",
	                                  "sun, 06 Nov 1994 08:49:37 GMT",
	                                  "Sun,  06 Nov 1994 08:49:37 GMT",
	                                  "Sunday, 06 Nov 1994 08:49:37 GMT",
	                                  "Sun, 06 Nov 1994 08:49:37 GMT and more than a date"};
	static const char cut[] = "Sun, 06 Nov 1994 08:49:37 GMT\0x";
	time_t when;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(parse_date(bad[i], &when) == -EINVAL, "%s", bad[i]);
	ck_assert_int_eq(http_date_parse(cut, sizeof(cut) - 1, example, &when), -EINVAL);
}

static struct http_range range;

static enum http_range_kind parse_range(const char *value, uint64_t size)
{
	return http_range_parse(value, strlen(value), size, &range);
}

#define ck_part(value, size, expected_first, expected_length)        \
	do {                                                             \
		ck_assert_int_eq(parse_range(value, size), HTTP_RANGE_PART); \
		ck_assert_uint_eq(range.first, expected_first);              \
		ck_assert_uint_eq(range.length, expected_length);            \
	} while (0)

TEST_CASE("ranges");

TEST(a_single_range_is_a_part)
{
	ck_part("bytes=0-0", 10, 0, 1);
	ck_part("bytes=2-5", 10, 2, 4);
	ck_part("bytes=2-", 10, 2, 8);
	ck_part("bytes=-3", 10, 7, 3);
	ck_part("Bytes=9-9", 10, 9, 1);
}

TEST(a_range_beyond_the_end_is_cut)
{
	ck_part("bytes=2-10", 10, 2, 8);
	ck_part("bytes=2-99999999999999999999999999", 10, 2, 8);
	ck_part("bytes=-11", 10, 0, 10);
	ck_part("bytes=-99999999999999999999999999", 10, 0, 10);
}

TEST(a_range_after_the_end_is_unsatisfiable)
{
	ck_assert_int_eq(parse_range("bytes=10-", 10), HTTP_RANGE_UNSATISFIABLE);
	ck_assert_int_eq(parse_range("bytes=10-11", 10), HTTP_RANGE_UNSATISFIABLE);
	ck_assert_int_eq(parse_range("bytes=99999999999999999999-", 10), HTTP_RANGE_UNSATISFIABLE);
	ck_assert_int_eq(parse_range("bytes=-0", 10), HTTP_RANGE_UNSATISFIABLE);
	ck_assert_int_eq(parse_range("bytes=0-", 0), HTTP_RANGE_UNSATISFIABLE);
}

TEST(the_last_bytes_of_an_empty_file_are_the_whole)
{
	ck_assert_int_eq(parse_range("bytes=-1", 0), HTTP_RANGE_WHOLE);
	ck_assert_uint_eq(range.length, 0);
}

TEST(other_ranges_ask_for_the_whole)
{
	static const char *const whole[] = {"",          "bytes",      "bytes=",     "bytes=-",
	                                    "bytes=a-",  "bytes=5-2",  "bytes=1",    "items=1-2",
	                                    "bytes 1-",  "bytes=1-2x", "bytes=+1-2", "bytes=1-2,4-5",
	                                    "bytes=1--2"};
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		ck_assert_msg(parse_range(whole[i], 10) == HTTP_RANGE_WHOLE, "%s", whole[i]);
		ck_assert_uint_eq(range.first, 0);
		ck_assert_uint_eq(range.length, 10);
	}
}

/* A request with these fields for a file of 10 bytes, which was changed at `example`. */
static int evaluate(const char *method, const char *fields)
{
	char text[1024];
	snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: a\r\n%s\r\n", method, fields);
	struct http_head head;
	http_head_init(&head);
	ck_assert_int_gt(http_head_parse(&head, text, strlen(text)), 0);
	struct http_validators validators = {.etag = "\"a-b\"", .modified = example, .size = 10};
	return http_condition_evaluate(&head, text, &validators, example + 100, &range);
}

TEST_CASE("conditions");

TEST(without_conditions_the_whole_file_is_sent)
{
	ck_assert_int_eq(evaluate("GET", ""), 200);
	ck_assert_uint_eq(range.length, 10);
}

TEST(if_none_match_compares_weakly_in_a_list)
{
	ck_assert_int_eq(evaluate("GET", "If-None-Match: \"a-b\"\r\n"), 304);
	ck_assert_int_eq(evaluate("HEAD", "If-None-Match: W/\"a-b\"\r\n"), 304);
	ck_assert_int_eq(evaluate("GET", "If-None-Match: \"x\", \"a-b\"\r\n"), 304);
	ck_assert_int_eq(evaluate("GET", "If-None-Match: \"x\"\r\nIf-None-Match: \"a-b\"\r\n"), 304);
	ck_assert_int_eq(evaluate("GET", "If-None-Match: *\r\n"), 304);
	ck_assert_int_eq(evaluate("GET", "If-None-Match: \"a\"\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "If-None-Match: a-b\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "If-None-Match: \"a-b\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "If-None-Match: W/\r\n"), 200);
}

TEST(if_modified_since_counts_without_if_none_match)
{
	ck_assert_int_eq(evaluate("GET", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), 304);
	ck_assert_int_eq(evaluate("GET", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "If-Modified-Since: yesterday\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	                                 "If-None-Match: \"x\"\r\n"),
	                 200);
}

TEST(preconditions_fail_with_412)
{
	ck_assert_int_eq(evaluate("GET", "If-Match: \"x\"\r\n"), 412);
	ck_assert_int_eq(evaluate("GET", "If-Match: W/\"a-b\"\r\n"), 412);
	ck_assert_int_eq(evaluate("GET", "If-Match: \"a-b\"\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "If-Match: *\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n"),
	                 412);
	ck_assert_int_eq(evaluate("GET", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
	                 200);
}

TEST(ranges_are_for_get_only)
{
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\n"), 206);
	ck_assert_uint_eq(range.first, 1);
	ck_assert_int_eq(evaluate("GET", "Range: bytes=10-\r\n"), 416);
	ck_assert_int_eq(evaluate("HEAD", "Range: bytes=1-2\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\nRange: bytes=3-4\r\n"), 200);
}

TEST(if_range_keeps_a_part_from_another_version)
{
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\nIf-Range: \"a-b\"\r\n"), 206);
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\nIf-Range: \"x\"\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\nIf-Range: W/\"a-b\"\r\n"), 200);
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\n"
	                                 "If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
	                 206);
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\n"
	                                 "If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n"),
	                 200);
	ck_assert_int_eq(evaluate("GET", "Range: bytes=1-2\r\nIf-Range:\r\n"), 200);
}

TEST_CASE("types");

TEST(types_follow_the_extension)
{
	ck_assert_str_eq(mime_type_of("a/b.html"), "text/html; charset=utf-8");
	ck_assert_str_eq(mime_type_of("B.PNG"), "image/png");
	ck_assert_str_eq(mime_type_of("x.tar.gz"), "application/gzip");
	ck_assert_str_eq(mime_type_of("a.html/b"), "application/octet-stream");
	ck_assert_str_eq(mime_type_of(".html"), "application/octet-stream");
	ck_assert_str_eq(mime_type_of("a."), "application/octet-stream");
	ck_assert_str_eq(mime_type_of(""), "application/octet-stream");
}
