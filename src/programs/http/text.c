#include "programs/http/text.h"

#include <string.h>

enum { DIGITS = 20 }; /* of UINT64_MAX */

static void append(struct http_text *text, const char *piece, size_t length)
{
	if (length > text->size - text->length)
		return;
	memcpy(text->bytes + text->length, piece, length);
	text->length += length;
}

void http_text_add(struct http_text *text, const char *piece)
{
	append(text, piece, strlen(piece));
}

void http_text_add_number(struct http_text *text, uint64_t number)
{
	char digits[DIGITS];
	size_t first = DIGITS;
	for (; first == DIGITS || number > 0; number /= 10)
		digits[--first] = (char)('0' + number % 10);
	append(text, digits + first, DIGITS - first);
}

void http_text_add_hex(struct http_text *text, uint64_t number)
{
	char digits[DIGITS];
	size_t first = DIGITS;
	for (; first == DIGITS || number > 0; number /= 16)
		digits[--first] = "0123456789abcdef"[number % 16];
	append(text, digits + first, DIGITS - first);
}
