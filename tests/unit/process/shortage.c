/* A start for which there is not enough of something leaves nothing: no child, no descriptor, no memory. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "heap.h"
#include "started_program.h"
#include "wire.h"

pid_t __wrap_fork(void);
pid_t __real_fork(void);
int __wrap_socketpair(int domain, int type, int protocol, int fds[2]);
int __real_socketpair(int domain, int type, int protocol, int fds[2]);
int __wrap_event_add(struct event *event, const struct timeval *timeout);
int __real_event_add(struct event *event, const struct timeval *timeout);
int __wrap_close(int fd);
int __real_close(int fd);
int __wrap_open(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);
bool __wrap_fds_close_range(unsigned int first, unsigned int last);
bool __real_fds_close_range(unsigned int first, unsigned int last);

static int fork_error, socketpair_error;
static bool no_event;

pid_t __wrap_fork(void)
{
	errno = fork_error;
	return fork_error != 0 ? -1 : __real_fork();
}

int __wrap_socketpair(int domain, int type, int protocol, int fds[2])
{
	errno = socketpair_error;
	return socketpair_error != 0 ? -1 : __real_socketpair(domain, type, protocol, fds);
}

int __wrap_event_add(struct event *event, const struct timeval *timeout)
{
	return no_event ? -1 : __real_event_add(event, timeout);
}

/* Every close must be of an open descriptor. In the child, close_range(2) may be missing. */
static pid_t parent;

int __wrap_close(int fd)
{
	int result = __real_close(fd);
	if (parent == getpid() && result != 0)
		ck_abort_msg("close(%d): not open", fd);
	return result;
}

/* An old kernel, and a root directory without /proc. */
static bool no_close_range, no_proc;

int __wrap_open(const char *path, int flags, ...)
{
	errno = ENOENT;
	return no_proc && strncmp(path, "/proc", 5) == 0 ? -1 : __real_open(path, flags);
}

bool __wrap_fds_close_range(unsigned int first, unsigned int last)
{
	errno = ENOSYS;
	return !no_close_range && __real_fds_close_range(first, last);
}

static char *const command[] = {"/bin/sh", "-c", "exit 1", NULL};
static const struct child_options options = {
    .argv = command,
    .environment = (const char *const[]){"A=1", NULL},
    .pid_environment = (const char *const[]){"B=", NULL},
};

static int try_to_start(void)
{
	struct child *child = NULL;
	int status = child_start(&child, base, &options, end_note, NULL);
	if (status == 0)
		child_free(child);
	return status;
}

TEST(errors_of_system_calls_come_back)
{
	parent = getpid();
	fork_error = EAGAIN;
	ck_assert_int_eq(try_to_start(), -EAGAIN);
	fork_error = ENOMEM;
	ck_assert_int_eq(try_to_start(), -ENOMEM);
	fork_error = 0;
	socketpair_error = EMFILE;
	ck_assert_int_eq(try_to_start(), -EMFILE);
	socketpair_error = 0;
	no_event = true;
	ck_assert_int_eq(try_to_start(), -ENOMEM);
	no_event = false;
	ck_assert(has_no_child());
	ck_assert_int_eq(try_to_start(), 0);
	ck_assert(has_no_child());
}

/* With a limit that leaves 0, 1, 2, … free slots. */
TEST(too_few_descriptors_are_an_error_or_enough)
{
	bool started = false;
	parent = getpid();
	for (unsigned int free = 0; free < 12; free++) {
		limit_descriptors(free);
		int status = try_to_start();
		unlimit_descriptors();
		ck_assert(status == 0 || (status == -EMFILE && !started));
		started = started || status == 0;
		ck_assert(has_no_child());
	}
	ck_assert(started);
}

/* _i: 1: without /proc, too. */
LOOP_TEST(an_old_kernel_leaves_no_descriptor_open, 2)
{
	char *const sleeper[] = {"sleep", "1000", NULL};
	enum { SLOTS = 400U, LAST = SLOTS - 1 };
	struct end_note note = {0};
	struct child *child;

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){SLOTS, SLOTS}), 0);
	int fds[] = {fcntl(0, F_DUPFD, 50), fcntl(0, F_DUPFD, LAST)}; /* not close-on-exec */
	ck_assert_int_eq(fds[1], LAST);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, SLOTS}), 0);
	no_close_range = true;
	no_proc = _i == 1;
	ck_assert_int_eq(
	    child_start(&child, base, &(struct child_options){.argv = sleeper}, end_note, &note), 0);
	no_proc = false;
	expect_open_fds(child_pid(child), "0 1 2");
	child_free(child);
	close(fds[0]);
	close(fds[1]);
}

BEFORE_ALL
{
	heap_take_over();
}

TEST(no_allocation_that_fails_leaves_anything)
{
	parent = getpid();
	ck_assert_int_eq(try_to_start(), 0); /* the loop keeps its tables */
	unsigned long failing = 1, count;
	do {
		heap_watch(failing);
		struct child *child = NULL;
		int status = child_start(&child, base, &options, end_note, NULL);
		if (status == 0)
			child_free(child);
		count = heap_unwatch();
		ck_assert(status == (count < failing ? 0 : -ENOMEM));
		ck_assert(has_no_child());
	} while (count >= failing++);
	ck_assert_uint_gt(failing, 8);
	ck_assert_uint_eq(heap_blocks(), 0);
}
