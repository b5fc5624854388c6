#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "heap.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* Atomic: the thread that reads ahead calls too. */
static _Atomic unsigned int call_counts[CALL_COUNT];
static _Atomic unsigned int bad_closes;
static enum call failing_call; /* changed while there is no thread, as the three below */
static unsigned int failing_number;
static int failing_errno;
static enum kernel kernel;
static _Thread_local bool disarmed; /* a thread of the library never is */
static _Atomic int64_t warm_until;

static bool fails_now(enum call call)
{
	if (disarmed || ++call_counts[call] != failing_number || call != failing_call)
		return false;
	errno = failing_errno;
	return true;
}

#define FAULTY(CALL, type, name, parameters, arguments) \
	type __real_##name parameters;                      \
	type __wrap_##name parameters;                      \
	type __wrap_##name parameters                       \
	{                                                   \
		if (fails_now(CALL))                            \
			return -1;                                  \
		return __real_##name arguments;                 \
	}

FAULTY(CALL_SENDMSG, ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
FAULTY(CALL_RECVMSG, ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
FAULTY(CALL_SENDFILE, ssize_t, sendfile, (int out, int in, off_t *at, size_t n), (out, in, at, n))
FAULTY(CALL_SPLICE, ssize_t, splice,
       (int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned int flags),
       (in, in_at, out, out_at, n, flags))
FAULTY(CALL_WRITEV, ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
FAULTY(CALL_READV, ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))
FAULTY(CALL_RECV, ssize_t, recv, (int fd, void *b, size_t n, int flags), (fd, b, n, flags))
FAULTY(CALL_READ, ssize_t, read, (int fd, void *b, size_t n), (fd, b, n))
FAULTY(CALL_READAHEAD, ssize_t, readahead, (int fd, off_t at, size_t n), (fd, at, n))
FAULTY(CALL_FSTAT, int, fstat, (int fd, struct stat *s), (fd, s))
FAULTY(CALL_POLL, int, poll, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout))
FAULTY(CALL_PIPE2, int, pipe2, (int fds[2], int flags), (fds, flags))
FAULTY(CALL_GETSOCKOPT, int, getsockopt, (int fd, int l, int o, void *v, socklen_t *n),
       (fd, l, o, v, n))
FAULTY(CALL_SETSOCKOPT, int, setsockopt, (int fd, int l, int o, const void *v, socklen_t n),
       (fd, l, o, v, n))
FAULTY(CALL_LSEEK, off_t, lseek, (int fd, off_t at, int whence), (fd, at, whence))
FAULTY(CALL_SHUTDOWN, int, shutdown, (int fd, int how), (fd, how))
FAULTY(CALL_SIGACTION, int, sigaction,
       (int number, const struct sigaction *a, struct sigaction *old), (number, a, old))
FAULTY(CALL_SIGPENDING, int, sigpending, (sigset_t * set), (set))
FAULTY(CALL_SIGTIMEDWAIT, int, sigtimedwait,
       (const sigset_t *set, siginfo_t *info, const struct timespec *t), (set, info, t))

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
	va_list list;
	va_start(list, command);
	void *argument = va_arg(list, void *);
	va_end(list);
	return fails_now(CALL_FCNTL) ? -1 : __real_fcntl(fd, command, argument);
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	return fails_now(CALL_IOCTL) ? -1 : __real_ioctl(fd, request, argument);
}

/* These two return the error. */
int __real_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return fails_now(CALL_SIGMASK) ? errno : __real_pthread_sigmask(how, set, old);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
	return fails_now(CALL_THREAD) ? errno
	                              : __real_pthread_create(thread, attributes, function, argument);
}

/* Linux frees the descriptor slot even if close(2) fails. A planned fault changes only the result,
 * after the real call. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	int result = __real_close(fd);
	if (result != 0 && errno == EBADF)
		bad_closes++;
	return fails_now(CALL_CLOSE) ? -1 : result;
}

/* ---- what is in memory, and calls without a function in libc ---- */

long __real_syscall(long number, ...);

static long call_cachestat(int fd, uint64_t *range, uint64_t *result)
{
	if (fails_now(CALL_CACHESTAT))
		return -1;
	if (kernel == COLD_CACHE_WITHOUT_CACHESTAT) {
		errno = EPERM;
		return -1;
	}
	if (kernel != COLD_CACHE)
		return __real_syscall(SYS_cachestat, fd, range, result, 0U);
	bool there = (int64_t)(range[0] + range[1]) <= warm_until;
	result[0] = there ? range[1] : 0; /* as pages: enough */
	return 0;
}

/* It does not fail if a number in the range is not open. */
static long call_close_range(unsigned int first, unsigned int last)
{
	for (unsigned int fd = first; fd <= last; fd++)
		if (__real_fcntl((int)fd, F_GETFD) < 0)
			bad_closes++;
	return fails_now(CALL_CLOSE_RANGE) ? -1 : __real_syscall(SYS_close_range, first, last, 0U);
}

/* cachestat(2), with its range and result as linux/mman.h has them; close_range(2); nothing else comes this way. */
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list list;
	long arguments[3];

	va_start(list, number);
	for (int i = 0; i < 3; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_close_range)
		return call_close_range((unsigned int)arguments[0], (unsigned int)arguments[1]);
	return call_cachestat((int)arguments[0], (uint64_t *)(uintptr_t)arguments[1],
	                      (uint64_t *)(uintptr_t)arguments[2]);
}

ssize_t __real_preadv2(int fd, const struct iovec *vectors, int count, off_t at, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t at, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t at, int flags)
{
	if (fails_now(CALL_PREADV2))
		return -1;
	bool is_cold = kernel == COLD_CACHE || kernel == COLD_CACHE_WITHOUT_CACHESTAT;
	if (kernel == WITHOUT_NOWAIT || (is_cold && at >= warm_until)) {
		errno = is_cold ? EAGAIN : EOPNOTSUPP;
		return -1;
	}
	return __real_preadv2(fd, vectors, count, at, flags);
}

ssize_t __real_pread(int fd, void *buffer, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t at)
{
	if (fails_now(CALL_PREAD))
		return -1;
	ssize_t length = __real_pread(fd, buffer, size, at);
	if (length > 0 && at + length > warm_until)
		warm_until = at + length;
	return length;
}

void set_kernel(enum kernel now)
{
	kernel = now;
	warm_until = 0;
}

/* ---- for the tests ---- */

void plan_fault(enum call call, unsigned int number, int error)
{
	failing_call = call;
	failing_number = number;
	failing_errno = error;
	for (int i = 0; i < CALL_COUNT; i++)
		call_counts[i] = 0;
}

unsigned int count_calls(enum call call)
{
	return call_counts[call];
}

void arm(void)
{
	disarmed = false;
	heap_continue();
}

void disarm(void)
{
	disarmed = true;
	heap_suspend();
}

unsigned int take_bad_closes(void)
{
	unsigned int count = bad_closes;
	bad_closes = 0;
	return count;
}
