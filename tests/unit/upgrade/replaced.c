/* Successors that work: the old process is replaced, its connections move, and the service manager follows. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app.h"
#include "children.h"
#include "fake_manager.h"
#include "test.h"

BEFORE_ALL
{
	app_become_successor(argc, argv);
}

static struct app app;
static int manager, port;

static void start(void)
{
	manager = fake_manager_start();
	app = (struct app){0};
	app_begin(&app, "normal");
	port = app_port(&app);
	fake_manager_expect(manager, "READY=1");
}

static void stop(void)
{
	app_end(&app);
	fake_manager_stop(manager);
}

static void upgrade(void)
{
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), 0);
	pump_until_count(&app.replaced, 1);
}

static bool message_is_there(void *argument)
{
	char byte;
	(void)argument;
	return recv(manager, &byte, 1, MSG_PEEK) > 0;
}

/* Another process sends it: the loop has nothing to wait for. */
static void expect_message(const char *text)
{
	char message[256] = "";
	while (!message_is_there(NULL))
		pump_turns(1);
	fake_manager_read(manager, message, sizeof(message));
	ck_assert_str_eq(message, text);
}

TEST_CASE("replaced", start, stop);

TEST(a_successor_serves_on_the_same_socket)
{
	char line[128];
	ck_assert_uint_eq(app_ask_generation(port), 0);
	upgrade();
	ck_assert_ptr_null(ferry_upgrade_get_set(app.upgrade));
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), -ESHUTDOWN);
	ck_assert_int_eq(ferry_upgrade_listen(app.upgrade, "www"), -ESHUTDOWN);
	app_ask(port, line, sizeof(line));
	ck_assert_uint_eq(strtoul(line, NULL, 10), 1);
	ck_assert_ptr_nonnull(strstr(line, " after-0"));
	ck_assert_int_eq(ferry_upgrade_finish(app.upgrade), 0);
	pump_until_count(&app.finished, 1);
	app_kill(port, SIGTERM);
}

TEST(the_service_manager_follows_the_main_process)
{
	char text[128], expected[64];
	upgrade();
	pid_t pid = app_ask_pid(port);
	fake_manager_read(manager, text, sizeof(text));
	ck_assert_msg(strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27) == 0, "%s", text);
	snprintf(expected, sizeof(expected), "MAINPID=%ld", (long)pid);
	expect_message(expected); /* from this process, which is the main process until then */
	expect_message(expected); /* from the successor */
	expect_message("READY=1");
	app_kill(port, SIGTERM);
}

/* ---- connections ---- */

static void give(int fd, const char *name)
{
	struct ferry_handoff *handoff;
	ck_assert_int_eq(ferry_handoff_new(&handoff, fd), 0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, name), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "blob", 4), 0);
	ck_assert_int_eq(ferry_upgrade_give(app.upgrade, handoff), 0);
}

static void expect_line(int fd, const char *expected)
{
	char line[128];
	ck_assert_msg(app_read_line(fd, line, sizeof(line)), "the connection has ended");
	ck_assert_str_eq(line, expected);
}

TEST(connections_move_to_the_successor_and_on_to_its_own)
{
	struct ferry_upgrade_stats stats;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	upgrade();
	give(fds[0], "one");
	ck_assert_int_eq(ferry_upgrade_finish(app.upgrade), 0);
	expect_line(fds[1], "moved 1 one blob");
	pump_until_count(&app.finished, 1);
	ck_assert_int_eq(ferry_upgrade_get_stats(app.upgrade, &stats), 0);
	ck_assert_uint_eq(stats.given, 1);
	ck_assert_uint_eq(stats.taken, 1);
	for (unsigned long generation = 2; generation < 5; generation++) {
		char expected[64];
		kill(app_ask_pid(port), SIGUSR2);
		snprintf(expected, sizeof(expected), "moved %lu one blob", generation);
		expect_line(fds[1], expected);
		while (app_ask_generation(port) != generation)
			;
	}
	app_kill(port, SIGTERM);
	close(fds[1]);
}

TEST(what_a_killed_successor_was_to_get_goes_to_the_one_after_it)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	upgrade();
	pid_t first = app_ask_pid(port);
	kill(first, SIGSTOP);
	give(fds[0], "two");
	pump_turns(5);
	ck_assert(!ferry_upgrade_is_settled(app.upgrade));
	kill(first, SIGKILL);
	expect_line(fds[1], "moved 1 two blob");
	ck_assert_int_ne(app_ask_pid(port), first);
	app_kill(port, SIGTERM);
	close(fds[1]);
}

TEST(what_nobody_takes_is_closed)
{
	char byte;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	upgrade();
	pid_t first = app_ask_pid(port);
	kill(first, SIGSTOP);
	give(fds[0], "three");
	ck_assert_int_eq(ferry_upgrade_finish(app.upgrade), 0);
	kill(first, SIGTERM);
	kill(first, SIGCONT);
	pump_until_count(&app.finished, 1);
	while (recv(fds[1], &byte, 1, 0) > 0)
		;
	close(fds[1]);
}

/* ---- deaths after the commit ---- */

