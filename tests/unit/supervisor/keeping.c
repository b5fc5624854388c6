/* A supervisor keeps its processes running, less and less often those that end soon. */

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "supervised.h"

TEST(each_place_has_a_process_that_serves)
{
	use_worker();
	options.workers = 3;
	open_supervisor();
	wait_until_ready(3);
	for (unsigned int i = 0; i < 3; i++) {
		struct ferry_supervisor_place_info place = place_info(i);
		struct ferry_supervisor_worker_info info;
		ck_assert_int_eq(ferry_supervisor_worker_get_info(place.worker, &info), 0);
		ck_assert_uint_eq(info.place, i);
		ck_assert_uint_eq(info.generation, 1);
		ck_assert_int_eq(info.pid, place.pid);
		ck_assert_int_eq(kill(place.pid, 0), 0);
		ck_assert(info.has_place && !info.asked);
		ck_assert_ptr_eq(ferry_supervisor_find_worker(supervisor, info.dispatcher_worker),
		                 place.worker);
		ck_assert_uint_eq(place.starts, 1);
	}
	int client = hand_client_off();
	ck_assert(client_echoes(client));
	close(client);
	pump_until_count(&notes.outcomes[FERRY_HANDOFF_DONE], 1);
	ck_assert_uint_eq(supervisor_stats().starts, 3);
	close_supervisor();
	ck_assert_uint_eq(notes.ready, 3);
	ck_assert_uint_eq(notes.ended, 0);
}

TEST(a_process_that_is_killed_has_a_successor)
{
	use_worker();
	options.workers = 2;
	open_supervisor();
	wait_until_ready(2);
	int client = hand_client_off();
	ck_assert(client_echoes(client));
	close(client);
	pump_until_count(&notes.outcomes[FERRY_HANDOFF_DONE], 1);
	pid_t killed = place_info(1).pid;
	ck_assert_int_eq(kill(killed, SIGKILL), 0);
	pump_until_count(&notes.ended, 1);
	ck_assert_int_eq(notes.status, SIGKILL);
	pump_until_count(&notes.started, 3);
	wait_until_ready(2);
	ck_assert_int_ne(place_info(1).pid, killed);
	ck_assert_int_eq(place_info(1).last_status, SIGKILL);
	ck_assert_uint_eq(place_info(1).starts, 2);
	ck_assert_uint_eq(place_info(0).stats.done + place_info(1).stats.done, 1);
	ck_assert_uint_eq(supervisor_stats().crashes, 1);
	ck_assert_ptr_nonnull(strstr(notes.log, "killed by signal 9 (Killed)"));
	close_supervisor();
}

TEST(an_unclaimed_connection_outlives_the_process_that_had_it)
{
	use_worker();
	options.workers = 1;
	open_supervisor();
	wait_until_ready(1);
	ck_assert_int_eq(kill(place_info(0).pid, SIGSTOP), 0);
	int client = hand_client_off();
	pump_turns(3);
	ck_assert_int_eq(kill(place_info(0).pid, SIGKILL), 0);
	ck_assert(client_echoes(client));
	close(client);
	pump_until_count(&notes.outcomes[FERRY_HANDOFF_DONE], 1);
	close_supervisor();
}

TEST(places_that_wait_for_their_next_start_do_not_have_the_loop_spin)
{
	use_script("exit 3");
	options.workers = 4;
	options.first_pause = (struct timeval){1000, 0};
	open_supervisor();
	pump_until_count(&notes.ended, 4);
	ck_assert_int_eq(notes.status, 3 << 8);
	ck_assert_ptr_nonnull(strstr(notes.log, "exited with status 3"));
	pump_without_spin(300000, 300000);
	ck_assert_uint_eq(notes.started, 4);
	close_supervisor();
}

TEST(many_crashes_in_a_time_are_a_state_that_the_owner_hears)
{
	use_script("exit 3");
	options.workers = 1;
	options.crash_limit = 3;
	options.crash_window = (struct timeval){1000, 0};
	options.longest_pause = (struct timeval){0, 10000};
	open_supervisor();
	pump_until_count(&notes.states, 1);
	ck_assert_int_eq(notes.state, FERRY_SUPERVISOR_FAILING);
	ck_assert_uint_ge(supervisor_stats().crashes, 3);
	ck_assert_ptr_nonnull(strstr(notes.log, "the workers of w fail: 3 have ended"));
	/* It goes on. */
	pump_until_count(&notes.ended, 6);
	ck_assert_uint_eq(notes.states, 1);
	close_supervisor();
}

