#ifndef FERRY_PROGRAMS_HTTP_RANGE_H
#define FERRY_PROGRAMS_HTTP_RANGE_H

/* The Range field of a request (RFC 9110 section 14): one range of bytes. */

#include <stddef.h>
#include <stdint.h>

enum http_range_kind {
	HTTP_RANGE_WHOLE,        /* ignore the field: no range, not one of bytes, several ranges, or
	                            malformed */
	HTTP_RANGE_PART,         /* 206 */
	HTTP_RANGE_UNSATISFIABLE /* 416 */
};

struct http_range {
	uint64_t first;
	uint64_t length;
};

/* Reads "bytes=a-b", "bytes=a-" or "bytes=-n" for a file of `size` bytes. `*range` is the whole file
 * unless the result is HTTP_RANGE_PART. */
enum http_range_kind http_range_parse(const char *value, size_t length, uint64_t size,
                                      struct http_range *range);

#endif
