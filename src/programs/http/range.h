#ifndef FERRY_PROGRAMS_HTTP_RANGE_H
#define FERRY_PROGRAMS_HTTP_RANGE_H

/* The Range field of a request (RFC 9110 section 14): one range of bytes. */

#include <stddef.h>
#include <stdint.h>

enum http_range_kind {
	HTTP_RANGE_WHOLE,        /* no range, not one of bytes, several of them, or not well-formed: the
	                            field is to be ignored */
	HTTP_RANGE_PART,         /* 206 */
	HTTP_RANGE_UNSATISFIABLE /* 416 */
};

struct http_range {
	uint64_t first;
	uint64_t length;
};

/* What "bytes=a-b", "bytes=a-" or "bytes=-n" asks of `size` bytes; `*range` is always set: to the
 * whole, unless HTTP_RANGE_PART is returned. */
enum http_range_kind http_range_parse(const char *value, size_t length, uint64_t size,
                                      struct http_range *range);

#endif