TEST(a_program_that_is_not_there_is_tried_again)
{
	static const char *const argv[] = {"/nowhere/at/all", NULL};
	use_program(argv);
	open_supervisor();
	pump_until_count(&notes.failed_starts, 3);
	ck_assert_int_eq(notes.error, -ENOENT);
	ck_assert_uint_eq(notes.started, 0);
	ck_assert_int_eq(place_info(0).state, FERRY_SUPERVISOR_WAITING);
	ck_assert_int_eq(place_info(0).last_status, FERRY_SUPERVISOR_STATUS_UNKNOWN);
	close_supervisor();
}

TEST(a_process_that_is_not_ready_in_time_is_made_to_end)
{
	use_script("exec sleep 1000");
	options.start_timeout = (struct timeval){0, 50000};
	open_plain_supervisor();
	pump_until_count(&notes.ended, 2);
	ck_assert_int_eq(notes.status, SIGTERM);
	ck_assert_uint_eq(notes.ready, 0);
	ck_assert_uint_ge(supervisor_stats().crashes, 2);
	ck_assert_ptr_nonnull(strstr(notes.log, "is not ready in time"));
	close_supervisor();
}

static bool one_was_killed(void *argument)
{
	(void)argument;
	return supervisor_stats().killed > 0 && notes.status == SIGKILL;
}

TEST(a_process_whose_channel_has_ended_leaves_and_has_a_successor)
{
	use_script("trap '' TERM; exec 3>&-; exec sleep 1000");
	options.drain_timeout = (struct timeval){0, 50000};
	options.kill_timeout = (struct timeval){0, 50000};
	open_supervisor();
	/* On a slow machine some get their SIGTERM before they ignore it. */
	pump_until(one_was_killed, NULL);
	ck_assert_uint_ge(notes.started, 2);
	ck_assert_ptr_nonnull(strstr(notes.log, "does not end: it is killed"));
	close_supervisor();
}

TEST(places_come_and_go)
{
	use_worker();
	options.workers = 0;
	open_supervisor();
	pump_turns(3);
	ck_assert_uint_eq(notes.started, 0);
	ck_assert_int_eq(ferry_supervisor_set_workers(supervisor, 4), 0);
	wait_until_ready(4);
	pid_t kept = place_info(0).pid;
	ck_assert_int_eq(ferry_supervisor_set_workers(supervisor, 1), 0);
	pump_until_count(&notes.ended, 3);
	ck_assert_int_eq(notes.status, 0);
	ck_assert_uint_eq(supervisor_stats().places, 1);
	ck_assert_int_eq(place_info(0).pid, kept);
	struct ferry_supervisor_place_info info;
	ck_assert_int_eq(ferry_supervisor_get_place(supervisor, 1, &info), -EINVAL);
	ck_assert_uint_eq(supervisor_stats().crashes, 0);
	ck_assert_uint_eq(notes.log_lines, 0);
	close_supervisor();
}

TEST(without_a_dispatcher_the_owner_has_the_channel)
{
	use_script("exec cat <&3 >&3");
	open_plain_supervisor();
	pump_until_count(&notes.channels, 1);
	ck_assert_int_eq(ferry_supervisor_worker_ready(notes.last), 0);
	wait_until_ready(1);
	struct bufferevent *bev = ferry_transport_get_bufferevent(notes.transport);
	ck_assert_ptr_nonnull(bev);
	/* The program ends when its channel does. */
	ferry_transport_free(notes.transport);
	notes.transport = NULL;
	pump_until_count(&notes.ended, 1);
	ck_assert_int_eq(notes.status, 0);
	close_supervisor();
}

TEST(a_process_that_is_stopped_alone_has_a_successor_at_once)
{
	use_worker();
	options.first_pause = (struct timeval){1000, 0};
	open_supervisor();
	wait_until_ready(1);
	ck_assert_int_eq(ferry_supervisor_worker_stop(place_info(0).worker, FERRY_SUPERVISOR_TERMINATE),
	                 0);
	pump_until_count(&notes.ended, 1);
	ck_assert_int_eq(notes.status, SIGTERM);
	pump_until_count(&notes.started, 2);
	wait_until_ready(1);
	ck_assert_uint_eq(supervisor_stats().crashes, 0);
	close_supervisor();
}

/* The time for a start is the supervisor's; a dispatcher with a short deadline for answers waits as long. */
TEST(a_process_may_need_longer_for_its_start_than_for_an_answer)
{
	const struct timeval second = {1, 0}, answer = {0, 1000};
	static char script[1024];
	snprintf(script, sizeof(script), "sleep 0.3; exec '%s' returns", worker_program);
	use_script(script);
	open_supervisor();
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &second, &answer), 0);
	wait_until_ready(1);
	ck_assert_uint_eq(notes.started, 1);
	ck_assert_uint_eq(supervisor_stats().crashes, 0);
	close_supervisor();
}
