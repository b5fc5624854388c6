#include "process/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/fds.h"
#include "kernel/optional_call.h"
#include "process/options.h"

/*
 * A descriptor of the caller may have the number of another one of the child. All are therefore moved above the child's
 * numbers first. Before that, those that the child does not get are closed, so that the copies find free slots.
 */

enum { STANDARD_FDS = 3, FDS_MAX = 1 << 20, DIRECTORY_BYTES = 2048 };

/* ---- the plan ---- */

static int by_number(const void *a, const void *b)
{
	const struct child_fd *first = a, *second = b;

	return (first->number > second->number) - (first->number < second->number);
}

static bool has_number(const struct child_fd *fds, size_t count, int number)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i].number == number)
			return true;
	return false;
}

/* A descriptor that is not open would stand for one that is opened from now on. */
static int check(const struct descriptors *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->fds[i].fd >= 0 && fcntl(plan->fds[i].fd, F_GETFD) < 0)
			return -EBADF;
	for (size_t i = 0; i < plan->count; i++)
		if (plan->fds[i].number < 0 || plan->fds[i].number >= FDS_MAX ||
		    (i > 0 && plan->fds[i].number == plan->fds[i - 1].number))
			return -EINVAL;
	return 0;
}

/* One that is close-on-exec is the caller's own: it has that number because the caller had none there. */
static int inherited_fd(int number)
{
	int flags = fcntl(number, F_GETFD);

	return flags >= 0 && (flags & FD_CLOEXEC) == 0 ? number : -1;
}

int descriptors_plan(struct descriptors *out, const struct child_fd *fds, size_t count)
{
	*out = (struct descriptors){.fds = calloc(count + STANDARD_FDS, sizeof(*fds)),
	                            .keep = calloc(count + STANDARD_FDS + 1, sizeof(int))};
	if (out->fds == NULL || out->keep == NULL) {
		descriptors_clear(out);
		return -ENOMEM;
	}
	for (; out->count < count; out->count++)
		out->fds[out->count] = fds[out->count];
	for (int number = 0; number < STANDARD_FDS; number++)
		if (!has_number(fds, count, number))
			out->fds[out->count++] =
			    (struct child_fd){.number = number, .fd = inherited_fd(number)};
	qsort(out->fds, out->count, sizeof(*out->fds), by_number);
	out->above = out->fds[out->count - 1].number + 1;
	int status = check(out);
	if (status < 0)
		descriptors_clear(out);
	return status;
}

void descriptors_clear(struct descriptors *plan)
{
	free(plan->fds);
	free(plan->keep);
	*plan = (struct descriptors){.fds = NULL};
}

/* ---- closing, in the child ---- */

static bool is_kept(const int *keep, size_t count, int fd)
{
	for (size_t i = 0; i < count; i++)
		if (keep[i] == fd)
			return true;
	return false;
}

/* qsort(3) may allocate. */
static void sort(int *numbers, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		int number = numbers[i];
		size_t j = i;
		for (; j > 0 && numbers[j - 1] > number; j--)
			numbers[j] = numbers[j - 1];
		numbers[j] = number;
	}
}

struct directory_entry {
	uint64_t inode;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

/* -1: not a number. */
static int read_number(const char *text)
{
	int number = 0;

	if (*text == '\0')
		return -1;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || number > INT_MAX / 10 - 1)
			return -1;
		number = number * 10 + (*text - '0');
	}
	return number;
}

/* opendir(3) allocates. False: /proc is not mounted. */
static bool close_listed(const int *keep, size_t count)
{
	_Alignas(struct directory_entry) char bytes[DIRECTORY_BYTES];
	int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long length = 0;

	if (directory < 0)
		return false;
	while ((length = syscall(SYS_getdents64, directory, bytes, sizeof(bytes))) > 0) {
		for (long position = 0; position < length;) {
			const struct directory_entry *entry = (const void *)(bytes + position);
			int fd = read_number(entry->name);
			if (fd >= 0 && fd != directory && !is_kept(keep, count, fd))
				close(fd);
			position += entry->length;
		}
	}
	close(directory);
	return length == 0;
}

static void close_numbered(const int *keep, size_t count)
{
	struct rlimit limit;
	int end = FDS_MAX;

	/* The soft limit may be below descriptors that were opened before it was lowered. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < FDS_MAX)
		end = (int)limit.rlim_max;
	for (int fd = 0; fd < end; fd++)
		if (!is_kept(keep, count, fd))
			close(fd);
}

/* Closes all descriptors but these. */
static int close_others(int *keep, size_t count)
{
	unsigned int next = 0;

	sort(keep, count);
	for (size_t i = 0; i <= count; i++) {
		/* A number may be in the list twice. */
		unsigned int last = i < count ? (unsigned int)keep[i] - 1 : UINT_MAX;
		if ((i == count || (unsigned int)keep[i] > next) && !fds_close_range(next, last)) {
			if (!optional_call_is_absent(CALL_CLOSE_RANGE, errno))
				return -errno;
			if (!close_listed(keep, count))
				close_numbered(keep, count);
			return 0;
		}
		if (i < count)
			next = (unsigned int)keep[i] + 1;
	}
	return 0;
}

/* ---- setting, in the child ---- */

static int move_up(int fd, int above)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, above);

	return moved >= 0 ? moved : -errno;
}

static int move_null_up(int above)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -errno;
	int moved = move_up(null, above);
	close(null);
	return moved;
}

static size_t keep_sources(const struct descriptors *plan, int status_fd)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->count; i++)
		if (plan->fds[i].fd >= 0)
			plan->keep[count++] = plan->fds[i].fd;
	plan->keep[count++] = status_fd;
	return count;
}

int descriptors_set(const struct descriptors *plan, int *status_fd)
{
	int status = close_others(plan->keep, keep_sources(plan, *status_fd));
	if (status < 0)
		return status;
	int moved = move_up(*status_fd, plan->above);
	if (moved < 0)
		return moved;
	*status_fd = moved;
	for (size_t i = 0; i < plan->count; i++) {
		int fd = plan->fds[i].fd;
		fd = fd >= 0 ? move_up(fd, plan->above) : move_null_up(plan->above);
		if (fd < 0)
			return fd;
		plan->fds[i].fd = fd;
	}
	for (size_t i = 0; i < plan->count; i++) {
		if (dup2(plan->fds[i].fd, plan->fds[i].number) < 0)
			return -errno;
		plan->keep[i] = plan->fds[i].number;
	}
	plan->keep[plan->count] = *status_fd;
	return close_others(plan->keep, plan->count + 1);
}
