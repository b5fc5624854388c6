#ifndef FERRY_PROGRAMS_HTTP_ANSWER_H
#define FERRY_PROGRAMS_HTTP_ANSWER_H

/* What every answer starts with, and the short answers that are no file. */

#include <stdbool.h>

struct evbuffer;

/* Status line, Date, Server and Connection; the caller adds more lines and the empty one. 0 or
 * -ENOMEM. */
int http_answer_begin(struct evbuffer *out, int status, bool keep_alive);

struct http_answer {
	int status;
	bool keep_alive;
	bool without_body;        /* the request was a HEAD */
	unsigned int retry_after; /* seconds, for a 503; 0: no such field */
	const char *fields;       /* more header lines, each with its CRLF; or NULL */
	const char *why;          /* one sentence for the reader; or NULL */
};

/* A whole answer with a line of plain text as its body. 0 or -ENOMEM. */
int http_answer_add(struct evbuffer *out, const struct http_answer *answer);

#endif
