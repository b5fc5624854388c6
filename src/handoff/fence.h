#ifndef FERRY_HANDOFF_FENCE_H
#define FERRY_HANDOFF_FENCE_H

#include <stddef.h>
#include <stdint.h>

struct evbuffer;

/*
 * The fence of a channel: after shutdown(SHUT_RD) no write of the other end succeeds any more, and
 * everything that was written before can still be read.
 *
 * Shuts the socket down, and calls `message` for each whole message, in order: first those in `input`,
 * the bytes that were read and not delivered, then those that the kernel still has. It stops at the
 * end, or at bytes that are no message. Of a longer payload only the first 64 bytes are passed. Needs
 * no memory, so it cannot fail. The kernel closes descriptors that come along.
 */
void fence_channel(int socket, struct evbuffer *input,
                   void (*message)(void *argument, uint16_t type, const unsigned char *payload,
                                   size_t length),
                   void *argument);

#endif
