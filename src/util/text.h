#ifndef FERRY_UTIL_TEXT_H
#define FERRY_UTIL_TEXT_H

#include <stdarg.h>
#include <stddef.h>

/* A text of printf(3). A short one needs no memory from the heap. */

enum { TEXT_ROOM = 512 };

struct text {
	char *bytes; /* `room`, or memory of its own */
	size_t length;
	char room[TEXT_ROOM];
};

/* -ENOMEM; -EILSEQ, -EOVERFLOW: of vsnprintf(3). After a failure there is nothing to clear. */
int text_format(struct text *text, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

void text_clear(struct text *text);

#endif
