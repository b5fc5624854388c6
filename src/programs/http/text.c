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

/* Inline: a division by a constant is cheap. */
static inline void add_digits(struct http_text *text, uint64_t number, unsigned int base)
{
	char digits[DIGITS];
	size_t first = DIGITS;
	do {
		digits[--first] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number > 0);
	append(text, digits + first, DIGITS - first);
}

void http_text_add_number(struct http_text *text, uint64_t number)
{
	add_digits(text, number, 10);
}

void http_text_add_hex(struct http_text *text, uint64_t number)
{
	add_digits(text, number, 16);
}
