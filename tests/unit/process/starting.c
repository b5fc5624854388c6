/* A program starts with what its caller has given it, and with nothing else. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "started_program.h"

static char *const sleeper[] = {"sleep", "1000", NULL};

static int try_to_start(const struct child_options *options)
{
	struct child *child = NULL;
	int status = child_start(&child, base, options, end_note, NULL);
	if (status == 0)
		child_free(child);
	return status;
}

/* For a program that does not start. */
static int try_program(const char *program)
{
	char *argv[] = {(char *)(uintptr_t)program, NULL};
	return try_to_start(&(struct child_options){.argv = argv});
}

/* ---- the program ---- */

TEST(a_program_is_found_in_the_path)
{
	struct end_note note = {0};
	expect_end(start_script("exit 7", &note), &note, exit_status(7));
}

TEST(a_program_may_have_another_name_than_its_first_argument)
{
	char *argv[] = {"other", "-c", "test \"$0\" = other", NULL};
	struct end_note note = {0};
	const struct child_options options = {.program = "/bin/sh", .argv = argv};
	expect_end(start_program(&options, &note), &note, 0);
}

TEST(errors_of_exec_come_back_to_the_caller)
{
	char path[] = "/tmp/ferry-process-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(try_program("/nowhere/at/all"), -ENOENT);
	ck_assert_int_eq(try_program("no-such-program-here"), -ENOENT);
	ck_assert_int_eq(try_program(""), -ENOENT);
	ck_assert_int_eq(try_program("/etc/passwd/x"), -ENOTDIR);
	ck_assert_int_eq(try_program(path), -EACCES);
	ck_assert(has_no_child());
	ck_assert_int_eq(chmod(path, 0755), 0);
	ck_assert_int_eq(try_program(path), -ENOEXEC);
	unlink(path);
	ck_assert_int_eq(try_to_start(&(struct child_options){.argv = NULL}), -EINVAL);
}

TEST(the_search_goes_on_behind_a_directory_that_may_not_be_read)
{
	char *argv[] = {"sh", "-c", "exit 0", NULL};
	setenv("PATH", "/nowhere:/etc/passwd:/dev/null::/usr/bin:/bin", 1);
	ck_assert_int_eq(try_to_start(&(struct child_options){.argv = argv}), 0);
	unsetenv("PATH");
	ck_assert_int_eq(try_to_start(&(struct child_options){.argv = argv}), 0);
}

TEST(the_environment_has_the_changes_and_the_process_id)
{
	const char *const changes[] = {"FERRY_A=1", "FERRY_GONE", "FERRY_A=2", "FERRY_B=x=y", NULL};
	const char *const pids[] = {"FERRY_PID=at ", NULL};
	char *argv[] = {"sh", "-c",
	                "test \"$FERRY_A,${FERRY_GONE-none},$FERRY_B,$FERRY_KEPT,$FERRY_PID\" = "
	                "\"2,none,x=y,k,at $$\" && test $(env | grep -c ^FERRY_A=) = 1",
	                NULL};
	struct end_note note = {0};
	setenv("FERRY_A", "0", 1);
	setenv("FERRY_GONE", "0", 1);
	setenv("FERRY_KEPT", "k", 1);
	setenv("FERRY_PID", "0", 1);
	const struct child_options options = {
	    .argv = argv, .environment = changes, .pid_environment = pids};
	expect_end(start_program(&options, &note), &note, 0);
	ck_assert_str_eq(getenv("FERRY_A"), "0");
}

/* ---- descriptors ---- */

static void expect_fds(const struct child_options *options, const char *expected)
{
	struct end_note note = {0};
	struct child *child = start_program(options, &note);
	expect_open_fds(child_pid(child), expected);
	child_free(child);
	ck_assert_uint_eq(note.count, 0);
}

