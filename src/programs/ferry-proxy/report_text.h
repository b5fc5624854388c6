#ifndef FERRY_PROGRAMS_FERRY_PROXY_REPORT_TEXT_H
#define FERRY_PROGRAMS_FERRY_PROXY_REPORT_TEXT_H

/* The parts that metrics and pages share: a text that grows, and the table of refusals. */

#include "programs/ferry-proxy/report.h"

/* A text in an evbuffer. After a failure for want of memory it stays failed, and takes nothing more. */
struct text {
	struct evbuffer *out;
	bool failed;
};

__attribute__((format(printf, 2, 3))) void text_add(struct text *text, const char *format, ...);
void text_add_bytes(struct text *text, const char *bytes, size_t length);

/* The members of struct refusals. */
struct refusal_reason {
	const char *name; /* the label of the metric, and the value's name in page/refusals.html */
	size_t offset;
};

enum { REFUSAL_REASONS = 9 };

extern const struct refusal_reason refusal_reasons[REFUSAL_REASONS];

/* The uint64_t at an offset of a structure. */
uint64_t report_number_at(const void *structure, size_t offset);

#endif
