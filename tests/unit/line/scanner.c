/* Finding lines in a buffer: compared with a splitter that is too simple to be wrong; and the amount of work,
 * counted and not timed. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "line/scanner.h"
#include "test.h"

/* ---- the work, counted in the functions that do it ---- */

void *__real_memchr(const void *bytes, int byte, size_t size);
void *__wrap_memchr(const void *bytes, int byte, size_t size);
unsigned char *__real_evbuffer_pullup(struct evbuffer *buffer, ev_ssize_t size);
unsigned char *__wrap_evbuffer_pullup(struct evbuffer *buffer, ev_ssize_t size);
int __real_evbuffer_peek(struct evbuffer *buffer, ev_ssize_t size, struct evbuffer_ptr *start,
                         struct evbuffer_iovec *pieces, int count);
int __wrap_evbuffer_peek(struct evbuffer *buffer, ev_ssize_t size, struct evbuffer_ptr *start,
                         struct evbuffer_iovec *pieces, int count);

static struct {
	size_t searched, moved, chains_walked;
} work;

void *__wrap_memchr(const void *bytes, int byte, size_t size)
{
	void *found = __real_memchr(bytes, byte, size);
	work.searched += found != NULL ? (size_t)((char *)found - (const char *)bytes) + 1 : size;
	return found;
}

unsigned char *__wrap_evbuffer_pullup(struct evbuffer *buffer, ev_ssize_t size)
{
	work.moved += size < 0 ? evbuffer_get_length(buffer) : (size_t)size;
	return __real_evbuffer_pullup(buffer, size);
}

/* Each search walks from the first chain to its start and on from there: over all chains, at most. */
int __wrap_evbuffer_peek(struct evbuffer *buffer, ev_ssize_t size, struct evbuffer_ptr *start,
                         struct evbuffer_iovec *pieces, int count)
{
	work.chains_walked += (size_t)__real_evbuffer_peek(buffer, -1, NULL, NULL, 0);
	return __real_evbuffer_peek(buffer, size, start, pieces, count);
}

/* ---- the scanner under test, and the lines that it found ---- */

enum { TEXT_MAX = 1 << 16 };

static struct line_scanner scanner;
static struct evbuffer *input;

/* The lines as a text: '$' ends a line, '|' the last one, '>' the beginning of one that is too long. */
static char found[4 * TEXT_MAX], expected[4 * TEXT_MAX];
static size_t found_length, expected_length, most_kept;

static void open_scanner(const char *delimiter, size_t length, size_t max_length)
{
	memset(&scanner, 0, sizeof(scanner));
	memset(&work, 0, sizeof(work));
	line_scanner_set_delimiter(&scanner, delimiter, length);
	scanner.max_length = max_length;
	input = evbuffer_new();
	found_length = expected_length = most_kept = 0;
}

static void close_scanner(void)
{
	evbuffer_free(input);
}

static void note(const void *bytes, size_t length, char mark)
{
	ck_assert_uint_lt(found_length + length, sizeof(found));
	if (length > 0)
		memcpy(found + found_length, bytes, length);
	found[found_length + length] = mark;
	found_length += length + 1;
}

static void take_all(bool ended)
{
	static const char marks[] = {[LINE_WHOLE] = '$', [LINE_LAST] = '|', [LINE_TOO_LONG] = '>'};
	struct line line;
	enum line_kind kind;
	while ((kind = line_scanner_next(&scanner, input, ended, &line)) != LINE_NONE) {
		ck_assert_uint_le(line.length, scanner.max_length);
		ck_assert_uint_le(line.size, evbuffer_get_length(input));
		note(line.length > 0 ? evbuffer_pullup(input, (ev_ssize_t)line.length) : NULL, line.length,
		     marks[kind]);
		line_scanner_take(&scanner, input, line.size);
		if (kind == LINE_TOO_LONG)
			line_scanner_skip(&scanner);
	}
	size_t kept = evbuffer_get_length(input);
	most_kept = kept > most_kept ? kept : most_kept;
}

static void put(const char *bytes, size_t length)
{
	ck_assert_int_eq(evbuffer_add(input, bytes, length), 0);
	take_all(false);
}

/* Adds the bytes in a chain of their own. */
static void add_chain(const char *bytes, size_t length)
{
	struct evbuffer *chain = evbuffer_new();
	ck_assert_int_eq(evbuffer_add(chain, bytes, length), 0);
	ck_assert_int_eq(evbuffer_add_buffer(input, chain), 0);
	evbuffer_free(chain);
}

