#ifndef FERRY_TESTS_EVERY_CALL_H
#define FERRY_TESTS_EVERY_CALL_H

/* Every call in every callback: a table of callbacks, each with the code that provokes it, times a table of
 * calls. Each pair runs in a world of its own; the verdict is that of the sanitizers, of the count of open
 * descriptors, and of the assertions of the callbacks. */

#include <stdbool.h>

struct every_callback {
	const char *name;
	void (*provoke)(void); /* runs code, and the loop, until the callback has run */
};

struct every_call {
	const char *name;
	void (*call)(void); /* runs in the callback */
};

/* A callback calls this. In the first callback named `name`, makes the call that is due. */
void strike(const char *name);

/* Whether the call that is due was made. */
extern bool struck;

/* Makes each of the calls in this callback, each between set_up() and tear_down(). The test fails if the callback
 * does not run. */
void every_call_run(const struct every_callback *callback, const struct every_call *calls,
                    int count, void (*set_up)(void), void (*tear_down)(void));

#endif
