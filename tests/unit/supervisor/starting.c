/* A worker process has what the options give it, and nothing else. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "started_program.h"
#include "supervised.h"

static int try_options(void)
{
	struct ferry_supervisor *made = NULL;
	int status = ferry_supervisor_new(&made, base, &options, NULL, NULL);
	ferry_supervisor_free(made);
	return status;
}

TEST(wrong_options_are_refused)
{
	const struct ferry_supervisor_fd low = {.number = 3}, closed = {.number = 4, .fd = 999},
	                                 later = {.number = 4, .reserved = {0, 1}},
	                                 twice[] = {{.number = 4}, {.number = 4}};
	const struct ferry_supervisor_limit later_limit = {.resource = RLIMIT_CORE, .reserved = {0, 1}};
	static const char *const nothing[] = {NULL};
	use_worker();
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, NULL, NULL), 0);
	ck_assert_int_eq(try_options(), -EINVAL); /* nobody takes the channels */
	options.dispatcher = dispatcher;
	ck_assert_int_eq(try_options(), 0);
	options.size--;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.size++;
	options.argv = nothing;
	ck_assert_int_eq(try_options(), -EINVAL);
	use_worker();
	options.dispatcher = dispatcher;
	options.drain_timeout.tv_sec = -1;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.drain_timeout.tv_sec = 0;
	options.group = 1;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.group = (gid_t)-1;
	options.fd_count = 1;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.fds = &low;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.fds = &closed;
	ck_assert_int_eq(try_options(), -EBADF);
	options.fds = &later;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.fds = twice;
	options.fd_count = 2;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.fd_count = 0;
	options.limits = &later_limit;
	options.limit_count = 1;
	ck_assert_int_eq(try_options(), -EINVAL);
	options.limit_count = 0;
	options.crash_limit = 1U << 30;
	ck_assert_int_eq(try_options(), -EINVAL);
	struct event_base *other = event_base_new();
	struct ferry_supervisor *made;
	options.crash_limit = 0;
	ck_assert_int_eq(ferry_supervisor_new(&made, other, &options, NULL, NULL), -EINVAL);
	event_base_free(other);
	ferry_dispatcher_free(dispatcher);
}

TEST(options_of_a_later_version_are_refused_unless_they_are_zero)
{
	struct {
		struct ferry_supervisor_options options;
		char later[16];
	} longer = {{0}, {0}};
	struct ferry_supervisor *made;
	use_worker();
	ck_assert_int_eq(ferry_dispatcher_new(&options.dispatcher, base, NULL, NULL), 0);
	longer.options = options;
	longer.options.size = sizeof(longer);
	ck_assert_int_eq(ferry_supervisor_new(&made, base, &longer.options, NULL, NULL), 0);
	ferry_supervisor_free(made);
	longer.later[3] = 1;
	ck_assert_int_eq(ferry_supervisor_new(&made, base, &longer.options, NULL, NULL), -EINVAL);
	ferry_dispatcher_free(options.dispatcher);
}

/* The supervisor has closed its copy of the program's end when the program has started. The number is then another's. */
TEST(the_end_of_a_supervisor_closes_no_descriptor_of_another)
{
	int others[20];
	use_script("exec sleep 1000");
	open_plain_supervisor();
	pump_until_count(&notes.started, 1);
	for (int i = 0; i < COUNT(others); i++)
		others[i] = dup(STDERR_FILENO);
	close_supervisor();
	for (int i = 0; i < COUNT(others); i++) {
		ck_assert(fd_is_open(others[i]));
		close(others[i]);
	}
}

TEST(a_process_has_the_standard_descriptors_and_its_channel)
{
	int leaked = fcntl(0, F_DUPFD, 100); /* not close-on-exec */
	use_script("exec sleep 1000");
	options.workers = 3;
	open_plain_supervisor();
	pump_until_count(&notes.started, 3);
	for (unsigned int i = 0; i < 3; i++)
		expect_open_fds(place_info(i).pid, "0 1 2 3");
	close_supervisor();
	close(leaked);
}

