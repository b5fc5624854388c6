#ifndef FERRY_PROGRAMS_FERRY_COPY_PROGRESS_H
#define FERRY_PROGRAMS_FERRY_COPY_PROGRESS_H

/* How far a copy has come, on the standard error output: a bar that is drawn over on a terminal, a
 * line every ten percent or ten seconds elsewhere. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct event;
struct event_base;

/* As a total: not known. */
#define PROGRESS_NO_TOTAL UINT64_MAX

struct progress {
	const char *name;
	uint64_t first; /* where this copy began */
	uint64_t now;
	uint64_t total;
	struct timespec started;
	struct event *tick; /* NULL: not started, or stopped */
	bool is_terminal;

	struct timespec looked; /* the last tick */
	uint64_t then;          /* `now` at that */
	double rate;            /* bytes a second, of the last few seconds */
	unsigned int lines;     /* printed so far: tenths that are passed */
	struct timespec said;   /* the last of them */
};

/* Starts at `first` of `total` bytes. `name` must outlive it. Without memory for a timer it does
 * without ticks. */
void progress_start(struct progress *progress, struct event_base *base, const char *name,
                    uint64_t first, uint64_t total);

/* `now` bytes are there. Cheap. */
void progress_update(struct progress *progress, uint64_t now);

/* Draws the last state, and ends the line. Nothing happens when it is not started. */
void progress_stop(struct progress *progress);

/* "67108864 bytes in 0.25 s, 256.0 MiB/s", after the stop: what this copy has moved. */
void progress_summary(const struct progress *progress, char *out, size_t size);

#endif
