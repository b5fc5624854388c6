#ifndef FERRY_UTIL_BACKOFF_H
#define FERRY_UTIL_BACKOFF_H

#include <stdint.h>

/* Pauses between attempts, in microseconds. */

/* The pause after `usec`: twice as long, and at most `longest`. */
int64_t backoff_double(int64_t usec, int64_t longest);

/* Up to a quarter longer, so that many processes or places do not act in step. `random` is the generator's state,
 * from any seed. */
int64_t backoff_add_jitter(uint32_t *random, int64_t usec);

#endif
