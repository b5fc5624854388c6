/* The end of a program is noticed once, with its status, whatever the caller does with SIGCHLD. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "children.h"
#include "started_program.h"

TEST(the_status_is_that_of_the_program)
{
	static const char *const scripts[] = {"exit 0", "exit 1", "exit 255", "kill -9 $$",
	                                      "kill -TERM $$"};
	static const int statuses[] = {0, 1 << 8, 255 << 8, SIGKILL, SIGTERM};
	for (int i = 0; i < COUNT(scripts); i++) {
		struct end_note note = {.free = i % 2 == 0};
		struct child *child = start_script(scripts[i], &note);
		expect_end(child, &note, statuses[i]);
		ck_assert(has_no_child());
	}
}

TEST(a_signal_reaches_the_program)
{
	struct end_note note = {0};
	struct child *child = start_script("sleep 1000 & wait", &note);
	ck_assert_int_eq(child_signal(child, 0), 0);
	ck_assert_int_eq(child_signal(child, SIGTERM), 0);
	expect_end(child, &note, kill_status(SIGTERM));
}

TEST(many_programs_that_end_at_once_are_all_noticed)
{
	struct end_note notes[40] = {{0}};
	struct child *children[40];
	for (int i = 0; i < COUNT(children); i++)
		children[i] = start_script("kill -STOP $$; exit 5", &notes[i]);
	for (int i = 0; i < COUNT(children); i++)
		while (child_signal(children[i], SIGCONT) == 0 && notes[i].count == 0)
			event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	for (int i = 0; i < COUNT(children); i++)
		expect_end(children[i], &notes[i], exit_status(5));
	ck_assert(has_no_child());
}

TEST(a_child_of_the_callers_own_is_not_waited_for)
{
	struct end_note note = {0};
	pid_t own = fork();
	if (own == 0)
		_exit(9);
	struct child *child = start_script("exit 1", &note);
	ck_assert_int_eq(system("exit 4"), exit_status(4));
	expect_end(child, &note, exit_status(1));
	int status;
	ck_assert_int_eq(waitpid(own, &status, 0), own);
	ck_assert_int_eq(status, exit_status(9));
}

static void wait_for_all(int number)
{
	(void)number;
	int error = errno; /* NOLINT(bugprone-signal-handler,cert-sig30-c): it may be read there */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = error;
}

/* The handler may or may not be quicker. */
TEST(a_handler_that_waits_for_any_child_takes_the_status_only)
{
	struct end_note note = {0};
	signal(SIGCHLD, wait_for_all);
	struct child *child = start_script("exit 1", &note);
	pump_until_count(&note.count, 1);
	ck_assert(note.status == CHILD_STATUS_UNKNOWN || note.status == exit_status(1));
	child_free(child);
	ck_assert(has_no_child());
}

TEST(a_program_that_ignores_sigchld_hears_of_the_end)
{
	struct end_note note = {0};
	signal(SIGCHLD, SIG_IGN);
	char *nothing[] = {"/nowhere", NULL};
	struct child *child;
	ck_assert_int_eq(
	    child_start(&child, base, &(struct child_options){.argv = nothing}, end_note, &note),
	    -ENOENT);
	child = start_script("exit 1", &note);
	expect_end(child, &note, CHILD_STATUS_UNKNOWN);
}

