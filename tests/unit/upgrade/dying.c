/* A predecessor closes the channel before it has given its sockets. While it lives it has them, and it goes on if it has
 * only withdrawn: its successor may open sockets of its own when it is dead. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ferry/upgrade.h"
#include "support.h"

/* What the successor reports. */
enum { STARTED_BEFORE_THE_DEATH = 'b', STARTED_AFTER_THE_DEATH = 'a', REJECTED = 'r', SPINS = 's' };

static pid_t predecessor;
static int report_fd,
    life[2]; /* the predecessor lives as long as the writing end of `life` is open */

/* ---- getppid(2), counted in the successor ---- */

static int64_t looks, began; /* `began`: its time in milliseconds */

pid_t __real_getppid(void);
pid_t __wrap_getppid(void);

pid_t __wrap_getppid(void)
{
	looks++;
	return __real_getppid();
}

static int64_t milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the two processes ---- */

static void report(char what)
{
	_exit(write(report_fd, &what, 1) == 1 ? 0 : 1);
}

static void started(struct ferry_upgrade *upgrade, struct ferry_socket_set *set, void *context)
{
	(void)upgrade, (void)set, (void)context;
	report(getppid() == predecessor ? STARTED_BEFORE_THE_DEATH : STARTED_AFTER_THE_DEATH);
}

static void rejected(struct ferry_upgrade *upgrade, int status, void *context)
{
	(void)upgrade, (void)context;
	/* One look in 10 ms. */
	if (looks > 10 + (milliseconds() - began) / 10)
		report(SPINS);
	report(status == -ECONNRESET ? REJECTED : 'x');
}

/* In the successor: the descriptors are those of src/upgrade/inheritance.h. */
static void succeed(int channel, struct timeval timeout)
{
	static const struct ferry_upgrade_callbacks callbacks = {.started = started,
	                                                         .rejected = rejected};
	const struct ferry_upgrade_options options = {.size = sizeof(options), .timeout = timeout};
	struct ferry_upgrade *upgrade;
	char pid[24];
	int capture[2];

	close(life[1]);
	if (pipe(capture) < 0)
		abort();
	/* Above the numbers that the next calls set. */
	channel = fcntl(channel, F_DUPFD_CLOEXEC, 20);
	capture[0] = fcntl(capture[0], F_DUPFD_CLOEXEC, 20);
	report_fd = fcntl(report_fd, F_DUPFD_CLOEXEC, 20);
	if (dup2(channel, 3) < 0 || dup2(STDERR_FILENO, 4) < 0 || dup2(capture[0], 5) < 0)
		abort();
	close(channel);
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	setenv("FERRY_UPGRADE", pid, 1);
	began = milliseconds();
	struct event_base *own = event_base_new();
	if (ferry_upgrade_new(&upgrade, own, &options, &callbacks, NULL) < 0)
		abort();
	event_base_dispatch(own);
	abort();
}

/* In the predecessor. */
static void precede(struct timeval timeout)
{
	int channel[2];
	char byte;

	predecessor = getpid();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, channel) < 0)
		abort();
	pid_t child = fork();
	if (child == 0) {
		close(channel[0]);
		succeed(channel[1], timeout);
	}
	close(channel[0]);
	close(channel[1]);
	close(life[1]);
	_exit(read(life[0], &byte, 1) == 0 ? 0 : 1);
}

/* Starts both. Returns the end from which the report is read. */
static int start_both(struct timeval timeout)
{
	int reports[2];

	ck_assert_int_eq(pipe2(reports, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(pipe2(life, O_CLOEXEC), 0);
	report_fd = reports[1];
	predecessor = fork();
	if (predecessor == 0)
		precede(timeout);
	close(reports[1]);
	close(life[0]);
	return reports[0];
}

static char reported;

static bool has_reported(void *argument)
{
	return reported != 0 || read(*(int *)argument, &reported, 1) >= 0;
}

static void let_it_die(void)
{
	int status;

	close(life[1]);
	ck_assert_int_eq(waitpid(predecessor, &status, 0), predecessor);
	ck_assert_int_eq(status, 0);
}

TEST(a_successor_opens_its_sockets_when_its_predecessor_is_dead)
{
	int reports = start_both((struct timeval){.tv_sec = 100});

	/* Time in which the successor sees the end of the channel: less proves less, and more proves nothing more. */
	pump_turns(1);
	usleep(200000);
	let_it_die();
	pump_until(has_reported, &reports);
	ck_assert_int_eq(reported, STARTED_AFTER_THE_DEATH);
	close(reports);
}

TEST(a_successor_is_rejected_if_its_predecessor_goes_on)
{
	int reports = start_both((struct timeval){.tv_usec = 100000});

	pump_until(has_reported, &reports);
	ck_assert_int_eq(reported, REJECTED);
	let_it_die();
	close(reports);
}