TEST(a_program_has_the_standard_descriptors_and_no_other)
{
	/* One of them is not close-on-exec. */
	int fds[] = {open("/dev/null", O_RDONLY), fcntl(0, F_DUPFD, 200),
	             fcntl(0, F_DUPFD_CLOEXEC, 50)};
	expect_fds(&(struct child_options){.argv = sleeper}, "0 1 2");
	for (int i = 0; i < COUNT(fds); i++)
		close(fds[i]);
}

TEST(a_descriptor_has_the_number_that_is_asked_for)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const struct child_fd fds[] = {{7, fd}, {3, fd}, {100, fd}};
	const struct child_options options = {.argv = sleeper, .fds = fds, .fd_count = 3};
	expect_fds(&options, "0 1 2 3 7 100");
	ck_assert(fd_is_open(fd));
	close(fd);
}

/* Writes "A" to A and "B" to B in the child, where the two have changed their numbers. */
TEST(descriptors_may_change_places)
{
	int a[2], b[2];
	char byte;
	make_pipe(a);
	make_pipe(b);
	const struct child_fd fds[] = {{b[1], a[1]}, {a[1], b[1]}, {0, -1}};
	char script[64];
	snprintf(script, sizeof(script), "printf A >&%d; printf B >&%d", b[1], a[1]);
	/* dash takes single digits only */
	char *argv[] = {"bash", "-c", script, NULL};
	struct end_note note = {0};
	const struct child_options options = {.argv = argv, .fds = fds, .fd_count = 3};
	expect_end(start_program(&options, &note), &note, 0);
	ck_assert_int_eq(read(a[0], &byte, 1), 1);
	ck_assert_int_eq(byte, 'A');
	ck_assert_int_eq(read(b[0], &byte, 1), 1);
	ck_assert_int_eq(byte, 'B');
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

TEST(a_standard_descriptor_that_the_caller_lacks_is_dev_null)
{
	struct end_note note = {0};
	int saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
	close(0);
	struct child *child = start_script("test /proc/self/fd/0 -ef /dev/null", &note);
	expect_end(child, &note, 0);
	ck_assert_int_eq(dup2(saved, 0), 0);
	close(saved);
}

/* A descriptor of the caller's own may have the number 0, 1 or 2, if the caller has none there. */
TEST(a_standard_descriptor_that_is_close_on_exec_is_dev_null)
{
	struct end_note note = {0};
	int saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
	close(0);
	ck_assert_int_eq(open("/etc/passwd", O_RDONLY | O_CLOEXEC), 0);
	struct child *child = start_script("test /proc/self/fd/0 -ef /dev/null", &note);
	expect_end(child, &note, 0);
	ck_assert_int_eq(dup2(saved, 0), 0);
	close(saved);
}

TEST(wrong_descriptors_are_refused)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const struct child_fd same[] = {{3, fd}, {3, fd}}, negative[] = {{-1, fd}},
	                      closed[] = {{3, 999}};
	ck_assert_int_eq(
	    try_to_start(&(struct child_options){.argv = sleeper, .fds = same, .fd_count = 2}),
	    -EINVAL);
	ck_assert_int_eq(
	    try_to_start(&(struct child_options){.argv = sleeper, .fds = negative, .fd_count = 1}),
	    -EINVAL);
	ck_assert_int_eq(
	    try_to_start(&(struct child_options){.argv = sleeper, .fds = closed, .fd_count = 1}),
	    -EBADF);
	close(fd);
}

/* ---- signals, groups, limits, users ---- */

static void ignore_call(int number)
{
	(void)number;
}

TEST(no_signal_is_ignored_or_blocked)
{
	char found[64];
	sigset_t set, before;
	struct end_note note = {0};
	signal(SIGPIPE, SIG_IGN);
	signal(SIGRTMAX, SIG_IGN);
	signal(SIGUSR1, ignore_call);
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, &before);
	struct child *child = start_program(&(struct child_options){.argv = sleeper}, &note);
	pthread_sigmask(SIG_SETMASK, &before, &set);
	ck_assert_int_eq(sigismember(&set, SIGUSR2), 1); /* the caller's mask is as it was */
	read_proc_status(child_pid(child), "SigIgn", found, sizeof(found));
	ck_assert_str_eq(found, "0000000000000000");
	read_proc_status(child_pid(child), "SigBlk", found, sizeof(found));
	ck_assert_str_eq(found, "0000000000000000");
	child_free(child);
}

