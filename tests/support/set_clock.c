#include "set_clock.h"

#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { USEC = 1000000 };

/* Not 0: a timer that is due at 0 means none to libevent. */
static int64_t time_now = (int64_t)1000 * USEC;

void clock_advance(int64_t usec)
{
	time_now += usec;
}

int64_t clock_time(void)
{
	return time_now;
}

/* Also in place of libc's for libevent, because the program's symbols come first. */
int clock_gettime(clockid_t id, struct timespec *now)
{
	if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
		return (int)syscall(SYS_clock_gettime, id, now);
	now->tv_sec = (time_t)(time_now / USEC);
	now->tv_nsec = (long)(time_now % USEC) * 1000;
	return 0;
}

/* The same time: by it libevent fills the buckets of a rate limit. */
int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	(void)zone;
	*now = (struct timeval){.tv_sec = (time_t)(time_now / USEC),
	                        .tv_usec = (suseconds_t)(time_now % USEC)};
	return 0;
}
