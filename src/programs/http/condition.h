#ifndef FERRY_PROGRAMS_HTTP_CONDITION_H
#define FERRY_PROGRAMS_HTTP_CONDITION_H

/* The conditional and range fields of a GET or HEAD for a file that exists: RFC 9110 section 13, in the
 * order of section 13.2.2. */

#include "programs/http/head.h"
#include "programs/http/range.h"

#include <time.h>

struct http_validators {
	const char *etag; /* strong, with the quotes */
	time_t modified;
	uint64_t size;
};

/* The status of the answer, 200, 206, 304, 412 or 416; for 200 and 206 `*range` is the part of the file
 * to send. `text` is the text of the head. */
int http_condition_evaluate(const struct http_head *head, const char *text,
                            const struct http_validators *validators, time_t now,
                            struct http_range *range);

#endif
