/* A new generation takes the places once it is ready, and does not if it fails. */

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervised.h"

enum { PLACES = 4 };

static pid_t before[PLACES];

static void remember(void)
{
	for (unsigned int i = 0; i < supervisor_stats().places; i++)
		before[i] = place_info(i).pid;
}

/* More new processes at a time than the step has places would be more memory and load than the owner has. */
static void expect_a_step(const char *name)
{
	uint64_t count = notes.started - PLACES;

	if (strcmp(name, "worker_started") != 0 || options.replace_step == 0 || notes.started <= PLACES)
		return;
	for (unsigned int i = 0; i < PLACES; i++)
		count -= place_info(i).generation - 1; /* that have their places */
	ck_assert_uint_le(count, options.replace_step);
}

static void replace_and_wait(void)
{
	unsigned int count = notes.replaced;
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.replaced, count + 1);
}

/* All at once, and one or three places at a time. */
LOOP_TEST(all_processes_are_replaced_and_a_kept_connection_moves, 3)
{
	static const unsigned int steps[] = {0, 1, 3};
	use_worker();
	options.workers = PLACES;
	options.replace_step = steps[_i];
	notes.on = expect_a_step;
	open_supervisor();
	wait_until_ready(PLACES);
	int client = hand_client_off();
	ck_assert(client_echoes(client));
	for (unsigned int round = 2; round < 4; round++) {
		remember();
		replace_and_wait();
		ck_assert_int_eq(notes.replacement, 0);
		for (unsigned int i = 0; i < PLACES; i++) {
			ck_assert_int_ne(place_info(i).pid, before[i]);
			ck_assert_uint_eq(place_info(i).generation, round);
			ck_assert_int_eq(place_info(i).state, FERRY_SUPERVISOR_READY);
		}
		ck_assert(client_echoes(client));
	}
	pump_until_count(&notes.ended, 2 * PLACES);
	ck_assert_int_eq(notes.status, 0);
	ck_assert_uint_ge(notes.returned, 1);
	ck_assert(client_echoes(client));
	ck_assert_uint_eq(supervisor_stats().replacements, 2);
	ck_assert_uint_eq(supervisor_stats().crashes, 0);
	close(client);
	close_supervisor();
}

static char program_path[64];

/* A program that the test can break: `failure` is what it does then. */
static void use_fragile_program(const char *failure)
{
	static char script[1024];
	snprintf(program_path, sizeof(program_path), "/tmp/ferry-broken-XXXXXX");
	int fd = mkstemp(program_path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	unlink(program_path);
	snprintf(script, sizeof(script), "test ! -e '%s' || %s; exec '%s' returns", program_path,
	         failure, worker_program);
	use_script(script);
	options.workers = PLACES;
}

static void break_program(bool broken)
{
	if (!broken)
		unlink(program_path);
	else
		fclose(fopen(program_path, "w"));
}

LOOP_TEST(new_processes_that_fail_leave_the_old_ones_in_place, 2)
{
	use_fragile_program("exit 9");
	options.replace_step = (unsigned int)_i;
	open_supervisor();
	wait_until_ready(PLACES);
	remember();
	break_program(true);
	replace_and_wait();
	ck_assert_int_eq(notes.replacement, -ECHILD);
	for (unsigned int i = 0; i < PLACES; i++)
		ck_assert_int_eq(place_info(i).pid, before[i]);
	int client = hand_client_off();
	ck_assert(client_echoes(client));
	close(client);
	break_program(false);
	replace_and_wait();
	ck_assert_int_eq(notes.replacement, 0);
	for (unsigned int i = 0; i < PLACES; i++)
		ck_assert_int_ne(place_info(i).pid, before[i]);
	close_supervisor();
}

static unsigned int kills_left;

static void kill_new_process(const char *name)
{
	struct ferry_supervisor_worker_info info;

	if (strcmp(name, "worker_started") != 0 || kills_left == 0)
		return;
	ck_assert_int_eq(ferry_supervisor_worker_get_info(notes.last, &info), 0);
	kill(info.pid, SIGKILL);
	if (--kills_left == 0)
		break_program(false);
}

/* As many as there are places; one more is too many. */
LOOP_TEST(new_processes_that_somebody_kills_are_started_again, 4)
{
	bool fails = _i >= 2;

	use_fragile_program("exec sleep 1000"); /* not ready before the kill */
	options.replace_step = (unsigned int)_i % 2;
	open_supervisor();
	wait_until_ready(PLACES);
	remember();
	break_program(true);
	kills_left = PLACES + fails;
	notes.on = kill_new_process;
	replace_and_wait();
	notes.on = NULL;
	ck_assert_uint_eq(kills_left, 0);
	ck_assert_int_eq(notes.replacement, fails ? -ECHILD : 0);
	unsigned int same = 0;
	for (unsigned int i = 0; i < PLACES; i++)
		same += place_info(i).pid == before[i];
	ck_assert_uint_eq(same, fails ? PLACES : 0);
	close_supervisor();
}

static void stop_new_process(const char *name)
{
	struct ferry_supervisor_worker_info info;
	if (strcmp(name, "worker_started") != 0)
		return;
	ck_assert_int_eq(ferry_supervisor_worker_get_info(notes.last, &info), 0);
	kill(info.pid, SIGSTOP);
}

TEST(new_processes_that_are_never_ready_leave_the_old_ones_in_place)
{
	use_worker();
	options.workers = PLACES;
	/* Enough for the first ones on a busy machine. */
	options.start_timeout = (struct timeval){.tv_sec = 2};
	open_supervisor();
	wait_until_ready(PLACES);
	remember();
	notes.on = stop_new_process;
	replace_and_wait();
	notes.on = NULL;
	ck_assert_int_eq(notes.replacement, -ECHILD);
	for (unsigned int i = 0; i < PLACES; i++)
		ck_assert_int_eq(place_info(i).pid, before[i]);
	close_supervisor();
}

TEST(a_call_during_a_replacement_has_another_one_follow)
{
	use_worker();
	options.workers = PLACES;
	open_supervisor();
	wait_until_ready(PLACES);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.started, 2 * PLACES);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.replaced, 2);
	pump_until_count(&notes.ended, 2 * PLACES);
	ck_assert_uint_eq(notes.started, 3 * PLACES);
	ck_assert_uint_eq(supervisor_stats().generation, 3);
	close_supervisor();
}

