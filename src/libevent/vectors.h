#ifndef FERRY_LIBEVENT_VECTORS_H
#define FERRY_LIBEVENT_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <event2/buffer.h>

/*
 * Vectors of bytes between evbuffers and system calls.
 */

/* ---- into a buffer ---- */

/* Bytes from several places enter a buffer at once: the buffer's callbacks see all of them or none.
 * Between two parts a callback could pause a producer, which could write, or free the buffer. */
enum { VECTORS_PIECES = 2 };

/* The sum of the lengths. -EINVAL: it is above SSIZE_MAX, or there is a length without bytes. */
ssize_t vectors_length(const struct iovec *parts, size_t count);

/* Reserves `length` bytes (1 or more) behind the end of the buffer. Returns the number of pieces, which may have more;
 * below 1: no memory. */
int vectors_reserve(struct evbuffer *buffer, size_t length,
                    struct evbuffer_iovec pieces[VECTORS_PIECES]);

/* Copies the head and the parts, at least one byte in all, to reserved space behind the end of the buffer. They become
 * part of the buffer when the caller passes the pieces to evbuffer_commit_space(). Returns the number of
 * pieces, or -ENOMEM. */
int vectors_gather_ahead(struct evbuffer *buffer, const struct iovec *head,
                         const struct iovec *parts, size_t count,
                         struct evbuffer_iovec pieces[VECTORS_PIECES]);

/* Adds the parts, at least one byte in all, to the buffer. -ENOMEM: the buffer is unchanged. */
int vectors_gather(struct evbuffer *buffer, const struct iovec *parts, size_t count);

/* Cuts the vectors to `length` bytes in all. Returns the number of vectors left. */
int vectors_cut(struct evbuffer_iovec *vectors, int count, size_t length);

/* ---- out of a buffer ---- */

enum { VECTORS_VIEW_MAX = 64 };

/* The bytes at the front of a buffer, without copying or draining them, less those already sent. */
struct vectors_view {
	struct evbuffer_iovec vectors[VECTORS_VIEW_MAX];
	int first, count;
	size_t length;
	bool before_segment; /* it ends where a file segment begins */
};

/* Opens a view of up to `max` bytes, in up to VECTORS_VIEW_MAX pieces. It ends at the first file segment, whose
 * bytes are not in memory (libevent/segments.h). */
void vectors_view_open(struct vectors_view *view, struct evbuffer *buffer, size_t max);

/* Skips `count` bytes of the view. */
void vectors_view_skip(struct vectors_view *view, size_t count);

/* Writes pointers to the first `length` bytes of the view to `vectors`. Returns the number of vectors. */
int vectors_view_copy(const struct vectors_view *view, size_t length, struct iovec *vectors);

#endif
