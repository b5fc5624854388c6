/* Calls that only fail. */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faulty.h"

FAULTY(CALL_READAHEAD, ssize_t, readahead, (int fd, off_t at, size_t n), (fd, at, n))
FAULTY(CALL_FSTAT, int, fstat, (int fd, struct stat *s), (fd, s))
FAULTY(CALL_POLL, int, poll, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout))
FAULTY(CALL_PIPE2, int, pipe2, (int fds[2], int flags), (fds, flags))
FAULTY(CALL_GETSOCKOPT, int, getsockopt, (int fd, int l, int o, void *v, socklen_t *n),
       (fd, l, o, v, n))
FAULTY(CALL_SETSOCKOPT, int, setsockopt, (int fd, int l, int o, const void *v, socklen_t n),
       (fd, l, o, v, n))
FAULTY(CALL_LSEEK, off_t, lseek, (int fd, off_t at, int whence), (fd, at, whence))
FAULTY(CALL_SIGACTION, int, sigaction,
       (int number, const struct sigaction *a, struct sigaction *old), (number, a, old))
FAULTY(CALL_SIGPENDING, int, sigpending, (sigset_t * set), (set))
FAULTY(CALL_SIGTIMEDWAIT, int, sigtimedwait,
       (const sigset_t *set, siginfo_t *info, const struct timespec *t), (set, info, t))
FAULTY(CALL_BIND, int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
FAULTY(CALL_CHMOD, int, chmod, (const char *path, mode_t mode), (path, mode))
FAULTY(CALL_CONNECT, int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
FAULTY(CALL_EPOLL_CREATE1, int, epoll_create1, (int flags), (flags))
FAULTY(CALL_EVENTFD, int, eventfd, (unsigned int count, int flags), (count, flags))
FAULTY(CALL_FCHMOD, int, fchmod, (int fd, mode_t mode), (fd, mode))
FAULTY(CALL_FLOCK, int, flock, (int fd, int operation), (fd, operation))
FAULTY(CALL_FSTATAT, int, fstatat, (int at, const char *path, struct stat *s, int flags),
       (at, path, s, flags))
FAULTY(CALL_FTRUNCATE, int, ftruncate, (int fd, off_t size), (fd, size))
FAULTY(CALL_LISTEN, int, listen, (int fd, int backlog), (fd, backlog))
FAULTY(CALL_SEND, ssize_t, send, (int fd, const void *b, size_t n, int flags), (fd, b, n, flags))
FAULTY(CALL_SOCKET, int, socket, (int domain, int type, int protocol), (domain, type, protocol))
FAULTY(CALL_SOCKETPAIR, int, socketpair, (int domain, int type, int protocol, int fds[2]),
       (domain, type, protocol, fds))
FAULTY(CALL_UNLINKAT, int, unlinkat, (int at, const char *path, int flags), (at, path, flags))
FAULTY(CALL_WAITID, int, waitid, (idtype_t kind, id_t id, siginfo_t *info, int options),
       (kind, id, info, options))

/* ENOTCONN is the answer of a socket whose connection is over, and it is then. */
int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how)
{
	if (next_fault(CALL_SHUTDOWN) <= 0)
		return __real_shutdown(fd, how);
	__real_shutdown(fd, SHUT_RDWR);
	errno = ENOTCONN;
	return -1;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	va_list list;
	va_start(list, flags);
	unsigned int mode = (flags & O_CREAT) != 0 ? va_arg(list, unsigned int) : 0;
	va_end(list);
	return next_fault(CALL_OPEN) > 0 ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int at, const char *path, int flags, ...);
int __wrap_openat(int at, const char *path, int flags, ...);
int __wrap_openat(int at, const char *path, int flags, ...)
{
	va_list list;
	va_start(list, flags);
	unsigned int mode = (flags & O_CREAT) != 0 ? va_arg(list, unsigned int) : 0;
	va_end(list);
	return next_fault(CALL_OPENAT) > 0 ? -1 : __real_openat(at, path, flags, mode);
}

FILE *__real_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode)
{
	return next_fault(CALL_FDOPEN) > 0 ? NULL : __real_fdopen(fd, mode);
}

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
	return next_fault(CALL_STRDUP) > 0 ? NULL : __real_strdup(text);
}

/* No call of a child fails: tests/unit/process has those. */
pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
	if (next_fault(CALL_FORK) > 0)
		return -1;
	pid_t child = __real_fork();
	if (child == 0)
		disarm();
	return child;
}
