#ifndef FERRY_KERNEL_CLOCK_H
#define FERRY_KERNEL_CLOCK_H

#include <stdint.h>
#include <sys/time.h>

/*
 * Times inside the library are microseconds of the monotonic clock, as int64_t. Users give and get
 * struct timeval.
 */

enum { CLOCK_SECOND = 1000000 };

/* The monotonic clock. */
int64_t clock_now(void);

/* The length of time in microseconds; one that is too long to be added to the clock becomes a thousand
 * years. -EINVAL: negative, or a second or more in tv_usec. */
int64_t clock_from_timeval(const struct timeval *time);

/* `usec` is not negative. */
struct timeval clock_to_timeval(int64_t usec);

#endif
