#ifndef FERRY_FILE_COPY_H
#define FERRY_FILE_COPY_H

#include <stddef.h>
#include <stdint.h>

/*
 * Bytes of a file that were read and not yet sent.
 */

enum { FILE_COPY_ALIGNMENT = 4096 }; /* of O_DIRECT: buffer, offset and length */

struct file_copy {
	size_t start, end, size;
	_Alignas(FILE_COPY_ALIGNMENT) unsigned char bytes[];
};

/* Makes an empty one with room for `length` bytes at any offset, rounded up to the alignment. free(3) frees it.
 * NULL: no memory. */
struct file_copy *file_copy_new(size_t length);

/* Reads up to `length` bytes at `offset`, from the last boundary before it. Returns the number of bytes, fewer at
 * the end of the file, and sets `error` to the error of the last read, or 0. */
size_t file_copy_fill(struct file_copy *copy, int fd, int64_t offset, size_t length, int *error);

#endif
