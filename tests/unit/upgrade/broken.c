/* Successors that are broken, each in its own way. The old process goes on, reports the cause, and can be upgraded
 * afterwards. */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "app.h"
#include "fake_manager.h"
#include "test.h"

BEFORE_ALL
{
	app_become_successor(argc, argv);
}

static struct app app;

enum { PATIENT = 600 }; /* longer than anything on a busy machine */

static const struct broken {
	const char *behaviour;
	int status, other_status;
	int exit_status;   /* -1: a signal ends it */
	int signal_number; /* 0: it exits */
	const char *output;
	int seconds; /* until it is late */
} cases[] = {
    {"exits", -ECHILD, 0, 0, 0, "", PATIENT},
    {"complains", -ECHILD, 0, 2, 0, "app.conf:3: no such word\n", PATIENT},
    {"aborts", -ECHILD, 0, -1, SIGABRT, "", PATIENT},
    {"hangs", -ETIMEDOUT, 0, -1, SIGTERM, "", 1},
    {"stops", -ETIMEDOUT, 0, -1, SIGKILL, "", 5}, /* it has stopped before that */
    {"closes", -ECONNRESET, -EPIPE, -1, SIGTERM, "", PATIENT},
    {"babbles", -EPROTO, 0, -1, SIGTERM, "", PATIENT},
    {"starves", -EMFILE, -ECHILD, -1, -1, NULL, PATIENT},
    {"dies with the sockets", -ECHILD, 0, -1, SIGKILL, "", PATIENT},
    {"is never ready", -ETIMEDOUT, 0, -1, -1, NULL, 1},
    {"dies before its commit leaves", -ECHILD, 0, -1, SIGKILL, "", PATIENT},
};

static int64_t begun;

static int64_t milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A second after the failure comes SIGTERM. On a machine so busy that the program has not died of it after another
 * second, SIGKILL follows. */
static bool has_ended_by(const struct broken *broken, int status)
{
	int64_t late = ((broken->seconds == PATIENT ? 0 : broken->seconds) + 2) * 1000 - 100;

	return WIFSIGNALED(status) &&
	       (WTERMSIG(status) == broken->signal_number ||
	        (WTERMSIG(status) == SIGKILL && broken->signal_number == SIGTERM &&
	         milliseconds() - begun >= late));
}

static void expect_failure(const struct broken *broken)
{
	int status = app.failure.wait_status;
	ck_assert_msg(app.failure.status == broken->status ||
	                  app.failure.status == broken->other_status,
	              "%s: %s", broken->behaviour, strerror(-app.failure.status));
	ck_assert_int_gt(app.failure.pid, 0);
	ck_assert_int_eq(kill(app.failure.pid, 0), -1);
	if (broken->signal_number > 0)
		ck_assert_msg(has_ended_by(broken, status), "%s: status %x", broken->behaviour,
		              (unsigned int)status);
	else if (broken->signal_number == 0)
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == broken->exit_status,
		              "%s: status %x", broken->behaviour, (unsigned int)status);
	if (broken->output != NULL)
		ck_assert_str_eq(app.output, broken->output);
}

LOOP_TEST(a_broken_successor_changes_nothing, COUNT(cases))
{
	const struct broken *broken = &cases[_i];
	int manager = fake_manager_start();
	char text[256];
	app = (struct app){.timeout = {.tv_sec = broken->seconds}};
	app_begin(&app, broken->behaviour);
	int port = app_port(&app);
	fake_manager_expect(manager, "READY=1");
	begun = milliseconds();
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), 0);
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), -EALREADY);
	pump_until_count(&app.failed, 1);
	expect_failure(broken);
	ck_assert_uint_eq(app.replaced, 0);
	fake_manager_read(manager, text, sizeof(text));
	ck_assert_msg(strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27) == 0, "%s", text);
	fake_manager_expect(manager, "READY=1");
	fake_manager_expect_nothing(manager);
	ck_assert_int_eq(app_ask_pid(port), getpid());
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), 0);
	pump_until_count(&app.failed, 2);
	ck_assert_int_eq(app_ask_pid(port), getpid());
	app_end(&app);
	fake_manager_stop(manager);
}

TEST(the_last_lines_are_reported_whole)
{
	app = (struct app){0};
	app_begin(&app, "talks");
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), 0);
	pump_until_count(&app.failed, 1);
	size_t length = strlen(app.output);
	ck_assert_uint_gt(length, FERRY_UPGRADE_OUTPUT_MAX - 16);
	ck_assert_msg(strncmp(app.output, "line ", 5) == 0, "%.20s", app.output);
	ck_assert_int_eq(WEXITSTATUS(app.failure.wait_status), 3);
	app_end(&app);
}

/* A program that cannot be started: the call fails, nothing else happens, and no callback follows. */
static void expect_error(const char *program, int status)
{
	int manager = fake_manager_start();
	app = (struct app){.program = program};
	app_begin(&app, "normal");
	fake_manager_expect(manager, "READY=1");
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), status);
	pump_turns(5);
	ck_assert_uint_eq(app.failed, 0);
	fake_manager_expect_nothing(manager);
	ck_assert_int_eq(app_ask_pid(app_port(&app)), getpid());
	app_end(&app);
	fake_manager_stop(manager);
}

TEST(a_missing_program_is_an_error_of_the_call)
{
	expect_error("/nonexistent/program", -ENOENT);
}

TEST(a_program_without_permission_is_an_error_of_the_call)
{
	expect_error("/dev/null", -EACCES);
}

TEST(a_file_that_is_no_program_is_an_error_of_the_call)
{
	char path[] = "/tmp/ferry-program-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_eq(write(fd, "\177no program", 11), 11);
	fchmod(fd, 0700);
	close(fd);
	expect_error(path, -ENOEXEC);
	unlink(path);
}

TEST(without_arguments_there_is_no_upgrade)
{
	app = (struct app){.no_arguments = true};
	app_begin(&app, "normal");
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), -EINVAL);
	app_end(&app);
}

TEST(a_state_that_is_too_long_fails_the_upgrade)
{
	app = (struct app){.state_size = FERRY_UPGRADE_STATE_MAX};
	app_begin(&app, "normal");
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), 0);
	pump_until_count(&app.failed, 1);
	ck_assert_int_eq(app.failure.status, -EMSGSIZE);
	ck_assert_int_eq(app_ask_pid(app_port(&app)), getpid());
	app_end(&app);
}

TEST(freeing_kills_a_successor_that_is_not_ready)
{
	app = (struct app){0};
	app_begin(&app, "hangs");
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), 0);
	app_end(&app);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
