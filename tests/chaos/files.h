#ifndef FERRY_CHAOS_FILES_H
#define FERRY_CHAOS_FILES_H

/* The files that are served: the same for every run, so that a client knows each byte. */

#include <stddef.h>

enum { FILES = 20, SMALL_FILES = 13 }; /* the small ones come first */

size_t file_size(unsigned int file);

/* All of a file; made at its first use, for the program's life. NULL: out of memory. */
const unsigned char *file_bytes(unsigned int file);

/* Writes FILES files, "0", "1", …, into a directory. 0, or -1 with errno. */
int files_write(const char *directory);

#endif
