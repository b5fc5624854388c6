#ifndef FERRY_HANDOFF_FENCE_H
#define FERRY_HANDOFF_FENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct message_rest;

/*
 * The fence of a channel: after shutdown(SHUT_RD) no write of the other end succeeds any more, and
 * everything that was written before can still be read.
 */

/* A whole message. Of a longer payload without a descriptor, and of any longer one if memory is short, `payload`
 * has the first FENCE_PAYLOAD_MAX bytes alone. */
struct fence_message {
	uint16_t type;
	const unsigned char *payload;
	size_t length; /* bytes of `payload` */
	bool cut;      /* the message's own payload is longer */
	int fd;        /* -1: none. The callee takes it by storing -1 */
};

enum { FENCE_PAYLOAD_MAX = 64 };

/*
 * Shuts the socket down, and calls `message` for each whole message, in order: first those in `rest`, which the
 * stream has read and not delivered, then those that the kernel still has. It stops at the end, or at bytes that
 * are no message. Closes every descriptor that is not taken. Messages without a descriptor need no memory: for
 * them it cannot fail.
 */
void fence_channel(int socket, struct message_rest *rest,
                   void (*message)(void *argument, struct fence_message *message), void *argument);

#endif
