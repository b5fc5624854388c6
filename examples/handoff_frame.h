#ifndef EXAMPLES_HANDOFF_FRAME_H
#define EXAMPLES_HANDOFF_FRAME_H

/* What proxy and worker say to each other over their unix socket: frames of a fixed header and at
 * most 64 KiB of payload.
 *
 *     offset  size
 *          0     4  magic, "fHnd"
 *          4     1  version, 1
 *          5     1  type
 *          6     2  zero
 *          8     4  payload length, little-endian
 *
 * HANDOFF_CONNECTION (proxy to worker) passes a connection on: one descriptor is queued right before
 * the frame, and the payload is what was already read from it. The kernel does not tell which byte a
 * descriptor belongs to, so the tie is the order: the n-th such frame owns the n-th descriptor. When
 * descriptors get lost on the way, the tie is broken and the channel with it.
 *
 * HANDOFF_DONE (worker to proxy) says that one of the channel's connections has ended.
 *
 * This is as little as the examples need. A connection that was sent to a worker which dies before
 * it looks at it is lost; ferry's own `handoff` part will give it to another worker, and replaces
 * this file then. */

#include <stdint.h>

struct evbuffer;

enum { HANDOFF_FRAME_HEADER_SIZE = 12, HANDOFF_FRAME_PAYLOAD_MAX = 65536 };

enum handoff_frame_type { HANDOFF_CONNECTION = 1, HANDOFF_DONE = 2 };

/* Appends a header. 0, or -ENOMEM and nothing was appended. */
int handoff_frame_add_header(struct evbuffer *out, enum handoff_frame_type type, uint32_t length);

/* Looks whether `input` starts with a whole frame. 1: it does, the header has been taken off and the
 * payload of `*length` bytes is next. 0: more has to come. -EPROTO: this is no frame. */
int handoff_frame_take_header(struct evbuffer *input, enum handoff_frame_type *type,
                              uint32_t *length);

#endif
