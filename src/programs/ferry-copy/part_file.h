#ifndef FERRY_PROGRAMS_FERRY_COPY_PART_FILE_H
#define FERRY_PROGRAMS_FERRY_COPY_PART_FILE_H

/* A file that arrives. It is called NAME.SIZE-MODIFIED.part (in hexadecimal) until all of it is there,
 * and NAME then. What of it is there already can so be told from what is left of another version of the
 * file. One without a known size is NAME.part, and starts anew each time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "programs/ferry-copy/frame.h"

struct evbuffer;

struct part_file {
	int directory; /* its owner's */
	int fd;        /* -1: not open */
	uint64_t size; /* bytes that are there */
	char name[FRAME_TEXT_MAX + 1];
	char part_name[FRAME_TEXT_MAX + 48];
};

/*
 * Opens, or makes, the part of a file that a sender offers; `name` must be fine (frame.h).
 * 0, or -EEXIST: the file itself is there, and is not to be replaced; -EBUSY: another process writes
 * the part; -EINVAL: the part is no plain file; else what openat(2) said.
 */
int part_file_open(struct part_file *part, int directory, const struct frame *offer, bool replace);

/* Writes the first `count` bytes of `input`, and takes them off. 0, or what write(2) said: those that
 * were written before are there. */
int part_file_write(struct part_file *part, struct evbuffer *input, size_t count);

/* Gives it its name. 0, or -EEXIST as above, or what renameat2(2) said. */
int part_file_finish(struct part_file *part, bool replace);

/* Closes it; what is there stays for another time, but nothing is no use. */
void part_file_close(struct part_file *part);

#endif
