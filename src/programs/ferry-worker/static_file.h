#ifndef FERRY_PROGRAMS_FERRY_WORKER_STATIC_FILE_H
#define FERRY_PROGRAMS_FERRY_WORKER_STATIC_FILE_H

/* Files below a root directory, and none outside of it. */

#include <stdint.h>
#include <time.h>

struct static_file {
	int fd; /* the caller's to close */
	uint64_t size;
	time_t modified;
	char etag[64]; /* strong, with its quotes */
};

/*
 * Opens a regular file for reading. The kernel itself (openat2(2) with RESOLVE_BENEATH) refuses
 * every way out of the root: "..", absolute symbolic links, and a rename that races with the lookup.
 * Never blocks on a FIFO.
 *
 * Returns 0, or -EISDIR: it is a directory; -ENOENT, -ENOTDIR: there is no such file; -EXDEV: the
 * path leads out of the root; -EACCES: neither file nor directory, or not to be read by this
 * process; -ENOSYS: the kernel has no openat2(2) (before 5.6); else what openat2(2) said.
 */
int static_file_open(int root, const char *path, struct static_file *file);

#endif
