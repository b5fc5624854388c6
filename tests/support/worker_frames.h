#ifndef FERRY_TESTS_WORKER_FRAMES_H
#define FERRY_TESTS_WORKER_FRAMES_H

/* The messages that a worker sends to the dispatcher, for tests whose worker is a plain socket. Each function
 * writes one message to `out` and returns its length. */

#include <stddef.h>
#include <stdint.h>

#include "handoff/wire.h"
#include "message/wire.h"

enum { WORKER_FRAME_MAX = MESSAGE_HEADER_SIZE + 1024 };

/* A message of any type with a payload of at most 1024 bytes. */
size_t worker_frame(unsigned char *out, uint16_t type, const void *payload, size_t length);

size_t worker_hello_frame(unsigned char *out, uint32_t credits);
size_t worker_credits_frame(unsigned char *out, uint32_t credits);

/* A claim, loss, rejection or completion. */
size_t worker_answer_frame(unsigned char *out, uint16_t type,
                           const struct handoff_wire_answer *answer);

#endif
