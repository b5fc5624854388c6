#include "calls.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
	const char *name;
	int errors[14];   /* zero-terminated */
	int recovers[10]; /* those of them after which all goes on; zero-terminated */
} calls[CALL_COUNT] = {
    [CALL_NONE] = {"none", {0}, {0}},
    [CALL_ALLOCATION] = {"malloc", {ENOMEM}, {0}},
    [CALL_SENDMSG] = {"sendmsg",
                      {EINTR, EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS, EPIPE, ECONNRESET, EPERM,
                       EINVAL, SHORT_COUNT},
                      {EINTR, EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS, SHORT_COUNT}},
    [CALL_RECVMSG] = {"recvmsg",
                      {EINTR, EAGAIN, ECONNRESET, ENOMEM, ETIMEDOUT, SHORT_COUNT,
                       CONTROL_TRUNCATED},
                      {EINTR, EAGAIN, SHORT_COUNT}},
    [CALL_SENDFILE] = {"sendfile",
                       {EINTR, EAGAIN, ENOBUFS, ENOMEM, EINVAL, EOPNOTSUPP, EPIPE, ECONNRESET, EIO,
                        EOVERFLOW, SHORT_COUNT},
                       {EINTR, EAGAIN, ENOBUFS, ENOMEM, EINVAL, EOPNOTSUPP, EIO, SHORT_COUNT}},
    [CALL_WRITEV] = {"writev",
                     {EINTR, EAGAIN, ENOMEM, EPIPE, EIO, SHORT_COUNT},
                     {EINTR, EAGAIN, ENOMEM, SHORT_COUNT}},
    [CALL_READV] = {"readv",
                    {EINTR, EAGAIN, EIO, ENOMEM, SHORT_COUNT},
                    {EINTR, EAGAIN, SHORT_COUNT}},
    [CALL_PREAD] = {"pread",
                    {EINTR, EAGAIN, EIO, EINVAL, ENOMEM, ESTALE, EOVERFLOW, SHORT_COUNT},
                    {EINTR, EAGAIN, ENOMEM, SHORT_COUNT}},
    [CALL_FCNTL] = {"fcntl", {EMFILE, ENOMEM, EINVAL, EBADF}, {0}},
    [CALL_FSTAT] = {"fstat", {EIO, ENOMEM, EOVERFLOW, ESTALE}, {0}},
    [CALL_GETSOCKOPT] = {"getsockopt", {ENOPROTOOPT, ENOMEM}, {0}},
    [CALL_IOCTL] = {"ioctl", {EINVAL, ENOTTY}, {0}},
    [CALL_LSEEK] = {"lseek", {ESPIPE, EIO, ENOMEM}, {0}},
    [CALL_SHUTDOWN] = {"shutdown", {ENOTCONN}, {0}},
    [CALL_CLOSE] = {"close", {EINTR, EIO}, {EINTR, EIO}},
    [CALL_SIGACTION] = {"sigaction", {EINVAL}, {EINVAL}},
    [CALL_SIGMASK] = {"pthread_sigmask", {EINVAL}, {EINVAL}},
    [CALL_SIGPENDING] = {"sigpending", {EFAULT}, {EFAULT}},
    [CALL_SIGTIMEDWAIT] = {"sigtimedwait", {EAGAIN, EINTR}, {EAGAIN, EINTR}},
    [CALL_SPLICE] = {"splice",
                     {EINTR, EAGAIN, ENOMEM, EINVAL, EOPNOTSUPP, ENOTSOCK, EPIPE, ECONNRESET, EIO,
                      SHORT_COUNT},
                     {EINTR, EAGAIN, ENOMEM, EINVAL, EOPNOTSUPP, EIO, SHORT_COUNT}},
    [CALL_PIPE2] = {"pipe2", {EMFILE, ENFILE, ENOMEM}, {0}},
    [CALL_POLL] = {"poll", {EINTR, EINVAL, ENOMEM}, {EINTR}},
    [CALL_PREADV2] = {"preadv2",
                      {EINTR, EAGAIN, EOPNOTSUPP, ENOSYS, EINVAL, ESPIPE, EIO, ECONNRESET,
                       SHORT_COUNT},
                      {EINTR, EAGAIN, EOPNOTSUPP, ENOSYS, EINVAL, ESPIPE, SHORT_COUNT}},
    [CALL_RECV] = {"recv",
                   {EINTR, EAGAIN, ENOMEM, ECONNRESET, ENOTSOCK, SHORT_COUNT},
                   {EINTR, EAGAIN, SHORT_COUNT}},
    [CALL_READ] = {"read", {EINTR, EAGAIN, EIO, ENOMEM, SHORT_COUNT}, {EINTR, EAGAIN, SHORT_COUNT}},
    [CALL_SETSOCKOPT] = {"setsockopt", {ENOPROTOOPT, ENOMEM, EPERM}, {0}},
    [CALL_CACHESTAT] = {"cachestat",
                        {EPERM, EOPNOTSUPP, EINVAL, ENOSYS},
                        {EPERM, EOPNOTSUPP, EINVAL, ENOSYS}},
    [CALL_CLOSE_RANGE] = {"close_range",
                          {EPERM, EINVAL, ENOSYS, ENOMEM},
                          {EPERM, EINVAL, ENOSYS, ENOMEM}},
    [CALL_READAHEAD] = {"readahead", {EINVAL, EIO}, {EINVAL, EIO}},
    [CALL_THREAD] = {"pthread_create", {EAGAIN, EPERM}, {0}},
    [CALL_ACCEPT4] = {"accept4",
                      {EAGAIN, EINTR, ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM},
                      {EAGAIN, EINTR, ECONNABORTED}},
    [CALL_BIND] = {"bind", {EADDRINUSE, EACCES, ENOMEM}, {0}},
    [CALL_CHMOD] = {"chmod", {EPERM, EROFS, EIO}, {0}},
    [CALL_CONNECT] = {"connect", {EAGAIN, ECONNREFUSED, EPERM, EINTR, ENOENT}, {0}},
    [CALL_EPOLL_CREATE1] = {"epoll_create1", {EMFILE, ENFILE, ENOMEM}, {0}},
    [CALL_EPOLL_CTL] = {"epoll_ctl", {ENOMEM, ENOSPC}, {0}},
    [CALL_EPOLL_WAIT] = {"epoll_wait", {EINTR}, {EINTR}},
    [CALL_EVENTFD] = {"eventfd", {EMFILE, ENFILE, ENOMEM}, {0}},
    [CALL_FCHMOD] = {"fchmod", {EPERM, EIO}, {0}},
    [CALL_FDOPEN] = {"fdopen", {ENOMEM}, {0}},
    [CALL_FLOCK] = {"flock", {EINTR, EWOULDBLOCK, ENOLCK}, {0}},
    [CALL_FORK] = {"fork", {EAGAIN, ENOMEM, ENOSYS}, {0}},
    [CALL_FSTATAT] = {"fstatat", {EACCES, ENOMEM, EIO}, {0}},
    [CALL_FTRUNCATE] = {"ftruncate", {EIO, EINTR}, {0}},
    [CALL_LISTEN] = {"listen", {EADDRINUSE, EOPNOTSUPP}, {0}},
    [CALL_OPEN] = {"open", {EMFILE, ENFILE, ENOMEM, EACCES}, {0}},
    [CALL_OPENAT] = {"openat", {EMFILE, ENFILE, ENOMEM, EACCES, EINTR}, {0}},
    [CALL_PIDFD_OPEN] = {"pidfd_open", {EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM}, {0}},
    [CALL_PIDFD_SEND_SIGNAL] = {"pidfd_send_signal", {EPERM, ENOSYS}, {0}},
    [CALL_PWRITE] = {"pwrite", {EIO, ENOSPC, EINTR, SHORT_COUNT}, {0}},
    [CALL_SEND] = {"send", {EINTR, EAGAIN, EPIPE, ENOBUFS}, {EINTR, EAGAIN}},
    [CALL_SOCKET] = {"socket", {EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}, {0}},
    [CALL_SOCKETPAIR] = {"socketpair", {EMFILE, ENFILE, ENOMEM, EPERM}, {0}},
    [CALL_STRDUP] = {"strdup", {ENOMEM}, {0}},
    [CALL_UNLINKAT] = {"unlinkat", {EACCES, EIO}, {0}},
    [CALL_WAITID] = {"waitid", {EINTR, ECHILD}, {EINTR}},
};

const char *call_name(enum call call)
{
	return calls[call].name;
}

const int *call_errors(enum call call)
{
	return calls[call].errors;
}

bool call_recovers(enum call call, int error)
{
	for (const int *one = calls[call].recovers; *one != 0; one++)
		if (*one == error)
			return true;
	return false;
}

const char *error_name(int error)
{
	if (error == SHORT_COUNT)
		return "one byte";
	if (error == CONTROL_TRUNCATED)
		return "MSG_CTRUNC";
	const char *name = strerrorname_np(error);
	return name != NULL ? name : "?";
}
