#ifndef FERRY_TESTS_FAULTS_H
#define FERRY_TESTS_FAULTS_H

/* System calls that fail once, as plan_fault() has planned. A program that uses this is linked with
 * --wrap for all of them (ferry_add_fault_test() in CMakeLists.txt), and with heap.h's. */

#include <stdbool.h>
#include <stddef.h>

enum call {
	CALL_NONE,
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
	CALL_COUNT
};

/* Plans that call `number` of this kind, counted from now on, fails with `error`; CALL_NONE: none
 * fails. */
void plan_fault(enum call call, unsigned int number, int error);

/* Returns the count of these calls since plan_fault(). */
unsigned int count_calls(enum call call);

/* Calls and allocations of the test's thread count only while armed: the scenario runs armed, the
 * test's own checks disarmed. Those of other threads always count. */
void arm(void);
void disarm(void);

/* Returns the count of close(2) calls that failed with EBADF since the last call of this
 * function. */
unsigned int take_bad_closes(void);

/* The kernel that the wrapped calls imitate. In the two cold ones, the page cache seems to have
 * only the parts of a file that pread(2) has read since set_kernel(). */
enum kernel {
	AS_IT_IS,
	COLD_CACHE,
	COLD_CACHE_WITHOUT_CACHESTAT,
	WITHOUT_NOWAIT, /* preadv2(2) has no flags */
};
void set_kernel(enum kernel now);

#endif
