#include "kernel/pidfd.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/optional_call.h"

/* Numbers and names that older headers do not have. The system calls have the same number on all machines except
 * alpha, whose headers are newer. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

enum { WAIT_FOR_PIDFD = 3 }; /* P_PIDFD */

int pidfd_open_child(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec always */

	if (fd >= 0)
		return fd;
	return optional_call_is_absent(CALL_PIDFD, errno) ? -1 : -errno;
}

/* Whether the child is there to get a signal: it runs, or nobody has waited for it. */
static bool is_there(pid_t pid)
{
	siginfo_t info = {.si_pid = 0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

int pidfd_signal(int pidfd, pid_t pid, int signal_number)
{
	if (pidfd >= 0) {
		if (syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0) == 0)
			return 0;
		if (!optional_call_is_absent(CALL_PIDFD, errno))
			return -errno;
	}
	/* The kernel gives the number to no other process while nobody has waited for the child. */
	if (!is_there(pid))
		return -ESRCH;
	return kill(pid, signal_number) == 0 ? 0 : -errno;
}

/* The status of waitpid(2). */
static int encode(const siginfo_t *info)
{
	if (info->si_code == CLD_EXITED)
		return (info->si_status & 0xff) << 8;
	return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

static int wait_by(idtype_t type, id_t id, int options, int *status)
{
	siginfo_t info = {.si_pid = 0};
	int result;

	do {
		result = waitid(type, id, &info, WEXITED | options);
	} while (result < 0 && errno == EINTR);
	if (result < 0)
		return -errno;
	if (info.si_pid == 0)
		return 0;
	*status = encode(&info);
	return 1;
}

/* By the pidfd where that is possible: other code may have waited for the process, and its number be that of another
 * child now. */
static int wait_for(int pidfd, pid_t pid, int options, int *status)
{
	int result = -EINVAL;

	if (pidfd >= 0)
		result = wait_by((idtype_t)WAIT_FOR_PIDFD, (id_t)pidfd, options, status);
	if (result < 0 && result != -ECHILD)
		result = wait_by(P_PID, (id_t)pid, options, status);
	if (result >= 0)
		return result;
	*status = PIDFD_STATUS_UNKNOWN;
	return 1;
}

int pidfd_wait(int pidfd, pid_t pid, int *status)
{
	return wait_for(pidfd, pid, WNOHANG, status);
}

void pidfd_wait_for_end(int pidfd, pid_t pid, int *status)
{
	wait_for(pidfd, pid, 0, status);
}