static void put_chain(const char *bytes, size_t length)
{
	add_chain(bytes, length);
	take_all(false);
}

static void expect(const char *text)
{
	ck_assert_uint_eq(found_length, strlen(text));
	ck_assert_mem_eq(found, text, found_length);
}

/* ---- delimiters ---- */

struct sample {
	const char *delimiter, *text, *result;
};

static const struct sample samples[] = {
    {"\n", "one\ntwo\n\nthree", "one$two$$three|"},
    {"\n", "", ""},
    {"\n", "\n", "$"},
    {"\r\n", "a\r\nb\nc\rd\r\r\n\r\n", "a$b\nc\rd\r$$"},
    {"\r\n", "a\r", "a\r|"},
    {"aab", "aaab", "a$"},
    {"aab", "aaaaabaabxaab", "aaa$$x$"},
    {"aaa", "aaaaaaaa", "$$aa|"},
    {"abab", "abaababab", "aba$ab|"},
    {"0123456789abcdef", "x0123456789abcde0123456789abcdefy", "x0123456789abcde$y|"},
};

TEST_CASE("delimiters");

/* _i: the sample */
LOOP_TEST(a_delimiter_may_be_split_at_every_byte, COUNT(samples))
{
	const struct sample *sample = &samples[_i];
	size_t length = strlen(sample->text);
	for (size_t first = 0; first <= length; first++) {
		for (size_t second = first; second <= length; second++) {
			open_scanner(sample->delimiter, strlen(sample->delimiter), 1000);
			put_chain(sample->text, first);
			put_chain(sample->text + first, second - first);
			put_chain(sample->text + second, length - second);
			take_all(true);
			expect(sample->result);
			close_scanner();
		}
	}
}

LOOP_TEST(a_delimiter_may_be_in_as_many_chains_as_bytes, COUNT(samples))
{
	const struct sample *sample = &samples[_i];
	open_scanner(sample->delimiter, strlen(sample->delimiter), 1000);
	for (size_t i = 0; i < strlen(sample->text); i++)
		put_chain(sample->text + i, 1);
	take_all(true);
	expect(sample->result);
	close_scanner();
}

/* The line has more chains than one evbuffer_peek() returns. */
TEST(a_line_may_be_in_a_thousand_chains_at_once)
{
	open_scanner("\r\n", 2, 5000);
	for (int i = 0; i < 1000; i++)
		add_chain("abc", 3);
	add_chain("\r", 1);
	add_chain("\n", 1);
	take_all(false);
	ck_assert_uint_eq(found_length, 3001);
	for (size_t i = 0; i < 3000; i++)
		if (found[i] != "abc"[i % 3])
			ck_abort_msg("another byte at %zu", i);
	ck_assert_int_eq(found[3000], '$');
	close_scanner();
}

TEST(lines_and_delimiters_may_have_zero_bytes)
{
	open_scanner("\0\0", 2, 1000);
	put("a\0b\0\0\0\0c", 8);
	take_all(true);
	ck_assert_uint_eq(found_length, 7);
	ck_assert_mem_eq(found, "a\0b$$c|", 7);
	close_scanner();
}

TEST(another_delimiter_is_searched_in_the_bytes_that_are_there)
{
	open_scanner("\n", 1, 1000);
	put("a;b;c", 5);
	expect("");
	line_scanner_set_delimiter(&scanner, ";", 1);
	take_all(false);
	expect("a$b$");
	line_scanner_set_delimiter(&scanner, "c", 1);
	take_all(false);
	expect("a$b$$");
	close_scanner();
}

TEST(a_restart_begins_with_a_line)
{
	open_scanner("\n", 1, 3);
	put("toolong", 7);
	expect("too>");
	evbuffer_drain(input, evbuffer_get_length(input));
	line_scanner_restart(&scanner);
	put("x\n", 2);
	expect("too>x$");
	close_scanner();
}

/* ---- the longest line ---- */

