/* Counters in memory that several processes share. */

#include "programs/shared/answer_counters.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/wait.h>

static struct answer_counters *counters;
static struct answer_sums sums;
static int fd;

static void start(void)
{
	ck_assert_int_eq(answer_counters_new(&counters, &fd), 0);
	answer_counters_read(counters, &sums);
	static const struct answer_sums none;
	ck_assert_int_eq(memcmp(&sums, &none, sizeof(sums)), 0);
}

static void stop(void)
{
	answer_counters_free(counters);
	close(fd);
}

TEST_CASE("counters");

TEST(an_answer_is_counted_by_status_and_duration)
{
	start();
	answer_counters_add(counters, 200, 1000, 0);
	answer_counters_add(counters, 200, 1, 500); /* the bound belongs to the bucket below */
	answer_counters_add(counters, 404, 10, 501);
	answer_counters_add(counters, 299, 0, 60000000); /* a status without a counter of its own */
	answer_counters_add(counters, 0, 0, 60000001);
	answer_counters_read(counters, &sums);
	ck_assert_uint_eq(sums.statuses[0], 2);
	ck_assert_uint_eq(sums.statuses[6], 1);
	ck_assert_uint_eq(answer_statuses[6], 404);
	ck_assert_uint_eq(sums.statuses[ANSWER_STATUSES - 1], 2);
	ck_assert_uint_eq(sums.buckets[0], 2);
	ck_assert_uint_eq(sums.buckets[1], 1);
	ck_assert_uint_eq(sums.buckets[ANSWER_BUCKETS - 2], 1);
	ck_assert_uint_eq(sums.buckets[ANSWER_BUCKETS - 1], 1);
	ck_assert_uint_eq(sums.bytes, 1011);
	ck_assert_uint_eq(sums.microseconds, 120001002);
	stop();
}

TEST(bounds_rise_and_statuses_differ)
{
	for (unsigned int i = 1; i < ANSWER_BUCKETS - 1; i++)
		ck_assert_uint_lt(answer_bounds[i - 1], answer_bounds[i]);
	for (unsigned int i = 0; i < ANSWER_STATUSES; i++)
		for (unsigned int j = 0; j < i; j++)
			ck_assert_uint_ne(answer_statuses[i], answer_statuses[j]);
	ck_assert_uint_eq(answer_statuses[ANSWER_STATUSES - 1], 0);
}

/* The counts of processes that add at the same time, and are killed. */
TEST(no_count_is_lost)
{
	enum { PROCESSES = 4, EACH = 20000 };
	start();
	for (int i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid > 0)
			continue;
		struct answer_counters *mine;
		if (answer_counters_map(&mine, fd) != 0)
			_exit(1);
		for (int j = 0; j < EACH; j++)
			answer_counters_add(mine, 206, 3, 2);
		raise(SIGKILL);
	}
	for (int i = 0; i < PROCESSES; i++) {
		int status;
		ck_assert_int_gt(wait(&status), 0);
		ck_assert(WIFSIGNALED(status));
	}
	answer_counters_read(counters, &sums);
	ck_assert_uint_eq(sums.statuses[1], PROCESSES * EACH);
	ck_assert_uint_eq(sums.buckets[0], PROCESSES * EACH);
	ck_assert_uint_eq(sums.bytes, 3 * PROCESSES * EACH);
	ck_assert_uint_eq(sums.microseconds, 2 * PROCESSES * EACH);
	stop();
}

TEST(no_process_changes_the_size)
{
	start();
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), -1);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	stop();
}

TEST(other_descriptors_are_refused)
{
	struct answer_counters *out;
	int pipes[2];
	start();
	off_t size = lseek(fd, 0, SEEK_END);
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(answer_counters_map(&out, pipes[0]), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	ck_assert_int_eq(answer_counters_map(&out, pipes[0]), -EBADF);
	int other = memfd_create("other", MFD_CLOEXEC);
	ck_assert_int_eq(answer_counters_map(&out, other), -EINVAL);
	ck_assert_int_eq(ftruncate(other, size), 0); /* the right size, and not the layout */
	ck_assert_int_eq(answer_counters_map(&out, other), -EINVAL);
	close(other);
	answer_counters_free(NULL);
	stop();
}
