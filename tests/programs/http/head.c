/* The parser of request heads: the heads that it accepts, and the status of each refusal. */

#include "programs/http/head.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct http_head head;

static int parse(const char *text, size_t length)
{
	http_head_init(&head);
	return http_head_parse(&head, text, length);
}

static int parse_string(const char *text)
{
	return parse(text, strlen(text));
}

#define ck_accepted(text) ck_assert_int_eq(parse_string(text), (int)strlen(text))
#define ck_refused(text, status)                         \
	do {                                                 \
		ck_assert_int_eq(parse_string(text), -(status)); \
		ck_assert_ptr_nonnull(head.error);               \
	} while (0)

static void check_slice(const char *text, struct http_slice slice, const char *expected)
{
	ck_assert_uint_eq(slice.length, strlen(expected));
	ck_assert_int_eq(memcmp(text + slice.start, expected, slice.length), 0);
}

static const char browser[] = "GET /a/b%20c.html?x=1 HTTP/1.1\r\n"
                              "Host: localhost:8080\r\n"
                              "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
                              "Accept:text/html,*/*;q=0.8\r\n"
                              "X-Empty:\r\n"
                              "X-Spaced: \t  a b\t \r\n"
                              "X-Latin: caf\xe9\r\n"
                              "Connection: keep-alive\r\n"
                              "\r\n";

TEST(a_browsers_request_is_taken_apart)
{
	ck_accepted(browser);
	ck_assert_int_eq(head.method, HTTP_GET);
	ck_assert_uint_eq(head.minor, 1);
	check_slice(browser, head.path, "/a/b%20c.html");
	check_slice(browser, head.query, "?x=1");
	check_slice(browser, head.host, "localhost:8080");
	ck_assert(head.keep_alive);
	ck_assert(!http_head_has_body(&head));
	ck_assert_uint_eq(head.field_count, 7);
}

TEST(fields_are_found_in_any_case_without_the_space_around_their_values)
{
	ck_accepted(browser);
	bool repeated;
	const struct http_field *field = http_head_find(&head, browser, "x-SPACED", &repeated);
	ck_assert_ptr_nonnull(field);
	ck_assert(!repeated);
	check_slice(browser, field->value, "a b");
	check_slice(browser, http_head_find(&head, browser, "x-empty", NULL)->value, "");
	check_slice(browser, http_head_find(&head, browser, "x-latin", NULL)->value, "caf\xe9");
	ck_assert_ptr_null(http_head_find(&head, browser, "x-spac", NULL));
	ck_assert_ptr_null(http_head_find(&head, browser, "x-spaced2", NULL));
}

TEST(a_repeated_field_is_told)
{
	const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nRange: 1\r\nrange: 2\r\n\r\n";
	ck_accepted(text);
	bool repeated;
	check_slice(text, http_head_find(&head, text, "Range", &repeated)->value, "1");
	ck_assert(repeated);
}

TEST(a_target_may_name_its_host)
{
	static const char absolute[] = "GET http://a.example:80/x?y HTTP/1.1\r\nHost: b\r\n\r\n";
	static const char bare[] = "GET https://[::1] HTTP/1.1\r\nHost: b\r\n\r\n";
	ck_accepted(absolute);
	check_slice(absolute, head.authority, "a.example:80");
	check_slice(absolute, head.path, "/x");
	ck_accepted(bare);
	check_slice(bare, head.authority, "[::1]");
	check_slice(bare, head.path, "");
	ck_accepted(browser);
	check_slice(browser, head.authority, "");
}

TEST(every_prefix_of_a_valid_head_needs_more)
{
	for (size_t length = 0; length < strlen(browser); length++)
		ck_assert_int_eq(parse(browser, length), HTTP_HEAD_MORE);
}

TEST(a_head_may_come_byte_by_byte_in_a_buffer_that_moves)
{
	http_head_init(&head);
	size_t whole = strlen(browser);
	for (size_t length = 0; length <= whole; length++) {
		char *moved = malloc(length + 1);
		ck_assert_ptr_nonnull(moved);
		memcpy(moved, browser, length);
		ck_assert_int_eq(http_head_parse(&head, moved, length),
		                 length < whole ? HTTP_HEAD_MORE : (int)whole);
		free(moved);
	}
	check_slice(browser, head.path, "/a/b%20c.html");
}

