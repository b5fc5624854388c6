#include "closes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "support.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { FDS = 1024 };

static unsigned int bad_closes, closed_ranges;
static bool forbidden[FDS];

void closes_forbid(int fd)
{
	if (fd < FDS)
		forbidden[fd] = true;
}

void closes_permit(int fd)
{
	if (fd < FDS)
		forbidden[fd] = false;
}

static bool is_forbidden(int fd)
{
	return fd >= 0 && fd < FDS && forbidden[fd];
}

int __real_close(int fd);
int __wrap_close(int fd);

int __wrap_close(int fd)
{
	if (is_forbidden(fd))
		bad_closes++;
	int result = __real_close(fd);
	if (result != 0 && errno == EBADF)
		bad_closes++;
	return result;
}

/* close_range(2) does not fail if a number in the range is not open. The library's calls have six arguments at most; as
 * in libc's syscall(2), those that the caller has not passed are read too. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
	long arguments[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_close_range) {
		closed_ranges++;
		for (int fd = (int)arguments[0]; fd <= (int)arguments[1]; fd++)
			if (is_forbidden(fd) || fcntl(fd, F_GETFD) < 0)
				bad_closes++;
	}
	return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
	                      arguments[4], arguments[5]);
}

unsigned int count_closed_ranges(void)
{
	return closed_ranges;
}

void check_closes(void)
{
	ck_assert_uint_eq(bad_closes, 0);
}