TEST(a_process_has_its_descriptors_its_environment_and_its_limits)
{
	static const char *const environment[] = {"FERRY_X=y", "FERRY_GONE", NULL};
	const struct ferry_supervisor_limit limits[] = {
	    {.resource = RLIMIT_CORE, .soft = 0, .hard = 0},
	    {.resource = RLIMIT_FSIZE, .soft = UINT64_C(5) << 32, .hard = FERRY_SUPERVISOR_UNLIMITED},
	};
	int output[2];
	char line[256];
	size_t length = 0;
	ssize_t count = 0;
	ck_assert_int_eq(pipe(output), 0);
	const struct ferry_supervisor_fd fds[] = {{.number = 9, .fd = output[1]}};
	setenv("FERRY_GONE", "1", 1);
	use_script("echo x$FERRY_X${FERRY_GONE-none} $(ulimit -c) $(ulimit -f) $(ulimit -H -f) "
	           "${FERRY_WORKER%:*} >&9;"
	           "test ${FERRY_WORKER#*:} = $$ && test /proc/self/fd/0 -ef /dev/null && echo ok");
	options.environment = environment;
	options.limits = limits;
	options.limit_count = COUNT(limits);
	options.fds = fds;
	options.fd_count = 1;
	options.standard_fds[0] = FERRY_SUPERVISOR_FD_NULL;
	options.standard_fds[1] = output[1];
	options.first_pause = (struct timeval){1000, 0};
	options.longest_pause = (struct timeval){1000, 0};
	open_plain_supervisor();
	close(output[1]); /* the supervisor has a copy */
	pump_until_count(&notes.ended, 1);
	close_supervisor();
	while ((count = read(output[0], line + length, sizeof(line) - 1 - length)) > 0)
		length += (size_t)count;
	line[length] = '\0';
	ck_assert_str_eq(line, "xynone 0 41943040 unlimited 3\nok\n");
	close(output[0]);
}

TEST(a_process_has_its_user_and_its_group_of_processes)
{
	static const gid_t groups[] = {4712};
	char found[64];
	use_script("exec sleep 1000");
	options.user = 65534;
	options.group = 4711;
	options.groups = groups;
	options.group_count = 1;
	open_plain_supervisor();
	if (!is_root()) {
		pump_until_count(&notes.failed_starts, 1);
		ck_assert_int_eq(notes.error, -EPERM);
		close_supervisor();
		return;
	}
	pump_until_count(&notes.started, 1);
	pid_t pid = place_info(0).pid;
	read_proc_status(pid, "Uid", found, sizeof(found));
	ck_assert_str_eq(found, "65534\t65534\t65534\t65534");
	read_proc_status(pid, "Groups", found, sizeof(found));
	ck_assert_str_eq(found, "4712 ");
	ck_assert_int_eq(getpgid(pid), pid);
	close_supervisor();
	options.shares_group = true;
	open_plain_supervisor();
	pump_until_count(&notes.started, 1);
	ck_assert_int_eq(getpgid(place_info(0).pid), getpgid(0));
	close_supervisor();
}

/* ---- the arguments of later processes ---- */

