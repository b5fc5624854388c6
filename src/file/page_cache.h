#ifndef FERRY_FILE_PAGE_CACHE_H
#define FERRY_FILE_PAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether a piece of a file is in memory.
 *
 * A regular file has no non-blocking reads: where the page cache has not got the bytes, sendfile(2)
 * and read(2) wait for the disk. cachestat(2) (Linux 6.5) counts the pages of a piece, those too that
 * are still on their way; a read with RWF_NOWAIT tells of one page whether it can be read now. So
 * cachestat is asked first, and then whether the last page is there, which comes last. Before Linux
 * 6.5, and where cachestat is not allowed (it wants the right to write to the file), the first page
 * and the last stand for the piece: files are evicted and read ahead in stretches.
 */

/* How much is looked up at once: more costs less per byte, less is sooner there. */
enum { WARMTH_WINDOW_MIN = 256 * 1024, WARMTH_WINDOW_MAX = 1024 * 1024 };

/* What is known of a file that is sent from front to back. */
struct warmth {
	int64_t until;  /* need not be looked up, up to here */
	int64_t coming; /* from here on it is on its way: not to be looked up before it has come */
	size_t window;  /* for the next look */
	bool gave_up;   /* the last piece is sent without being in memory */
};

/* `ask`: whether there is any sense in it. */
void warmth_init(struct warmth *warmth, bool ask);

/* Whether the next piece at `position`, of `left` bytes to come (1 or more), is in memory. Cuts
 * `length` to it. */
bool warmth_check(struct warmth *warmth, int fd, int64_t position, size_t left, size_t *length);

/* Has the next piece pass for being in memory; the second time in a row, all that follows. */
void warmth_give_up(struct warmth *warmth, int64_t position);

#endif
