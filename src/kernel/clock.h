#ifndef FERRY_KERNEL_CLOCK_H
#define FERRY_KERNEL_CLOCK_H

#include <stdint.h>
#include <sys/time.h>

/*
 * Times inside the library are microseconds of the monotonic clock, as int64_t. Users give and get
 * struct timeval.
 */

enum { CLOCK_SECOND = 1000000 };

/* The time now. */
int64_t clock_now(void);

/* A length of time in microseconds. One that is too long to be added to the clock becomes a thousand years.
 * -EINVAL: `time` is negative, or its tv_usec is a second or more. */
int64_t clock_from_timeval(const struct timeval *time);

/* From microseconds; `usec` is not negative. */
struct timeval clock_to_timeval(int64_t usec);

#endif