TEST(arguments_are_set_for_later_processes)
{
	static const char *const none[] = {NULL};
	const char *argv[] = {"sleep", "1001", NULL};
	char found[64];
	unsigned int count;
	use_program(argv);
	open_plain_supervisor();
	pump_until_count(&notes.started, 1);
	char later[] = "1002";
	argv[0] = "slumber"; /* the program stays the same */
	argv[1] = later;
	ck_assert_int_eq(ferry_supervisor_set_argv(supervisor, none), -EINVAL);
	ck_assert_int_eq(ferry_supervisor_set_argv(supervisor, NULL), -EINVAL);
	ck_assert_int_eq(ferry_supervisor_set_argv(NULL, argv), -EINVAL);
	ck_assert_int_eq(ferry_supervisor_set_argv(supervisor, argv), 0);
	later[3] = '9'; /* the supervisor has a copy */
	ck_assert_uint_eq(read_proc(place_info(0).pid, "cmdline", found, sizeof(found)), 11);
	ck_assert_mem_eq(found, "sleep\0001001", 11);
	count = notes.started + 1;
	ck_assert_int_eq(ferry_supervisor_worker_stop(place_info(0).worker, FERRY_SUPERVISOR_KILL), 0);
	pump_until_count(&notes.started, count);
	ck_assert_uint_eq(read_proc(place_info(0).pid, "cmdline", found, sizeof(found)), 13);
	ck_assert_mem_eq(found, "slumber\0001002", 13);
	close_supervisor();
}

/* ---- standard descriptors of later processes ---- */

/* Whether a standard descriptor of the process in place 0 is the file of `fd`. */
static bool has_standard_fd(int number, int fd)
{
	char path[64];
	struct stat theirs, ours;
	snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)place_info(0).pid, number);
	ck_assert_int_eq(stat(path, &theirs), 0);
	ck_assert_int_eq(fstat(fd, &ours), 0);
	return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

static void start_another(void)
{
	unsigned int count = notes.started + 1;
	ck_assert_int_eq(ferry_supervisor_worker_stop(place_info(0).worker, FERRY_SUPERVISOR_KILL), 0);
	pump_until_count(&notes.started, count);
}

static int set(int number, int fd)
{
	return ferry_supervisor_set_standard_fd(supervisor, number, fd);
}

LOOP_TEST(a_standard_descriptor_is_set_for_later_processes, 3)
{
	int output[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	make_pipe(output);
	const struct ferry_supervisor_fd more = {.number = 4, .fd = output[0]};
	use_script("exec sleep 1000");
	options.fds = &more;
	options.fd_count = 1;
	open_plain_supervisor();
	pump_until_count(&notes.started, 1);
	ck_assert_int_eq(set(_i, output[1]), 0);
	ck_assert(has_standard_fd(_i, _i));
	close(output[1]); /* the supervisor has a copy */
	start_another();
	ck_assert(has_standard_fd(_i, output[0])); /* both ends of a pipe are one file */
	ck_assert_int_eq(set(_i, FERRY_SUPERVISOR_FD_NULL), 0);
	start_another();
	ck_assert(has_standard_fd(_i, null));
	ck_assert_int_eq(set(_i, FERRY_SUPERVISOR_FD_INHERIT), 0);
	start_another();
	ck_assert(has_standard_fd(_i, _i));
	for (int number = 0; number < 3; number++) /* all at once */
		ck_assert_int_eq(set(number, output[0]), 0);
	start_another();
	for (int number = 0; number < 3; number++)
		ck_assert(has_standard_fd(number, output[0]));
	expect_open_fds(place_info(0).pid, "0 1 2 3 4");
	ck_assert(has_standard_fd(4, output[0]));
	close_supervisor();
	close(output[0]);
	close(null);
}

TEST(wrong_standard_descriptors_change_nothing)
{
	struct rlimit limit, none;
	int output[2];
	make_pipe(output);
	use_script("exec sleep 1000");
	options.standard_fds[2] = output[1];
	open_plain_supervisor();
	ck_assert_int_eq(ferry_supervisor_set_standard_fd(NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(set(-1, 1), -EINVAL);
	ck_assert_int_eq(set(3, 1), -EINVAL);
	ck_assert_int_eq(set(2, 999), -EBADF);
	ck_assert_int_eq(set(2, -3), -EBADF);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = limit.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	int status = set(2, 1);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(status, -EMFILE);
	pump_until_count(&notes.started, 1);
	ck_assert(has_standard_fd(2, output[0]));
	close_supervisor();
	close(output[0]);
	close(output[1]);
}
