#ifndef FERRY_PROGRAMS_HTTP_TEXT_H
#define FERRY_PROGRAMS_HTTP_TEXT_H

/* The lines of a head, appended to memory of the caller's. A head is written for each request, and a format string
 * costs several times as much. */

#include <stddef.h>
#include <stdint.h>

struct http_text {
	char *bytes; /* without a zero at the end */
	size_t size, length;
};

/* Each appends. A piece that does not fit is left out: the caller has room for all. */
void http_text_add(struct http_text *text, const char *piece);
void http_text_add_number(struct http_text *text, uint64_t number);
void http_text_add_hex(struct http_text *text, uint64_t number);

#endif
