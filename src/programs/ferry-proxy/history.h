#ifndef FERRY_PROGRAMS_FERRY_PROXY_HISTORY_H
#define FERRY_PROGRAMS_FERRY_PROXY_HISTORY_H

/* The last five minutes of the proxy, for the graphs of the status page: a sample every two seconds. */

#include <stdbool.h>
#include <stdint.h>

struct snapshot;

enum { HISTORY_SECONDS = 2, HISTORY_SAMPLES = 150 };

enum history_series {
	HISTORY_REQUESTS, /* answers; of workers that others start, connections handed to them */
	HISTORY_HANDOFFS, /* attempts */
	HISTORY_CLAIMS,
	HISTORY_RETRIES,
	HISTORY_QUEUE,  /* at that moment */
	HISTORY_MEMORY, /* bytes of the proxy and its own workers at that moment */
	HISTORY_SERIES
};

/* For counters, the sums at the moment of the sample. */
struct history_sample {
	uint64_t values[HISTORY_SERIES];
};

struct history {
	struct history_sample samples[HISTORY_SAMPLES];
	unsigned int count; /* of samples, HISTORY_SAMPLES at most */
	unsigned int next;  /* the place of the next sample */
};

/* Adds a sample. The oldest one goes when there is no room. */
void history_add(struct history *history, const struct snapshot *snapshot);

/* Whether the values of a series are sums, whose differences are rates. */
bool history_is_sum(enum history_series series);

/* The points of a series, the oldest first: per second for sums. `points` has room for HISTORY_SAMPLES. The number of
 * points. */
unsigned int history_points(const struct history *history, enum history_series series,
                            double *points);

#endif
