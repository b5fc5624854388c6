#ifndef FERRY_SUPERVISOR_WORKER_H
#define FERRY_SUPERVISOR_WORKER_H

#include <stdint.h>

#include "supervisor/fields.h"

/* One process of a supervisor. */

/* Starts a process for a place, of the present generation. On success it runs callbacks; `*out` is in the list of
 * processes. A negative errno. */
int worker_start(struct ferry_supervisor_worker **out, struct ferry_supervisor *supervisor,
                 unsigned int number);

/* Takes the place of the process, if it has one. The place starts another process if it has none now. `asked`: this is no
 * crash. */
void worker_leave(struct ferry_supervisor_worker *worker, bool asked, int64_t now);

/* A place without a process, which starts one in the next turn. NULL: out of memory. free(3) frees it. */
struct place *place_new(const struct settings *settings);

/* The start of a process for the place has failed: the next attempt comes after a pause. */
void worker_delay_start(struct ferry_supervisor *supervisor, struct place *place, int64_t now);

/* Stops it, as far as that is harder than what was done before. */
void worker_stop(struct ferry_supervisor_worker *worker, enum ferry_supervisor_stop how,
                 int64_t now);

/* Handles what has happened to it. Returns false if it was freed, because it has ended. Runs callbacks: the caller
 * looks at `freed` of the supervisor. */
bool worker_advance(struct ferry_supervisor_worker *worker, int64_t now);

/* Kills it and waits for it, without a callback. In a forked child, frees the memory alone. */
void worker_destroy(struct ferry_supervisor_worker *worker);

/* Adds the counters that only ever grow. */
void worker_add_stats(struct ferry_dispatcher_stats *sum,
                      const struct ferry_dispatcher_stats *stats);

#endif