TEST(a_program_has_a_group_or_a_session_if_that_is_asked_for)
{
	struct end_note note = {0};
	for (int group = CHILD_GROUP_SHARED; group <= CHILD_GROUP_SESSION; group++) {
		const struct child_options options = {.argv = sleeper, .group = (enum child_group)group};
		struct child *child = start_program(&options, &note);
		pid_t pid = child_pid(child);
		ck_assert_int_eq(getpgid(pid), group == CHILD_GROUP_SHARED ? getpgid(0) : pid);
		ck_assert_int_eq(getsid(pid), group == CHILD_GROUP_SESSION ? pid : getsid(0));
		child_free(child);
	}
}

TEST(limits_hold_for_the_program_alone)
{
	/* valgrind would only pretend to lower the limit of descriptors. */
	const struct child_limit limits[] = {{RLIMIT_FSIZE, {1024, 2048}}, {RLIMIT_CORE, {0, 0}}};
	struct end_note note = {0};
	char *argv[] = {"sh", "-c", "test $(ulimit -f) = 2 && test $(ulimit -Hc) = 0", NULL};
	const struct child_options options = {.argv = argv, .limits = limits, .limit_count = 2};
	expect_end(start_program(&options, &note), &note, 0);
	const struct child_limit wrong = {RLIMIT_CORE, {64, 32}};
	ck_assert_int_eq(
	    try_to_start(&(struct child_options){.argv = argv, .limits = &wrong, .limit_count = 1}),
	    -EINVAL);
}

TEST(a_program_has_its_user_and_groups_alone)
{
	static const gid_t groups[] = {4711, 4712};
	const struct child_identity identity = {
	    .user = 65534, .group = 4710, .groups = groups, .group_count = 2};
	const struct child_options options = {.argv = sleeper, .identity = &identity};
	char found[128];
	struct end_note note = {0};
	if (!is_root()) {
		ck_assert_int_eq(try_to_start(&options), -EPERM);
		return;
	}
	struct child *child = start_program(&options, &note);
	read_proc_status(child_pid(child), "Uid", found, sizeof(found));
	ck_assert_str_eq(found, "65534\t65534\t65534\t65534");
	read_proc_status(child_pid(child), "Gid", found, sizeof(found));
	ck_assert_str_eq(found, "4710\t4710\t4710\t4710");
	read_proc_status(child_pid(child), "Groups", found, sizeof(found));
	ck_assert_str_eq(found, "4711 4712 ");
	read_proc_status(child_pid(child), "CapEff", found, sizeof(found));
	ck_assert_str_eq(found, "0000000000000000");
	child_free(child);
}

/* ---- threads ---- */

static _Atomic bool stop;

static void *allocate(void *argument)
{
	while (!stop) {
		free(malloc(10000));
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		pidfd_wait_for_end(-1, pid, &(int){0});
	}
	return argument;
}

/* The locks of the heap may be held by another thread at the moment of fork(2). */
TEST(a_program_starts_while_other_threads_allocate_and_fork)
{
	pthread_t threads[3];
	for (int i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, allocate, NULL), 0);
	for (int i = 0; i < 50; i++) {
		struct end_note note = {0};
		expect_end(start_script("exit 3", &note), &note, exit_status(3));
		int status = try_program("/nowhere");
		ck_assert(status == -ENOENT || status == 0); /* 0: the child needed more than a second */
	}
	stop = true;
	for (int i = 0; i < COUNT(threads); i++)
		pthread_join(threads[i], NULL);
}
