#include "line/scanner.h"

#include <string.h>

#include <event2/buffer.h>

enum {
	PIECES = 8, /* of one evbuffer_peek() */
	/* An unfinished line in more chains than this is joined into one. libevent rounds the size of that chain
	 * up to a power of two, and later bytes fill the rest of it. In all a small multiple of the input is
	 * copied, and the scanner gets to the end of its search in a few steps. */
	CHAINS_MAX = 8
};

void line_scanner_set_delimiter(struct line_scanner *scanner, const void *delimiter, size_t length)
{
	memcpy(scanner->delimiter, delimiter, length);
	scanner->delimiter_length = length;
	scanner->searched = 0;
}

void line_scanner_restart(struct line_scanner *scanner)
{
	scanner->searched = 0;
	scanner->skipping = false;
}

void line_scanner_skip(struct line_scanner *scanner)
{
	scanner->skipping = true;
}

void line_scanner_take(struct line_scanner *scanner, struct evbuffer *input, size_t size)
{
	evbuffer_drain(input, size);
	scanner->searched = 0;
}

/* ---- searching ---- */

/* Whether the delimiter is at that position. `here` are the bytes there, as far as their piece goes. */
static bool is_delimiter_at(const struct line_scanner *scanner, struct evbuffer *input,
                            size_t position, const unsigned char *here, size_t size)
{
	unsigned char across[LINE_DELIMITER_MAX];
	struct evbuffer_ptr at;
	size_t length = scanner->delimiter_length;

	if (size < length) {
		if (evbuffer_ptr_set(input, &at, position, EVBUFFER_PTR_SET) < 0 ||
		    evbuffer_copyout_from(input, &at, across, length) < (ev_ssize_t)length)
			return false;
		here = across;
	}
	return memcmp(here, scanner->delimiter, length) == 0;
}

/* Searches a piece, which begins at `position`, for a delimiter that begins in its first `count` bytes.
 * Returns the distance from `position`, or `count` if there is none. */
static size_t find_in_piece(const struct line_scanner *scanner, struct evbuffer *input,
                            size_t position, const struct evbuffer_iovec *piece, size_t count)
{
	const unsigned char *bytes = piece->iov_base;
	size_t at = 0;

	while (at < count) {
		const unsigned char *first = memchr(bytes + at, scanner->delimiter[0], count - at);
		if (first == NULL)
			break;
		at = (size_t)(first - bytes);
		if (is_delimiter_at(scanner, input, position + at, first, piece->iov_len - at))
			return at;
		at++;
	}
	return count;
}

/* Returns the position of the first delimiter that begins at `from` or later and before `end`, or `end` if
 * there is none. */
static size_t find_between(const struct line_scanner *scanner, struct evbuffer *input, size_t from,
                           size_t end)
{
	struct evbuffer_iovec pieces[PIECES];
	struct evbuffer_ptr start;

	while (from < end) {
		int count = 0;
		if (evbuffer_ptr_set(input, &start, from, EVBUFFER_PTR_SET) == 0)
			count = evbuffer_peek(input, (ev_ssize_t)(end - from), &start, pieces, PIECES);
		if (count < 1)
			return end;
		for (int i = 0; i < count && i < PIECES && from < end; i++) {
			size_t size = pieces[i].iov_len < end - from ? pieces[i].iov_len : end - from;
			size_t found = find_in_piece(scanner, input, from, &pieces[i], size);
			from += found;
			if (found < size)
				return from;
		}
	}
	return end;
}

/* Finds the first delimiter that ends in the first `size` bytes, and remembers the end of the search. */
static bool find_delimiter(struct line_scanner *scanner, struct evbuffer *input, size_t size,
                           size_t *position)
{
	size_t end = size >= scanner->delimiter_length ? size - scanner->delimiter_length + 1 : 0;

	*position = find_between(scanner, input, scanner->searched, end);
	scanner->searched = *position;
	return *position < end;
}

/* ---- lines ---- */

/* Drops bytes of the line that is skipped. Returns true at its end. */
static bool drop_skipped(struct line_scanner *scanner, struct evbuffer *input, bool ended)
{
	size_t present = evbuffer_get_length(input), position = 0;

	scanner->skipping = !find_delimiter(scanner, input, present, &position);
	if (!scanner->skipping)
		line_scanner_take(scanner, input, position + scanner->delimiter_length);
	else /* the bytes behind the search may be the beginning of a delimiter */
		line_scanner_take(scanner, input, ended ? present : scanner->searched);
	return !scanner->skipping;
}

static void join_chains(struct evbuffer *input)
{
	/* If there is no memory for it, the search is only slower. */
	if (evbuffer_peek(input, -1, NULL, NULL, 0) > CHAINS_MAX)
		evbuffer_pullup(input, -1);
}

enum line_kind line_scanner_next(struct line_scanner *scanner, struct evbuffer *input, bool ended,
                                 struct line *line)
{
	if (scanner->skipping && !drop_skipped(scanner, input, ended))
		return LINE_NONE;

	size_t present = evbuffer_get_length(input), position = 0;
	size_t longest = scanner->max_length + scanner->delimiter_length;
	if (find_delimiter(scanner, input, present < longest ? present : longest, &position)) {
		*line = (struct line){position, position + scanner->delimiter_length};
		return LINE_WHOLE;
	}
	if (present >= longest || (ended && present > scanner->max_length)) {
		*line = (struct line){scanner->max_length, scanner->max_length};
		return LINE_TOO_LONG;
	}
	if (ended && present > 0) {
		*line = (struct line){present, present};
		return LINE_LAST;
	}
	join_chains(input);
	return LINE_NONE;
}
