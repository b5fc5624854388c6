/* A small file that is in memory is read by one system call, which finds out whether it is. */

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "file_link.h"
#include "test.h"

/* ---- the kernel in the test's hand ---- */

enum { SIZE = 5000, PART = 100 };

static int nowait_error; /* a negative errno; 0: the real thing */
static bool reads_part;  /* the pages behind are on the disk */
static unsigned int nowait_calls, loop_reads, cachestat_calls;
static _Atomic unsigned int thread_reads;
static pthread_t loop_thread;

ssize_t __real_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __real_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);
long __wrap_syscall(long number, ...);

ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset)
{
	if (pthread_equal(pthread_self(), loop_thread)) {
		loop_reads++;
	} else {
		thread_reads++;
		if (nowait_error == -EAGAIN)
			nowait_error = 0; /* it is in memory now */
	}
	return __real_pread(fd, buffer, size, offset);
}

ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags)
{
	struct iovec part = vectors[0];

	nowait_calls++;
	if (nowait_error != 0) {
		errno = -nowait_error;
		return -1;
	}
	if (reads_part && part.iov_len > PART)
		part.iov_len = PART;
	return __real_preadv2(fd, &part, count, offset, flags);
}

static unsigned int questions; /* about the file */

int __wrap_fcntl(int fd, int command, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fstat(int fd, struct stat *status);
int __real_fstat(int fd, struct stat *status);
off_t __wrap_lseek(int fd, off_t offset, int whence);
off_t __real_lseek(int fd, off_t offset, int whence);

int __wrap_fcntl(int fd, int command, ...)
{
	va_list arguments;
	va_start(arguments, command);
	long argument = va_arg(arguments, long);
	va_end(arguments);
	questions++;
	return __real_fcntl(fd, command, argument);
}

int __wrap_fstat(int fd, struct stat *status)
{
	questions++;
	return __real_fstat(fd, status);
}

off_t __wrap_lseek(int fd, off_t offset, int whence)
{
	questions++;
	return __real_lseek(fd, offset, whence);
}

/* cachestat(2). */
long __wrap_syscall(long number, ...)
{
	(void)number;
	cachestat_calls++;
	errno = ENOSYS;
	return -1;
}

/* ---- arrangement ---- */

static struct told file;

/* Sends the file between two texts, and checks that all has arrived. */
static void send_and_check(int kind, int64_t offset)
{
	loop_thread = pthread_self();
	open_link(kind);
	start_collecting();
	send_text("before");
	send_range(&file, SIZE, offset, FERRY_TO_END);
	send_text("after");
	finish_stream();
	check_finished(&file, 0, (uint64_t)(SIZE - offset));
	expect_text("before");
	expect_range((uint64_t)offset, (uint64_t)(SIZE - offset));
	expect_text("after");
	expect_end();
	close_link();
}

TEST_CASE("small files");

LOOP_TEST(one_call_reads_a_file_that_is_in_memory, LINK_KINDS)
{
	send_and_check(_i, 10);
	ck_assert_uint_eq(nowait_calls, 1);
	ck_assert_uint_eq(loop_reads + thread_reads + cachestat_calls, 0);
}

LOOP_TEST(a_file_of_which_a_part_is_in_memory_arrives_whole, LINK_KINDS)
{
	reads_part = true;
	send_and_check(_i, 10);
	ck_assert_uint_gt(nowait_calls, 1);
}

LOOP_TEST(a_file_on_the_disk_is_read_by_a_thread_first, LINK_KINDS)
{
	nowait_error = -EAGAIN;
	send_and_check(_i, 0);
	ck_assert_uint_gt(thread_reads, 0);
}

static const int absent[] = {EOPNOTSUPP, EINVAL, ENOSYS, EPERM};
enum { ABSENT = sizeof(absent) / sizeof(absent[0]) };

LOOP_TEST(without_the_call_the_file_is_read_in_another_way, LINK_KINDS *ABSENT)
{
	nowait_error = -absent[_i % ABSENT];
	send_and_check(_i / ABSENT, 0);
	ck_assert_uint_gt(nowait_calls, 0);
}

/* _i: link, and whether the caller knows the file. */
LOOP_TEST(a_file_that_the_caller_knows_is_asked_nothing, 2 * LINK_KINDS)
{
	unsigned int known = _i / LINK_KINDS == 0 ? SEND_REGULAR : 0;
	open_link(_i % LINK_KINDS);
	int fd = make_file(SIZE);
	questions = 0;
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE | known, 0, SIZE), 0);
	ck_assert_int_eq(questions == 0, known != 0);
	finish_stream();
	expect_range(0, SIZE);
	close_link();
}
