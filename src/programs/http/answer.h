#ifndef FERRY_PROGRAMS_HTTP_ANSWER_H
#define FERRY_PROGRAMS_HTTP_ANSWER_H

/* The head that every answer starts with, and short answers with a line of text. */

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;
struct http_text;

enum { HTTP_ANSWER_BEGIN_SIZE = 256 };

/* Appends the status line, Date, Server and Connection, of HTTP_ANSWER_BEGIN_SIZE bytes at most; the caller appends the
 * other fields and the empty line. */
void http_answer_put_begin(struct http_text *text, int status, bool keep_alive);

/* The same behind the bytes of `out`. 0 or -ENOMEM. */
int http_answer_begin(struct evbuffer *out, int status, bool keep_alive);

struct http_answer {
	int status;
	bool keep_alive;
	bool without_body;        /* the request was a HEAD */
	unsigned int retry_after; /* seconds, for a 503; 0: no such field */
	const char *fields;       /* more header lines, each with its CRLF; or NULL */
	const char *why;          /* a sentence for people; or NULL */
};

/* The length of its body in bytes. */
size_t http_answer_length(const struct http_answer *answer);

/* Adds a complete answer with a line of plain text as its body. 0 or -ENOMEM. */
int http_answer_add(struct evbuffer *out, const struct http_answer *answer);

#endif
