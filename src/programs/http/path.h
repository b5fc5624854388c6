#ifndef FERRY_PROGRAMS_HTTP_PATH_H
#define FERRY_PROGRAMS_HTTP_PATH_H

/* The path of a request target as a path below a root directory. */

#include <stddef.h>

/*
 * Decodes the percent escapes of a path and takes the leading slashes off. The result is relative to the
 * root; it is "." for the root itself. Dot segments stay: the caller opens the path in a way that does
 * not leave the root (openat2(2) with RESOLVE_BENEATH).
 *
 * Returns 0, or -EINVAL: an escape is not two hexadecimal digits, or stands for a zero byte; -ENOENT: an
 * escaped slash, which no file name contains; -ENAMETOOLONG: the result with its terminating zero is
 * longer than `size`.
 */
int http_path_decode(const char *path, size_t length, char *out, size_t size);

/* Decodes the escape at the start of `text`, which is a percent sign. 0; -EINVAL and -ENOENT as above. */
int http_path_decode_escape(const char *text, size_t length, char *out);

#endif
