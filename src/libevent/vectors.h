#ifndef FERRY_LIBEVENT_VECTORS_H
#define FERRY_LIBEVENT_VECTORS_H

#include <sys/uio.h>

#include <event2/buffer.h>

/*
 * Bytes from several places that come into a buffer at once: who watches the buffer sees all of them, or
 * nothing. A producer that is told to pause in between could write, or free everything.
 */

enum { VECTORS_PIECES = 2 };

/* Copies the parts, which are not empty together, behind the end of the buffer, where they are nobody's
 * until the pieces are given to evbuffer_commit_space(). How many pieces, or -ENOMEM. */
int vectors_gather_ahead(struct evbuffer *buffer, const struct iovec *parts, unsigned int count,
                         struct evbuffer_iovec pieces[VECTORS_PIECES]);

/* Adds them. -ENOMEM: nothing has changed. */
int vectors_gather(struct evbuffer *buffer, const struct iovec *parts, unsigned int count);

#endif
