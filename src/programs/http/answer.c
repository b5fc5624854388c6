#include "programs/http/answer.h"

#include "programs/http/date.h"
#include "programs/http/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>

enum { BODY_SIZE = 256 };

static const char *reason_of(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {
	    {200, "OK"},
	    {206, "Partial Content"},
	    {301, "Moved Permanently"},
	    {304, "Not Modified"},
	    {400, "Bad Request"},
	    {403, "Forbidden"},
	    {404, "Not Found"},
	    {405, "Method Not Allowed"},
	    {408, "Request Timeout"},
	    {412, "Precondition Failed"},
	    {413, "Content Too Large"},
	    {414, "URI Too Long"},
	    {416, "Range Not Satisfiable"},
	    {421, "Misdirected Request"},
	    {431, "Request Header Fields Too Large"},
	    {500, "Internal Server Error"},
	    {501, "Not Implemented"},
	    {503, "Service Unavailable"},
	    {505, "HTTP Version Not Supported"},
	};
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

/* Many answers have the same one. The programs answer in one thread. */
static const char *date_of_now(void)
{
	static char date[HTTP_DATE_SIZE];
	static time_t second;
	time_t now = time(NULL);
	if (now != second)
		http_date_format(now, date);
	second = now;
	return date;
}

void http_answer_put_begin(struct http_text *text, int status, bool keep_alive)
{
	http_text_add(text, "HTTP/1.1 ");
	http_text_add_number(text, (unsigned int)status);
	http_text_add(text, " ");
	http_text_add(text, reason_of(status));
	http_text_add(text, "\r\nDate: ");
	http_text_add(text, date_of_now());
	http_text_add(text, keep_alive ? "\r\nServer: ferry\r\nConnection: keep-alive\r\n"
	                               : "\r\nServer: ferry\r\nConnection: close\r\n");
}

int http_answer_begin(struct evbuffer *out, int status, bool keep_alive)
{
	char bytes[HTTP_ANSWER_BEGIN_SIZE];
	struct http_text text = {.bytes = bytes, .size = sizeof(bytes)};
	http_answer_put_begin(&text, status, keep_alive);
	return evbuffer_add(out, bytes, text.length) < 0 ? -ENOMEM : 0;
}

static void format_body(char *out, const struct http_answer *answer)
{
	snprintf(out, BODY_SIZE, "%d %s%s%s\n", answer->status, reason_of(answer->status),
	         answer->why != NULL ? ": " : "", answer->why != NULL ? answer->why : "");
}

size_t http_answer_length(const struct http_answer *answer)
{
	char body[BODY_SIZE];
	format_body(body, answer);
	return answer->without_body ? 0 : strlen(body);
}

int http_answer_add(struct evbuffer *out, const struct http_answer *answer)
{
	char body[BODY_SIZE];
	format_body(body, answer);
	if (http_answer_begin(out, answer->status, answer->keep_alive) < 0)
		return -ENOMEM;
	if (answer->retry_after > 0 &&
	    evbuffer_add_printf(out, "Retry-After: %u\r\n", answer->retry_after) < 0)
		return -ENOMEM;
	int added = evbuffer_add_printf(out,
	                                "%sContent-Type: text/plain; charset=utf-8\r\n"
	                                "X-Content-Type-Options: nosniff\r\n"
	                                "Content-Length: %zu\r\n\r\n%s",
	                                answer->fields != NULL ? answer->fields : "", strlen(body),
	                                answer->without_body ? "" : body);
	return added < 0 ? -ENOMEM : 0;
}
