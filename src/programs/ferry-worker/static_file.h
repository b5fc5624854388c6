#ifndef FERRY_PROGRAMS_FERRY_WORKER_STATIC_FILE_H
#define FERRY_PROGRAMS_FERRY_WORKER_STATIC_FILE_H

/* Files below a root directory, and none outside of it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { STATIC_FILE_ETAG_SIZE = 64 };

struct static_file {
	int fd; /* the caller closes it */
	uint64_t size;
	time_t modified;
	char etag[STATIC_FILE_ETAG_SIZE]; /* strong, with its quotes */
};

/*
 * Opens a regular file for reading. The kernel (openat2(2) with RESOLVE_BENEATH) refuses every way out
 * of the root: "..", absolute symbolic links, and a rename during the look-up. A FIFO does not block the
 * call.
 *
 * Returns 0, or -EISDIR: the path is a directory; -ENOENT, -ENOTDIR: there is no such file; -EXDEV: the
 * path leads out of the root; -EACCES: the path is neither a file nor a directory, or this process may
 * not read it; -ENOSYS: the kernel is older than 5.6 and has no openat2(2); else the errno of
 * openat2(2).
 */
int static_file_open(int root, const char *path, struct static_file *file);

/* The longest part of a file that is worth a copy behind the head of its answer. */
enum { STATIC_FILE_SHORT = 4096 };

/* Reads a part of the file if it is in memory. False: the bytes are undefined, and ferry_transport_send_file() finds out
 * what the matter is. */
bool static_file_read(const struct static_file *file, uint64_t offset, void *bytes, size_t length);

#endif
