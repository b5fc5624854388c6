#ifndef FERRY_PROGRAMS_HTTP_DATE_H
#define FERRY_PROGRAMS_HTTP_DATE_H

/* Dates as HTTP writes them (RFC 9110 section 5.6.7), whatever the locale. */

#include <stddef.h>
#include <time.h>

enum { HTTP_DATE_SIZE = 30 }; /* "Sun, 06 Nov 1994 08:49:37 GMT" and a zero */

/* Writes `when` in the preferred format; years 0 to 9999, what is outside becomes the nearest. */
void http_date_format(time_t when, char out[HTTP_DATE_SIZE]);

/* Reads the preferred format and the two obsolete ones: "Sunday, 06-Nov-94 08:49:37 GMT" and
 * "Sun Nov  6 08:49:37 1994". A year of two digits that would lie more than 50 years after `now` is
 * one of the past. Returns 0 or -EINVAL. */
int http_date_parse(const char *text, size_t length, time_t now, time_t *when);

#endif
