#ifndef FERRY_KERNEL_INSPECT_H
#define FERRY_KERNEL_INSPECT_H

#include <stdbool.h>
#include <sys/stat.h>

#include "ferry/descriptor.h"

/* What fstat(2) tells of something that is not a socket: FILE, DIRECTORY, PIPE, DEVICE or OTHER.
 * The same in every process that has the descriptor. */
enum ferry_descriptor_kind inspect_kind_by_stat(const struct stat *status);

/* Tells apart what fstat(2) does not, as far as /proc is there. */
enum ferry_descriptor_kind inspect_kind_in_full(int fd, enum ferry_descriptor_kind by_stat);

/* Whether `kind`, which was found in full, may stand for more than one because there is no /proc to
 * tell. */
bool inspect_kind_is_coarse(int fd, enum ferry_descriptor_kind kind);

/* Whether it is an io_uring, which the kernel does not send. */
bool inspect_is_io_uring(int fd);

#endif
