#ifndef FERRY_HANDOFF_FENCE_H
#define FERRY_HANDOFF_FENCE_H

#include <stddef.h>
#include <stdint.h>

struct evbuffer;

/*
 * The fence of a channel: after shutdown(SHUT_RD) no write of the other end succeeds any more, and all
 * that had succeeded is there to be read.
 *
 * Shuts the socket down, and hands over every message of `input`, which is what was read and not looked
 * at, and of what the kernel still has, in order, until there is no more, or what is no message comes. Of
 * a longer payload than 64 bytes only these are given. Needs no memory, so that it cannot fail; descriptors
 * that come along are closed by the kernel.
 */
void fence(int socket, struct evbuffer *input,
           void (*message)(void *argument, uint16_t type, const unsigned char *payload,
                           size_t length),
           void *argument);

#endif
