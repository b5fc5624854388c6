#ifndef FERRY_TESTS_CHILDREN_H
#define FERRY_TESTS_CHILDREN_H

/* Processes that a test forks. They end by a signal, because nothing of the parent's that they have is to be
 * looked through for leaks. */

#include <sys/types.h>

/* fork(2); the child, in which it returns 0, has a loop of its own. */
pid_t start_child(void);

/* In the child: ends it. */
_Noreturn void die(void);

/* Waits for a child that SIGKILL ends, and for no other. */
void wait_for_death(pid_t child);

#endif