TEST(what_follows_a_head_is_not_looked_at)
{
	const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\0garbage";
	ck_assert_int_eq(parse(text, sizeof(text)), 27);
	ck_assert_int_eq(http_head_parse(&head, text, sizeof(text)), 27);
}

TEST(a_refusal_is_final)
{
	ck_assert_int_eq(parse_string("\x16\x03\x01"), -400);
	ck_assert_int_eq(http_head_parse(&head, browser, strlen(browser)), -400);
}

TEST(no_mutation_of_one_byte_breaks_the_parser)
{
	char text[sizeof(browser)];
	size_t whole = strlen(browser);
	for (size_t at = 0; at < whole; at++)
		for (int byte = 0; byte < 256; byte++) {
			/* An exact heap copy: a sanitizer detects a read past the end. */
			char *copy = malloc(whole);
			ck_assert_ptr_nonnull(copy);
			memcpy(text, browser, sizeof(browser));
			text[at] = (char)byte;
			memcpy(copy, text, whole);
			int result = parse(copy, whole);
			ck_assert(result == HTTP_HEAD_MORE || result == -400 || result == -501 ||
			          result == -505 || (result > 0 && (size_t)result <= whole));
			for (unsigned int i = 0; result > 0 && i < head.field_count; i++)
				ck_assert_uint_le(
				    (unsigned int)head.fields[i].value.start + head.fields[i].value.length, whole);
			free(copy);
		}
}

TEST(no_random_bytes_break_the_parser)
{
	static const char alphabet[] = "GET /HTP1.0:\r\n\r\n \t,;%?a\0\x7f\xff";
	for (int round = 0; round < 20000; round++) {
		char text[128];
		size_t length = support_random_below(sizeof(text));
		for (size_t i = 0; i < length; i++)
			text[i] = alphabet[support_random_below(sizeof(alphabet))];
		ck_assert_int_le(parse(text, length), (int)length);
	}
}

TEST(request_lines_are_strict)
{
	ck_refused(" GET / HTTP/1.1\r\n", 400);
	ck_refused("GET  / HTTP/1.1\r\n", 400);
	ck_refused("GET /  HTTP/1.1\r\n", 400);
	ck_refused("GET\t/ HTTP/1.1\r\n", 400);
	ck_refused("GET / HTTP/1.1 \r\n", 400);
	ck_refused("GET /a b HTTP/1.1\r\n", 400);
	ck_refused("GET /#a HTTP/1.1\r\n", 400);
	ck_refused("GET /\x7f HTTP/1.1\r\n", 400);
	ck_refused("GET /\xc3\xa4 HTTP/1.1\r\n", 400);
	ck_refused("GET /\r\n", 400);
	ck_refused("G(T / HTTP/1.1\r\n", 400);
	ck_refused("GET / http/1.1\r\n", 400);
	ck_refused("GET / HTTP/11\r\n", 400);
	ck_refused("GET / HTTP/1.10\r\n", 400);
	ck_refused("GET / HTTP/1.\r\n", 400);
	ck_refused("GET / HTTP/1.1\rX", 400);
	ck_refused("GET / HTTP/1.1\n", 400);
	ck_refused("\n", 400);
	ck_refused("\rG", 400);
}

TEST(garbage_is_refused_at_its_first_byte)
{
	ck_refused("\x16\x03\x01\x02", 400);
	ck_refused("\x01", 400);
	ck_refused("{", 400);
	ck_assert_int_eq(parse("\0", 1), -400);
}

TEST(empty_lines_before_a_request_are_skipped)
{
	const char text[] = "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
	ck_accepted(text);
	check_slice(text, head.path, "/x");
}

