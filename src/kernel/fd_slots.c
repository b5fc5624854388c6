#include "kernel/fd_slots.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * The kernel tells nobody cheaply how many numbers are free (the size of /proc/self/fd does, from Linux
 * 6.2 on and where /proc is mounted). It gives out the lowest one first, so the upper end of the table
 * is used last: poll(2) says POLLNVAL of each number there that is free, many in one call. When those
 * are not enough, F_DUPFD finds the free ones below too, one after the other. It takes only one number
 * at a time, and a duplicate of a socket may be closed without harm: that of a file would take the
 * process's record locks with it.
 */

enum { NUMBERS_PER_POLL = 256 };

static int number_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	return (int)limit.rlim_cur;
}

static bool is_free(int socket, int number)
{
	int found = fcntl(socket, F_DUPFD_CLOEXEC, number);

	if (found >= 0)
		close(found);
	return found == number;
}

/* Whether the `count` numbers from `first` on are all free. */
static bool range_is_free(int first, unsigned int count)
{
	struct pollfd numbers[NUMBERS_PER_POLL];

	for (unsigned int i = 0; i < count; i++)
		numbers[i] = (struct pollfd){.fd = first + (int)i};
	if (poll(numbers, count, 0) != (int)count)
		return false;
	for (unsigned int i = 0; i < count; i++)
		if ((numbers[i].revents & POLLNVAL) == 0)
			return false;
	return true;
}

static bool upper_end_is_free(int socket, int limit, unsigned int count)
{
	/* The first of them alone says no most times that there are not enough. It also says whether the
	 * kernel agrees about the limit: valgrind has its own. */
	if (!is_free(socket, limit - (int)count))
		return false;
	while (count > 0) {
		unsigned int step = count < NUMBERS_PER_POLL ? count : NUMBERS_PER_POLL;
		if (!range_is_free(limit - (int)count, step))
			return false;
		count -= step;
	}
	return true;
}

/* They need not be side by side. */
static bool find_free(int socket, unsigned int count)
{
	int next = 0;

	for (; count > 0; count--) {
		int number = fcntl(socket, F_DUPFD_CLOEXEC, next);
		if (number < 0)
			return false;
		close(number);
		next = number + 1;
	}
	return true;
}

bool fd_slots_are_free(int socket, unsigned int count)
{
	int limit = number_limit();

	if (count == 0)
		return true;
	/* Trying them one by one would take a long time, to find the same. */
	if (count > (unsigned int)limit)
		return false;
	return upper_end_is_free(socket, limit, count) || find_free(socket, count);
}
