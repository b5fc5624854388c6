/* Pages whose names stand for values. */

#include "programs/ferry-worker/filled_page.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

static const struct template_value values[] = {{"a", .text = "1"},
                                               {"a.b", .text = "<&>\"'x"},
                                               {"empty", .text = ""},
                                               {"none", .number = 0},
                                               {"many", .number = UINT64_MAX}};

static void check_filled(const char *text, const char *expected)
{
	struct evbuffer *out = evbuffer_new();
	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(template_add(out, text, strlen(text), values, COUNT(values)), 0);
	evbuffer_add(out, "", 1);
	ck_assert_str_eq((char *)evbuffer_pullup(out, -1), expected);
	evbuffer_free(out);
}

TEST_CASE("filled");

TEST(names_become_values)
{
	check_filled("", "");
	check_filled("plain", "plain");
	check_filled("{{a}}", "1");
	check_filled("x{{a}}{{a}}y", "x11y");
	check_filled("[{{empty}}]", "[]");
	check_filled("{{a.b}}", "&#60;&#38;&#62;&#34;&#39;x");
}

TEST(other_braces_stay)
{
	static const char *const texts[] = {"{",      "{{",      "{{a",    "{{a}",      "{{}}",
	                                    "{{b}}",  "{{ a }}", "{a}",    "}}{{",      "{{a.}}",
	                                    "{ {a}}", "{{A}}",   "{{aa}}", "{{a.b.c}}", "{{{{"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check_filled(texts[i], texts[i]);
	check_filled("{{{a}}}", "{1}");
	check_filled("{{b}}{{a}}{{", "{{b}}1{{");
}

TEST(numbers_are_values_too)
{
	check_filled("{{none}} of {{many}}", "0 of 18446744073709551615");
}

TEST(a_part_is_there_if_its_value_is)
{
	check_filled("[{{?a}}x{{/}}]", "[x]");
	check_filled("[{{?empty}}x{{/}}]", "[]");
	check_filled("[{{?none}}x{{/}}]", "[]");
	check_filled("[{{?many}}{{many}}{{/}}{{?none}}{{a}}{{/}}{{a}}]", "[184467440737095516151]");
	check_filled("{{?a}}1{{/}}{{/}}", "1{{/}}");
	check_filled("1{{?none}}2", "1");
	check_filled("{{?b}}1{{/}}", "{{?b}}1{{/}}");
}

TEST(the_pages_are_those_that_were_named)
{
	const struct filled_pages pages = {.paths = {"index.html", "sub/x"}, .count = 2};
	ck_assert(filled_pages_have(&pages, "index.html"));
	ck_assert(filled_pages_have(&pages, "./index.html"));
	ck_assert(filled_pages_have(&pages, "sub/x"));
	ck_assert(!filled_pages_have(&pages, "x"));
	ck_assert(!filled_pages_have(&pages, "index.htm"));
	ck_assert(!filled_pages_have(&pages, ""));
}

TEST(a_page_may_be_named_as_in_its_address)
{
	const struct filled_pages pages = {.paths = {"/index.html", "./a", "//b/c"}, .count = 3};
	ck_assert(filled_pages_have(&pages, "index.html"));
	ck_assert(filled_pages_have(&pages, "./index.html"));
	ck_assert(filled_pages_have(&pages, "a"));
	ck_assert(filled_pages_have(&pages, "b/c"));
	ck_assert(!filled_pages_have(&pages, "c"));
	ck_assert(!filled_pages_have(&pages, ".a"));
	ck_assert(!filled_pages_have(&pages, ""));
}

TEST(a_file_is_filled)
{
	char name[] = "/tmp/ferry-filled-XXXXXX";
	struct evbuffer *out = evbuffer_new();
	int fd = mkstemp(name);
	ck_assert_int_ge(fd, 0);
	unlink(name);
	ck_assert_int_eq(write(fd, "<{{a}}>", 7), 7);
	ck_assert_int_eq(filled_page_add_file(out, fd, 7, values, 3), 0);
	ck_assert_uint_eq(evbuffer_get_length(out), 3);
	ck_assert_int_eq(memcmp(evbuffer_pullup(out, -1), "<1>", 3), 0);
	/* It was longer when the size was read. */
	ck_assert_int_eq(filled_page_add_file(out, fd, 99, values, 3), 0);
	ck_assert_int_eq(filled_page_add_file(out, fd, FILLED_PAGE_MAX + 1, values, 3), -EFBIG);
	close(fd);
	ck_assert_int_eq(filled_page_add_file(out, fd, 7, values, 3), -EBADF);
	evbuffer_free(out);
}
