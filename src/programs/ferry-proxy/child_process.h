#ifndef FERRY_PROGRAMS_FERRY_PROXY_CHILD_PROCESS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CHILD_PROCESS_H

/* Programs that the proxy starts: its workers, and its own successor. All that the proxy has open is
 * close-on-exec: a child has the three standard descriptors and the one that it is given. */

#include <stdbool.h>
#include <stddef.h>

#include <sys/types.h>

enum { CHILD_PROCESS_FD = 3 }; /* the number under which a child finds what it was given */

/*
 * Starts a program, found in $PATH if its name has no slash, with signals as after a login.
 *
 * `fd` is what it is given as descriptor CHILD_PROCESS_FD, or -1: nothing; it stays the caller's. In a
 * process group of its own a child is out of reach of the terminal's Ctrl-C. 0, or a negative errno: -ENOENT,
 * -EACCES, -ENOMEM, ….
 */
int child_process_start(pid_t *out, char *const argv[], int fd, bool own_group);

/* Whether a child has ended; its status as waitpid(2) tells it. Never waits. */
bool child_process_has_ended(pid_t pid, int *status);

/* Says how it ended, "exited with status 1" for example. */
void child_process_describe(int status, char *out, size_t size);

#endif
