#ifndef FERRY_TESTS_FAULT_FAULTY_H
#define FERRY_TESTS_FAULT_FAULTY_H

/* For the files that stand in the place of libc's functions. */

#include <errno.h>

#include "faults.h"

/* Counts the call. Returns the errno with which it fails, which is set; SHORT_COUNT, CONTROL_TRUNCATED; 0: it does
 * not fail. */
int next_fault(enum call call);

/* The part of next_fault() in sequence.c. */
int next_in_sequence(enum call call);

#define FAULTY(CALL, type, name, parameters, arguments) \
	type __real_##name parameters;                      \
	type __wrap_##name parameters;                      \
	type __wrap_##name parameters                       \
	{                                                   \
		if (next_fault(CALL) > 0)                       \
			return -1;                                  \
		return __real_##name arguments;                 \
	}

/* With a `size` among the parameters, which a SHORT_COUNT makes 1. */
#define FAULTY_COUNT(CALL, name, parameters, arguments) \
	ssize_t __real_##name parameters;                   \
	ssize_t __wrap_##name parameters;                   \
	ssize_t __wrap_##name parameters                    \
	{                                                   \
		int fault = next_fault(CALL);                   \
		if (fault > 0)                                  \
			return -1;                                  \
		if (fault == SHORT_COUNT && size > 1)           \
			size = 1;                                   \
		return __real_##name arguments;                 \
	}

#endif
