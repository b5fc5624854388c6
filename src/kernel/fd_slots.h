#ifndef FERRY_KERNEL_FD_SLOTS_H
#define FERRY_KERNEL_FD_SLOTS_H

#include <stdbool.h>

/* A descriptor slot is a number below the descriptor limit (RLIMIT_NOFILE). The kernel needs a free slot for
 * each descriptor that it installs. */

/*
 * Whether this process has `count` free slots. `socket` is an open socket of its own.
 *
 * Takes about 3 µs for 256 slots if those at the upper end of the table are free, as they are in a process that
 * is far from its limit; otherwise about 80 µs.
 */
bool fd_slots_are_free(int socket, unsigned int count);

/* The same for one slot, by two system calls. */
bool fd_slots_one_is_free(int socket);

#endif
