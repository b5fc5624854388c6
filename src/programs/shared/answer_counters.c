#include "programs/shared/answer_counters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

/* Changes with the layout. */
static const uint64_t magic = 0x0002726577736e41; /* "Answer", version 2 */

const uint32_t answer_bounds[ANSWER_BUCKETS - 1] = {
    500, 1000, 2500, 5000, 10000, 25000, 100000, 250000, 1000000, 5000000, 15000000, 60000000,
};

const uint16_t answer_statuses[ANSWER_STATUSES] = {
    200, 206, 301, 304, 400, 403, 404, 405, 408, 412,
    413, 414, 416, 421, 431, 500, 501, 503, 505, 0,
};

struct answer_counters {
	uint64_t magic;
	_Atomic uint64_t statuses[ANSWER_STATUSES];
	_Atomic uint64_t buckets[ANSWER_BUCKETS];
	_Atomic uint64_t bytes;
	_Atomic uint64_t microseconds;
	_Atomic uint64_t tls[ANSWER_TLS];
};

static int map_counters(struct answer_counters **out, int fd)
{
	void *memory =
	    mmap(NULL, sizeof(struct answer_counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	*out = memory;
	return 0;
}

/* After the seals no process changes the size. */
static int set_size(int fd)
{
	if (ftruncate(fd, sizeof(struct answer_counters)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return 0;
}

int answer_counters_new(struct answer_counters **out, int *fd)
{
	int memory = memfd_create("ferry-answers", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory < 0)
		return -errno;
	int status = set_size(memory);
	if (status == 0)
		status = map_counters(out, memory);
	if (status < 0) {
		close(memory);
		return status;
	}
	(*out)->magic = magic;
	*fd = memory;
	return 0;
}

int answer_counters_map(struct answer_counters **out, int fd)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || status.st_size != (off_t)sizeof(struct answer_counters))
		return -EINVAL;
	int result = map_counters(out, fd);
	if (result == 0 && (*out)->magic != magic) {
		answer_counters_free(*out);
		result = -EINVAL;
	}
	return result;
}

static void add(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

void answer_counters_add(struct answer_counters *counters, unsigned int status, uint64_t bytes,
                         uint64_t microseconds)
{
	unsigned int place = 0, bucket = 0;
	while (place < ANSWER_STATUSES - 1 && answer_statuses[place] != status)
		place++;
	while (bucket < ANSWER_BUCKETS - 1 && microseconds > answer_bounds[bucket])
		bucket++;
	add(&counters->statuses[place], 1);
	add(&counters->buckets[bucket], 1);
	add(&counters->bytes, bytes);
	add(&counters->microseconds, microseconds);
}

void answer_counters_add_tls(struct answer_counters *counters, enum answer_tls what)
{
	add(&counters->tls[what], 1);
}

void answer_counters_read(const struct answer_counters *counters, struct answer_sums *out)
{
	for (unsigned int i = 0; i < ANSWER_STATUSES; i++)
		out->statuses[i] = atomic_load_explicit(&counters->statuses[i], memory_order_relaxed);
	for (unsigned int i = 0; i < ANSWER_BUCKETS; i++)
		out->buckets[i] = atomic_load_explicit(&counters->buckets[i], memory_order_relaxed);
	out->bytes = atomic_load_explicit(&counters->bytes, memory_order_relaxed);
	for (unsigned int i = 0; i < ANSWER_TLS; i++)
		out->tls[i] = atomic_load_explicit(&counters->tls[i], memory_order_relaxed);
	out->microseconds = atomic_load_explicit(&counters->microseconds, memory_order_relaxed);
}

uint64_t answer_sums_count(const struct answer_sums *sums, unsigned int first, unsigned int last)
{
	uint64_t count = 0;
	for (unsigned int i = 0; i < ANSWER_STATUSES; i++)
		if (answer_statuses[i] >= first && answer_statuses[i] <= last)
			count += sums->statuses[i];
	return count;
}

void answer_counters_free(struct answer_counters *counters)
{
	if (counters != NULL)
		munmap(counters, sizeof(*counters));
}
