/* A supervisor without memory, descriptors or processes tries again, and loses nothing. */

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "heap.h"
#include "supervised.h"

pid_t __wrap_fork(void);
pid_t __real_fork(void);
int __wrap_socketpair(int domain, int type, int protocol, int fds[2]);
int __real_socketpair(int domain, int type, int protocol, int fds[2]);

static int fork_error, socketpair_error;

pid_t __wrap_fork(void)
{
	errno = fork_error;
	return fork_error != 0 ? -1 : __real_fork();
}

int __wrap_socketpair(int domain, int type, int protocol, int fds[2])
{
	errno = socketpair_error;
	return socketpair_error != 0 ? -1 : __real_socketpair(domain, type, protocol, fds);
}

BEFORE_ALL
{
	heap_take_over();
}

LOOP_TEST(a_start_that_fails_is_tried_again, 3)
{
	static const int errors[] = {EAGAIN, ENOMEM, EMFILE};
	use_worker();
	options.workers = 2;
	fork_error = _i < 2 ? errors[_i] : 0;
	socketpair_error = _i == 2 ? errors[_i] : 0;
	open_supervisor();
	pump_until_count(&notes.failed_starts, 6);
	ck_assert_int_eq(notes.error, -errors[_i]);
	fork_error = socketpair_error = 0;
	wait_until_ready(2);
	/* In a replacement, the old ones stay. */
	fork_error = EAGAIN;
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.replaced, 1);
	ck_assert_int_eq(notes.replacement, -EAGAIN);
	ck_assert_uint_eq(supervisor_stats().ready, 2);
	fork_error = 0;
	close_supervisor();
}

/* Every allocation of a new supervisor fails in turn. */
TEST(a_supervisor_without_memory_is_not_made)
{
	static const char *const environment[] = {"A=b", NULL};
	static const gid_t groups[] = {1, 2};
	const struct ferry_supervisor_limit limit = {.resource = RLIMIT_CORE};
	use_worker();
	options.environment = environment;
	options.limits = &limit;
	options.limit_count = 1;
	options.standard_fds[1] = 1;
	options.user = getuid();
	options.groups = groups;
	options.group_count = 2;
	options.workers = 3;
	ck_assert_int_eq(ferry_dispatcher_new(&options.dispatcher, base, NULL, NULL), 0);
	unsigned long failing = 1, count;
	do {
		struct ferry_supervisor *made = NULL;
		heap_watch(failing);
		int status = ferry_supervisor_new(&made, base, &options, NULL, NULL);
		if (status == 0)
			ferry_supervisor_free(made);
		count = heap_unwatch();
		ck_assert_int_eq(status, count < failing ? 0 : -ENOMEM);
	} while (count >= failing++);
	ck_assert_uint_gt(failing, 10);
	ck_assert_uint_eq(heap_blocks(), 0);
	ferry_dispatcher_free(options.dispatcher);
}

/* Every allocation of new arguments fails in turn. */
TEST(arguments_without_memory_change_nothing)
{
	static const char *const argv[] = {"a", "b", NULL};
	use_script("exec sleep 1000");
	open_plain_supervisor();
	unsigned long failing = 1, count;
	do {
		heap_watch(failing);
		int status = ferry_supervisor_set_argv(supervisor, argv);
		count = heap_unwatch();
		ck_assert_int_eq(status, count < failing ? 0 : -ENOMEM);
	} while (count >= failing++);
	ck_assert_uint_gt(failing, 2);
	close_supervisor();
}

/* Every allocation while two processes start, are replaced and stop fails in turn. */
LOOP_TEST(a_life_in_which_an_allocation_fails_ends_well, 40)
{
	use_worker();
	options.workers = 2;
	open_supervisor();
	heap_watch((unsigned long)_i + 1);
	/* check's assertions take memory. */
	while (notes.ready < 2 && notes.failed_starts == 0)
		event_base_loop(base, EVLOOP_ONCE);
	heap_unwatch();
	wait_until_ready(2);
	heap_watch((unsigned long)_i + 1);
	int replacing = ferry_supervisor_replace(supervisor);
	while (replacing == 0 && notes.replaced == 0)
		event_base_loop(base, EVLOOP_ONCE);
	heap_unwatch();
	wait_until_ready(2);
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	ck_assert_uint_eq(notes.started, notes.ended);
	close_supervisor();
}
