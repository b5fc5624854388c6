#include "kernel/path_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/optional_call.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* the same on every architecture */
#endif

void path_fd_name(int fd, char name[PATH_FD_NAME_SIZE])
{
	snprintf(name, PATH_FD_NAME_SIZE, "/proc/self/fd/%d", fd);
}

int path_fd_check_proc(int fd)
{
	char name[PATH_FD_NAME_SIZE];

	path_fd_name(fd, name);
	return access(name, F_OK) < 0 ? -errno : 0;
}

/* fchmod(2) fails on an O_PATH descriptor, and chmod(2) by the file's own name could reach a file that was swapped
 * in. */
int path_fd_chmod(int fd, mode_t mode)
{
	char name[PATH_FD_NAME_SIZE];

	path_fd_name(fd, name);
	if (chmod(name, mode) == 0)
		return 0;
	const int status = -errno;
	if (path_fd_check_proc(fd) == 0)
		return status;
	if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	return optional_call_is_absent(CALL_FCHMODAT2, errno) ? -EOPNOTSUPP : -errno;
}

/* ---- a working directory of its own ---- */

struct visit {
	int fd;
	int (*call)(void *argument);
	void *argument;
	int result;
};

/* CLONE_FS: the thread gets its own copy of working directory, root and umask, which the process's threads share
 * otherwise. It needs no privilege. */
static void *visit_directory(void *argument)
{
	struct visit *visit = argument;

	if (unshare(CLONE_FS) < 0)
		visit->result = optional_call_is_absent(CALL_UNSHARE, errno) ? -EOPNOTSUPP : -errno;
	else if (fchdir(visit->fd) < 0)
		visit->result = -errno;
	else
		visit->result = visit->call(visit->argument);
	return NULL;
}

/* The thread takes no signal: a handler of the program would run in a thread that the program does not know. */
int path_fd_call_inside(int fd, int (*call)(void *argument), void *argument)
{
	struct visit visit = {.fd = fd, .call = call, .argument = argument};
	sigset_t all, previous;
	pthread_t thread;

	sigfillset(&all);
	if (pthread_sigmask(SIG_SETMASK, &all, &previous) != 0)
		return -ENOMEM;
	const int error = pthread_create(&thread, NULL, visit_directory, &visit);
	pthread_sigmask(SIG_SETMASK, &previous, NULL);
	if (error != 0)
		return -ENOMEM;
	pthread_join(thread, NULL);
	return visit.result;
}
