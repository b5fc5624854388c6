/* Lines: for input in pieces of any size, the scanner alone and a line stream over a socket find
 * the same lines that a plain search finds in the whole input. */

#include "fuzz.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/line.h"
#include "line/scanner.h"

enum { SKIPS = 1, BY_STREAM = 2, PIECES = 8, LONGEST = 300 };

/* The plain search: `kind`, and `length` bytes at `at`. */
struct reference {
	const uint8_t *bytes;
	size_t size, at, length;
	struct line_scanner how; /* delimiter and max_length */
};

static bool is_delimiter(const struct reference *reference, size_t at)
{
	return reference->size - at >= reference->how.delimiter_length &&
	       memcmp(reference->bytes + at, reference->how.delimiter,
	              reference->how.delimiter_length) == 0;
}

/* The line from `at` on, without its delimiter; `*whole`: it has one. */
static size_t measure(const struct reference *reference, size_t at, bool *whole)
{
	size_t end = at;

	while (end < reference->size && !is_delimiter(reference, end))
		end++;
	*whole = end < reference->size;
	return end - at;
}

/* Compares the line with the next one of the reference, and advances the reference behind it.
 * `kind` LINE_NONE: there must be no next line. */
static void compare(struct reference *reference, enum line_kind kind, const char *line,
                    size_t length)
{
	bool whole;
	size_t expected = measure(reference, reference->at, &whole);
	size_t max = reference->how.max_length;

	if (reference->at == reference->size) {
		FUZZ_CHECK(kind == LINE_NONE);
		return;
	}
	if (expected > max)
		FUZZ_CHECK(kind == LINE_TOO_LONG && length == max);
	else
		FUZZ_CHECK(kind == (whole ? LINE_WHOLE : LINE_LAST) && length == expected);
	FUZZ_CHECK(memcmp(line, reference->bytes + reference->at, length) == 0);
	reference->at += expected + (whole ? reference->how.delimiter_length : 0);
}

static size_t piece_length(const uint8_t *pieces, unsigned int *number, size_t left)
{
	size_t length = 1 + (size_t)pieces[(*number)++ % PIECES];

	return length < left ? length : left;
}

/* ---- the scanner ---- */

static bool scan(struct line_scanner *scanner, struct evbuffer *buffer, bool ended, bool skips,
                 struct reference *reference)
{
	struct line line;
	enum line_kind kind;

	while ((kind = line_scanner_next(scanner, buffer, ended, &line)) != LINE_NONE) {
		compare(reference, kind, (const char *)evbuffer_pullup(buffer, (ev_ssize_t)line.size),
		        line.length);
		line_scanner_take(scanner, buffer, line.size);
		if (kind == LINE_TOO_LONG && !skips)
			return false;
		if (kind == LINE_TOO_LONG)
			line_scanner_skip(scanner);
	}
	return true;
}

static void run_scanner(struct reference *reference, const uint8_t *pieces, bool skips)
{
	struct evbuffer *buffer = evbuffer_new();
	struct line_scanner scanner = reference->how;
	unsigned int number = 0;
	bool goes_on = buffer != NULL;

	FUZZ_CHECK(goes_on);
	for (size_t at = 0; goes_on && at < reference->size;) {
		size_t length = piece_length(pieces, &number, reference->size - at);
		/* A chain of its own. */
		FUZZ_CHECK(evbuffer_add_reference(buffer, reference->bytes + at, length, NULL, NULL) == 0);
		at += length;
		goes_on = scan(&scanner, buffer, false, skips, reference);
	}
	if (goes_on && scan(&scanner, buffer, true, skips, reference))
		compare(reference, LINE_NONE, NULL, 0);
	evbuffer_free(buffer);
}

/* ---- the stream ---- */

static bool lost;
static int lost_reason;
static bool exceeded;

static void line_received(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	(void)stream;
	compare(context, LINE_WHOLE, line, length);
}

static void incomplete_line_received(struct ferry_line_stream *stream, const char *line,
                                     size_t length, void *context)
{
	(void)stream;
	compare(context, LINE_LAST, line, length);
}

static void line_length_exceeded(struct ferry_line_stream *stream, const char *beginning,
                                 size_t length, void *context)
{
	(void)stream;
	compare(context, LINE_TOO_LONG, beginning, length);
	exceeded = true;
}

static void connection_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	(void)stream, (void)context;
	FUZZ_CHECK(!lost);
	lost = true;
	lost_reason = reason;
}

static const struct ferry_line_callbacks callbacks = {
    .line_received = line_received,
    .incomplete_line_received = incomplete_line_received,
    .line_length_exceeded = line_length_exceeded,
    .connection_lost = connection_lost,
};

static void run_stream(struct reference *reference, const uint8_t *pieces, bool skips)
{
	struct ferry_line_stream *stream = NULL;
	unsigned int number = 0;
	int ends[2];

	lost = exceeded = false;
	fuzz_pair(ends);
	FUZZ_CHECK(ferry_line_stream_new(&stream, fuzz_transport(ends[0]), &callbacks, reference) == 0);
	ferry_line_stream_set_delimiter(stream, reference->how.delimiter,
	                                reference->how.delimiter_length);
	ferry_line_stream_set_max_length(stream, reference->how.max_length,
	                                 skips ? FERRY_LINE_SKIP : FERRY_LINE_LOSE);
	for (size_t at = 0; at < reference->size;) {
		size_t length = piece_length(pieces, &number, reference->size - at);
		if (!fuzz_send(ends[1], reference->bytes + at, length, 0))
			break; /* the connection is lost; `lost_reason` is checked later */
		at += length;
		fuzz_turns(number % 3 == 0);
	}
	close(ends[1]);
	fuzz_until(&lost);
	FUZZ_CHECK(lost_reason == (exceeded && !skips ? -EMSGSIZE : 0));
	if (lost_reason == 0)
		compare(reference, LINE_NONE, NULL, 0);
	ferry_line_stream_free(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	uint8_t pieces[PIECES];
	struct reference reference = {.at = 0};

	if (size > FUZZ_INPUT_MAX)
		return 0;
	unsigned int flags = fuzz_byte(&input);
	for (int i = 0; i < PIECES; i++)
		pieces[i] = fuzz_byte(&input) & 63;
	reference.how.max_length = 1 + (size_t)fuzz_number(&input, 2) % LONGEST;
	size_t length = 1 + fuzz_byte(&input) % LINE_DELIMITER_MAX;
	const uint8_t *delimiter = fuzz_bytes(&input, &length);
	if (length == 0)
		return 0;
	line_scanner_set_delimiter(&reference.how, delimiter, length);
	reference.bytes = input.at;
	reference.size = input.left;
	fuzz_begin();
	if ((flags & BY_STREAM) != 0)
		run_stream(&reference, pieces, (flags & SKIPS) != 0);
	else
		run_scanner(&reference, pieces, (flags & SKIPS) != 0);
	fuzz_end();
	return 0;
}
