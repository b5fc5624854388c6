#ifndef FERRY_STREAM_INCOMING_H
#define FERRY_STREAM_INCOMING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <event2/buffer.h>

#include "kernel/ancillary.h"

/*
 * The incoming stream: one read moves bytes to the input buffer, and returns the descriptors that came with
 * them and whether the kernel has dropped others.
 */
struct incoming {
	unsigned int space; /* room for the next read; grows and shrinks with what arrives */
	bool is_socket;     /* recvmsg(2), not readv(2) */
};

void incoming_init(struct incoming *incoming, bool is_socket);

/*
 * Reads once from `fd` into `input`, at most `max` bytes (more than 0).
 *   > 0  bytes read; `maybe_more`: another read is worth a try
 *   0    end of file
 *   < 0  negative errno
 * In each case the descriptors in `ancillary` are the caller's.
 */
ssize_t incoming_read(struct incoming *incoming, int fd, struct evbuffer *input, size_t max,
                      struct ancillary *ancillary, bool *maybe_more);

#endif
