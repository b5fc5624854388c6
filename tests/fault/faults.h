#ifndef FERRY_TESTS_FAULTS_H
#define FERRY_TESTS_FAULTS_H

/* System calls that fail when told to: one of them, once. A program that uses this is linked with --wrap
 * for all of them (ferry_add_fault_test() in CMakeLists.txt), and with heap.h's. */

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
	CALL_READAHEAD,
	CALL_THREAD,
	CALL_COUNT
};

/* The call that fails: the so-manieth, from now on; CALL_NONE: none. */
void plan_fault(enum call call, unsigned int number, int error);

/* How often it was called since. */
unsigned int count_calls(enum call call);

/* The scenario runs, and not the test's own part of it: then calls and allocations count. Other threads
 * than the test's always run the scenario. */
void arm(void);
void disarm(void);

/* How many closed what was not open, since the last time. */
unsigned int take_bad_closes(void);

/* What the kernel is like. Cold: the page cache seems to hold of a file only what pread(2) has read of it
 * since. */
enum kernel {
	AS_IT_IS,
	COLD_CACHE,
	COLD_CACHE_WITHOUT_CACHESTAT,
	WITHOUT_NOWAIT, /* preadv2(2) has no flags */
};
void set_kernel(enum kernel now);

#endif
