#include "kernel/fd_slots.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * No system call counts the free slots (the size of /proc/self/fd shows the used ones, since Linux 6.2 and where
 * /proc is mounted). The kernel uses the lowest free slot first and the upper end of the table last. The upper
 * end is therefore checked first: poll(2) returns POLLNVAL for each free slot, many in one call. If these are
 * not enough, F_DUPFD finds the free slots below, one after the other. It occupies only one slot at a time. The
 * duplicate is one of a socket, because closing one of a file would release the process's record locks on it.
 */

enum { SLOTS_PER_POLL = 256 };

static int slot_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	return (int)limit.rlim_cur;
}

static bool slot_is_free(int socket, int slot)
{
	int found = fcntl(socket, F_DUPFD_CLOEXEC, slot);

	if (found >= 0)
		close(found);
	return found == slot;
}

/* Whether the `count` slots from `first` on are all free. */
static bool range_is_free(int first, unsigned int count)
{
	struct pollfd slots[SLOTS_PER_POLL];

	for (unsigned int i = 0; i < count; i++)
		slots[i] = (struct pollfd){.fd = first + (int)i};
	if (poll(slots, count, 0) != (int)count)
		return false;
	for (unsigned int i = 0; i < count; i++)
		if ((slots[i].revents & POLLNVAL) == 0)
			return false;
	return true;
}

static bool upper_end_is_free(int socket, int limit, unsigned int count)
{
	/* If there are not enough, the first slot is in use most of the time. This also fails if the limit in force
	 * is lower than that of getrlimit(2), as under valgrind. */
	if (!slot_is_free(socket, limit - (int)count))
		return false;
	while (count > 0) {
		unsigned int step = count < SLOTS_PER_POLL ? count : SLOTS_PER_POLL;
		if (!range_is_free(limit - (int)count, step))
			return false;
		count -= step;
	}
	return true;
}

/* Whether there are `count` free slots anywhere. */
static bool find_free_slots(int socket, unsigned int count)
{
	int next = 0;

	for (; count > 0; count--) {
		int slot = fcntl(socket, F_DUPFD_CLOEXEC, next);
		if (slot < 0)
			return false;
		close(slot);
		next = slot + 1;
	}
	return true;
}

bool fd_slots_one_is_free(int socket)
{
	return find_free_slots(socket, 1);
}

bool fd_slots_are_free(int socket, unsigned int count)
{
	int limit = slot_limit();

	if (count == 0)
		return true;
	/* Trying the slots one by one would take a long time for the same result. */
	if (count > (unsigned int)limit)
		return false;
	return upper_end_is_free(socket, limit, count) || find_free_slots(socket, count);
}
