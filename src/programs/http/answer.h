#ifndef FERRY_PROGRAMS_HTTP_ANSWER_H
#define FERRY_PROGRAMS_HTTP_ANSWER_H

/* The head that every answer starts with, and short answers with a line of text. */

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;

/* Adds the status line, Date, Server and Connection; the caller adds the other fields and the empty line. 0
 * or -ENOMEM. */
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
