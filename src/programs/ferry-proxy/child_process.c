#include "programs/ferry-proxy/child_process.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

static int error_output = STDERR_FILENO;

void child_process_set_error_output(int fd)
{
	error_output = fd;
}

/* The child does not inherit the signals that this process ignores or blocks. */
static int set_attributes(posix_spawnattr_t *attributes, bool own_group)
{
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
	if (own_group)
		flags |= POSIX_SPAWN_SETPGROUP; /* group 0, the default: a new one */
	int error = posix_spawnattr_setflags(attributes, flags);
	if (error == 0)
		error = posix_spawnattr_setsigmask(attributes, &none);
	if (error == 0)
		error = posix_spawnattr_setsigdefault(attributes, &all);
	return error;
}

static int spawn_with_fds(pid_t *out, char *const argv[], int fd, int memory, bool own_group)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int error = posix_spawn_file_actions_init(&actions);
	if (error != 0)
		return error;
	error = posix_spawnattr_init(&attributes);
	if (error != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return error;
	}
	/* The duplicate is not close-on-exec, even if `fd` is CHILD_PROCESS_FD already. */
	if (fd >= 0)
		error = posix_spawn_file_actions_adddup2(&actions, fd, CHILD_PROCESS_FD);
	if (error == 0 && error_output != STDERR_FILENO)
		error = posix_spawn_file_actions_adddup2(&actions, error_output, STDERR_FILENO);
	if (error == 0 && memory >= 0)
		error = posix_spawn_file_actions_adddup2(&actions, memory, CHILD_PROCESS_MEMORY_FD);
	if (error == 0)
		error = set_attributes(&attributes, own_group);
	if (error == 0)
		error = posix_spawnp(out, argv[0], &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

int child_process_start(pid_t *out, char *const argv[], int fd, int memory, bool own_group)
{
	return -spawn_with_fds(out, argv, fd, memory, own_group);
}

bool child_process_has_ended(pid_t pid, int *status)
{
	pid_t found;
	do {
		found = waitpid(pid, status, WNOHANG);
	} while (found < 0 && errno == EINTR);
	if (found < 0)
		*status = 0; /* other code has waited for it: the child has ended */
	return found != 0;
}

void child_process_describe(int status, char *out, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(out, size, "killed by signal %d, %s", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
	else
		snprintf(out, size, "exited with status %d", WEXITSTATUS(status));
}
