#ifndef FERRY_PROGRAMS_FERRY_COPY_FRAME_H
#define FERRY_PROGRAMS_FERRY_COPY_FRAME_H

/* What send and receive say to each other: frames of one form around the bytes of one file.
 *
 *     offset  size
 *          0     4  magic, "fFil"
 *          4     1  version, 1
 *          5     1  type
 *          6     2  length of the text, 200 at most
 *          8     8  size
 *         16     8  offset
 *         24     8  modified
 *         32        the text
 *
 * Numbers are little-endian. What a type does not use is 0, or empty.
 *
 *     sender                                receiver
 *     OFFER    name, size, modified   ->
 *                                     <-    START    size, and offset: how much it has
 *     CONTENT  size, offset           ->
 *     the bytes from offset on        ->
 *     END      the size it came to    ->
 *     end of the stream               ->
 *                                     <-    DONE     size: the file is in its place
 *
 * Either may say STOP at any time outside of the file's bytes: the text is why.
 *
 * The size of what is read from a pipe is not known before its end, and then the bytes do not say where
 * they end: END is the last frame before the end of the stream. A sender that dies does not say END, so
 * that half a file is not taken for a whole one. */

#include <stdbool.h>
#include <stdint.h>

struct evbuffer;
struct ferry_transport;

enum { FRAME_HEADER_SIZE = 32, FRAME_TEXT_MAX = 200 };

/* As a size: not known yet. */
#define FRAME_NO_SIZE UINT64_MAX

/* The largest size and offset: what a file can have. */
#define FRAME_SIZE_MAX ((uint64_t)INT64_MAX)

enum frame_type {
	FRAME_OFFER = 1,
	FRAME_START = 2,
	FRAME_CONTENT = 3,
	FRAME_END = 4,
	FRAME_DONE = 5,
	FRAME_STOP = 6
};

struct frame {
	enum frame_type type;
	uint64_t size;
	uint64_t offset;
	uint64_t modified; /* when the file was, in nanoseconds since 1970; only to be compared */
	char text[FRAME_TEXT_MAX + 1];
};

/* Writes a frame; a text that is too long is cut. 0, or what ferry_transport_write() said. */
int frame_write(struct ferry_transport *transport, const struct frame *frame);

/* Takes a frame off the start of `input`. 1: done. 0: more has to come. -EPROTO: this is no frame, or
 * it has a number out of range or a control character in its text. */
int frame_take(struct evbuffer *input, struct frame *frame);

/* Whether a name may be made in a directory that is not the one who named it's: no way out of it
 * ("/", ".."), nothing hidden, no control characters. */
bool frame_name_is_fine(const char *name);

#endif
