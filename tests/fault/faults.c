#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faulty.h"
#include "heap.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

/* Atomic: the thread that reads ahead calls too. */
static _Atomic unsigned int bad_closes;
static enum kernel kernel;          /* changed while there is no thread */
static _Thread_local bool disarmed; /* a thread of the library never is */
static _Atomic int64_t warm_until;

int next_fault(enum call call)
{
	if (disarmed)
		return 0;
	int fault = next_in_sequence(call);
	if (fault > 0)
		errno = fault;
	return fault;
}

static bool fails_now(enum call call)
{
	return next_fault(call) > 0;
}

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

/* It does not fail if a number in the range is not open. A child before its exec closes all numbers. */
static long call_close_range(unsigned int first, unsigned int last)
{
	for (unsigned int fd = first; !disarmed && fd <= last; fd++)
		if (__real_fcntl((int)fd, F_GETFD) < 0)
			bad_closes++;
	return fails_now(CALL_CLOSE_RANGE) ? -1 : __real_syscall(SYS_close_range, first, last, 0U);
}

/* The ranges of cachestat(2) are as linux/mman.h has them. What is not named here does not fail. */
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list list;
	long a[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_close_range)
		return call_close_range((unsigned int)a[0], (unsigned int)a[1]);
	if (number == SYS_cachestat)
		return call_cachestat((int)a[0], (uint64_t *)(uintptr_t)a[1], (uint64_t *)(uintptr_t)a[2]);
	if (number == SYS_pidfd_open && fails_now(CALL_PIDFD_OPEN))
		return -1;
	if (number == SYS_pidfd_send_signal && fails_now(CALL_PIDFD_SEND_SIGNAL))
		return -1;
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t __real_preadv2(int fd, const struct iovec *vectors, int count, off_t at, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t at, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t at, int flags)
{
	int fault = next_fault(CALL_PREADV2);
	if (fault > 0)
		return -1;
	bool is_cold = kernel == COLD_CACHE || kernel == COLD_CACHE_WITHOUT_CACHESTAT;
	if (kernel == WITHOUT_NOWAIT || (is_cold && at >= warm_until)) {
		errno = is_cold ? EAGAIN : EOPNOTSUPP;
		return -1;
	}
	struct iovec one = {vectors[0].iov_base, 1};
	if (fault == SHORT_COUNT && vectors[0].iov_len > 0)
		return __real_preadv2(fd, &one, 1, at, flags);
	return __real_preadv2(fd, vectors, count, at, flags);
}

ssize_t __real_pread(int fd, void *buffer, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t at)
{
	int fault = next_fault(CALL_PREAD);
	if (fault > 0)
		return -1;
	ssize_t length = __real_pread(fd, buffer, fault == SHORT_COUNT && size > 1 ? 1 : size, at);
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

void arm(void)
{
	disarmed = false;
	heap_continue();
}

bool disarm(void)
{
	bool was_armed = !disarmed;
	disarmed = true;
	heap_suspend();
	return was_armed;
}

unsigned int take_bad_closes(void)
{
	unsigned int count = bad_closes;
	bad_closes = 0;
	return count;
}
