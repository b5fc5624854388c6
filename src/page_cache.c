#include "page_cache.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* the same on every architecture */
#endif

/* As linux/mman.h of 6.5 has them. */
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

static enum answer ask_cachestat(int fd, int64_t offset, size_t length)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t first = (uint64_t)offset / page;
	uint64_t last = ((uint64_t)offset + length - 1) / page;
	struct cachestat_range range = {(uint64_t)offset, length};
	struct cachestat_result result = {0};

	if (syscall(SYS_cachestat, fd, &range, &result, 0U) < 0)
		return NO_ANSWER;
	return result.cached >= last - first + 1 ? PRESENT : ABSENT;
}

static enum answer ask_nowait(int fd, int64_t offset)
{
	char byte;
	struct iovec vector = {&byte, 1};

	if (preadv2(fd, &vector, 1, offset, RWF_NOWAIT) >= 0)
		return PRESENT;
	return errno == EAGAIN ? ABSENT : NO_ANSWER;
}

bool page_cache_has(int fd, int64_t offset, size_t length)
{
	enum answer answer = ask_cachestat(fd, offset, length);

	if (answer == NO_ANSWER) {
		/* The ends stand for the piece: files are evicted and read ahead in stretches. */
		answer = ask_nowait(fd, offset);
		if (answer == PRESENT)
			answer = ask_nowait(fd, offset + (int64_t)length - 1);
	}
	return answer != ABSENT;
}
