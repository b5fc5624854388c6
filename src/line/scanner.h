#ifndef FERRY_LINE_SCANNER_H
#define FERRY_LINE_SCANNER_H

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;

/*
 * Finds lines at the front of an evbuffer, whoever fills it. Nothing is copied, and each byte is looked
 * at once, however small the steps are in which a line arrives: where the search has come to is
 * remembered, and a buffer of many small chains is made one, so that the way there stays short.
 *
 *   while ((kind = line_scanner_next(&scanner, input, ended, &line)) != LINE_NONE) {
 *       … look at line.length bytes at the front of the input …
 *       line_scanner_take(&scanner, input, line.size);
 *       if (kind == LINE_TOO_LONG)
 *           line_scanner_skip(&scanner);       // or end it all
 *   }
 *
 * Between two calls bytes may be added to the end of the input. After anything else,
 * line_scanner_restart().
 */

enum { LINE_DELIMITER_MAX = 16, LINE_LENGTH_MAX = 1024 * 1024 * 1024 };

enum line_kind {
	LINE_NONE,    /* not before more arrives */
	LINE_WHOLE,   /* `length` bytes, and then the delimiter */
	LINE_LAST,    /* `length` bytes without a delimiter, and nothing will follow */
	LINE_TOO_LONG /* the first `length` bytes of a line that is longer than allowed */
};

struct line {
	size_t length;
	size_t size; /* what is to be taken: with the delimiter */
};

struct line_scanner {
	unsigned char delimiter[LINE_DELIMITER_MAX];
	size_t delimiter_length;
	size_t max_length;
	size_t searched; /* no delimiter begins in the first so many bytes of the input */
	bool skipping;   /* the input begins inside a line that was too long */
};

/* 1 to LINE_DELIMITER_MAX bytes. Also a change later on. */
void line_scanner_set_delimiter(struct line_scanner *scanner, const void *delimiter, size_t length);

/* What comes next. `ended`: nothing follows what is in the input. */
enum line_kind line_scanner_next(struct line_scanner *scanner, struct evbuffer *input, bool ended,
                                 struct line *line);

/* Drops the front of the input. */
void line_scanner_take(struct line_scanner *scanner, struct evbuffer *input, size_t size);

/* Drops what comes up to the next delimiter, and that, as it arrives. */
void line_scanner_skip(struct line_scanner *scanner);

/* The input was read by somebody else: it begins with a line now. */
void line_scanner_restart(struct line_scanner *scanner);

#endif
