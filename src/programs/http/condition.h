#ifndef FERRY_PROGRAMS_HTTP_CONDITION_H
#define FERRY_PROGRAMS_HTTP_CONDITION_H

/* What the conditional and range fields of a GET or HEAD ask of a file that exists: RFC 9110
 * section 13, in the order of 13.2.2. */

#include "programs/http/head.h"
#include "programs/http/range.h"

#include <time.h>

struct http_validators {
	const char *etag; /* strong, with its quotes */
	time_t modified;
	uint64_t size;
};

/* The status to answer with, 200, 206, 304, 412 or 416, and in `*range` what of the file to send for
 * 200 and 206. `text` is what the head was parsed from. */
int http_condition_evaluate(const struct http_head *head, const char *text,
                            const struct http_validators *validators, time_t now,
                            struct http_range *range);

#endif
