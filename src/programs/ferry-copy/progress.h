#ifndef FERRY_PROGRAMS_FERRY_COPY_PROGRESS_H
#define FERRY_PROGRAMS_FERRY_COPY_PROGRESS_H

/* The progress of a copy, on the standard error output: a bar on a terminal, elsewhere a line every ten
 * percent or ten seconds. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct event;
struct event_base;

/* A total that is not known. */
#define PROGRESS_NO_TOTAL UINT64_MAX

struct progress {
	const char *name;
	uint64_t first; /* the offset at the start */
	uint64_t now;
	uint64_t total;
	struct timespec started;
	struct event *tick; /* NULL: not started, or stopped */
	bool is_terminal;

	struct timespec measured; /* the time of the last tick */
	uint64_t then;            /* `now` at that time */
	double rate;              /* bytes a second, over the last few seconds */
	unsigned int lines;       /* tenths for which a line was printed */
	struct timespec printed;  /* the time of the last line */
};

/* Starts at `first` of `total` bytes. The caller keeps `name`. Without memory for a timer there are no
 * ticks. */
void progress_start(struct progress *progress, struct event_base *base, const char *name,
                    uint64_t first, uint64_t total);

/* `now` bytes have been copied. Cheap. */
void progress_update(struct progress *progress, uint64_t now);

/* Draws the last state, and ends the line. Without a start it does nothing. */
void progress_stop(struct progress *progress);

/* Formats the result of this copy after its stop: "67108864 bytes in 0.25 s, 256.0 MiB/s". */
void progress_summary(const struct progress *progress, char *out, size_t size);

#endif
