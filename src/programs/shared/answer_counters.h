#ifndef FERRY_PROGRAMS_SHARED_ANSWER_COUNTERS_H
#define FERRY_PROGRAMS_SHARED_ANSWER_COUNTERS_H

/* Counters of the answers of a service, in memory that ferry-proxy shares with the workers that it starts. The workers
 * add, the proxy reads. A worker that is killed takes no count with it, and no message is sent for an answer.
 *
 * The memory is a memfd that cannot change its size, so that no worker can make the proxy's reading fail. */

#include <stdint.h>

/* The upper bounds of the histogram, in microseconds: 0.5 ms to 1 minute; the last bucket has the rest. */
enum { ANSWER_BUCKETS = 13, ANSWER_STATUSES = 20 };

/* What becomes of the TLS connections of a service. */
enum answer_tls {
	ANSWER_TLS_KERNEL,    /* the kernel encrypts what is sent */
	ANSWER_TLS_OPENSSL,   /* OpenSSL does */
	ANSWER_TLS_FAILED,    /* the handshake failed */
	ANSWER_TLS_TRUNCATED, /* the client ended without a close_notify */
	ANSWER_TLS
};

extern const uint32_t answer_bounds[ANSWER_BUCKETS - 1];

/* The statuses that have a counter of their own. The last one, 0, stands for all others. */
extern const uint16_t answer_statuses[ANSWER_STATUSES];

/* A copy of the counters. */
struct answer_sums {
	uint64_t statuses[ANSWER_STATUSES];
	uint64_t buckets[ANSWER_BUCKETS]; /* each without those before it */
	uint64_t bytes;                   /* that the kernel took from the workers, heads included */
	uint64_t microseconds;            /* of all answers */
	uint64_t tls[ANSWER_TLS];
};

struct answer_counters;

/* Makes counters, all 0. `*fd` is close-on-exec, and belongs to the caller. 0, or the errno of memfd_create(2),
 * ftruncate(2), fcntl(2) or mmap(2). */
int answer_counters_new(struct answer_counters **out, int *fd);

/* The counters of a descriptor, which the caller may close. 0, or -EINVAL: it is none of this version; or the errno of
 * fstat(2) or mmap(2). */
int answer_counters_map(struct answer_counters **out, int fd);

/* Adds an answer. */
void answer_counters_add(struct answer_counters *counters, unsigned int status, uint64_t bytes,
                         uint64_t microseconds);

/* Counts a TLS connection. */
void answer_counters_add_tls(struct answer_counters *counters, enum answer_tls what);

void answer_counters_read(const struct answer_counters *counters, struct answer_sums *out);

/* The number of answers with a status from `first` to `last`. */
uint64_t answer_sums_count(const struct answer_sums *sums, unsigned int first, unsigned int last);

/* NULL: does nothing. */
void answer_counters_free(struct answer_counters *counters);

#endif
