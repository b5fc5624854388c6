/* Bytes of several places, texts of printf(3) and evbuffers, written to a transport. */

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

/* NOLINTBEGIN(bugprone-not-null-terminated-result): these are bytes, and no strings */

enum { LONG = 3000 };

static struct ferry_transport *near;
static int far;

static void open_near(void)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	near = make_transport(ends[0]);
	far = ends[1];
}

static void close_near(void)
{
	ferry_transport_free(near);
	close(far);
	pump_turns(2);
}

/* What has arrived at the far end is this, and nothing else. */
static void expect_far(const char *expected, size_t length)
{
	char bytes[2 * LONG];

	pump_turns(2);
	const ssize_t count = read(far, bytes, sizeof(bytes));
	ck_assert_int_eq(count, length > 0 ? (ssize_t)length : -1);
	if (count > 0)
		ck_assert_mem_eq(bytes, expected, length);
}

static void fill_long(char text[LONG + 1])
{
	for (size_t i = 0; i < LONG; i++)
		text[i] = (char)('a' + i % 26);
	text[LONG] = '\0';
}

/* ---- several places ---- */

TEST(the_bytes_of_several_places_leave_as_one_write)
{
	static char text[LONG + 1];
	const struct iovec parts[] = {{"one", 3}, {NULL, 0}, {text, LONG}, {"two", 3}};

	fill_long(text);
	open_near();
	ck_assert_int_eq(ferry_transport_writev(near, parts, 4), 0);
	const uint64_t calls = stats_of(near).send_calls;
	char expected[LONG + 6];
	memcpy(expected, "one", 3);
	memcpy(expected + 3, text, LONG);
	memcpy(expected + 3 + LONG, "two", 3);
	expect_far(expected, sizeof(expected));
	ck_assert_uint_eq(stats_of(near).send_calls, calls + 1);
	close_near();
}

TEST(no_places_are_no_write)
{
	open_near();
	ck_assert_int_eq(ferry_transport_writev(near, NULL, 0), 0);
	ck_assert_int_eq(ferry_transport_writev(near, &(struct iovec){NULL, 0}, 1), 0);
	expect_far("", 0);
	close_near();
}

TEST(places_without_bytes_are_refused)
{
	const struct iovec nothing = {NULL, 1};
	const struct iovec too_much[] = {{"a", 1}, {"b", SSIZE_MAX}};

	open_near();
	ck_assert_int_eq(ferry_transport_writev(NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_transport_writev(near, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_transport_writev(near, &nothing, 1), -EINVAL);
	ck_assert_int_eq(ferry_transport_writev(near, too_much, 2), -EINVAL);
	expect_far("", 0);
	close_near();
}

TEST(a_write_above_the_limit_queues_no_part)
{
	const struct iovec parts[] = {{"12345", 5}, {"678", 3}};

	open_near();
	ck_assert_int_eq(ferry_transport_set_byte_limit(near, 7), 0);
	ck_assert_int_eq(ferry_transport_writev(near, parts, 2), -ENOBUFS);
	ck_assert_int_eq(ferry_transport_printf(near, "%d", 12345678), -ENOBUFS);
	ck_assert_uint_eq(stats_of(near).bytes_queued, 0);
	ck_assert_int_eq(ferry_transport_printf(near, "%d", 1234567), 0);
	expect_far("1234567", 7);
	close_near();
}

/* ---- texts ---- */

static int by_list(struct ferry_transport *transport, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int by_list(struct ferry_transport *transport, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	const int status = ferry_transport_vprintf(transport, format, arguments);
	va_end(arguments);
	return status;
}

TEST(a_text_is_formatted_whatever_its_length)
{
	static char text[LONG + 1], expected[LONG + 16];

	fill_long(text);
	open_near();
	ck_assert_int_eq(ferry_transport_printf(near, "%s %d\n", "GET", 7), 0);
	expect_far("GET 7\n", 6);
	for (int length = 505; length < 520; length++) { /* about the room that needs no heap */
		ck_assert_int_eq(ferry_transport_printf(near, "%.*s", length, text), 0);
		expect_far(text, (size_t)length);
	}
	ck_assert_int_eq(by_list(near, "%s|%d", text, 12), 0);
	memcpy(expected, text, LONG);
	memcpy(expected + LONG, "|12", 3);
	expect_far(expected, LONG + 3);
	ck_assert_int_eq(ferry_transport_printf(near, "%s", ""), 0);
	expect_far("", 0);
	close_near();
}

TEST(a_text_that_cannot_be_formatted_is_refused)
{
	const wchar_t wide[] = {0x7fffffff, 0};
	const char *volatile too_long = "%2147483648d"; /* a compiler that sees it warns */
	const char *volatile no_format = "abc%";

	open_near();
	ck_assert_int_eq(ferry_transport_printf(NULL, "x"), -EINVAL);
	ck_assert_int_eq(ferry_transport_printf(near, "%ls", wide), -EILSEQ);
	ck_assert_int_eq(ferry_transport_printf(near, too_long, 1), -EOVERFLOW);
	ck_assert_int_eq(ferry_transport_printf(near, no_format, 1), -EINVAL);
	expect_far("", 0);
	ferry_transport_abort_connection(near);
	ck_assert_int_eq(ferry_transport_printf(near, "x"), -EPIPE);
	ck_assert_int_eq(ferry_transport_writev(near, &(struct iovec){"x", 1}, 1), -EPIPE);
	close_near();
}

/* ---- evbuffers ---- */

TEST(the_output_of_the_transport_itself_is_no_buffer_to_write)
{
	open_near();
	struct evbuffer *output = bufferevent_get_output(ferry_transport_get_bufferevent(near));
	ck_assert_int_eq(ferry_transport_write_buffer(near, output), -EINVAL);
	ck_assert_int_eq(ferry_transport_write(near, "own", 3), 0);
	ck_assert_int_eq(ferry_transport_write_buffer(near, output), -EINVAL);
	expect_far("own", 3);
	close_near();
}

TEST(a_frozen_buffer_keeps_its_bytes)
{
	struct evbuffer *buffer = evbuffer_new();

	open_near();
	evbuffer_add(buffer, "kept", 4);
	evbuffer_freeze(buffer, 1);
	ck_assert_int_eq(ferry_transport_write_buffer(near, buffer), -ENOMEM);
	evbuffer_unfreeze(buffer, 1);
	struct evbuffer *output = bufferevent_get_output(ferry_transport_get_bufferevent(near));
	evbuffer_freeze(output, 0);
	ck_assert_int_eq(ferry_transport_write_buffer(near, buffer), -ENOMEM);
	evbuffer_unfreeze(output, 0);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 4);
	expect_far("", 0);
	evbuffer_free(buffer);
	close_near();
}

/* NOLINTEND(bugprone-not-null-terminated-result) */
