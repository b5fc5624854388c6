#ifndef FERRY_PROGRAMS_FERRY_PROXY_CHILD_PROCESS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CHILD_PROCESS_H

/* Programs that the proxy starts: its workers, and its own successor. All descriptors of the proxy are
 * close-on-exec: a child has the three standard descriptors, and those that the proxy passes to it. */

#include <stdbool.h>
#include <stddef.h>

#include <sys/types.h>

enum { CHILD_PROCESS_FD = 3, CHILD_PROCESS_MEMORY_FD = 4 }; /* the descriptors in the child */

/*
 * Starts a program, which is looked up in $PATH if its name has no slash, with default signal actions and
 * no signal blocked.
 *
 * `fd` becomes CHILD_PROCESS_FD in the child, and `memory`, which is above both numbers, CHILD_PROCESS_MEMORY_FD. Both
 * stay the caller's; -1: none. A child in a process group
 * of its own does not get the terminal's Ctrl-C. 0, or a negative errno: -ENOENT, -EACCES, -ENOMEM, ….
 */
int child_process_start(pid_t *out, char *const argv[], int fd, int memory, bool own_group);

/* The standard error of the children from now on; at first it is that of this process. */
void child_process_set_error_output(int fd);

/* Whether a child has ended; if so, `status` is its status from waitpid(2). Never waits. */
bool child_process_has_ended(pid_t pid, int *status);

/* Formats a status, "exited with status 1" for example. */
void child_process_describe(int status, char *out, size_t size);

#endif
