#include "process/launch.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/clock.h"
#include "kernel/pidfd.h"
#include "process/descriptors.h"
#include "process/image.h"
#include "process/options.h"

/*
 * Another thread may call fork(2) while both ends of the socket are open here. Until its child calls exec or ends, the
 * end of the socket is not seen. The caller therefore waits for a limited time.
 */

enum { EXEC_MSEC = 1000, NOT_EXECUTED = 127 };

#ifdef SYS_setgroups32
enum { SET_GROUPS = SYS_setgroups32, SET_GROUP = SYS_setresgid32, SET_USER = SYS_setresuid32 };
#else
enum { SET_GROUPS = SYS_setgroups, SET_GROUP = SYS_setresgid, SET_USER = SYS_setresuid };
#endif

/* With _GNU_SOURCE, glibc has an enum of its own for it. */
#ifdef __GLIBC__
typedef __rlimit_resource_t resource_number;
#else
typedef int resource_number;
#endif

/* ---- in the child: async-signal-safe calls alone ---- */

/* Signals that the caller ignores would stay ignored. */
static void reset_signals(void)
{
	const struct sigaction action = {.sa_handler = SIG_DFL};
	struct sigaction before;

	for (int number = 1; number < NSIG; number++)
		if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_DFL)
			sigaction(number, &action, NULL);
}

static int set_group(enum child_group group)
{
	if (group == CHILD_GROUP_OWN && setpgid(0, 0) < 0)
		return -errno;
	if (group == CHILD_GROUP_SESSION && setsid() < 0)
		return -errno;
	return 0;
}

static int set_limits(const struct child_options *options)
{
	for (size_t i = 0; i < options->limit_count; i++)
		if (setrlimit((resource_number)options->limits[i].resource, &options->limits[i].limit) < 0)
			return -errno;
	return 0;
}

/* The functions of libc would ask the other threads, which the child does not have. */
static int set_identity(const struct child_identity *identity)
{
	if (identity == NULL)
		return 0;
	const uid_t user = identity->user;
	const gid_t group = identity->group;
	if (syscall(SET_GROUPS, identity->group_count, identity->groups) < 0 ||
	    syscall(SET_GROUP, group, group, group) < 0 || syscall(SET_USER, user, user, user) < 0)
		return -errno;
	return 0;
}

static int prepare(const struct child_options *options)
{
	int status = set_group(options->group);
	if (status == 0)
		status = set_limits(options);
	return status == 0 ? set_identity(options->identity) : status;
}

static bool wait_for_go(int fd)
{
	char byte;
	ssize_t count;

	do {
		count = recv(fd, &byte, 1, 0);
	} while (count < 0 && errno == EINTR);
	return count == 1;
}

_Noreturn static void run_child(const struct child_options *options, const struct image *image,
                                const struct descriptors *plan, int fd)
{
	sigset_t none;

	reset_signals();
	/* This also closes the copy of the caller's end, so that its end can be seen here. */
	int status = descriptors_set(plan, &fd);
	if (!wait_for_go(fd))
		_exit(NOT_EXECUTED);
	if (status == 0)
		status = prepare(options);
	if (status == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		status = image_execute(image, getpid());
	}
	send(fd, &status, sizeof(status), MSG_NOSIGNAL);
	_exit(NOT_EXECUTED);
}

/* ---- in the caller ---- */

/* No handler of the caller's may run in the child: signals are blocked until it has reset them. */
static pid_t fork_blocked(void)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	int error = errno;
	if (pid != 0)
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return pid;
}

static int fork_child(struct launch *out, const struct child_options *options,
                      const struct image *image, const struct descriptors *plan)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	pid_t pid = fork_blocked();
	int status = pid < 0 ? -errno : 0;
	if (pid == 0)
		run_child(options, image, plan, fds[1]);
	close(fds[1]);
	if (status < 0)
		close(fds[0]);
	else
		*out = (struct launch){.pid = pid, .fd = fds[0]};
	return status;
}

int launch_fork(struct launch *out, const struct child_options *options)
{
	struct image image;
	struct descriptors plan;

	int status = image_make(&image, options);
	if (status < 0)
		return status;
	status = descriptors_plan(&plan, options->fds, options->fd_count);
	if (status == 0) {
		status = fork_child(out, options, &image, &plan);
		descriptors_clear(&plan);
	}
	image_clear(&image);
	return status;
}

/* The error of the child; 0: it has executed the program, or needs long. */
static int await_exec(int fd)
{
	struct pollfd child = {.fd = fd, .events = POLLIN};
	int64_t end = clock_now() + EXEC_MSEC * INT64_C(1000), left;
	int status = 0;

	while ((left = end - clock_now()) > 0) {
		int ready = poll(&child, 1, (int)(left / 1000) + 1);
		if (ready == 0 || (ready < 0 && errno != EINTR))
			return 0;
		if (ready > 0)
			return recv(fd, &status, sizeof(status), MSG_DONTWAIT) == sizeof(status) ? status : 0;
	}
	return 0;
}

int launch_go(struct launch *launch)
{
	int ignored;

	/* If the child was killed meanwhile, the loop will notice its end. */
	send(launch->fd, "", 1, MSG_NOSIGNAL);
	int status = await_exec(launch->fd);
	close(launch->fd);
	launch->fd = -1;
	if (status < 0)
		pidfd_wait_for_end(-1, launch->pid, &ignored);
	return status;
}

void launch_cancel(struct launch *launch)
{
	int ignored;

	close(launch->fd);
	launch->fd = -1;
	/* A fork of another thread may have a copy of the socket. The child cannot have changed its user. */
	kill(launch->pid, SIGKILL);
	pidfd_wait_for_end(-1, launch->pid, &ignored);
}
