#ifndef FERRY_SUPERVISOR_SCHEDULE_H
#define FERRY_SUPERVISOR_SCHEDULE_H

#include <stdint.h>

struct ferry_supervisor;

/* Runs the turn soon. */
void schedule_turn(struct ferry_supervisor *supervisor);

/* Runs the turn no later than `time`; 0: never. */
void schedule_wake_at(struct ferry_supervisor *supervisor, int64_t time);

#endif
