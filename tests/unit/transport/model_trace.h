#ifndef FERRY_TESTS_MODEL_TRACE_H
#define FERRY_TESTS_MODEL_TRACE_H

/* The calls and callbacks of a walk, as text that is printed when the walk fails. */

#include <stdbool.h>
#include <stdint.h>

/* Begins another walk. `command` repeats it. NULL: the program that calls has its own way, and notices signals and the
 * sanitizers' reports itself; a failure then ends it by SIGABRT. */
void trace_begin(const char *command);

/* A step. In order of time, indented by the depth of callbacks. */
__attribute__((format(printf, 1, 2))) void trace(const char *format, ...);
extern unsigned int trace_depth;

/* Fails the test unless `holds`. */
#define demand(holds, ...)                      \
	do {                                        \
		if (!(holds))                           \
			demand_failed(#holds, __VA_ARGS__); \
	} while (0)
__attribute__((noreturn, format(printf, 2, 3))) void demand_failed(const char *condition,
                                                                   const char *format, ...);

#endif