static const struct sample lengths[] = {
    {"\r\n", "12345\r\n123456\r\n12345\r\n", "12345$12345>12345$"},
    {"\r\n", "123456", "12345>"},  /* known to be too long only at the end */
    {"\r\n", "12345\r", "12345>"}, /* as above */
    {"\r\n", "1234\r", "1234\r|"},
    {"\r\n", "12345", "12345|"},
    {"\r\n", "1234567890\r\r\n1\r\n", "12345>1$"},
    {"\r\n", "1234567890\r", "12345>"},
    {"\r\n", "1234567890", "12345>"},
    {"aab", "12345aaab1aab", "12345>1$"},
    {"aab", "1234aaab1aab", "1234a$1$"},
};

TEST_CASE("limits");

/* Split at every byte. _i: the sample */
LOOP_TEST(a_line_that_is_too_long_is_reported_once_and_skipped, COUNT(lengths))
{
	const struct sample *sample = &lengths[_i];
	size_t length = strlen(sample->text);
	for (size_t first = 0; first <= length; first++) {
		for (size_t second = first; second <= length; second++) {
			open_scanner(sample->delimiter, strlen(sample->delimiter), 5);
			put_chain(sample->text, first);
			put_chain(sample->text + first, second - first);
			put_chain(sample->text + second, length - second);
			take_all(true);
			expect(sample->result);
			close_scanner();
		}
	}
}

TEST(the_longest_line_may_become_shorter_and_longer)
{
	open_scanner("\n", 1, 10);
	put("12345678", 8);
	scanner.max_length = 4;
	take_all(false);
	expect("1234>");
	put("90\n123", 6);
	scanner.max_length = 20;
	put("4567890\n", 8);
	expect("1234>1234567890$");
	close_scanner();
}

TEST(skipped_bytes_are_not_stored)
{
	char block[1000];
	memset(block, 'x', sizeof(block));
	open_scanner("0123456789abcdef", 16, 100);
	for (int i = 0; i < 10000; i++)
		put(block, sizeof(block));
	ck_assert_uint_lt(most_kept, 16);
	put("0123456789abcdefy0123456789abcdef", 33);
	ck_assert_uint_eq(found_length, 101 + 2);
	ck_assert_mem_eq(found + 101, "y$", 2);
	close_scanner();
}

TEST(an_unfinished_line_is_stored_up_to_its_delimiter_and_no_further)
{
	open_scanner("\r\n", 2, 5000);
	for (int i = 0; i < 20000; i++)
		put("x", 1);
	/* With one byte more the line would be known to be too long. */
	ck_assert_uint_eq(most_kept, 5000 + 2 - 1);
	close_scanner();
}

/* ---- how much work ---- */

enum { LONG_LINE = 1 << 20, READ_SPACE = 960 };

/* Adds the bytes as the transport's read step does. */
static void read_into(const char *bytes, size_t length)
{
	struct evbuffer_iovec room[2];
	int count = evbuffer_reserve_space(input, READ_SPACE, room, 2);
	int used = 0;
	for (size_t left = length; used < count; used++) {
		room[used].iov_len = room[used].iov_len < left ? room[used].iov_len : left;
		memcpy(room[used].iov_base, bytes, room[used].iov_len);
		bytes += room[used].iov_len;
		left -= room[used].iov_len;
	}
	if (used < 1 || evbuffer_commit_space(input, room, used) < 0) /* check's assertions take long */
		ck_abort_msg("no room");
}

static const char *const long_delimiters[] = {"\n", "\r\n", "0123456789abcdef"};

TEST_CASE("work");

/* _i: the delimiter */
LOOP_TEST(a_line_of_a_mebibyte_that_comes_byte_by_byte_is_linear_work, 3)
{
	const char *delimiter = long_delimiters[_i];
	struct line line;
	open_scanner(delimiter, strlen(delimiter), LONG_LINE);
	for (size_t i = 0; i < LONG_LINE; i++) {
		read_into("x", 1);
		if (line_scanner_next(&scanner, input, false, &line) != LINE_NONE)
			ck_abort_msg("a line after %zu bytes", i + 1);
	}
	read_into(delimiter, strlen(delimiter));

	ck_assert_int_eq(line_scanner_next(&scanner, input, false, &line), LINE_WHOLE);

	ck_assert_uint_eq(line.length, LONG_LINE);
	printf("of %d bytes: searched %zu, moved %zu, chains walked %zu\n", LONG_LINE, work.searched,
	       work.moved, work.chains_walked);
	/* Each position is searched once. The copies double in size, and sum up to less than four times the line.
	 * Each step walks past a few chains, twice. */
	ck_assert_uint_le(work.searched, LONG_LINE + 16);
	ck_assert_uint_le(work.moved, 4 * LONG_LINE);
	ck_assert_uint_le(work.chains_walked, (size_t)LONG_LINE * 2 * 10);
	close_scanner();
}

