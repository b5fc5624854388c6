/* Sockets that are passed to a process at its start. Each case is a real child: this program, executed
 * again, prints the sockets that it got. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ferry/socket_set.h"

enum { FIRST = 3, FDS_MAX = 4 };

/* ---- the child ---- */

static bool are_set_up(const struct ferry_socket_set *set)
{
	for (size_t i = 0; i < ferry_socket_set_count(set); i++) {
		int fd = ferry_socket_set_get_fd(set, i);
		if (fd != FIRST + (int)i || (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0 ||
		    (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0)
			return false;
	}
	return true;
}

static int count_passed(void)
{
	int open = 0;
	for (int fd = FIRST; fd < FIRST + FDS_MAX; fd++)
		open += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
	return open;
}

/* Prints one line: the status, the names, the count of passed descriptors that are open now and after
 * the set is freed, and whether the variables still exist. */
static int tell(bool unset)
{
	struct ferry_socket_set *set = NULL;
	int status = ferry_socket_set_from_environment(&set, unset);
	bool right = are_set_up(set) && (status == 0) == (set != NULL);
	printf("%s%d:", right ? "" : "wrong ", status);
	for (size_t i = 0; i < ferry_socket_set_count(set); i++)
		printf(" [%s]", ferry_socket_set_get_name(set, i));
	int open = count_passed();
	ferry_socket_set_free(set);
	bool there = getenv("LISTEN_PID") || getenv("LISTEN_FDS") || getenv("LISTEN_FDNAMES");
	printf(" open %d, then %d, variables %s", open, count_passed(), there ? "there" : "gone");
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the parent ---- */

struct passing {
	const char *pid;   /* NULL: the child's pid; "": the variable is not set */
	const char *fds;   /* NULL: the variable is not set */
	const char *names; /* NULL: the variable is not set */
	int sockets[FDS_MAX];
	size_t count;
	bool keep; /* the child keeps the variables */
};

static void set_or_not(const char *variable, const char *value)
{
	if (value != NULL)
		setenv(variable, value, 1);
	else
		unsetenv(variable);
}

static void become_child(const struct passing *passing, const char *program, int output)
{
	char self[16];
	int copies[FDS_MAX];

	for (size_t i = 0; i < passing->count; i++)
		copies[i] = fcntl(passing->sockets[i], F_DUPFD_CLOEXEC, 64);
	output = fcntl(output, F_DUPFD_CLOEXEC, 64);
	for (int fd = FIRST; fd < 64; fd++)
		close(fd);
	for (size_t i = 0; i < passing->count; i++)
		dup2(copies[i], FIRST + (int)i);
	dup2(output, STDOUT_FILENO);

	snprintf(self, sizeof(self), "%d", (int)getpid());
	set_or_not("LISTEN_PID", passing->pid == NULL      ? self
	                         : passing->pid[0] != '\0' ? passing->pid
	                                                   : NULL);
	set_or_not("LISTEN_FDS", passing->fds);
	set_or_not("LISTEN_FDNAMES", passing->names);
	execl(program, program, passing->keep ? "keep" : "unset", (char *)NULL);
	_exit(127);
}

/* Starts a child, and closes the sockets that were passed to it. */
static void expect(struct passing passing, const char *expected)
{
	char program[512] = "";
	char line[512] = "";
	size_t length = 0;
	ssize_t n;
	int output[2];
	int status;

	ck_assert_int_gt(readlink("/proc/self/exe", program, sizeof(program) - 1), 0);
	ck_assert_int_eq(pipe2(output, O_CLOEXEC), 0);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		become_child(&passing, program, output[1]);
	close(output[1]);
	while ((n = read(output[0], line + length, sizeof(line) - 1 - length)) > 0)
		length += (size_t)n;
	close(output[0]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
	ck_assert_str_eq(line, expected);
	for (size_t i = 0; i < passing.count; i++)
		close(passing.sockets[i]);
}

static int make_socket(int family, int type, bool listening)
{
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	if (listening && family == AF_INET) {
		ck_assert_int_eq(listen(fd, 8), 0); /* the kernel chooses the port */
	} else if (listening) {
		/* The kernel chooses an abstract name. */
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
		ck_assert_int_eq(listen(fd, 8), 0);
	}
	return fd;
}

static struct passing two_sockets(void)
{
	return (struct passing){.fds = "2",
	                        .sockets = {make_socket(AF_INET, SOCK_STREAM, true),
	                                    make_socket(AF_UNIX, SOCK_STREAM, true)},
	                        .count = 2};
}

TEST_CASE("adopted");

TEST(sockets_are_adopted_with_their_names)
{
	struct passing passing = two_sockets();
	passing.names = "www:control";
	expect(passing, "0: [www] [control] open 2, then 0, variables gone");
}

TEST(the_variables_stay_when_they_are_to)
{
	struct passing passing = two_sockets();
	passing.names = "www:www";
	passing.keep = true;
	expect(passing, "0: [www] [www] open 2, then 0, variables there");
}

TEST(a_name_may_be_empty)
{
	struct passing passing = two_sockets();
	passing.names = ":control";
	expect(passing, "0: [] [control] open 2, then 0, variables gone");
}

TEST(without_names_all_are_unknown)
{
	expect(two_sockets(), "0: [unknown] [unknown] open 2, then 0, variables gone");
}

TEST(a_datagram_socket_is_adopted_too)
{
	struct passing passing = two_sockets();
	passing.sockets[2] = make_socket(AF_INET, SOCK_DGRAM, false);
	passing.count = 3;
	passing.fds = "3";
	passing.names = "a:b:dns";
	expect(passing, "0: [a] [b] [dns] open 3, then 0, variables gone");
}

/* ---- refused variables: the passed descriptors stay open ---- */

static void expect_refused(struct passing passing, int status, int open)
{
	char line[128];
	snprintf(line, sizeof(line), "%d: open %d, then %d, variables gone", status, open, open);
	expect(passing, line);
}

TEST_CASE("refused");

TEST(a_process_without_passed_sockets_gets_an_error)
{
	expect_refused((struct passing){.pid = ""}, -ENOENT, 0);
	expect_refused((struct passing){.fds = NULL}, -ENOENT, 0);
}

TEST(sockets_for_another_process_are_left)
{
	struct passing passing = two_sockets();
	passing.pid = "1";
	expect_refused(passing, -ENOENT, 2);
	passing = two_sockets();
	passing.pid = "";
	expect_refused(passing, -ENOENT, 2);
}

TEST(malformed_variables_are_refused)
{
	static const char *const pids[] = {"x", "12x", "-1", "99999999999999999999"};
	static const char *const counts[] = {"", "x", "2x", "-2", "2147483647", "99999999999999999999"};
	for (size_t i = 0; i < sizeof(pids) / sizeof(*pids); i++)
		expect_refused((struct passing){.pid = pids[i], .fds = "1"}, -EINVAL, 0);
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		struct passing passing = two_sockets();
		passing.fds = counts[i];
		expect_refused(passing, -EINVAL, 2);
	}
}

TEST(as_many_names_as_descriptors_are_wanted)
{
	static const char *const names[] = {"one", "one:two:three", "one:two:"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct passing passing = two_sockets();
		passing.names = names[i];
		expect_refused(passing, -EINVAL, 2);
	}
}

TEST(a_descriptor_that_is_not_open_is_refused)
{
	struct passing passing = two_sockets();
	passing.fds = "3";
	expect_refused(passing, -EBADF, 2);
}

TEST(a_descriptor_that_is_no_listening_socket_is_refused)
{
	struct passing passing = two_sockets();
	passing.sockets[2] = make_socket(AF_INET, SOCK_STREAM, false);
	passing.count = 3;
	passing.fds = "3";
	expect_refused(passing, -EINVAL, 3);

	passing = two_sockets();
	passing.sockets[2] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	passing.count = 3;
	passing.fds = "3";
	expect_refused(passing, -ENOTSOCK, 3);
}

TEST(a_name_over_the_limit_is_refused)
{
	char names[FERRY_SOCKET_SET_NAME_MAX + 4];
	struct passing passing = two_sockets();

	memset(names, 'n', sizeof(names));
	memcpy(names + FERRY_SOCKET_SET_NAME_MAX, ":2", 3);
	passing.names = names;
	char line[FERRY_SOCKET_SET_NAME_MAX + 64];
	snprintf(line, sizeof(line), "0: [%.255s] [2] open 2, then 0, variables gone", names);
	expect(passing, line);

	passing = two_sockets();
	memcpy(names + FERRY_SOCKET_SET_NAME_MAX, "n:2", 4);
	passing.names = names;
	expect_refused(passing, -EMSGSIZE, 2);
}

TEST(no_place_for_the_set_is_refused)
{
	ck_assert_int_eq(ferry_socket_set_from_environment(NULL, false), -EINVAL);
}

BEFORE_ALL
{
	if (argc > 1)
		exit(tell(strcmp(argv[1], "unset") == 0));
}
