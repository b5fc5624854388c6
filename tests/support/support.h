#ifndef FERRY_TESTS_SUPPORT_H
#define FERRY_TESTS_SUPPORT_H

/* The common parts of all test programs: check with a descriptor count around each test, a loop
 * that is pumped until a condition holds, and connected pairs of every kind. */

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>

/* The tests' own event_base: made by the fixture before each test, freed after it. */
extern struct event_base *base;

/* A test case with the fixture: base made, open descriptors counted before and after. */
TCase *support_case(Suite *suite, const char *name);

/* Runs the suite; the exit status for main(). */
int support_run(Suite *suite);

/* Runs the loop until `condition` holds. Fails the test after a deadline that no sane machine
 * needs. */
void pump_until(bool (*condition)(void *), void *argument);

/* Runs the loop until the flag is set, or the counter has reached a value. */
void pump_until_set(const bool *flag);
void pump_until_count(const unsigned int *counter, unsigned int value);

/* Waits, without the loop, until a descriptor has bytes, the end or an error to read. TCP delivers in its own time. */
void await_input(int fd);

/* Lets the loop handle all that is ready now, `turns` times, without waiting. */
void pump_turns(int turns);

/* Runs the loop for a time. Fails if it has turned more often than once in each interval, and once at each end: a loop
 * that spins does so thousands of times, on a busy machine too. */
void pump_without_spin(int64_t usec, int64_t interval_usec);

enum pair_kind { PAIR_UNIX, PAIR_TCP };

/* Two connected non-blocking close-on-exec stream sockets. */
void make_pair(enum pair_kind kind, int fds[2]);

/* A non-blocking pipe. */
void make_pipe(int fds[2]);

/* Returns the count of open descriptors of this process. */
int count_open_fds(void);

/* A thread that reads ahead for a file closes its descriptors when it notices that the file is gone. Returns when at
 * most so many are open, or at the deadline. */
void wait_for_threads(int fds);
bool fd_is_open(int fd);

/* Whether two descriptors stand for the same file, by device and inode. */
bool same_file(int a, int b);

/* An address in the abstract namespace, which is that of the whole machine: the name of the program and the id of the
 * process that has called this first. */
const char *own_abstract_name(void);

/* The number by which the kernel knows a socket. */
uint64_t cookie_of(int fd);

/* Notes that the test, or a part of it, is skipped, and prints the reason. A program without a failure then exits with 77,
 * and ctest lists it as Skipped. */
__attribute__((format(printf, 1, 2))) void skip(const char *format, ...);

/* Whether this process is root. Otherwise the test is skipped: only root can become another user. */
bool is_root(void);

/* An unlinked temporary file of `size` bytes of support_byte(). */
int make_file(uint64_t size);

/* The bytes of files and long writes: no period that divides a power of two. */
static inline unsigned char support_byte(uint64_t position)
{
	return (unsigned char)((position * 7 + position / 251) & 0xff);
}

/* A generator with a seed that is printed by support_run() and taken from FERRY_TEST_SEED. */
uint32_t support_random(void);
uint32_t support_random_below(uint32_t bound);

/* Has another function answer support_random_below(): a fuzzer, by its bytes. */
void support_set_random_below(uint32_t (*below)(uint32_t bound));

/* That seed; and another one, from which the generator goes on. Seeds that are close give orders that are not. */
uint32_t support_seed(void);
void support_reseed(uint32_t seed);

#endif