/* The worst case: half of a delimiter over and over. */
TEST(a_line_of_half_delimiters_is_linear_work)
{
	struct line line;
	open_scanner("aaaaaaaaaaaaaaab", 16, LONG_LINE);
	for (size_t i = 0; i < LONG_LINE; i++) {
		read_into("a", 1);
		if (line_scanner_next(&scanner, input, false, &line) != LINE_NONE)
			ck_abort_msg("a line after %zu bytes", i + 1);
	}
	ck_assert_uint_le(work.searched, LONG_LINE);
	ck_assert_uint_le(work.moved, 4 * LONG_LINE);
	close_scanner();
}

TEST(many_lines_in_one_chain_are_searched_once_and_not_moved)
{
	enum { LINES = 10000 };
	struct line line;
	open_scanner("\n", 1, 1000);
	ck_assert_int_eq(evbuffer_expand(input, LINES * 10), 0);
	for (int i = 0; i < LINES; i++)
		ck_assert_int_eq(evbuffer_add(input, "123456789\n", 10), 0);
	ck_assert_int_eq(__real_evbuffer_peek(input, -1, NULL, NULL, 0), 1);
	for (int i = 0; i < LINES; i++) {
		ck_assert(line_scanner_next(&scanner, input, false, &line) == LINE_WHOLE);
		line_scanner_take(&scanner, input, line.size);
	}
	ck_assert_uint_eq(work.searched, LINES * 10);
	ck_assert_uint_eq(work.moved, 0);
	close_scanner();
}

/* ---- random chunks of random input, beside a simple splitter ---- */

static void expect_more(const char *bytes, size_t length, char mark)
{
	memcpy(expected + expected_length, bytes, length);
	expected[expected_length + length] = mark;
	expected_length += length + 1;
}

/* Splits the whole input at once, from the left, byte by byte. */
static void split(const char *text, size_t length, size_t max_length)
{
	size_t size = scanner.delimiter_length, start = 0, at = 0;
	while (at < length) {
		bool ends = at + size <= length && memcmp(text + at, scanner.delimiter, size) == 0;
		if (!ends) {
			at++;
			continue;
		}
		if (at - start > max_length)
			expect_more(text + start, max_length, '>');
		else
			expect_more(text + start, at - start, '$');
		start = at += size;
	}
	if (length - start > max_length)
		expect_more(text + start, max_length, '>');
	else if (length > start)
		expect_more(text + start, length - start, '|');
}

TEST_CASE("random");

TEST(random_chunks_of_random_input_are_split_as_by_a_simple_splitter)
{
	static char text[TEXT_MAX / 8];
	char delimiter[LINE_DELIMITER_MAX];
	for (int round = 0; round < 1000; round++) {
		/* With few letters, delimiters and halves of them are frequent. */
		uint32_t letters = 1 + support_random_below(4);
		size_t size = 1 + support_random_below(round % 2 == 0 ? 4 : LINE_DELIMITER_MAX);
		size_t length = support_random_below(round % 10 == 0 ? sizeof(text) : 300);
		size_t max_length = 1 + support_random_below(round % 3 == 0 ? 10 : 1000);
		for (size_t i = 0; i < size; i++)
			delimiter[i] = (char)('a' + support_random_below(letters));
		for (size_t i = 0; i < length; i++)
			text[i] = (char)('a' + support_random_below(letters + 1));
		for (size_t i = support_random_below(50); i + size < length;
		     i += 1 + support_random_below(100))
			memcpy(text + i, delimiter, size);
		open_scanner(delimiter, size, max_length);
		split(text, length, max_length);
		for (size_t at = 0, step = 0; at < length; at += step) {
			step = 1 + support_random_below(round % 4 == 0 ? 3 : 200);
			step = step < length - at ? step : length - at;
			support_random_below(2) == 0 ? put(text + at, step) : put_chain(text + at, step);
		}
		take_all(true);
		ck_assert_uint_eq(found_length, expected_length);
		ck_assert_mem_eq(found, expected, expected_length);
		ck_assert_uint_eq(evbuffer_get_length(input), 0);
		ck_assert_uint_lt(most_kept, max_length + size);
		close_scanner();
	}
}
