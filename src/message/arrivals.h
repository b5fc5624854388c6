#ifndef FERRY_MESSAGE_ARRIVALS_H
#define FERRY_MESSAGE_ARRIVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Descriptors that have arrived, and which frame they belong to.
 *
 * A frame's descriptors travel with its first byte, in a message of their own. The kernel puts them
 * into the read that takes this byte, glues at most plain bytes from before it to that read, and ends
 * the read before the next message with descriptors. So the frame that they belong to is the one that
 * declares some and begins inside the read, and there is one such frame at most:
 *
 *     frames     | 0 declared | 0 | 2 declared   |  0 | 1 declared
 *     reads      [ plain ][ plain      + 2 ][ plain  ][  + 1  ][ plain
 *
 * All positions are counted in bytes from the beginning of the stream.
 */

struct arrival; /* private: one read that brought descriptors or lost some */

struct arrivals {
	struct arrival *reads;
	unsigned int read_count, read_capacity;
	int *fds; /* the claimed ones, then those of the reads */
	unsigned int fd_count, fd_capacity;
};

/* A read of the bytes from `start` up to `end` brought descriptors, which are ours from now on.
 * -ENOMEM: they are closed. */
int arrivals_add(struct arrivals *arrivals, uint64_t start, uint64_t end, const int *fds,
                 unsigned int count, bool loss);

/*
 * The frame that begins at `position` declares `count` descriptors, more than 0. Those that came for it
 * are the first of `fds` from now on; how many. All frames before have been released.
 *   -EPROTO  none came, or not so many, and the kernel lost none; or more came
 */
int arrivals_claim(struct arrivals *arrivals, uint64_t position, unsigned int count);

/* Closes the claimed descriptors, the first `count`, apart from those that are -1; how many. */
unsigned int arrivals_release(struct arrivals *arrivals, unsigned int count);

/* Whether descriptors have come that no frame can claim: a frame begins at `position`, and none from
 * behind that up to `next`. `claimed`: this one has, or wants none. */
bool arrivals_has_strays(const struct arrivals *arrivals, uint64_t position, uint64_t next,
                         bool claimed);

/* Closes all of them and frees the memory; how many. */
unsigned int arrivals_close(struct arrivals *arrivals);

#endif
