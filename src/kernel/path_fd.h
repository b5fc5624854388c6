#ifndef FERRY_KERNEL_PATH_FD_H
#define FERRY_KERNEL_PATH_FD_H

/* Descriptors with O_PATH stand for a file or directory that is not open. Calls that take only a path reach it
 * by the descriptor's name in /proc, or, where /proc is not mounted, in other ways. */

#include <sys/types.h>

enum { PATH_FD_NAME_SIZE = 32 };

/* Writes the name of `fd` in /proc. */
void path_fd_name(int fd, char name[PATH_FD_NAME_SIZE]);

/* 0 if that name leads to the file; else a negative errno, such as -ENOENT if /proc is not mounted. */
int path_fd_check_proc(int fd);

/* chmod(2). -EOPNOTSUPP: without /proc it needs fchmodat2(2), of Linux 6.6. */
int path_fd_chmod(int fd, mode_t mode);

/* Returns the result of `call`, run in a thread whose working directory is `fd`. The working directory of the
 * other threads stays. -EOPNOTSUPP: the sandbox forbids unshare(2). -ENOMEM: no thread. */
int path_fd_call_inside(int fd, int (*call)(void *argument), void *argument);

#endif
