#ifndef FERRY_MESSAGE_ARRIVALS_H
#define FERRY_MESSAGE_ARRIVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Descriptors that have arrived, and the frames that they belong to.
 *
 * A frame's descriptors travel with its first byte, in one control message. The kernel delivers them with the
 * read that takes this byte. Such a read may begin with plain bytes that were sent before, and ends before the
 * next byte that has descriptors. The descriptors of a read therefore belong to a frame that begins inside of
 * it and declares some, and there is one such frame at most:
 *
 *     frames     | 0 declared | 0 | 2 declared   |  0 | 1 declared
 *     reads      [ plain ][ plain      + 2 ][ plain  ][  + 1  ][ plain
 *
 * Positions are bytes from the beginning of the incoming stream.
 */

struct arrival; /* private: one read that brought descriptors, or lost some */

struct arrivals {
	struct arrival *reads;
	unsigned int read_count, read_capacity;
	int *fds; /* the claimed descriptors of one frame, then those of the reads in order */
	unsigned int fd_count, fd_capacity;
};

/* Adds the descriptors of a read of the bytes from `start` up to `end`; `loss`: the kernel could not install
 * all of them. Takes the descriptors: on -ENOMEM they are closed. */
int arrivals_add(struct arrivals *arrivals, uint64_t start, uint64_t end, const int *fds,
                 unsigned int count, bool loss);

/*
 * Claims the descriptors of the frame at `position`, which declares `count`, more than 0. They are the first
 * of `fds` until arrivals_release(); the frame before must have been released. Returns how many have arrived.
 *   -EPROTO  none or fewer have arrived although the kernel has lost none; or more have arrived
 */
int arrivals_claim(struct arrivals *arrivals, uint64_t position, unsigned int count);

/* Drops the claimed descriptors, the first `count`, and closes those that are not -1. Returns how many it
 * has closed. */
unsigned int arrivals_release(struct arrivals *arrivals, unsigned int count);

/* Whether descriptors have arrived that no frame can claim, given that one frame begins at `position` and the
 * next one not before `next`. `claimed`: the frame at `position` has its descriptors, or declares none. */
bool arrivals_has_strays(const struct arrivals *arrivals, uint64_t position, uint64_t next,
                         bool claimed);

/* Closes all descriptors and frees the memory. Returns how many it has closed. */
unsigned int arrivals_close(struct arrivals *arrivals);

#endif
