/* A worker that drains by its own wish has a successor while it serves its clients to the end. That is no crash. */

#include "test.h"

#include <unistd.h>

#include "supervised.h"

/* A worker that takes no handoff after its first. */
static void use_retiring_worker(const char *how)
{
	static const char *argv[] = {NULL, NULL, "returns", NULL};

	argv[0] = worker_program;
	argv[1] = how;
	use_program(argv);
	options.first_pause = options.longest_pause = options.long_life = (struct timeval){1000, 0};
}

TEST(a_worker_that_retires_has_a_successor_while_it_serves)
{
	use_retiring_worker("retires");
	open_supervisor();
	wait_until_ready(1);
	int first = hand_client_off();
	ck_assert(client_echoes(first));
	pump_until_count(&notes.leaving, 1);
	pump_until_count(&notes.ready, 2);
	int second = hand_client_off();
	ck_assert(client_echoes(second));
	ck_assert(client_echoes(first));
	close(first);
	close(second);
	pump_until_count(&notes.ended, 2);
	ck_assert_int_eq(notes.status, 0);
	ck_assert_uint_eq(supervisor_stats().crashes, 0);
	ck_assert_uint_eq(notes.log_lines, 0);
	close_supervisor();
}

static unsigned int crash_limit_reached;

static void note_failing(const char *name)
{
	(void)name;
	crash_limit_reached += notes.state == FERRY_SUPERVISOR_FAILING;
}

TEST(workers_that_retire_again_and_again_do_not_make_it_fail)
{
	use_retiring_worker("retires");
	options.crash_limit = 2;
	notes.on = note_failing;
	open_supervisor();
	for (unsigned int i = 0; i < 6; i++) {
		pump_until_count(&notes.ready, i + 1);
		int client = hand_client_off();
		ck_assert(client_echoes(client));
		close(client);
	}
	pump_until_count(&notes.ended, 6);
	ck_assert_uint_eq(crash_limit_reached, 0);
	ck_assert_uint_eq(supervisor_stats().crashes, 0);
	close_supervisor();
}

/* It would be started without end. */
TEST(a_worker_that_retires_at_once_has_its_successor_after_a_pause)
{
	use_retiring_worker("useless");
	open_supervisor();
	pump_until_count(&notes.ended, 1);
	ck_assert_int_eq(notes.status, 0);
	ck_assert_int_eq(place_info(0).state, FERRY_SUPERVISOR_WAITING);
	ck_assert_int_ge(place_info(0).pause.tv_sec, 900);
	ck_assert_uint_eq(notes.started, 1);
	close_supervisor();
}

/* ---- the dispatcher's own callbacks ---- */

static unsigned int lost;

static void worker_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                        int reason, void *context)
{
	(void)from, (void)worker, (void)reason, (void)context;
	lost++;
}

/* Drained, killed, and freed with the supervisor. */
TEST(the_dispatchers_owner_hears_of_each_workers_end)
{
	static const struct ferry_dispatcher_callbacks callbacks = {.worker_lost = worker_lost};
	use_worker();
	options.workers = 3;
	open_supervisor();
	ferry_supervisor_free(supervisor);
	ferry_dispatcher_free(dispatcher);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &callbacks, NULL), 0);
	options.dispatcher = dispatcher;
	ck_assert_int_eq(ferry_supervisor_new(&supervisor, base, &options, NULL, NULL), 0);
	wait_until_ready(3);
	ck_assert_int_eq(ferry_supervisor_worker_stop(place_info(0).worker, FERRY_SUPERVISOR_DRAIN), 0);
	pump_until_count(&lost, 1);
	ck_assert_int_eq(ferry_supervisor_worker_stop(place_info(1).worker, FERRY_SUPERVISOR_KILL), 0);
	pump_until_count(&lost, 2);
	wait_until_ready(3);
	ferry_supervisor_free(supervisor);
	supervisor = NULL;
	pump_until_count(&lost, 5);
	close_supervisor();
}
