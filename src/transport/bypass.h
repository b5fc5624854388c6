#ifndef FERRY_TRANSPORT_BYPASS_H
#define FERRY_TRANSPORT_BYPASS_H

#include <stdbool.h>
#include <stddef.h>

#include "ferry/transport.h"

/*
 * Bytes that a layer above moves past the transport, by system calls of its own on the socket.
 */

/* Whether nothing but the socket decides when bytes come in, so that they may be read after
 * transport_suspend_reading(): on TCP, open, all delivered, not paused; no rate limit, no timeout. */
bool transport_input_is_bypassable(const struct ferry_transport *transport);

/* The same for bytes that go out: nothing is queued. */
bool transport_output_is_bypassable(const struct ferry_transport *transport);

/* Such a system call has returned this error (negative) of the socket, to read or to write. The kernel reports an error
 * once: the transport would find a clean end. Calls the user. */
void transport_report_bypassed_error(struct ferry_transport *transport, short what, int error);

/* Counts bytes that were moved so. */
void transport_count_bypassed(struct ferry_transport *from, struct ferry_transport *to,
                              size_t length);

#endif
