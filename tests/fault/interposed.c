/* Calls that libevent makes too: these definitions stand in the place of libc's for the whole process. Without
 * sys/socket.h, whose accept4() has a parameter of another type. */

#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "faulty.h"

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

long __real_syscall(long number, ...);

int accept4(int fd, void *address, void *length, int flags);
int accept4(int fd, void *address, void *length, int flags)
{
	if (next_fault(CALL_ACCEPT4) > 0)
		return -1;
	return (int)__real_syscall(SYS_accept4, fd, address, length, flags);
}

int epoll_ctl(int epoll, int operation, int fd, void *event);
int epoll_ctl(int epoll, int operation, int fd, void *event)
{
	if (next_fault(CALL_EPOLL_CTL) > 0)
		return -1;
	return (int)__real_syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

static void (*when_idle)(void);
static bool goes_on; /* the last wait brought nothing */

void call_when_idle(void (*function)(void))
{
	when_idle = function;
	goes_on = false;
}

/* The process has no signal mask to change: as epoll_wait(2). Waits up to the next event are one call: how many it
 * takes depends on the machine. */
int epoll_wait(int epoll, void *events, int max, int timeout);
int epoll_wait(int epoll, void *events, int max, int timeout)
{
	bool is_step = when_idle != NULL && (timeout < 0 || timeout > IDLE_MS);

	if (!goes_on && next_fault(CALL_EPOLL_WAIT) > 0)
		return -1;
	int count = (int)__real_syscall(SYS_epoll_pwait, epoll, events, max,
	                                is_step ? IDLE_MS : timeout, NULL, (size_t)8);
	goes_on = count == 0;
	if (goes_on && is_step)
		when_idle();
	return count;
}
