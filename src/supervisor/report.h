#ifndef FERRY_SUPERVISOR_REPORT_H
#define FERRY_SUPERVISOR_REPORT_H

#include <stdbool.h>
#include <stdint.h>

/* Log lines, crashes, and the state that follows from them. */

struct ferry_supervisor;
struct ferry_supervisor_worker;

/* A line about a process. */
void report_worker(const struct ferry_supervisor_worker *worker, const char *text);

/* The process has ended. The line is a warning if nobody asked it to. Of those that ended soon, one line a second. */
void report_end(const struct ferry_supervisor_worker *worker, bool soon, int64_t now);

/* A process could not be started. One line a second, with those of report_end(). */
void report_failed_start(struct ferry_supervisor *supervisor, int error, int64_t now);

/* A process has ended unasked. */
void report_crash(struct ferry_supervisor *supervisor, int64_t now);

/* Sets the state by the crashes of the last time, by stop, and by the processes that are left. Returns when that may
 * change by itself; 0: it does not. */
int64_t report_update_state(struct ferry_supervisor *supervisor, int64_t now);

#endif
