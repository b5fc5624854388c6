#ifndef FERRY_TESTS_COLD_DISK_H
#define FERRY_TESTS_COLD_DISK_H

/* A disk under the test's control: the test decides whether a part of a file is in memory, and when
 * a read returns. A program that uses this is linked with --wrap for pread, preadv2,
 * pthread_create, readahead and syscall, and with the library's objects. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "recorder.h"

enum answer { REAL, WARM, COLD, MISSING, REFUSED };

/* Atomic, because the read-ahead thread and threads of the tests use them too. */
extern _Atomic int cachestat_says, nowait_says;
extern _Atomic unsigned int cachestat_calls, nowait_calls, readahead_calls, pread_calls;
extern _Atomic bool no_threads, warm_when_read;
extern _Atomic int read_step_error;
extern _Atomic unsigned int disk_waiting;

extern _Atomic bool loop_may_read; /* by pread(2) */
extern int method_of_one;          /* when the file of `one` had finished */

void hold_disk(bool hold);
void hold_disk_of(int fd); /* only the reads of this file, however it was opened */
ssize_t __real_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);

/* Waits until this process has `count` read-ahead threads: the kernel may still show a joined
 * thread for a moment. */
void expect_threads(unsigned int count);

enum { MIB = 1024 * 1024, SIZE = 3 * MIB + 1234 };

struct cold_link {
	struct recorder sender;
	int far;
	uint64_t arrived;
	unsigned int finished;
	int status;
	uint64_t sent;
	struct ferry_file_producer *producer;
};

void open_cold_link_at(struct cold_link *cold_link, int kind);

extern struct cold_link one, two;

void open_cold_link(int kind);
void close_cold_link_of(struct cold_link *cold_link);
void close_cold_link(void);
void send_cold_fd(struct cold_link *cold_link, int fd, unsigned int ownership);
void send_new_file(struct cold_link *cold_link);

/* Reads the bytes that have come, and compares them. */
bool cold_file_has_arrived(void *argument);
void check_whole(struct cold_link *cold_link);
uint64_t waits(const struct cold_link *cold_link);
bool is_waiting(void *argument);

/* A cold file that the disk does not give. */
void send_stuck_file(struct cold_link *cold_link);

#endif
