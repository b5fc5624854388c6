#ifndef FERRY_BENCH_H
#define FERRY_BENCH_H

/* The common parts of the measuring programs. They print `name value` lines, and give no verdict: a
 * figure depends on the machine. If a system call fails, the program ends. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* True when `--quick` was given: seconds instead of minutes, and figures that mean little. Any other
 * argument ends the program with a usage line. */
bool bench_is_quick(int argc, char **argv);

/* Ends the program with a line about `what` and errno unless `good`. */
void bench_need(bool good, const char *what);

void bench_print(const char *name, double value);

/* Nanoseconds: of the clock, and of this thread's use of a processor. */
uint64_t bench_now(void);
uint64_t bench_cpu(void);
uint64_t bench_user_time(void); /* the part of it outside of the kernel */

/* Nanoseconds of the processor that this process and its children have used, those of children that were waited
 * for. What one end of a connection costs depends on the other one: work of the kernel for a receiver is often done
 * in the sender's call. */
uint64_t bench_cpu_of_all(void);

/* As many descriptors as the system allows. */
void bench_raise_fd_limit(void);

/* Returns the number, which must be at least 1. */
uint64_t bench_number(const char *text);

/* Returns the index of the word in the list, which NULL ends. Ends the program if it has none. */
int bench_choice(const char *word, const char *const *words);

/* Returns the time during which this thread was ready to run and another one ran in its place; 0 if
 * the kernel does not count it. On a shared machine, a duration minus this delay is the program's
 * own time. */
uint64_t bench_delay(void);

enum bench_kind { BENCH_UNIX, BENCH_TCP, BENCH_KINDS };
extern const char *const bench_kind_names[BENCH_KINDS];

/* Two connected non-blocking sockets. */
void bench_pair(enum bench_kind kind, int fds[2]);

/* Closes a TCP socket with a reset: a connection that ends in order would hold its ports for a minute. */
void bench_reset(int fd);

/* Runs `work` in a child process with one end of a pair; the other end is returned. */
pid_t bench_fork(enum bench_kind kind, void (*work)(int fd, void *argument), void *argument,
                 int *fd);
void bench_wait(pid_t child);

/* Waits until the socket can be read or written. */
void bench_poll(int fd, short events);

/* For a child: reads and throws away until the end. */
void bench_discard(int fd, void *argument);

/* An unlinked file of `size` bytes on a real file system: in $TMPDIR, else /var/tmp. Written through
 * to the disk, so that it can be dropped from memory. */
int bench_file(size_t size);

/* Drops it from the page cache; false if that had no effect. */
bool bench_drop(int fd, size_t size);

/* Figures of which one wants the distribution. */
struct bench_samples {
	uint64_t *values;
	size_t count, size;
};
void bench_add(struct bench_samples *samples, uint64_t value);
uint64_t bench_quantile(struct bench_samples *samples, double part); /* sorts */
void bench_clear(struct bench_samples *samples);

#endif
