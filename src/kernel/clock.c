#include "kernel/clock.h"

#include <errno.h>
#include <time.h>

static const int64_t longest = INT64_C(1000) * 365 * 24 * 3600; /* in seconds */

int64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * CLOCK_SECOND + now.tv_nsec / 1000;
}

int64_t clock_from_timeval(const struct timeval *time)
{
	if (time->tv_sec < 0 || time->tv_usec < 0 || time->tv_usec >= CLOCK_SECOND)
		return -EINVAL;
	if (time->tv_sec >= longest)
		return longest * CLOCK_SECOND;
	return (int64_t)time->tv_sec * CLOCK_SECOND + time->tv_usec;
}

struct timeval clock_to_timeval(int64_t usec)
{
	return (struct timeval){
	    .tv_sec = (time_t)(usec / CLOCK_SECOND),
	    .tv_usec = (suseconds_t)(usec % CLOCK_SECOND),
	};
}
