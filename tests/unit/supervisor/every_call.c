/* Every call that a supervisor has, in each of its callbacks. */

#include "test.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "every_call.h"
#include "supervised.h"

static void on(const char *name)
{
	strike(name);
}

static void set_up(void)
{
	use_worker();
	options.workers = 2;
	options.drain_timeout = (struct timeval){0, 50000};
	notes.on = on;
	open_supervisor();
}

static void set_up_plain(void)
{
	use_script("exec sleep 1000");
	options.workers = 2;
	options.drain_timeout = (struct timeval){0, 50000};
	notes.on = on;
	open_plain_supervisor();
}

static void set_up_nothing(void)
{
	static const char *const argv[] = {"/nowhere", NULL};
	use_program(argv);
	notes.on = on;
	open_supervisor();
}

static void tear_down(void)
{
	pump_turns(4);
	notes.on = NULL;
	close_supervisor();
}

static bool was_struck(void *argument)
{
	(void)argument;
	return struck || supervisor == NULL;
}

static void wait(void)
{
	pump_until(was_struck, NULL);
	pump_turns(4);
}

static void by_kill(void)
{
	pump_until_count(&notes.started, 1);
	kill(place_info(0).pid, SIGKILL);
	wait();
}

static void by_replacement(void)
{
	pump_until_count(&notes.ready, 2);
	ferry_supervisor_replace(supervisor);
	wait();
}

static void by_stop(void)
{
	pump_until_count(&notes.started, 2);
	ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_TERMINATE);
	wait();
}

static const struct every_callback with_dispatcher[] = {
    {"worker_started", wait},  {"worker_ready", wait},       {"worker_leaving", by_replacement},
    {"worker_ended", by_kill}, {"replaced", by_replacement}, {"state_changed", by_stop},
};

static const struct every_callback without_dispatcher[] = {
    {"worker_started", wait},  {"channel_opened", wait},   {"worker_leaving", by_stop},
    {"worker_ended", by_stop}, {"state_changed", by_stop},
};

static const struct every_callback without_program[] = {
    {"start_failed", wait},
};

/* ---- the calls ---- */

static void call_free(void)
{
	ferry_supervisor_free(supervisor);
	ferry_supervisor_free(supervisor);
	ferry_supervisor_replace(supervisor);
	supervisor = NULL;
}

static void call_free_all(void)
{
	call_free();
	ferry_dispatcher_free(dispatcher);
	dispatcher = NULL;
}

static void call_new(void)
{
	static const struct ferry_supervisor_callbacks callbacks;
	struct ferry_supervisor *made;
	if (dispatcher == NULL)
		return;
	ck_assert_int_eq(ferry_supervisor_new(&made, base, &options, &callbacks, NULL), 0);
	ferry_supervisor_free(made);
}

static void call_replace(void)
{
	ferry_supervisor_replace(supervisor);
}

static void call_stop(void)
{
	ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_DRAIN);
	ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_KILL);
}

static void call_stop_and_free(void)
{
	call_stop();
	call_free_all();
}

static void call_no_workers(void)
{
	ferry_supervisor_set_workers(supervisor, 0);
}

static void call_many_workers(void)
{
	ferry_supervisor_set_workers(supervisor, 5);
}

static void call_set_argv(void)
{
	static const char *const argv[] = {"sh", "-c", "exit 0", NULL};
	ck_assert_int_eq(ferry_supervisor_set_argv(supervisor, argv), 0);
}

static void call_set_standard_fd(void)
{
	ck_assert_int_eq(ferry_supervisor_set_standard_fd(supervisor, 1, 2), 0);
	ck_assert_int_eq(ferry_supervisor_set_standard_fd(supervisor, 0, FERRY_SUPERVISOR_FD_NULL), 0);
}

static void call_handle_signals(void)
{
	ck_assert_int_eq(ferry_supervisor_handle_signals(supervisor), 0);
}

static void call_look(void)
{
	struct ferry_supervisor_worker_info info;
	struct ferry_supervisor_place_info place;
	struct ferry_supervisor_stats stats;
	ck_assert_int_eq(ferry_supervisor_get_stats(supervisor, &stats), 0);
	ck_assert_int_eq(ferry_supervisor_get_place(supervisor, 0, &place), 0);
	if (notes.last == NULL)
		return;
	ck_assert_int_eq(ferry_supervisor_worker_get_info(notes.last, &info), 0);
	(void)ferry_supervisor_find_worker(supervisor, info.dispatcher_worker);
	ferry_supervisor_worker_set_context(notes.last, &notes);
	ck_assert_ptr_eq(ferry_supervisor_worker_get_context(notes.last), &notes);
}

static void call_signal(void)
{
	ferry_supervisor_signal(supervisor, SIGCONT);
}

static void call_worker_signal(void)
{
	ferry_supervisor_worker_signal(notes.last, SIGCONT);
}

static void call_worker_stop(void)
{
	ferry_supervisor_worker_stop(notes.last, FERRY_SUPERVISOR_DRAIN);
	ferry_supervisor_worker_stop(notes.last, FERRY_SUPERVISOR_KILL);
}

static void call_worker_ready(void)
{
	ferry_supervisor_worker_ready(notes.last);
	ferry_supervisor_worker_served(notes.last);
}

/* The dispatcher's worker is ended behind the supervisor's back. */
static void call_remove_worker(void)
{
	struct ferry_supervisor_worker_info info;
	if (ferry_supervisor_worker_get_info(notes.last, &info) == 0)
		ferry_dispatcher_worker_remove(info.dispatcher_worker);
}

static void call_new_from_environment(void)
{
	static const struct ferry_worker_callbacks callbacks;
	struct ferry_worker *worker;
	ck_assert_int_lt(ferry_worker_new_from_environment(&worker, base, &callbacks, NULL), 0);
}

static const struct every_call calls[] = {
    {"free", call_free},
    {"free all", call_free_all},
    {"new", call_new},
    {"replace", call_replace},
    {"stop", call_stop},
    {"stop and free", call_stop_and_free},
    {"no workers", call_no_workers},
    {"many workers", call_many_workers},
    {"set_argv", call_set_argv},
    {"set_standard_fd", call_set_standard_fd},
    {"handle_signals", call_handle_signals},
    {"look", call_look},
    {"signal", call_signal},
    {"worker_signal", call_worker_signal},
    {"worker_stop", call_worker_stop},
    {"worker_ready", call_worker_ready},
    {"remove worker", call_remove_worker},
    {"new_from_environment", call_new_from_environment},
};

LOOP_TEST(every_call_is_legal_with_a_dispatcher, COUNT(with_dispatcher))
{
	every_call_run(&with_dispatcher[_i], calls, COUNT(calls), set_up, tear_down);
}

LOOP_TEST(every_call_is_legal_without_a_dispatcher, COUNT(without_dispatcher))
{
	every_call_run(&without_dispatcher[_i], calls, COUNT(calls), set_up_plain, tear_down);
}

LOOP_TEST(every_call_is_legal_without_a_program, COUNT(without_program))
{
	every_call_run(&without_program[_i], calls, COUNT(calls), set_up_nothing, tear_down);
}