TEST(a_successor_that_is_killed_is_started_again)
{
	upgrade();
	pid_t first = app_ask_pid(port);
	app_kill(port, SIGKILL);
	pid_t second = app_ask_pid(port);
	ck_assert_int_ne(second, first);
	ck_assert_int_ne(second, getpid());
	ck_assert_uint_eq(app.replaced, 1);
	ck_assert_uint_eq(app.failed, 0);
	app_kill(port, SIGTERM);
}

TEST(the_old_process_stays_for_the_probation_of_its_successor)
{
	app_end(&app);
	app = (struct app){.probation = {.tv_sec = 3600}};
	app_begin(&app, "normal");
	port = app_port(&app);
	upgrade();
	ck_assert_int_eq(ferry_upgrade_finish(app.upgrade), 0);
	pump_turns(20);
	ck_assert_uint_eq(app.finished, 0);
	pid_t first = app_ask_pid(port);
	app_kill(port, SIGKILL);
	ck_assert_int_ne(app_ask_pid(port), first);
	ck_assert_uint_eq(app.finished, 0);
	app_kill(port, SIGTERM); /* it was to end */
	pump_until_count(&app.finished, 1);
}

TEST(a_successor_that_is_ended_is_not_started_again)
{
	upgrade();
	app_kill(port, SIGTERM);
	ck_assert_int_eq(ferry_upgrade_finish(app.upgrade), 0);
	pump_until_count(&app.finished, 1);
	ck_assert_uint_eq(app.failed, 0);
}

TEST(a_successor_that_was_replaced_is_not_started_again)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	setenv("APP_STAYS", "1", 1);
	upgrade();
	give(fds[0], "one");
	expect_line(fds[1], "moved 1 one blob");
	pid_t first = app_ask_pid(port);
	kill(first, SIGUSR2);
	/* Its successor may serve before it knows. It notifies this process before it gives its connections. */
	expect_line(fds[1], "moved 2 one blob");
	while (app_ask_pid(port) == first)
		;
	pid_t second = app_ask_pid(port);
	kill(first, SIGKILL);
	ck_assert_int_eq(ferry_upgrade_finish(app.upgrade), 0);
	pump_until_count(&app.finished, 1);
	pump_turns(20);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(app_ask_pid(port), second);
	app_kill(port, SIGTERM);
	close(fds[1]);
	unsetenv("APP_STAYS");
}

TEST(a_successor_that_is_killed_again_and_again_is_given_up)
{
	upgrade();
	setenv("FERRY_UPGRADE_TEST", "", 1);
	for (int i = 0; i < 5; i++)
		app_kill(port, SIGKILL);
	pid_t last = app_ask_pid(port);
	kill(last, SIGKILL);
	pump_until_count(&app.failed, 1);
	ck_assert_int_eq(app.failure.status, -ECHILD);
}

/* ---- signals ---- */

TEST_CASE("signals", start, stop);

TEST(sigusr2_starts_a_successor_and_the_others_are_reported)
{
	static const int numbers[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
	ck_assert_int_eq(ferry_upgrade_watch_signals(app.upgrade), 0);
	for (unsigned int i = 0; i < 4; i++) {
		raise(numbers[i]);
		pump_until_count(&app.signalled, i + 1);
		ck_assert_int_eq(app.last_signal, numbers[i]);
	}
	raise(SIGUSR2);
	raise(SIGUSR2);
	pump_until_count(&app.replaced, 1);
	app_kill(port, SIGTERM);
}

TEST(without_the_call_no_signal_is_touched)
{
	struct sigaction action;
	ck_assert_int_eq(sigaction(SIGUSR2, NULL, &action), 0);
	ck_assert(action.sa_handler == SIG_DFL);
	ck_assert_int_eq(sigaction(SIGCHLD, NULL, &action), 0);
	ck_assert(action.sa_handler == SIG_DFL);
	upgrade();
	ck_assert_int_eq(sigaction(SIGCHLD, NULL, &action), 0);
	ck_assert(action.sa_handler == SIG_DFL);
	app_kill(port, SIGTERM);
}

/* ---- fork(2) ---- */

TEST_CASE("fork", start, stop);

TEST(a_forked_child_that_frees_does_no_harm)
{
	ck_assert_int_eq(ferry_upgrade_start(app.upgrade), 0);
	pid_t child = start_child();
	if (child == 0) {
		bool wrong = ferry_upgrade_start(app.upgrade) != -ECHILD ||
		             ferry_upgrade_ready(app.upgrade) != -ECHILD ||
		             ferry_upgrade_finish(app.upgrade) != -ECHILD ||
		             ferry_upgrade_watch_signals(app.upgrade) != -ECHILD ||
		             ferry_upgrade_listen(app.upgrade, "www") != -ECHILD;
		ferry_upgrade_free(app.upgrade);
		if (wrong)
			_exit(1);
		die();
	}
	wait_for_death(child);
	pump_until_count(&app.replaced, 1);
	ck_assert_uint_eq(app_ask_generation(port), 1);
	app_kill(port, SIGTERM);
}
