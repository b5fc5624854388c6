/* A program finds its channel by the environment; programs that it starts do not. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/worker.h"

static int try_value(const char *value)
{
	static const struct ferry_worker_callbacks callbacks;
	struct ferry_worker *worker = NULL;
	if (value != NULL)
		setenv("FERRY_WORKER", value, 1);
	else
		unsetenv("FERRY_WORKER");
	int status = ferry_worker_new_from_environment(&worker, base, &callbacks, NULL);
	if (status == 0) {
		ck_assert_ptr_null(getenv("FERRY_WORKER"));
		ferry_worker_free(worker);
		pump_turns(4);
	} else if (value != NULL) {
		ck_assert_str_eq(getenv("FERRY_WORKER"), value);
	}
	unsetenv("FERRY_WORKER");
	return status;
}

static int try_fd(int fd, pid_t pid)
{
	char value[64];
	snprintf(value, sizeof(value), "%d:%ld", fd, (long)pid);
	return try_value(value);
}

TEST(a_channel_is_taken_once)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	fcntl(fds[0], F_SETFD, 0);
	fcntl(fds[0], F_SETFL, 0);
	ck_assert_int_eq(try_fd(fds[0], getpid()), 0);
	ck_assert(!fd_is_open(fds[0]));
	ck_assert_int_eq(try_fd(fds[0], getpid()), -EBADF);
	close(fds[1]);
}

TEST(a_channel_for_another_process_stays)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(try_fd(fds[0], getppid()), -ENOENT);
	ck_assert(fd_is_open(fds[0]));
	close(fds[0]);
	close(fds[1]);
}

TEST(wrong_values_are_refused)
{
	static const char *const values[] = {"",
	                                     "3",
	                                     ":",
	                                     "3:",
	                                     ":3",
	                                     "a:1",
	                                     "3:a",
	                                     "3:-",
	                                     " 3:1",
	                                     "+3:1",
	                                     "-3:1",
	                                     "3:1 ",
	                                     "3::",
	                                     "3:1x",
	                                     "99999999999999999999:1",
	                                     "3:99999999999999"};
	for (int i = 0; i < COUNT(values); i++)
		ck_assert_int_eq(try_value(values[i]), -EINVAL);
	ck_assert_int_eq(try_value(NULL), -ENOENT);
	ck_assert_int_eq(ferry_worker_new_from_environment(NULL, base, NULL, NULL), -EINVAL);
}

/* A socket that cannot be a channel is as it was. */
TEST(another_descriptor_is_refused_and_stays)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), tcp[2];
	ck_assert_int_eq(try_fd(null, getpid()), -ENOTSOCK);
	ck_assert(fd_is_open(null));
	close(null);
	make_pair(PAIR_TCP, tcp);
	fcntl(tcp[0], F_SETFD, 0);
	ck_assert_int_lt(try_fd(tcp[0], getpid()), 0);
	pump_turns(4);
	ck_assert(fd_is_open(tcp[0]));
	char byte = 'x';
	ck_assert_int_eq(send(tcp[0], &byte, 1, MSG_NOSIGNAL), 1);
	close(tcp[0]);
	close(tcp[1]);
}
