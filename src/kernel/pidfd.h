#ifndef FERRY_KERNEL_PIDFD_H
#define FERRY_KERNEL_PIDFD_H

#include <sys/types.h>

/* Processes that are children of this one, and their pidfds. */

enum { PIDFD_STATUS_UNKNOWN = -1 };

/* A close-on-exec descriptor of the process, which is readable once the process has ended; -1: the kernel or the
 * sandbox has none; or a negative errno below -1 (-EMFILE, -ENFILE, -ENOMEM, -ESRCH). */
int pidfd_open_child(pid_t pid);

/* Sends a signal to a child that this process has not waited for. `pidfd` may be -1. 0, or a negative errno;
 * -ESRCH: the child has ended, and nothing was sent. */
int pidfd_signal(int pidfd, pid_t pid, int signal_number);

/*
 * Waits for this child and for no other, without blocking. 1: the child has ended, and `status` is as that of
 * waitpid(2), or PIDFD_STATUS_UNKNOWN if other code has waited for the child or the program ignores SIGCHLD.
 * 0: the child runs.
 */
int pidfd_wait(int pidfd, pid_t pid, int *status);

/* The same, blocking until the child has ended. */
void pidfd_wait_for_end(int pidfd, pid_t pid, int *status);

#endif