TEST(freeing_a_child_kills_it_and_leaves_no_zombie)
{
	struct end_note note = {0};
	struct child *child = start_script("trap '' TERM; sleep 1000", &note);
	child_free(child);
	ck_assert(has_no_child());
	/* One that has ended, and whose end the loop has not seen. */
	child = start_script("exit 0", &note);
	siginfo_t info;
	ck_assert_int_eq(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
	child_free(child);
	child_free(NULL);
	child_release(NULL);
	ck_assert(has_no_child());
	pump_turns(3);
	ck_assert_uint_eq(note.count, 0);
}

TEST(a_released_program_goes_on)
{
	struct end_note note = {0};
	struct child *child = start_script("exec sleep 1000", &note);
	pid_t pid = child_pid(child);
	child_release(child);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	wait_for_death(pid);
}

TEST(a_forked_child_that_frees_does_not_kill_or_wait)
{
	struct end_note note = {0};
	struct child *child = start_script("exec sleep 1000", &note);
	pid_t fork_of_this = fork();
	if (fork_of_this == 0) {
		event_reinit(base);
		bool harmless = child_signal(child, SIGKILL) == -ESRCH;
		pump_turns(2);
		child_free(child);
		_exit(harmless && note.count == 0 ? 0 : 1);
	}
	int status;
	ck_assert_int_eq(waitpid(fork_of_this, &status, 0), fork_of_this);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(kill(child_pid(child), 0), 0);
	ck_assert_uint_eq(note.count, 0);
	child_signal(child, SIGKILL);
	expect_end(child, &note, kill_status(SIGKILL));
}

/* In a fork that goes on with the loop, the end of the program is nothing that the fork hears. */
TEST(a_forked_child_hears_nothing_of_the_end)
{
	struct end_note note = {0};
	struct child *child = start_script("exec sleep 1000", &note);
	int go[2];
	char byte;
	ck_assert_int_eq(pipe(go), 0);
	pid_t fork_of_this = fork();
	if (fork_of_this == 0) {
		event_reinit(base);
		if (read(go[0], &byte, 1) != 1)
			_exit(2);
		pump_turns(5);
		_exit(note.count == 0 ? 0 : 1);
	}
	child_signal(child, SIGKILL);
	expect_end(child, &note, kill_status(SIGKILL));
	int status;
	ck_assert_int_eq(write(go[1], "", 1), 1);
	ck_assert_int_eq(waitpid(fork_of_this, &status, 0), fork_of_this);
	ck_assert_int_eq(status, 0);
	close(go[0]);
	close(go[1]);
}

TEST(a_look_is_harmless_while_the_program_runs)
{
	struct end_note note = {0};
	struct child *child = start_script("exec sleep 1000", &note);
	for (int i = 0; i < 10; i++) {
		child_look(child);
		pump_turns(1);
	}
	ck_assert_uint_eq(note.count, 0);
	child_signal(child, SIGKILL);
	expect_end(child, &note, kill_status(SIGKILL));
}

/* The pidfd of a program whose end a debugger keeps back is readable all the time. */
TEST(a_program_under_a_debugger_does_not_have_the_loop_spin)
{
	struct end_note note = {0};
	struct child *child = start_script("exec sleep 1000", &note);
	int ready[2], go[2];
	char byte;
	ck_assert_int_eq(pipe(ready), 0);
	ck_assert_int_eq(pipe(go), 0);
	pid_t debugger = fork();
	if (debugger == 0) {
		if (ptrace(PTRACE_SEIZE, child_pid(child), NULL, NULL) != 0)
			_exit(77);
		(void)!write(ready[1], "", 1);
		(void)!read(go[0], &byte, 1);
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) == 1) {
		child_signal(child, SIGKILL);
		pump_without_spin(500000, 100000);
		ck_assert_uint_eq(note.count, 0);
	} else {
		child_signal(child, SIGKILL); /* the sandbox permits no debugger */
	}
	(void)!write(go[1], "", 1);
	waitpid(debugger, NULL, 0);
	expect_end(child, &note, kill_status(SIGKILL));
	close(ready[0]);
	close(go[0]);
	close(go[1]);
}

TEST(a_status_is_described)
{
	char text[64];
	child_describe(exit_status(3), text, sizeof(text));
	ck_assert_str_eq(text, "exited with status 3");
	child_describe(SIGKILL, text, sizeof(text));
	ck_assert_str_eq(text, "killed by signal 9 (Killed)");
	child_describe(CHILD_STATUS_UNKNOWN, text, sizeof(text));
	ck_assert_str_eq(text, "ended");
}
