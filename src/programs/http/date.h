#ifndef FERRY_PROGRAMS_HTTP_DATE_H
#define FERRY_PROGRAMS_HTTP_DATE_H

/* Dates in the formats of HTTP (RFC 9110 section 5.6.7). The programs keep the locale "C", whose names of days and months
 * these are. */

#include <stddef.h>
#include <time.h>

enum { HTTP_DATE_SIZE = 30 }; /* "Sun, 06 Nov 1994 08:49:37 GMT" and a zero */

/* Writes `when` in the preferred format. A time outside of the years 1000 to 9999 becomes the nearest one
 * inside. */
void http_date_format(time_t when, char out[HTTP_DATE_SIZE]);

/* Reads the preferred format and the two obsolete ones: "Sunday, 06-Nov-94 08:49:37 GMT" and "Sun Nov  6
 * 08:49:37 1994". A year of two digits that would lie more than 50 years after `now` belongs to the
 * past. Returns 0 or -EINVAL. */
int http_date_parse(const char *text, size_t length, time_t now, time_t *when);

#endif
