#ifndef FERRY_KERNEL_FD_SLOTS_H
#define FERRY_KERNEL_FD_SLOTS_H

#include <stdbool.h>

/*
 * Whether this process has `count` descriptor numbers free. `socket` is an open socket of its own.
 *
 * About 3 µs for 256, where numbers at the upper end of the table are free, as they are in a process
 * that is far from its limit; about 80 µs where not.
 */
bool fd_slots_are_free(int socket, unsigned int count);

#endif
