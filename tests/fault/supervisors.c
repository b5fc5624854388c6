/* Processes that are replaced, and places that become more and fewer. */

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

enum plan { REPLACE, RESIZE };

static struct ferry_supervisor *supervisor;
static enum plan plan;
static unsigned int ready, ended;
static bool has_begun, has_replaced, has_stopped;

static void stop(void)
{
	called(ferry_supervisor_stop(supervisor, FERRY_SUPERVISOR_KILL));
}

/* ---- callbacks ---- */

/* The program knows nothing of its channel: it is ready at once, and ends by a signal. */
static void on_channel(struct ferry_supervisor *from, struct ferry_supervisor_worker *process,
                       struct ferry_transport *transport, void *context)
{
	(void)from, (void)context;
	ferry_transport_free(transport);
	called(ferry_supervisor_worker_ready(process));
}

static void begin_plan(void)
{
	has_begun = true;
	called(plan == REPLACE ? ferry_supervisor_replace(supervisor)
	                       : ferry_supervisor_set_workers(supervisor, 3));
}

static void on_ready(struct ferry_supervisor *from, struct ferry_supervisor_worker *process,
                     void *context)
{
	(void)from, (void)process, (void)context;
	ready++;
	if (!has_begun && ready == 2)
		begin_plan();
	else if (plan == RESIZE && ready == 3)
		called(ferry_supervisor_set_workers(supervisor, 1));
}

static void on_leaving(struct ferry_supervisor *from, struct ferry_supervisor_worker *process,
                       void *context)
{
	(void)from, (void)context;
	called(ferry_supervisor_worker_stop(process, FERRY_SUPERVISOR_KILL));
}

/* One that was not asked to end has found an error. */
static void on_ended(struct ferry_supervisor *from, struct ferry_supervisor_worker *process,
                     int status, void *context)
{
	struct ferry_supervisor_worker_info info;

	(void)from, (void)context;
	ended++;
	if (ferry_supervisor_worker_get_info(process, &info) == 0 && (!info.asked || status < 0)) {
		told(-ECHILD);
		stop();
	}
	if (plan == RESIZE && ended == 2)
		stop();
}

static void on_start_failed(struct ferry_supervisor *from, unsigned int place, int error,
                            void *context)
{
	(void)from, (void)place, (void)context;
	told(error);
	stop();
}

static void on_replaced(struct ferry_supervisor *from, int status, void *context)
{
	(void)from, (void)context;
	once(&has_replaced);
	told(status);
	stop();
}

static void on_state(struct ferry_supervisor *from, enum ferry_supervisor_state state,
                     void *context)
{
	(void)from, (void)context;
	has_stopped |= state == FERRY_SUPERVISOR_STOPPED;
}

static const struct ferry_supervisor_callbacks callbacks = {
    .channel_opened = on_channel,
    .worker_ready = on_ready,
    .worker_leaving = on_leaving,
    .worker_ended = on_ended,
    .start_failed = on_start_failed,
    .replaced = on_replaced,
    .state_changed = on_state,
};

/* ---- the scenario ---- */

static bool is_over(void)
{
	return has_stopped;
}

static void supervise(struct event_base *loop, int kind)
{
	static const char *const argv[] = {"sleep", "1000", NULL};
	struct ferry_supervisor_options options = FERRY_SUPERVISOR_OPTIONS_INIT;

	supervisor = NULL;
	plan = (enum plan)kind;
	ready = ended = 0;
	has_begun = has_replaced = has_stopped = false;
	options.name = "w";
	options.argv = argv;
	options.workers = 2;
	if (called(ferry_supervisor_new(&supervisor, loop, &options, &callbacks, NULL)) == 0) {
		pump_swept(loop, is_over);
		if (is_over() && (plan == REPLACE ? has_replaced && ended == 4 : ready == 3 && ended == 3))
			completed();
	}
	ferry_supervisor_free(supervisor);
}

static const struct scenario scenarios[] = {
    {"supervisor, replaced", supervise, REPLACE, CALL_WAITID, CALL_SEND, NULL},
    {"supervisor, resized", supervise, RESIZE, CALL_FORK, CALL_SEND, NULL},
};

/* Each run starts processes, which takes its time on a busy machine. */
enum { SHARES = 6 };

LOOP_TEST(every_call_may_fail, COUNT(scenarios) * SHARES)
{
	sweep_share_of(&scenarios[_i / SHARES], (unsigned int)_i % SHARES, SHARES);
}

BEFORE_ALL
{
	heap_take_over();
}
