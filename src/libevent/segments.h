#ifndef FERRY_LIBEVENT_SEGMENTS_H
#define FERRY_LIBEVENT_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>

/*
 * File segments in evbuffers.
 *
 * evbuffer_add_file() and evbuffer_add_file_segment() put a file into a buffer that drains to a descriptor, such
 * as a bufferevent's output, as a chain that has no bytes in memory. evbuffer_peek() returns for it an address
 * that is none: memory behind it would reach the peer in place of the file. libevent moves such chains from
 * buffer to buffer, and its headers have no call that recognises one.
 *
 * Only segments.c knows where a chain has its flags and its file. It does not assume the places: it finds them,
 * once, in chains that it has made itself.
 */

/* Finds the places. -ENOMEM; -ENOTSUP: this libevent has other chains. */
int segments_learn(void);

/* Cuts `length`, a number of bytes at the front of the buffer, where the first segment begins. Returns whether it
 * has. `pieces`: the result of evbuffer_peek() for these bytes, perhaps not for all. After segments_learn(). */
bool segments_cut(struct evbuffer *buffer, const struct evbuffer_iovec *pieces, int count,
                  size_t *length);

/* A segment: `length` bytes of a file. */
struct segment {
	const void *chain; /* identifies it as long as it is in the buffer */
	int fd;            /* the segment's; open as long as it is in the buffer */
	int64_t offset;
	size_t length;
};

/* Whether the buffer begins with a segment; returns it as `segment`. */
bool segments_first(struct evbuffer *buffer, struct segment *segment);

#endif
