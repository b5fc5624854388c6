#include "util/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int format_to_heap(struct text *text, const char *format, va_list arguments)
{
	text->bytes = malloc(text->length + 1);
	if (text->bytes == NULL)
		return -ENOMEM;
	(void)vsnprintf(text->bytes, text->length + 1, format, arguments);
	return 0;
}

int text_format(struct text *text, const char *format, va_list arguments)
{
	va_list again;
	int status = 0;

	va_copy(again, arguments);
	const int length = vsnprintf(text->room, sizeof(text->room), format, arguments);
	text->length = (size_t)length;
	text->bytes = text->room;
	if (length < 0)
		status = -errno;
	else if (text->length >= sizeof(text->room))
		status = format_to_heap(text, format, again);
	va_end(again);
	return status;
}

void text_clear(struct text *text)
{
	if (text->bytes != text->room)
		free(text->bytes);
}
