#ifndef FERRY_TRANSPORT_BYPASS_H
#define FERRY_TRANSPORT_BYPASS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "ferry/transport.h"

/*
 * Bytes that a layer above moves past the transport, by system calls of its own on the socket.
 */

/* Whether nothing but the socket decides when bytes come in, so that they may be read after
 * transport_suspend_reading(): open, all delivered, not paused; no rate limit, no timeout. On unix sockets the kernel
 * must also show, without copying, that bytes have no descriptors. */
bool transport_input_is_bypassable(const struct ferry_transport *transport);

/* The same for bytes that go out: nothing is queued, descriptors included. */
bool transport_output_is_bypassable(const struct ferry_transport *transport);

/* The number of bytes that may be read so now, at most `max`: on unix sockets no further than there are no descriptors.
 * 0: the socket is empty, or it is the transport's turn. Negative: a system call on the socket has failed. */
ssize_t transport_count_bypassable(struct ferry_transport *transport, size_t max);

/* Such a system call has returned this error (negative) of the socket, to read or to write. The kernel reports an error
 * once: the transport would find a clean end. Calls the user. */
void transport_report_bypassed_error(struct ferry_transport *transport, short what, int error);

/* Counts bytes that were moved so. */
void transport_count_bypassed(struct ferry_transport *from, struct ferry_transport *to,
                              size_t length);

#endif
