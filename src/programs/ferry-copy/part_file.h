#ifndef FERRY_PROGRAMS_FERRY_COPY_PART_FILE_H
#define FERRY_PROGRAMS_FERRY_COPY_PART_FILE_H

/* A file of which a part has arrived. Until it is complete it is called NAME.SIZE-MODIFIED.part (in
 * hexadecimal), then NAME. The name of the part distinguishes it from a part of another version of the
 * file. A file without a known size is NAME.part, and is started anew each time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "programs/ferry-copy/frame.h"

struct evbuffer;

struct part_file {
	int directory;    /* the caller closes it */
	int fd;           /* -1: not open */
	uint64_t size;    /* bytes that have been written */
	uint64_t started; /* bytes of these that are on their way to the disk */
	char name[FRAME_TEXT_MAX + 1];
	char part_name[FRAME_TEXT_MAX + 48];
};

/*
 * Opens or creates the part of the file that a sender offers; frame_name_is_fine() must be true for its
 * name. 0, or
 * -EEXIST: the file itself exists, and may not be replaced; -EBUSY: another process writes the part;
 * -EINVAL: the part is not a plain file; else the errno of openat(2).
 */
int part_file_open(struct part_file *part, int directory, const struct frame *offer, bool replace);

/* Writes the first `count` bytes of `input`, and takes them off. 0, or the errno of write(2), after
 * which the bytes before the failure are in the file. */
int part_file_write(struct part_file *part, struct evbuffer *input, size_t count);

/* Renames the complete file, once it is on the disk. Afterwards its name is on the disk, too. 0, or -EEXIST as above,
 * or the errno of fsync(2) or renameat2(2). If the bytes did not reach the disk, the part is emptied: the next attempt
 * would otherwise resume behind bytes that may be missing. */
int part_file_finish(struct part_file *part, bool replace);

/* Closes the part. The next attempt resumes it; an empty part is removed. */
void part_file_close(struct part_file *part);

#endif
