#ifndef FERRY_PAGE_CACHE_H
#define FERRY_PAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether a piece of a file is in memory.
 *
 * A regular file has no non-blocking reads: where the page cache has not got the bytes, sendfile(2)
 * and read(2) wait for the disk. cachestat(2) (Linux 6.5) tells; before it, and where it is not
 * allowed, a read with RWF_NOWAIT does for single pages.
 */

/* False only if the kernel says that some of the piece, `length` bytes (1 or more) from `offset` on,
 * is not in memory. Where it cannot say, reading is the only way to find out. */
bool page_cache_has(int fd, int64_t offset, size_t length);

#endif
