#include "file/page_cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/preadv2.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* the same on every architecture */
#endif

/* The structs of linux/mman.h in Linux 6.5. */
struct cachestat_range {
	uint64_t offset;
	uint64_t length;
};
struct cachestat_result {
	uint64_t cached;
	uint64_t dirty;
	uint64_t writeback;
	uint64_t evicted;
	uint64_t recently_evicted;
};

enum answer { ABSENT, PRESENT, NO_ANSWER };

/* PRESENT: each page is in memory, or is being read from the disk. */
static enum answer ask_cachestat(int fd, int64_t offset, size_t length)
{
	static atomic_bool missing; /* a constant of the kernel */
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t first = (uint64_t)offset / page;
	uint64_t last = ((uint64_t)offset + length - 1) / page;
	struct cachestat_range range = {(uint64_t)offset, length};
	struct cachestat_result result = {0};

	if (atomic_load_explicit(&missing, memory_order_relaxed))
		return NO_ANSWER;
	if (syscall(SYS_cachestat, fd, &range, &result, 0U) < 0) {
		/* Not with EPERM: since Linux 6.14 that may be an answer about this file, which belongs to another user. */
		if (errno == ENOSYS)
			atomic_store_explicit(&missing, true, memory_order_relaxed);
		return NO_ANSWER;
	}
	return result.cached >= last - first + 1 ? PRESENT : ABSENT;
}

/* Not called after cachestat(2) has reported a missing page: this call makes the kernel start to read
 * it. */
static enum answer ask_nowait(int fd, int64_t offset)
{
	char byte;
	struct iovec vector = {&byte, 1};

	if (preadv2(fd, &vector, 1, offset, RWF_NOWAIT) >= 0)
		return PRESENT;
	return errno == EAGAIN ? ABSENT : NO_ANSWER;
}

/* Whether the `length` bytes (1 or more) from `offset` on are in memory. If the kernel has no answer, only an
 * ordinary read can find out. */
static bool is_in_memory(struct warmth *warmth, int fd, int64_t offset, size_t length)
{
	enum answer answer = warmth->no_cachestat ? NO_ANSWER : ask_cachestat(fd, offset, length);

	warmth->unknown = false;
	if (answer == ABSENT)
		return false;
	if (answer == NO_ANSWER)
		answer = ask_nowait(fd, offset);
	/* cachestat(2) has an answer where RWF_NOWAIT has none. */
	enum answer end = answer != ABSENT ? ask_nowait(fd, offset + (int64_t)length - 1) : ABSENT;
	warmth->unknown = answer == NO_ANSWER;
	return answer == PRESENT && end != ABSENT;
}

bool warmth_doubt(struct warmth *warmth, int fd, int64_t position)
{
	if (warmth->no_cachestat || ask_nowait(fd, position) != PRESENT)
		return false;
	warmth->no_cachestat = true;
	return true;
}

void warmth_trust(struct warmth *warmth)
{
	warmth->until = INT64_MAX;
}

void warmth_init(struct warmth *warmth, bool ask)
{
	*warmth = (struct warmth){
	    .until = ask ? 0 : INT64_MAX,
	    .coming = INT64_MAX,
	    .window = WARMTH_WINDOW_MIN,
	};
}

static size_t shortest_length(size_t a, size_t b, int64_t c)
{
	size_t least = a < b ? a : b;
	return c < (int64_t)least ? (size_t)c : least;
}

/* Returns the number of bytes that are certainly in memory, or 0. */
static size_t count_warm(struct warmth *warmth, int fd, int64_t position, size_t left)
{
	if (position >= warmth->coming)
		return 0;
	/* The piece ends at a multiple of the window; the bytes of one turn are then not cut in the middle. */
	size_t window = warmth->window - (size_t)(position % (int64_t)warmth->window);
	size_t length = shortest_length(window, left, warmth->coming - position);
	if (!is_in_memory(warmth, fd, position, length)) {
		if (length <= WARMTH_WINDOW_MIN)
			return 0;
		length = WARMTH_WINDOW_MIN;
		warmth->window = WARMTH_WINDOW_MIN;
		if (!is_in_memory(warmth, fd, position, length))
			return 0;
	} else if (warmth->window < WARMTH_WINDOW_MAX) {
		warmth->window *= 2;
	}
	return length;
}

bool warmth_check(struct warmth *warmth, int fd, int64_t position, size_t left, size_t *length)
{
	if (position >= warmth->until) {
		size_t there = count_warm(warmth, fd, position, left);
		if (there == 0) {
			warmth->window = WARMTH_WINDOW_MIN;
			return false;
		}
		warmth->until = position + (int64_t)there;
		warmth->gave_up = false;
	}
	*length = shortest_length(*length, *length, warmth->until - position);
	return true;
}

void warmth_give_up(struct warmth *warmth, int64_t position)
{
	/* The second time in a row the cause is not a slow disk: this file is never in the page cache. */
	bool never = warmth->gave_up || position > INT64_MAX - WARMTH_WINDOW_MIN;

	warmth->until = never ? INT64_MAX : position + WARMTH_WINDOW_MIN;
	warmth->gave_up = true;
}
