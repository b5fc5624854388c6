#ifndef FERRY_KERNEL_INSPECT_H
#define FERRY_KERNEL_INSPECT_H

#include <stdbool.h>
#include <sys/stat.h>

#include "ferry/descriptor.h"

/* The kind of a descriptor, found with or without /proc. */

/* The kind of a descriptor that is not a socket, as far as fstat(2) distinguishes it: FILE, DIRECTORY, PIPE,
 * DEVICE or OTHER. The result is the same in every process that has the descriptor. */
enum ferry_descriptor_kind inspect_kind_by_stat(const struct stat *status);

/* Refines that kind by the name in /proc, if /proc is mounted. */
enum ferry_descriptor_kind inspect_kind_in_full(int fd, enum ferry_descriptor_kind by_stat);

/* Whether `kind`, a result of inspect_kind_in_full(), may stand for several kinds because there is no /proc. */
bool inspect_kind_is_coarse(int fd, enum ferry_descriptor_kind kind);

/* Whether the descriptor is an io_uring, which the kernel does not send. */
bool inspect_is_io_uring(int fd);

#endif
