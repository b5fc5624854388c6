#ifndef FERRY_PROGRAMS_HTTP_PATH_H
#define FERRY_PROGRAMS_HTTP_PATH_H

/* The path of a request target, and what it names below a root directory. */

#include <stddef.h>

/*
 * Decodes the percent escapes of a path and takes the leading slashes off, which leaves a path
 * relative to the root: "." for the root itself. Dot segments stay: who opens the path sees to it
 * that it does not leave the root (openat2(2) with RESOLVE_BENEATH).
 *
 * Returns 0, or -EINVAL: an escape that is not two hexadecimal digits, or one that gives a zero
 * byte; -ENOENT: an escaped slash, which no file name holds; -ENAMETOOLONG: the result with its
 * terminating zero is longer than `size`.
 */
int http_path_decode(const char *path, size_t length, char *out, size_t size);

/* The byte that the escape at the start of `text`, which is a percent sign, stands for. 0; -EINVAL and
 * -ENOENT as above. */
int http_path_decode_escape(const char *text, size_t length, char *out);

#endif