TEST(methods_are_told_apart)
{
	ck_accepted("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(head.method, HTTP_HEAD);
	ck_accepted("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(head.method, HTTP_KNOWN_METHOD);
	ck_accepted("get / HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(head.method, HTTP_UNKNOWN_METHOD);
	ck_accepted("GETS / HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(head.method, HTTP_UNKNOWN_METHOD);
	ck_accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(head.method, HTTP_KNOWN_METHOD);
	ck_accepted("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(head.method, HTTP_KNOWN_METHOD);
	ck_refused("GET * HTTP/1.1\r\n", 400);
	ck_refused("GET a:443 HTTP/1.1\r\n", 400);
	ck_refused("CONNECT a@b HTTP/1.1\r\n", 400);
}

static bool is_one_of(int byte, const char *bytes)
{
	bool alphanumeric = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
	                    (byte >= 'a' && byte <= 'z');
	return alphanumeric || (byte != 0 && strchr(bytes, byte) != NULL);
}

/* `form` has a "%c" for the byte. */
static void check_byte(const char *form, int byte, bool accepted)
{
	char text[64];
	int length = snprintf(text, sizeof(text), form, byte);
	ck_assert_int_eq(parse(text, (size_t)length), accepted ? length : -400);
}

TEST(each_byte_belongs_where_it_may)
{
	for (int byte = 0; byte < 256; byte++) {
		bool token = is_one_of(byte, "!#$%&'*+-.^_`|~");
		bool visible = byte > ' ' && byte < 0x7f;
		check_byte("G%cT / HTTP/1.0\r\n\r\n", byte, token);
		check_byte("GET /%c HTTP/1.0\r\n\r\n", byte, visible && byte != '#');
		check_byte("GET / HTTP/1.0\r\nA%cB: c\r\n\r\n", byte, token || byte == ':');
		check_byte("GET / HTTP/1.0\r\nA: b%cc\r\n\r\n", byte,
		           byte == '\t' || (byte >= ' ' && byte != 0x7f));
		check_byte("GET / HTTP/1.0\r\nHost: a%cb\r\n\r\n", byte,
		           is_one_of(byte, "-._~!$&'()*+,;=:[]%"));
	}
}

TEST(a_target_may_be_absolute)
{
	const char text[] = "GET HTTP://example.org:80/a?b HTTP/1.1\r\nHost: x\r\n\r\n";
	ck_accepted(text);
	check_slice(text, head.path, "/a");
	check_slice(text, head.query, "?b");

	const char no_path[] = "GET http://example.org?b HTTP/1.1\r\nHost: x\r\n\r\n";
	ck_accepted(no_path);
	check_slice(no_path, head.path, "");
	check_slice(no_path, head.query, "?b");

	ck_refused("GET http:///a HTTP/1.1\r\n", 400);
	ck_refused("GET http:// HTTP/1.1\r\n", 400);
	ck_refused("GET http://user@host/ HTTP/1.1\r\n", 400);
	ck_refused("GET ftp://host/ HTTP/1.1\r\n", 400);
	ck_refused("GET a HTTP/1.1\r\n", 400);
}

TEST(other_versions_are_refused_with_505)
{
	ck_refused("GET / HTTP/2.0\r\n", 505);
	ck_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
	ck_refused("GET / HTTP/0.9\r\n", 505);
	ck_accepted("GET / HTTP/1.7\r\nHost: a\r\n\r\n");
}

TEST(header_lines_are_strict)
{
	ck_refused("GET / HTTP/1.1\r\n Host: a\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a\r\n b\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost : a\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHo st: a\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\n: a\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a\rb", 400);
	ck_refused("GET / HTTP/1.1\r\nX: a\x01", 400);
	ck_refused("GET / HTTP/1.1\r\nX: a\x7f", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a\r\n\rX", 400);
	const char zero[] = "GET / HTTP/1.1\r\nX: a\0b\r\n";
	ck_assert_int_eq(parse(zero, sizeof(zero) - 1), -400);
}

TEST(host_is_required_once_by_1_1)
{
	ck_refused("GET / HTTP/1.1\r\n\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a b\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a/b\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: a, b\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nHost: u@a\r\n", 400);
	ck_refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n", 400);
	ck_accepted("GET / HTTP/1.0\r\n\r\n");
	ck_accepted("GET / HTTP/1.1\r\nHost:\r\n\r\n");
	ck_accepted("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n");
}

TEST(content_length_is_digits_once)
{
	ck_accepted("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n");
	ck_assert(head.content_length == UINT64_MAX);
	ck_assert(http_head_has_body(&head));
	ck_accepted("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
	ck_assert(head.has_content_length);
	ck_assert(!http_head_has_body(&head));
	ck_refused("GET / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length: +1\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length: -1\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length: 0x1\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length: 1 1\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length:\r\n", 400);
	ck_refused("GET / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n", 400);
}

TEST(transfer_encoding_is_chunked_or_refused)
{
	ck_accepted("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n");
	ck_assert(head.chunked);
	ck_assert(http_head_has_body(&head));
	ck_refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
	           "Content-Length: 3\r\n\r\n",
	           400);
	ck_refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
	           "Transfer-Encoding: chunked\r\n\r\n",
	           400);
	ck_refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
	           "Transfer-Encoding: chunked\r\n",
	           400);
	ck_refused("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 501);
	ck_refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n", 400);
	ck_refused("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n", 400);
	ck_refused("POST / HTTP/1.1\r\nTransfer-Encoding:\r\n", 400);
	ck_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400);
}

TEST(keep_alive_follows_version_and_connection)
{
	ck_accepted("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert(head.keep_alive);
	ck_accepted("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
	ck_assert(!head.keep_alive);
	ck_accepted("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
	ck_assert(head.keep_alive);
	ck_accepted("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade ,\tClose\r\n\r\n");
	ck_assert(!head.keep_alive);
	ck_accepted("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n");
	ck_assert(!head.keep_alive);
	ck_accepted("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n");
	ck_assert(head.keep_alive);
}

/* A head of exactly `length` bytes. */
static char *make_head(size_t length)
{
	char *text = malloc(length + 1);
	ck_assert_ptr_nonnull(text);
	int used = snprintf(text, length, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
	memset(text + used, 'x', length - (size_t)used);
	(void)snprintf(text + length - 4, 5, "\r\n\r\n");
	return text;
}

TEST(a_head_may_have_8_kib_and_no_byte_more)
{
	char *text = make_head(HTTP_HEAD_LIMIT);
	ck_assert_int_eq(parse(text, HTTP_HEAD_LIMIT), HTTP_HEAD_LIMIT);
	ck_assert_int_eq(parse(text, HTTP_HEAD_LIMIT - 1), HTTP_HEAD_MORE);
	free(text);
	text = make_head(HTTP_HEAD_LIMIT + 1);
	ck_assert_int_eq(parse(text, HTTP_HEAD_LIMIT + 1), -431);
	ck_assert_int_eq(parse(text, HTTP_HEAD_LIMIT), -431);
	ck_assert_int_eq(parse(text, HTTP_HEAD_LIMIT - 1), HTTP_HEAD_MORE);
	free(text);
}

TEST(a_target_without_an_end_is_414)
{
	char *text = make_head(HTTP_HEAD_LIMIT + 1);
	memset(text + 5, 'x', HTTP_HEAD_LIMIT - 4);
	ck_assert_int_eq(parse(text, HTTP_HEAD_LIMIT + 1), -414);
	ck_assert_int_eq(parse(text, HTTP_HEAD_LIMIT - 1), HTTP_HEAD_MORE);
	free(text);
}

TEST(limits_can_be_set)
{
	http_head_init(&head);
	http_head_set_limits(&head, 60, 2);
	ck_assert_int_eq(http_head_parse(&head, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nX: y", 36), -431);
	char *text = make_head(60000);
	http_head_init(&head);
	http_head_set_limits(&head, 60000, 2);
	ck_assert_int_eq(http_head_parse(&head, text, 60000), 60000);
	ck_assert_uint_eq(head.fields[1].value.length, 60000 - 32);
	http_head_init(&head);
	http_head_set_limits(&head, 59999, 2);
	ck_assert_int_eq(http_head_parse(&head, text, 60000), -431);
	http_head_init(&head); /* offsets have 16 bits */
	http_head_set_limits(&head, 100000, 1000);
	ck_assert_uint_eq(head.limit, HTTP_HEAD_LIMIT_MAX);
	ck_assert_uint_eq(head.field_limit, HTTP_HEAD_FIELDS_MAX);
	free(text);
}

TEST(an_empty_chunked_body_is_a_body)
{
	static const char text[] =
	    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
	http_head_init(&head);
	ck_assert_int_gt(http_head_parse(&head, text, sizeof(text) - 1), 0);
	ck_assert(http_head_has_body(&head));
}

TEST(a_head_may_have_100_fields_and_not_one_more)
{
	char text[HTTP_HEAD_LIMIT];
	int used = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 1; i < HTTP_HEAD_FIELDS; i++)
		used += snprintf(text + used, sizeof(text) - (size_t)used, "X: y\r\n");
	(void)snprintf(text + used, sizeof(text) - (size_t)used, "\r\n");
	ck_accepted(text);
	(void)snprintf(text + used, sizeof(text) - (size_t)used, "X: y\r\n\r\n");
	ck_refused(text, 431);
}
