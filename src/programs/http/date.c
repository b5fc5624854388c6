#include "programs/http/date.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

static const char preferred[] = "%a, %d %b %Y %H:%M:%S GMT";
static const char rfc850[] = "%A, %d-%b-%y %H:%M:%S GMT";
static const char asctime_form[] = "%a %b %e %H:%M:%S %Y";

enum { LONGEST = sizeof("Wednesday, 06-Nov-94 08:49:37 GMT") };

static const int64_t year_1000 = -30610224000;
static const int64_t end_of_9999 = 253402300799;

void http_date_format(time_t when, char out[HTTP_DATE_SIZE])
{
	int64_t seconds = when; /* time_t may have 32 bits */
	if (seconds < year_1000)
		seconds = year_1000;
	if (seconds > end_of_9999)
		seconds = end_of_9999;
	when = (time_t)seconds;
	struct tm tm;
	(void)gmtime_r(&when, &tm);
	(void)strftime(out, HTTP_DATE_SIZE, preferred, &tm);
}

/* strptime(3) is lenient about blanks, zeros and case: the date has to be the text that it was made from. */
static int parse_form(const char *text, const char *form, struct tm *tm)
{
	char again[LONGEST];
	*tm = (struct tm){0};
	if (strptime(text, form, tm) == NULL || strftime(again, sizeof(again), form, tm) == 0)
		return -EINVAL;
	return strcmp(again, text) == 0 ? 0 : -EINVAL;
}

static void set_century(struct tm *tm, time_t now)
{
	struct tm today;
	(void)gmtime_r(&now, &today);
	tm->tm_year = today.tm_year - today.tm_year % 100 + tm->tm_year % 100;
	if (tm->tm_year > today.tm_year + 50)
		tm->tm_year -= 100;
}

int http_date_parse(const char *text, size_t length, time_t now, time_t *when)
{
	char copy[LONGEST];
	struct tm tm;
	if (length >= sizeof(copy) || memchr(text, '\0', length) != NULL)
		return -EINVAL;
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (parse_form(copy, rfc850, &tm) == 0)
		set_century(&tm, now);
	else if (parse_form(copy, preferred, &tm) < 0 && parse_form(copy, asctime_form, &tm) < 0)
		return -EINVAL;
	/* 60 is a leap second. timegm() would make the 31st of February a day in March. */
	struct tm normal = tm;
	normal.tm_sec = 0;
	time_t minute = timegm(&normal);
	if (normal.tm_mday != tm.tm_mday || normal.tm_mon != tm.tm_mon || tm.tm_sec > 60)
		return -EINVAL;
	*when = minute + tm.tm_sec;
	return 0;
}
