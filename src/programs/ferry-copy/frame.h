#ifndef FERRY_PROGRAMS_FERRY_COPY_FRAME_H
#define FERRY_PROGRAMS_FERRY_COPY_FRAME_H

/* The messages between "ferry-copy send" and "ferry-copy receive": frames of one format, around the
 * bytes of one file.
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
 * Numbers are little-endian. A field that a type does not use is 0, or empty.
 *
 *     sender                                receiver
 *     OFFER    name, size, modified   ->
 *                                     <-    START    size, and offset: the number of bytes it has
 *     CONTENT  size, offset           ->
 *     the bytes from offset on        ->
 *     END      the final size         ->
 *     end of the stream               ->
 *                                     <-    DONE     size: the file has its name
 *
 * Either end may send STOP at any time outside of the file's bytes; the text is the reason.
 *
 * The size of a pipe is not known before its end. The receiver therefore finds the end of the bytes by
 * the end of the stream: END is the last frame before it. A sender that dies sends no END, and the
 * receiver keeps the bytes as a part of the file. */

#include <stdbool.h>
#include <stdint.h>

struct evbuffer;
struct ferry_transport;

enum { FRAME_HEADER_SIZE = 32, FRAME_TEXT_MAX = 200 };

/* A size that is not known yet. */
#define FRAME_NO_SIZE UINT64_MAX

/* The largest size and offset of a file. */
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
	uint64_t modified; /* time of the file, in nanoseconds since 1970; only compared */
	char text[FRAME_TEXT_MAX + 1];
};

/* Writes a frame, and cuts a text that is too long. 0, or the errno of ferry_transport_write(). */
int frame_write(struct ferry_transport *transport, const struct frame *frame);

/* Takes a frame off the start of `input`. 1: done. 0: the frame is not complete yet. -EPROTO: the bytes
 * are not a frame, a number is out of range, or the text has a control character. */
int frame_take(struct evbuffer *input, struct frame *frame);

/* Whether a file of this name may be created for a peer: the name does not lead out of the directory
 * ("/", ".."), is not hidden, and has no control characters. */
bool frame_name_is_fine(const char *name);

#endif
