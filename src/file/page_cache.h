#ifndef FERRY_FILE_PAGE_CACHE_H
#define FERRY_FILE_PAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether a piece of a file is in memory.
 *
 * A regular file has no non-blocking reads: if bytes are not in the page cache, sendfile(2) and read(2)
 * wait for the disk. cachestat(2) (Linux 6.5) counts the pages of a piece, including pages that are still
 * being read from the disk. A read of one byte with RWF_NOWAIT fails if its page cannot be read now.
 * ferry calls cachestat first, and then reads one byte of the last page, which the disk delivers last.
 * Before Linux 6.5, and if cachestat is not permitted (it needs the right to write to the file), ferry
 * checks only the first page and the last: the kernel evicts and reads ahead files in stretches.
 */

/* The length of a piece. A longer one costs less per byte; a shorter one is complete sooner. */
enum { WARMTH_WINDOW_MIN = 256 * 1024, WARMTH_WINDOW_MAX = 1024 * 1024 };

/* The known part of a file that is sent from front to back. */
struct warmth {
	int64_t until;  /* the bytes before this position are not checked again */
	int64_t coming; /* the bytes from here on are being read, and are not checked before */
	size_t window;  /* the length of the next check */
	bool gave_up;   /* the last piece was sent although it was not in memory */
	bool unknown;   /* the kernel has no answer for this file, and it is not known to need none */
	bool
	    no_cachestat; /* cachestat(2) reports nothing of this file, whose pages another file has: overlayfs */
};

/* `ask`: whether the file can be checked; if not, all of it counts as in memory. */
void warmth_init(struct warmth *warmth, bool ask);

/* Whether nothing is known of the byte at `position`, and nothing is on its way from the disk. A read with RWF_NOWAIT
 * then finds out by itself. */
static inline bool warmth_is_open(const struct warmth *warmth, int64_t position)
{
	return position >= warmth->until && warmth->coming == INT64_MAX;
}

/* Whether the next piece at `position` is in memory; `left` (1 or more) bytes are still to be sent. Cuts
 * `length` to that piece. */
bool warmth_check(struct warmth *warmth, int fd, int64_t position, size_t left, size_t *length);

/* The next piece was read, and is not in memory as far as is known. True if another way to check finds it there:
 * that way is then used. */
bool warmth_doubt(struct warmth *warmth, int fd, int64_t position);

/* All of the file counts as in memory. */
void warmth_trust(struct warmth *warmth);

/* Counts the next piece as in memory; the second time in a row, the rest of the file. */
void warmth_give_up(struct warmth *warmth, int64_t position);

#endif
