#ifndef FERRY_LINE_SCANNER_H
#define FERRY_LINE_SCANNER_H

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;

/*
 * Finds lines at the front of an evbuffer. Nothing is copied. The scanner searches each byte once, in however
 * many pieces a line arrives: it remembers the end of its search, and joins a buffer of many small chains,
 * because libevent walks over all chains to get there.
 *
 *   while ((kind = line_scanner_next(&scanner, input, ended, &line)) != LINE_NONE) {
 *       … use line.length bytes at the front of the input …
 *       line_scanner_take(&scanner, input, line.size);
 *       if (kind == LINE_TOO_LONG)
 *           line_scanner_skip(&scanner);       // or end the connection
 *   }
 *
 * Between two calls bytes may be added to the end of the input. After anything else,
 * line_scanner_restart().
 */

enum { LINE_DELIMITER_MAX = 16, LINE_LENGTH_MAX = 1024 * 1024 * 1024 };

enum line_kind {
	LINE_NONE,    /* the line is incomplete: more bytes are needed */
	LINE_WHOLE,   /* `length` bytes, and then the delimiter */
	LINE_LAST,    /* `length` bytes without a delimiter; nothing will follow */
	LINE_TOO_LONG /* the first `length` bytes of a line that is longer than max_length */
};

struct line {
	size_t length;
	size_t size; /* to be taken from the input: `length` and the delimiter */
};

struct line_scanner {
	unsigned char delimiter[LINE_DELIMITER_MAX];
	size_t delimiter_length;
	size_t max_length;
	size_t searched; /* no delimiter begins in this many bytes at the front of the input */
	bool skipping;   /* the input begins inside a line that was too long */
};

/* Sets a delimiter of 1 to LINE_DELIMITER_MAX bytes; also between two lines. */
void line_scanner_set_delimiter(struct line_scanner *scanner, const void *delimiter, size_t length);

/* Finds the next line. If `ended`, no bytes follow those in the input. */
enum line_kind line_scanner_next(struct line_scanner *scanner, struct evbuffer *input, bool ended,
                                 struct line *line);

/* Drops `size` bytes at the front of the input. */
void line_scanner_take(struct line_scanner *scanner, struct evbuffer *input, size_t size);

/* Has line_scanner_next() drop all bytes up to and including the next delimiter, as they arrive. */
void line_scanner_skip(struct line_scanner *scanner);

/* Has the next search begin at the front of the input, which is the beginning of a line. */
void line_scanner_restart(struct line_scanner *scanner);

#endif
