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

static const char week_days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const int64_t day_seconds = 86400;

struct day {
	unsigned int year, month, of_month, of_week; /* month and day of the week from 0 */
};

/* The day so many days after 1970-01-01. Years begin in March here, so that a leap day is the last of its year, and the
 * calendar repeats after 400 years of 146097 days. */
static struct day find_day(int64_t days)
{
	const unsigned int before_1970 = 719468; /* days, since March of the year 0 */
	unsigned int all = (unsigned int)(days + before_1970), rest = all % 146097;
	unsigned int year = (rest - rest / 1460 + rest / 36524 - rest / 146096) / 365;
	unsigned int of_year = rest - (365 * year + year / 4 - year / 100);
	unsigned int month = (5 * of_year + 2) / 153; /* 153 days in five months */
	return (struct day){.year = all / 146097 * 400 + year + (month >= 10),
	                    .month = (month + 2) % 12,
	                    .of_month = of_year - (153 * month + 2) / 5 + 1,
	                    .of_week = (all + 3) % 7};
}

static void put_two_digits(char *out, unsigned int number)
{
	out[0] = (char)('0' + number / 10);
	out[1] = (char)('0' + number % 10);
}

/* Without strftime(3), which costs ten times as much: each answer has two dates. */
void http_date_format(time_t when, char out[HTTP_DATE_SIZE])
{
	int64_t seconds = when; /* time_t may have 32 bits */
	if (seconds < year_1000)
		seconds = year_1000;
	if (seconds > end_of_9999)
		seconds = end_of_9999;
	int64_t days = seconds / day_seconds - (seconds % day_seconds < 0);
	unsigned int second = (unsigned int)(seconds - days * day_seconds);
	struct day day = find_day(days);
	memcpy(out, "Ddd, 00 Mmm 0000 00:00:00 GMT", HTTP_DATE_SIZE);
	memcpy(out, week_days[day.of_week], 3);
	put_two_digits(out + 5, day.of_month);
	memcpy(out + 8, months[day.month], 3);
	put_two_digits(out + 12, day.year / 100);
	put_two_digits(out + 14, day.year % 100);
	put_two_digits(out + 17, second / 3600);
	put_two_digits(out + 20, second / 60 % 60);
	put_two_digits(out + 23, second % 60);
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