/* Old and new ones die at every moment of a replacement. */
LOOP_TEST(processes_may_die_while_they_are_replaced, 12)
{
	use_worker();
	options.workers = PLACES;
	options.replace_step = (unsigned int)_i % 3;
	open_supervisor();
	wait_until_ready(PLACES);
	remember();
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_turns(_i);
	kill(before[_i % PLACES], SIGKILL);
	pump_until_count(&notes.started, PLACES + 1);
	ferry_supervisor_worker_stop(notes.last, FERRY_SUPERVISOR_KILL);
	pump_until_count(&notes.replaced, 1);
	wait_until_ready(PLACES);
	int client = hand_client_off();
	ck_assert(client_echoes(client));
	close(client);
	close_supervisor();
}

TEST(places_may_go_while_they_are_replaced)
{
	use_worker();
	options.workers = PLACES;
	open_supervisor();
	wait_until_ready(PLACES);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.started, PLACES + 2);
	ck_assert_int_eq(ferry_supervisor_set_workers(supervisor, 1), 0);
	pump_until_count(&notes.replaced, 1);
	ck_assert_int_eq(notes.replacement, 0);
	pump_until_count(&notes.ended, 2 * PLACES - 1);
	ck_assert_uint_eq(place_info(0).generation, 2);
	ck_assert_int_eq(ferry_supervisor_set_workers(supervisor, 0), 0);
	replace_and_wait();
	ck_assert_int_eq(notes.replacement, 0);
	close_supervisor();
}

TEST(a_stop_ends_a_replacement)
{
	use_worker();
	options.workers = PLACES;
	open_supervisor();
	wait_until_ready(PLACES);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.started, PLACES + 2);
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	ck_assert_uint_eq(notes.replaced, 1);
	ck_assert_int_eq(notes.replacement, -ECANCELED);
	ck_assert_uint_eq(notes.ended, notes.started);
	close_supervisor();
}

TEST(a_stop_ends_a_replacement_that_has_not_begun)
{
	use_worker();
	open_supervisor();
	wait_until_ready(1);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	ck_assert_uint_eq(notes.started, 1);
	ck_assert_uint_eq(notes.replaced, 1);
	ck_assert_int_eq(notes.replacement, -ECANCELED);
	close_supervisor();
}

static unsigned int failed_replacements;

/* The processes of the second generation are never ready. */
static void ready_others(const char *name)
{
	struct ferry_supervisor_worker_info info;
	failed_replacements += strcmp(name, "replaced") == 0 && notes.replacement == -ECHILD;
	if (strcmp(name, "worker_started") != 0)
		return;
	ck_assert_int_eq(ferry_supervisor_worker_get_info(notes.last, &info), 0);
	if (info.generation != 2)
		ck_assert_int_eq(ferry_supervisor_worker_ready(notes.last), 0);
}

/* The program is repaired before the first replacement has failed. Its process stays: no end wakes the supervisor. */
TEST(another_replacement_follows_one_that_fails)
{
	use_script("trap '' TERM; exec sleep 1000");
	options.kill_timeout = (struct timeval){1000, 0};
	options.start_timeout = (struct timeval){0, 300000};
	notes.on = ready_others;
	open_plain_supervisor();
	wait_until_ready(1);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.started, 2);
	ck_assert_int_eq(ferry_supervisor_replace(supervisor), 0);
	pump_until_count(&notes.replaced, 2);
	ck_assert_uint_eq(failed_replacements, 1);
	ck_assert_int_eq(notes.replacement, 0);
	ck_assert_uint_eq(place_info(0).generation, 3);
	close_supervisor();
	notes.on = NULL;
}

/* A release that repairs a program which ends at once. */
TEST(places_without_a_process_are_replaced_too)
{
	use_fragile_program("exit 9");
	options.first_pause = options.longest_pause = (struct timeval){1000, 0};
	open_supervisor();
	break_program(true);
	pump_until_count(&notes.ended, PLACES);
	for (unsigned int i = 0; i < PLACES; i++)
		ck_assert_int_eq(place_info(i).state, FERRY_SUPERVISOR_WAITING);
	replace_and_wait();
	ck_assert_int_eq(notes.replacement, -ECHILD);
	ck_assert_uint_eq(supervisor_stats().replacements, 0);
	break_program(false);
	replace_and_wait();
	ck_assert_int_eq(notes.replacement, 0);
	wait_until_ready(PLACES);
	close_supervisor();
}

static void stop_new_worker(const char *name)
{
	if (strcmp(name, "worker_started") == 0)
		ferry_supervisor_worker_stop(notes.last, FERRY_SUPERVISOR_DRAIN);
}

TEST(a_new_process_that_the_owner_stops_fails_the_replacement)
{
	use_worker();
	open_supervisor();
	wait_until_ready(1);
	remember();
	notes.on = stop_new_worker;
	replace_and_wait();
	notes.on = NULL;
	ck_assert_int_eq(notes.replacement, -ECHILD);
	ck_assert_int_eq(place_info(0).pid, before[0]);
	close_supervisor();
}
