#include "line/scanner.h"

#include <string.h>

#include <event2/buffer.h>

enum {
	PIECES = 8, /* looked at in one go */
	/* An unfinished line in more chains than this is made one. libevent rounds that up to a power of
	 * two, and what follows goes into the rest: all that is ever copied is a small multiple of the
	 * input, and the way to its end a few steps. */
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

/* Whether the delimiter is at that position, of which `here` are the bytes in the same piece. */
static bool is_at(const struct line_scanner *scanner, struct evbuffer *input, size_t position,
                  const unsigned char *here, size_t size)
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

/* Looks for the delimiter at the first `count` bytes of a piece, which begins at `position`. How far it
 * is from there; `count` when there is none. */
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
		if (is_at(scanner, input, position + at, first, piece->iov_len - at))
			return at;
		at++;
	}
	return count;
}

/* The first position from `from` on, and before `end`, at which the delimiter is; `end` when there is
 * none. */
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

/* The same in the first `size` bytes, where the delimiter must end. Remembers how far it came. */
static bool find(struct line_scanner *scanner, struct evbuffer *input, size_t size,
                 size_t *position)
{
	size_t end = size >= scanner->delimiter_length ? size - scanner->delimiter_length + 1 : 0;

	if (scanner->searched >= end)
		return false;
	*position = find_between(scanner, input, scanner->searched, end);
	scanner->searched = *position;
	return *position < end;
}

/* ---- lines ---- */

/* Whether the line that is skipped has come to its end. */
static bool skip(struct line_scanner *scanner, struct evbuffer *input, bool ended)
{
	size_t present = evbuffer_get_length(input), position = 0;

	scanner->skipping = !find(scanner, input, present, &position);
	if (!scanner->skipping)
		line_scanner_take(scanner, input, position + scanner->delimiter_length);
	else /* what is left may be the beginning of the delimiter */
		line_scanner_take(scanner, input, ended ? present : scanner->searched);
	return !scanner->skipping;
}

static void make_few_chains(struct evbuffer *input)
{
	/* Without memory the search is only slower. */
	if (evbuffer_peek(input, -1, NULL, NULL, 0) > CHAINS_MAX)
		evbuffer_pullup(input, -1);
}

enum line_kind line_scanner_next(struct line_scanner *scanner, struct evbuffer *input, bool ended,
                                 struct line *line)
{
	if (scanner->skipping && !skip(scanner, input, ended))
		return LINE_NONE;

	size_t present = evbuffer_get_length(input), position = 0;
	size_t longest = scanner->max_length + scanner->delimiter_length;
	if (find(scanner, input, present < longest ? present : longest, &position)) {
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
	make_few_chains(input);
	return LINE_NONE;
}
