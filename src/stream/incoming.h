#ifndef FERRY_STREAM_INCOMING_H
#define FERRY_STREAM_INCOMING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <event2/buffer.h>

#include "kernel/ancillary.h"

/*
 * The read step: bytes into the input buffer, descriptors out, loss noticed.
 */
struct incoming {
	size_t space;   /* offered to the next read: grows and shrinks with what arrives */
	bool is_socket; /* recvmsg(2), not readv(2) */
};

void incoming_init(struct incoming *incoming, bool is_socket);

/*
 * Reads once from `fd` into `input`, at most `max` bytes (more than 0).
 *   > 0  bytes read; `maybe_more` tells whether another read is worth a try
 *   0    end of file
 *   < 0  negative errno
 * Whatever it returns, the descriptors in `ancillary` are the caller's.
 */
ssize_t incoming_read(struct incoming *incoming, int fd, struct evbuffer *input, size_t max,
                      struct ancillary *ancillary, bool *maybe_more);

#endif
