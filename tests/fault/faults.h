#ifndef FERRY_TESTS_FAULTS_H
#define FERRY_TESTS_FAULTS_H

/* System calls that fail once, as plan_faults() has planned. A program that uses this is linked with
 * --wrap for all of them (ferry_add_fault_test() in CMakeLists.txt), and with heap.h's. */

#include <stdbool.h>
#include <stddef.h>

#include "calls.h"

/* The calls and allocations of a run are one sequence. The call `number` of its kind, counted from 1, fails with
 * `error`. */
struct planned_fault {
	enum call call;
	unsigned int number;
	int error;
};
enum { FAULTS_MAX = 2, SEQUENCE_MAX = 20000 };

/* Plans the faults of the next run, and starts the sequence. heap.h's watch must run. */
void plan_faults(const struct planned_fault *faults, unsigned int count);

/* Ends the sequence, and returns how many calls it had. */
unsigned int end_sequence(void);

/* Returns the call at this place in the last sequence, counted from 1. */
enum call sequence_call(unsigned int number);

/* Stores the faults of the last sequence that its calls have reached, and returns their count. */
unsigned int fired_faults(struct planned_fault fired[FAULTS_MAX]);

/* Calls and allocations of the test's thread count only while armed: the scenario runs armed, the
 * test's own checks disarmed. Those of other threads always count. disarm() returns whether it was armed. */
void arm(void);
bool disarm(void);

/* Returns the count of close(2) calls that failed with EBADF since the last call of this
 * function. */
unsigned int take_bad_closes(void);

/* `function` is called each time a loop has waited so long without an event or a timer; it may activate an event.
 * NULL: nothing is called, and a loop waits as long as it asks for. */
enum { IDLE_MS = 2 };
void call_when_idle(void (*function)(void));

/* The kernel that the wrapped calls imitate. In the two cold ones, the page cache seems to have
 * only the parts of a file that pread(2) has read since set_kernel(). */
enum kernel {
	AS_IT_IS,
	COLD_CACHE,
	COLD_CACHE_WITHOUT_CACHESTAT,
	WITHOUT_NOWAIT, /* preadv2(2) has no flags */
};
void set_kernel(enum kernel now);

#endif
