/* A supervisor stops its processes, by deadlines, and leaves none. */

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervised.h"

/* Opens a supervisor of processes that ignore SIGTERM, and waits until they do. */
static void open_stubborn(unsigned int count)
{
	int ready[2];
	char byte;
	ck_assert_int_eq(pipe(ready), 0);
	const struct ferry_supervisor_fd fd = {.number = 9, .fd = ready[1]};
	use_script("trap '' TERM; echo >&9; exec sleep 1000 9>&-");
	options.workers = count;
	options.drain_timeout = (struct timeval){0, 50000};
	options.kill_timeout = (struct timeval){0, 50000};
	options.fds = &fd;
	options.fd_count = 1;
	open_plain_supervisor();
	pump_until_count(&notes.started, count);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
}

TEST(a_drain_lets_clients_finish)
{
	const char *const command[] = {worker_program, NULL};
	use_program(command); /* it returns nothing */
	options.workers = 2;
	open_supervisor();
	wait_until_ready(2);
	int client = hand_client_off();
	ck_assert(client_echoes(client));
	ck_assert_int_eq(ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_DRAIN), 0);
	pump_until_count(&notes.ended, 1);
	ck_assert_int_eq(notes.state, FERRY_SUPERVISOR_STOPPING);
	ck_assert(client_echoes(client));
	close(client);
	pump_until_count(&notes.ended, 2);
	ck_assert_int_eq(notes.status, 0);
	ck_assert_int_eq(supervisor_stats().state, FERRY_SUPERVISOR_STOPPED);
	pump_until_count(&notes.states, 2);
	ck_assert_int_eq(notes.state, FERRY_SUPERVISOR_STOPPED);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), -ESHUTDOWN);
	ck_assert_int_eq(ferry_supervisor_set_workers(supervisor, 1), -ESHUTDOWN);
	ck_assert_uint_eq(notes.log_lines, 0);
	close_supervisor();
}

TEST(one_that_does_not_drain_in_time_gets_sigterm_and_sigkill)
{
	open_stubborn(2);
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	ck_assert_int_eq(notes.status, SIGKILL);
	ck_assert_uint_eq(supervisor_stats().killed, 2);
	ck_assert_uint_eq(supervisor_stats().crashes, 0);
	close_supervisor();
}

LOOP_TEST(a_harder_stop_overtakes_a_softer_one, 2)
{
	static const int statuses[] = {SIGTERM, SIGKILL};
	use_script("exec sleep 1000");
	open_plain_supervisor();
	pump_until_count(&notes.started, 1);
	ck_assert_int_eq(ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_DRAIN), 0);
	pump_until_count(&notes.leaving, 1);
	stop_supervisor(_i == 0 ? FERRY_SUPERVISOR_TERMINATE : FERRY_SUPERVISOR_KILL);
	ck_assert_int_eq(notes.status, statuses[_i]);
	close_supervisor();
}

TEST(a_stopped_process_is_woken_for_its_sigterm)
{
	use_script("kill -STOP $$; exec sleep 1000");
	open_plain_supervisor();
	pump_until_count(&notes.started, 1);
	siginfo_t info;
	ck_assert_int_eq(waitid(P_ALL, 0, &info, WSTOPPED | WNOWAIT), 0);
	stop_supervisor(FERRY_SUPERVISOR_TERMINATE);
	ck_assert_int_eq(notes.status, SIGTERM);
	close_supervisor();
}

TEST(a_stop_before_the_first_start_starts_nothing)
{
	use_worker();
	open_supervisor();
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	ck_assert_uint_eq(notes.started, 0);
	pump_turns(2);
	ck_assert_uint_eq(notes.states, 1);
	ck_assert_int_eq(notes.state, FERRY_SUPERVISOR_STOPPED);
	close_supervisor();
}

TEST(a_free_kills_all_at_once)
{
	open_stubborn(8);
	close_supervisor(); /* it looks for zombies */
	ck_assert_uint_eq(notes.ended, 0);
}

TEST(the_dispatcher_may_be_freed_once_it_is_stopped)
{
	use_worker();
	options.workers = 2;
	open_supervisor();
	wait_until_ready(2);
	ck_assert_int_eq(ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_DRAIN), 0);
	ferry_dispatcher_free(dispatcher);
	dispatcher = NULL;
	pump_until_count(&notes.ended, 2);
	close_supervisor();
}

TEST(a_forked_child_that_frees_leaves_the_processes_alone)
{
	use_worker();
	options.workers = 2;
	open_supervisor();
	wait_until_ready(2);
	pid_t child = fork();
	if (child == 0) {
		event_reinit(base);
		pump_turns(2);
		ferry_supervisor_free(supervisor);
		_exit(0);
	}
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	int client = hand_client_off();
	ck_assert(client_echoes(client));
	close(client);
	ck_assert_uint_eq(notes.ended, 0);
	ck_assert_uint_eq(supervisor_stats().ready, 2);
	close_supervisor();
}

/* ---- signals ---- */

TEST(signals_are_handled_if_that_is_asked_for)
{
	use_worker();
	open_supervisor();
	ck_assert_int_eq(ferry_supervisor_handle_signals(supervisor), 0);
	ck_assert_int_eq(ferry_supervisor_handle_signals(supervisor), 0);
	wait_until_ready(1);
	raise(SIGHUP);
	pump_until_count(&notes.replaced, 1);
	ck_assert_int_eq(notes.replacement, 0);
	raise(SIGTERM);
	pump_until_count(&notes.ended, 2);
	ck_assert_int_eq(supervisor_stats().state, FERRY_SUPERVISOR_STOPPED);
	close_supervisor();
}

TEST(each_signal_to_end_is_harder_than_the_one_before)
{
	open_stubborn(1);
	ck_assert_int_eq(ferry_supervisor_handle_signals(supervisor), 0);
	for (int i = 0; i < 3; i++) {
		raise(i == 1 ? SIGINT : SIGTERM);
		pump_turns(2);
	}
	pump_until_count(&notes.ended, 1);
	ck_assert_int_eq(notes.status, SIGKILL);
	close_supervisor();
}

static void wait_for_all(int number)
{
	(void)number;
	int error = errno;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = error;
}

/* A handler that waits for every child, and SIGCHLD ignored. */
LOOP_TEST(a_programs_own_sigchld_costs_the_status_alone, 2)
{
	signal(SIGCHLD, _i == 0 ? wait_for_all : SIG_IGN);
	use_worker();
	options.workers = 2;
	open_supervisor();
	wait_until_ready(2);
	kill(place_info(0).pid, SIGKILL);
	pump_until_count(&notes.ended, 1);
	ck_assert(notes.status == SIGKILL || notes.status == FERRY_SUPERVISOR_STATUS_UNKNOWN);
	wait_until_ready(2);
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	close_supervisor();
}
