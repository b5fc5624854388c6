#ifndef FERRY_TESTS_FAULTS_H
#define FERRY_TESTS_FAULTS_H

/* System calls that fail once, as plan_fault() has planned. A program that uses this is linked with
 * --wrap for all of them (ferry_add_fault_test() in CMakeLists.txt), and with heap.h's. */

#include <stdbool.h>
#include <stddef.h>

#include "calls.h"

/* Plans that call `number` of this kind, counted from now on, fails with `error`; CALL_NONE: none
 * fails. */
void plan_fault(enum call call, unsigned int number, int error);

/* Returns the count of these calls since plan_fault(). */
unsigned int count_calls(enum call call);

/* A fault of a run whose calls and allocations are one sequence, numbered from 1. */
struct planned_fault {
	unsigned int number;  /* of the call that fails */
	unsigned int variant; /* the index of its error in call_errors(), modulo their count */
};
struct fired_fault {
	enum call call;
	int error;
};
enum { FAULTS_MAX = 2, SEQUENCE_MAX = 20000 };

/* Plans the faults of the next run, in ascending order; starts the sequence. heap.h's watch must run. */
void plan_sequence(const struct planned_fault *faults, unsigned int count);

/* Ends the sequence, and returns how many calls it had. */
unsigned int end_sequence(void);

/* Returns the call of this number in the last sequence. */
enum call sequence_call(unsigned int number);

/* Stores the faults of the last sequence that its calls have reached, and returns their count. */
unsigned int fired_faults(struct fired_fault fired[FAULTS_MAX]);

/* Calls and allocations of the test's thread count only while armed: the scenario runs armed, the
 * test's own checks disarmed. Those of other threads always count. disarm() returns whether it was armed. */
void arm(void);
bool disarm(void);

/* Returns the count of close(2) calls that failed with EBADF since the last call of this
 * function. */
unsigned int take_bad_closes(void);

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
