/* The short answers without a file. */

#include "programs/http/answer.h"
#include "test.h"

#include <string.h>

#include <event2/buffer.h>

static char text[1024];

static void add(const struct http_answer *answer)
{
	struct evbuffer *out = evbuffer_new();
	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(http_answer_add(out, answer), 0);
	int length = evbuffer_remove(out, text, sizeof(text) - 1);
	ck_assert_int_gt(length, 0);
	ck_assert_uint_eq(evbuffer_get_length(out), 0);
	text[length] = '\0';
	evbuffer_free(out);
}

static bool has(const char *part)
{
	const char *at = strstr(text, part);
	return at != NULL && at < strstr(text, "\r\n\r\n") + 2;
}

TEST(a_busy_proxy_says_when_to_come_again)
{
	add(&(struct http_answer){.status = 503, .retry_after = 86400, .why = "no worker is free"});
	ck_assert_int_eq(strncmp(text, "HTTP/1.1 503 Service Unavailable\r\n", 34), 0);
	ck_assert(has("\r\nRetry-After: 86400\r\n"));
	ck_assert(has("\r\nConnection: close\r\n"));
	ck_assert(has("\r\nContent-Length: 43\r\n"));
	ck_assert_ptr_nonnull(strstr(text, "\r\n\r\n503 Service Unavailable: no worker is free\n"));
}

TEST(other_answers_do_not)
{
	add(&(struct http_answer){.status = 404, .keep_alive = true, .fields = "Allow: GET\r\n"});
	ck_assert(!has("Retry-After"));
	ck_assert(has("\r\nAllow: GET\r\n"));
	ck_assert(has("\r\nConnection: keep-alive\r\n"));
	ck_assert_ptr_nonnull(strstr(text, "\r\n\r\n404 Not Found\n"));
}

TEST(without_a_body_its_length_is_told)
{
	add(&(struct http_answer){.status = 404, .without_body = true});
	ck_assert(has("\r\nContent-Length: 14\r\n"));
	ck_assert_str_eq(strstr(text, "\r\n\r\n"), "\r\n\r\n");
}
