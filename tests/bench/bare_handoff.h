#ifndef FERRY_BENCH_BARE_HANDOFF_H
#define FERRY_BENCH_BARE_HANDOFF_H

/* A handoff in bare system calls: the least that gives what ferry's gives. A socket goes to a worker with the head that
 * was read of it. The sender keeps a copy until the worker's claim; the worker checks the socket's cookie. */

#include <stdbool.h>
#include <stdint.h>

enum { BARE_HEAD = 1024 };

struct bare_frame {
	uint64_t id, cookie;
	uint32_t length, reserved; /* of the head */
	char head[BARE_HEAD];
};

/* Sends the frame with the descriptor. Sets the cookie; the rest is the caller's. */
void bare_send(int channel, struct bare_frame *frame, int fd);

/* Takes the next frame, its head ended by a zero, and its descriptor, whose cookie is right. Returns false if the channel
 * is empty. Ends the program if it is over. */
bool bare_receive(int channel, struct bare_frame *frame, int *fd);

/* Returns when the claim is in the kernel. */
void bare_claim(int channel, const struct bare_frame *frame);

/* Returns how many claims have come. */
unsigned int bare_take_claims(int channel, uint64_t *ids, unsigned int max);

#endif
