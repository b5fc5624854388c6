/* An upgrade without memory: each allocation of the old process fails in turn. Whatever fails, nothing leaks, no
 * process is left, and a failed upgrade leaves the old process as it was. */

#include <errno.h>
#include <sys/wait.h>

#include "app.h"
#include "heap.h"
#include "heap_sweep.h"
#include "test.h"

static struct app app;
static int status;

static void run_scenario(struct event_base *loop)
{
	app = (struct app){.base = loop, .timeout = {.tv_sec = 5}, .probation = {.tv_usec = 1}};
	status = app_new(&app, "leaves");
	for (int i = 0; i < 20 && status == 0 && app.serving == 0; i++)
		event_base_loop(loop, EVLOOP_ONCE);
	if (status == 0 && app.serving > 0)
		status = ferry_upgrade_start(app.upgrade);
	for (int i = 0; i < 5000 && status == 0 && app.serving > 0 && app.failed + app.replaced == 0;
	     i++)
		event_base_loop(loop, EVLOOP_ONCE);
	if (app.replaced > 0)
		must(ferry_upgrade_finish(app.upgrade) == 0);
	for (int i = 0; i < 5000 && app.replaced > 0 && app.finished == 0; i++)
		event_base_loop(loop, EVLOOP_ONCE);
}

static void judge(unsigned long failing)
{
	if (failing == 0)
		ck_assert_uint_eq(app.finished, 1);
	if (app.failed > 0)
		ck_assert_int_ge(ferry_socket_set_find(ferry_upgrade_get_set(app.upgrade), "www"), 0);
	ferry_listener_free(app.www);
	ferry_upgrade_free(app.upgrade);
	while (waitpid(-1, NULL, 0) > 0) /* one that goes on after its commit */
		;
	ck_assert_int_eq(errno, ECHILD);
}

BEFORE_ALL
{
	app_become_successor(argc, argv);
	heap_take_over();
}

TEST(each_allocation_may_fail)
{
	sweep_scenario(run_scenario, judge, 60);
}
