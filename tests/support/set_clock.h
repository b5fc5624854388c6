#ifndef FERRY_TESTS_SET_CLOCK_H
#define FERRY_TESTS_SET_CLOCK_H

/* A monotonic clock that stands still until the test moves it, for the library and for libevent: their timers
 * expire without a wait, and no result depends on the speed of the machine. A program that uses this replaces
 * clock_gettime(2). */

#include <stdint.h>

/* Moves the clock. The timers that are then due run in the next turn of the loop. */
void clock_advance(int64_t usec);

/* The time of the clock, in microseconds. */
int64_t clock_time(void);

#endif
