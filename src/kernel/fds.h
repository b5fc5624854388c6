#ifndef FERRY_KERNEL_FDS_H
#define FERRY_KERNEL_FDS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Many descriptors in one system call.
 */

/*
 * Whether `count` descriptors, 1 to ANCILLARY_MAX_FDS, are open, and none of them is the unix socket with `cookie`
 * (SO_COOKIE; 0: there is none). Returns 0, or for the first one of which that is not true:
 *   -EBADF  it is not open
 *   -ELOOP  it is that socket, or a copy
 */
int fds_check(const int *fds, unsigned int count, uint64_t cookie);

/* close_range(2): closes what is open from `first` to `last`. False: nothing is closed, and errno is set; EINVAL:
 * `first` is larger than `last`. Async-signal-safe. */
bool fds_close_range(unsigned int first, unsigned int last);

/* Closes those that are not negative, which the caller owns. Returns how many it has closed. */
unsigned int fds_close(const int *fds, unsigned int count);

#endif
