#include "programs/http/date.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char short_days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const long_days[7] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                         "Thursday", "Friday", "Saturday"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static const int64_t year_0 = -62167219200;
static const int64_t end_of_9999 = 253402300799;

void http_date_format(time_t when, char out[HTTP_DATE_SIZE])
{
	int64_t seconds = when; /* time_t may have 32 bits */
	if (seconds < year_0)
		seconds = year_0;
	if (seconds > end_of_9999)
		seconds = end_of_9999;
	when = (time_t)seconds;
	struct tm tm = {0};
	(void)gmtime_r(&when, &tm);
	/* The remainders have no effect: they prove to the compiler that the text fits. */
	(void)snprintf(out, HTTP_DATE_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT",
	               short_days[tm.tm_wday % 7], (unsigned int)tm.tm_mday % 100,
	               months[tm.tm_mon % 12], (unsigned int)(tm.tm_year + 1900) % 10000,
	               (unsigned int)tm.tm_hour % 100, (unsigned int)tm.tm_min % 100,
	               (unsigned int)tm.tm_sec % 100);
}

/* The text that is left. Each take_…() takes its part off the front, or returns false. */
struct reader {
	const char *text;
	size_t length;
};

static bool take_text(struct reader *reader, const char *literal)
{
	size_t length = strlen(literal);
	if (reader->length < length || memcmp(reader->text, literal, length) != 0)
		return false;
	reader->text += length;
	reader->length -= length;
	return true;
}

static bool take_digits(struct reader *reader, size_t digits, int *number)
{
	if (reader->length < digits)
		return false;
	*number = 0;
	for (size_t i = 0; i < digits; i++) {
		char c = reader->text[i];
		if (c < '0' || c > '9')
			return false;
		*number = *number * 10 + (c - '0');
	}
	reader->text += digits;
	reader->length -= digits;
	return true;
}

static bool take_month(struct reader *reader, struct tm *tm)
{
	for (int i = 0; i < 12; i++)
		if (take_text(reader, months[i])) {
			tm->tm_mon = i;
			return true;
		}
	return false;
}

static bool take_time(struct reader *reader, struct tm *tm)
{
	return take_digits(reader, 2, &tm->tm_hour) && take_text(reader, ":") &&
	       take_digits(reader, 2, &tm->tm_min) && take_text(reader, ":") &&
	       take_digits(reader, 2, &tm->tm_sec);
}

static bool take_year(struct reader *reader, struct tm *tm)
{
	if (!take_digits(reader, 4, &tm->tm_year))
		return false;
	tm->tm_year -= 1900;
	return true;
}

static bool parse_preferred(struct reader reader, struct tm *tm)
{
	bool day = false;
	for (int i = 0; i < 7 && !day; i++)
		day = take_text(&reader, short_days[i]);
	return day && take_text(&reader, ", ") && take_digits(&reader, 2, &tm->tm_mday) &&
	       take_text(&reader, " ") && take_month(&reader, tm) && take_text(&reader, " ") &&
	       take_year(&reader, tm) && take_text(&reader, " ") && take_time(&reader, tm) &&
	       take_text(&reader, " GMT") && reader.length == 0;
}

static bool parse_rfc850(struct reader reader, time_t now, struct tm *tm)
{
	bool day = false;
	for (int i = 0; i < 7 && !day; i++)
		day = take_text(&reader, long_days[i]);
	if (!(day && take_text(&reader, ", ") && take_digits(&reader, 2, &tm->tm_mday) &&
	      take_text(&reader, "-") && take_month(&reader, tm) && take_text(&reader, "-") &&
	      take_digits(&reader, 2, &tm->tm_year) && take_text(&reader, " ") &&
	      take_time(&reader, tm) && take_text(&reader, " GMT") && reader.length == 0))
		return false;

	struct tm today;
	if (gmtime_r(&now, &today) == NULL)
		return false;
	int century = today.tm_year - today.tm_year % 100;
	tm->tm_year += century;
	if (tm->tm_year > today.tm_year + 50)
		tm->tm_year -= 100;
	return true;
}

static bool parse_asctime(struct reader reader, struct tm *tm)
{
	bool day = false;
	for (int i = 0; i < 7 && !day; i++)
		day = take_text(&reader, short_days[i]);
	return day && take_text(&reader, " ") && take_month(&reader, tm) && take_text(&reader, " ") &&
	       (take_text(&reader, " ") ? take_digits(&reader, 1, &tm->tm_mday)
	                                : take_digits(&reader, 2, &tm->tm_mday)) &&
	       take_text(&reader, " ") && take_time(&reader, tm) && take_text(&reader, " ") &&
	       take_year(&reader, tm) && reader.length == 0;
}

int http_date_parse(const char *text, size_t length, time_t now, time_t *when)
{
	struct reader reader = {text, length};
	struct tm tm = {0};
	if (!parse_preferred(reader, &tm)) {
		tm = (struct tm){0};
		if (!parse_rfc850(reader, now, &tm)) {
			tm = (struct tm){0};
			if (!parse_asctime(reader, &tm))
				return -EINVAL;
		}
	}
	/* 60 is a leap second. */
	if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return -EINVAL;
	/* timegm() would make the 31st of February a day in March. */
	struct tm normal = tm;
	normal.tm_sec = 0;
	time_t minute = timegm(&normal);
	if (normal.tm_mday != tm.tm_mday || normal.tm_mon != tm.tm_mon)
		return -EINVAL;
	*when = minute + tm.tm_sec;
	return 0;
}
