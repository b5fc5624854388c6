#ifndef FERRY_LIBEVENT_VECTORS_H
#define FERRY_LIBEVENT_VECTORS_H

#include <stddef.h>
#include <sys/uio.h>

#include <event2/buffer.h>

/*
 * Vectors of bytes between evbuffers and system calls.
 */

/* ---- into a buffer ---- */

/* Bytes from several places enter a buffer at once: the buffer's callbacks see all of them or nothing. A
 * producer that is paused between two parts could write, or free the buffer. */
enum { VECTORS_PIECES = 2 };

/* Copies the parts, which are not empty together, behind the end of the buffer. They become the buffer's
 * when the pieces are given to evbuffer_commit_space(). Returns how many pieces, or -ENOMEM. */
int vectors_gather_ahead(struct evbuffer *buffer, const struct iovec *parts, unsigned int count,
                         struct evbuffer_iovec pieces[VECTORS_PIECES]);

/* Adds them. -ENOMEM: nothing has changed. */
int vectors_gather(struct evbuffer *buffer, const struct iovec *parts, unsigned int count);

/* Cuts the vectors to `length` bytes together. Returns how many are left. */
int vectors_cut(struct evbuffer_iovec *vectors, int count, size_t length);

/* ---- out of a buffer ---- */

enum { VECTORS_VIEW_MAX = 64 };

/* The bytes at the front of a buffer, which stay there, without those that are sent already. */
struct vectors_view {
	struct evbuffer_iovec vectors[VECTORS_VIEW_MAX];
	int first, count;
	size_t length;
};

/* Looks at up to `max` bytes, in up to VECTORS_VIEW_MAX pieces. */
void vectors_view_open(struct vectors_view *view, struct evbuffer *buffer, size_t max);

/* Moves on by `count` bytes. */
void vectors_view_skip(struct vectors_view *view, size_t count);

/* Writes the first `length` bytes of the view to `vectors`. Returns how many vectors. */
int vectors_view_copy(const struct vectors_view *view, size_t length, struct iovec *vectors);

#endif
