#ifndef FERRY_TESTS_FAULT_CALLS_H
#define FERRY_TESTS_FAULT_CALLS_H

/* The calls that a fault program makes fail, and the errors that each can return. */

#include <stdbool.h>

enum call {
	CALL_NONE,
	CALL_ALLOCATION,
	CALL_SENDMSG,
	CALL_RECVMSG,
	CALL_SENDFILE,
	CALL_WRITEV,
	CALL_READV,
	CALL_PREAD,
	CALL_FCNTL,
	CALL_FSTAT,
	CALL_GETSOCKOPT,
	CALL_IOCTL,
	CALL_LSEEK,
	CALL_SHUTDOWN,
	CALL_CLOSE,
	CALL_SIGACTION,
	CALL_SIGMASK,
	CALL_SIGPENDING,
	CALL_SIGTIMEDWAIT,
	CALL_SPLICE,
	CALL_PIPE2,
	CALL_POLL,
	CALL_PREADV2,
	CALL_RECV,
	CALL_READ,
	CALL_SETSOCKOPT,
	CALL_CACHESTAT,
	CALL_CLOSE_RANGE,
	CALL_READAHEAD,
	CALL_THREAD,
	CALL_ACCEPT4,
	CALL_BIND,
	CALL_CHMOD,
	CALL_CONNECT,
	CALL_EPOLL_CREATE1,
	CALL_EPOLL_CTL,
	CALL_EPOLL_WAIT,
	CALL_EVENTFD,
	CALL_FCHMOD,
	CALL_FDOPEN,
	CALL_FLOCK,
	CALL_FORK,
	CALL_FSTATAT,
	CALL_FTRUNCATE,
	CALL_LISTEN,
	CALL_OPEN,
	CALL_OPENAT,
	CALL_PIDFD_OPEN,
	CALL_PIDFD_SEND_SIGNAL,
	CALL_PWRITE,
	CALL_SEND,
	CALL_SOCKET,
	CALL_SOCKETPAIR,
	CALL_STRDUP,
	CALL_UNLINKAT,
	CALL_WAITID,
	CALL_COUNT
};

/* Faults that are no errno. The kernel takes or returns one byte; the kernel loses the control messages, and sets
 * MSG_CTRUNC. */
enum { SHORT_COUNT = -1, CONTROL_TRUNCATED = -2 };

/* The name as in functions.list. */
const char *call_name(enum call call);

/* Returns the errors, and faults, that the call can return: a list that ends with 0. */
const int *call_errors(enum call call);

/* Whether a scenario goes on after the error as if there had been none. */
bool call_recovers(enum call call, int error);

/* As "EPIPE", "one byte" or "MSG_CTRUNC". */
const char *error_name(int error);

#endif
