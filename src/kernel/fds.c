#include "kernel/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/ancillary.h"
#include "kernel/optional_call.h"
#include "kernel/socket.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* ---- whether they are open ---- */

/* One system call finds both whether a socket is open and whether it is the one with the cookie. */
static int check_one(int fd, uint64_t cookie)
{
	uint64_t found;

	int status = socket_get_cookie(fd, &found);
	if (status == 0)
		return found == cookie && cookie != 0 ? -ELOOP : 0;
	/* The kernel returns EBADF for O_PATH descriptors too, which can be sent. */
	if (status == -EBADF && fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	return 0;
}

/* A unix socket has POLLWRBAND whenever it has POLLOUT. A file, a device, an event counter and a TCP socket with room
 * have POLLOUT alone: such a descriptor is open, and is no unix socket. POLLNVAL: it is not open, or is an O_PATH
 * descriptor. */
static bool is_cleared(const struct pollfd *look)
{
	return look->fd >= 0 && (look->revents & (POLLNVAL | POLLOUT | POLLWRBAND)) == POLLOUT;
}

int fds_check(const int *fds, unsigned int count, uint64_t cookie)
{
	struct pollfd looks[ANCILLARY_MAX_FDS];
	int status = 0;

	if (count == 1)
		return check_one(fds[0], cookie);
	for (unsigned int i = 0; i < count; i++)
		looks[i] = (struct pollfd){.fd = fds[i], .events = POLLOUT | POLLWRBAND};
	/* EINVAL: they are more than the limit of descriptors, which was lowered. EINTR, ENOMEM: one by one. */
	bool looked = poll(looks, count, 0) >= 0;
	for (unsigned int i = 0; i < count && status == 0; i++)
		if (!looked || !is_cleared(&looks[i]))
			status = check_one(fds[i], cookie);
	return status;
}

/* ---- closing ---- */

bool fds_close_range(unsigned int first, unsigned int last)
{
	return syscall(SYS_close_range, first, last, 0U) == 0;
}

/* ThreadSanitizer sees close(2) alone. A number that was closed otherwise, and that another thread gets, is a race for
 * it. */
#ifdef __SANITIZE_THREAD__
enum { ONE_BY_ONE = true };
#else
enum { ONE_BY_ONE = false };
#endif

/* False: nothing is closed. */
static bool close_run(int first, int last)
{
	static atomic_bool absent; /* a constant of the kernel, or of the sandbox */

	if (ONE_BY_ONE || first == last || atomic_load_explicit(&absent, memory_order_relaxed))
		return false;
	if (fds_close_range((unsigned int)first, (unsigned int)last))
		return true;
	if (optional_call_is_absent(CALL_CLOSE_RANGE, errno))
		atomic_store_explicit(&absent, true, memory_order_relaxed);
	return false;
}

/* The number of descriptors at the beginning of the list that have consecutive numbers: at least 1. */
static unsigned int count_consecutive(const int *fds, unsigned int count)
{
	unsigned int run = 1;

	while (run < count && fds[run] == fds[0] + (int)run)
		run++;
	return run;
}

unsigned int fds_close(const int *fds, unsigned int count)
{
	unsigned int closed = 0;

	if (count == 1 && fds[0] >= 0) { /* most of the time */
		close(fds[0]);
		return 1;
	}
	for (unsigned int i = 0, run; i < count; i += run) {
		run = 1;
		if (fds[i] < 0)
			continue;
		run = count_consecutive(fds + i, count - i);
		if (!close_run(fds[i], fds[i] + (int)run - 1))
			for (unsigned int j = i; j < i + run; j++)
				close(fds[j]);
		closed += run;
	}
	return closed;
}
