#ifndef FERRY_CHAOS_FILES_H
#define FERRY_CHAOS_FILES_H

/* The files that the worker serves: the same in every run, for the comparison of each byte. */

#include <stddef.h>

enum { FILES = 20, SMALL_FILES = 13 }; /* the small ones come first */

size_t file_size(unsigned int file);

/* The bytes of a file, made at the first use and never freed. NULL: no memory. */
const unsigned char *file_bytes(unsigned int file);

/* Writes FILES files, "0", "1", …, into a directory. 0, or -1 with errno. */
int files_write(const char *directory);

#endif
