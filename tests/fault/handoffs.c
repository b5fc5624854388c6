/* A dispatcher and two workers run again and again; another allocation or system call fails each
 * time. After every failure, each accepted handoff gets one outcome, in time; no callback gets a
 * handoff twice; the outcome is true to whether a callback got it; and nothing leaks or is closed
 * twice. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "fault_sweep.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"
#include "wire.h"

/* ---- what happened ---- */

/* The handoffs, by their fate. PLAIN: either worker serves them. ORPHANS: one worker leaves when it
 * has some of them. LOST: its first attempt does not arrive. VAIN: no worker is left, and it waits
 * in the queue until it expires. LEFT: it is pending when the dispatcher is freed. */
enum { PLAIN = 6, ORPHANS = 4, LOST = 1, VAIN = 1, LEFT = 1 };
enum {
	ORPHANS_END = PLAIN + ORPHANS,
	LOST_END = ORPHANS_END + LOST,
	VAIN_END = LOST_END + VAIN,
	HANDOFFS = VAIN_END + LEFT
};
enum { BYTES = 3000, REASON = 77 };

struct item {
	bool accepted, ended_at_once;
	int client;
	unsigned int served, outcomes;
	enum ferry_handoff_outcome outcome;
	int reason;
	int stolen;
};

struct side {
	struct ferry_worker *worker;
	uint64_t done_later; /* an id; 0: none */
	bool leaves;         /* as soon as it is given one */
};

static struct {
	struct ferry_dispatcher *dispatcher;
	struct ferry_dispatcher_worker *last;
	struct side sides[2];
	struct item items[HANDOFFS];
	unsigned int handed; /* calls that hand off, failed ones too */
	unsigned int drained, lost;
	bool out_of_step, late, freed, noticed, starving;
	int call_error; /* the first */
} run;

static char bytes[BYTES];

static void note_error(int status)
{
	if (run.call_error == 0 && status != 0)
		run.call_error = status;
}

/* ---- the worker ---- */

static void leave(struct side *side)
{
	struct ferry_worker *worker = side->worker;

	side->worker = NULL;
	side->done_later = 0;
	ferry_worker_free(worker);
}

static void say_done(struct side *side)
{
	if (side->worker == NULL || side->done_later == 0)
		return;
	int status = ferry_worker_done(side->worker, side->done_later);
	note_error(status);
	if (status != -ENOMEM) /* else once more */
		side->done_later = 0;
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)worker;
	struct side *side = context;
	size_t length;
	const void *got = ferry_handoff_get_bytes(handoff, &length);
	struct ferry_handoff_info info = {.name = ""};
	note_error(ferry_handoff_get_info(handoff, &info));
	unsigned int number = (unsigned int)atoi(info.name);
	struct item *item = &run.items[number];

	run.out_of_step |= length != BYTES || memcmp(got, bytes, BYTES) != 0;
	item->served++;
	if (side->leaves) {
		leave(side);
	} else if (number % 3 == 0 && side->done_later == 0) {
		item->stolen = ferry_handoff_steal_fd(handoff);
		side->done_later = info.id;
	} else if (number % 3 == 1) {
		note_error(ferry_handoff_reject(handoff, REASON));
	}
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)worker, (void)reason;
	leave(context);
}

static const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = handoff_received,
    .dispatcher_lost = dispatcher_lost,
};

/* ---- the dispatcher ---- */

static void on_outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)handoff;
	struct item *item = context;

	item->outcomes++;
	item->outcome = outcome;
	item->reason = reason;
	item->ended_at_once = run.freed;
}

static void on_drained(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
                       void *context)
{
	(void)dispatcher, (void)worker, (void)context;
	run.drained++;
}

static void on_lost(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
                    int reason, void *context)
{
	(void)dispatcher, (void)reason, (void)context;
	run.lost++;
	if (worker == run.last)
		run.last = NULL;
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_drained = on_drained,
    .worker_lost = on_lost,
};

static void set_timeouts(int64_t usec)
{
	const struct timeval time = {(time_t)(usec / 1000000), (suseconds_t)(usec % 1000000)};
	note_error(ferry_dispatcher_set_timeouts(run.dispatcher, &time, &time));
}

static bool is_over(unsigned int from, unsigned int to)
{
	for (unsigned int i = from; i < to; i++)
		if (run.items[i].accepted && run.items[i].outcomes == 0)
			return false;
	return true;
}

static void hand_off(void)
{
	struct item *item = &run.items[run.handed];
	struct ferry_handoff *handoff = NULL;
	char name[10];
	int ends[2];

	snprintf(name, sizeof(name), "%u", run.handed++);
	disarm();
	make_pair(PAIR_UNIX, ends);
	arm();
	item->client = ends[1];
	int status = ferry_handoff_new(&handoff, ends[0]);
	if (status == 0)
		status = ferry_handoff_set_name(handoff, name);
	if (status == 0)
		status = ferry_handoff_set_bytes(handoff, bytes, BYTES);
	if (status == 0)
		status = ferry_dispatcher_hand_off(run.dispatcher, handoff, on_outcome, item);
	item->accepted = status == 0;
	note_error(status);
	if (status == 0)
		return;
	disarm();
	if (handoff == NULL)
		close(ends[0]);
	arm();
	ferry_handoff_free(handoff);
}

static struct ferry_transport *make_side(struct event_base *loop, int fd)
{
	struct ferry_transport *transport = NULL;
	note_error(make_swept_transport(&transport, loop, fd));
	return transport;
}

static void open_channel(struct event_base *loop, struct side *side)
{
	int ends[2];
	disarm();
	make_pair(PAIR_UNIX, ends);
	arm();
	struct ferry_transport *near = make_side(loop, ends[0]), *far = make_side(loop, ends[1]);
	int status = -EINVAL;
	if (near != NULL)
		status = ferry_dispatcher_add_worker(&run.last, run.dispatcher, near, NULL);
	if (status != 0)
		ferry_transport_free(near);
	note_error(status);
	status = -EINVAL;
	if (far != NULL)
		status = ferry_worker_new(&side->worker, far, &worker_callbacks, side);
	if (status != 0)
		ferry_transport_free(far);
	note_error(status);
}

/* ---- the scenario ---- */

/* No number is free until the worker has noticed. */
static void starve(bool now)
{
	disarm();
	if (now)
		limit_descriptors(0);
	else if (run.starving)
		unlimit_descriptors();
	run.starving = now;
	arm();
}

static bool notices(const struct side *side)
{
	struct ferry_worker_stats stats = {0};
	if (side->worker == NULL)
		return true;
	ferry_worker_get_stats(side->worker, &stats);
	run.noticed = stats.lost > 0;
	return run.noticed;
}

static bool has_workers(void)
{
	struct ferry_dispatcher_stats stats = {0};
	ferry_dispatcher_get_stats(run.dispatcher, &stats);
	run.out_of_step |= stats.accepted != stats.done + stats.rejected + stats.expired + stats.kept +
	                                         stats.queued + stats.outstanding;
	return stats.workers > 0;
}

/* Starts the next group of handoffs when every handoff before it is over. */
static void go_on(void)
{
	if (run.starving && (notices(&run.sides[1]) || is_over(ORPHANS_END, LOST_END)))
		starve(false);
	if (!is_over(0, run.handed))
		return;
	if (run.handed == PLAIN) {
		run.sides[0].leaves = true;
		while (run.handed < ORPHANS_END)
			hand_off();
	} else if (run.handed == ORPHANS_END) {
		hand_off();
		starve(true);
	} else if (run.handed == LOST_END) {
		note_error(ferry_dispatcher_worker_drain(run.last));
		run.last = NULL;
		hand_off();
		set_timeouts(5000);
	}
}

/* More rounds than any recovery takes: a run that is not over by then hangs. */
enum { PATIENCE = 300, ROUNDS_MAX = 500 };

static void pump(struct event_base *loop)
{
	for (int i = 0; i < ROUNDS_MAX && !(run.handed == VAIN_END && is_over(0, VAIN_END)); i++) {
		event_base_loop(loop, EVLOOP_ONCE);
		go_on();
		for (int k = 0; k < 2; k++)
			say_done(&run.sides[k]);
		if (!run.late && (!has_workers() || i == PATIENCE)) {
			run.late = true;
			set_timeouts(5000);
		}
	}
}

static void run_scenario(struct event_base *loop, int kind)
{
	(void)kind;
	memset(&run, 0, sizeof(run));
	for (unsigned int i = 0; i < HANDOFFS; i++)
		run.items[i].client = run.items[i].stolen = -1;
	int status = ferry_dispatcher_new(&run.dispatcher, loop, &dispatcher_callbacks, NULL);
	note_error(status);
	if (status == 0) {
		set_timeouts(1000000000);
		for (int k = 0; k < 2; k++)
			open_channel(loop, &run.sides[k]);
		while (run.handed < PLAIN)
			hand_off();
		pump(loop);
		starve(false);
		if (run.handed == VAIN_END)
			hand_off();
		run.freed = true;
		ferry_dispatcher_free(run.dispatcher);
	}
	for (int k = 0; k < 2; k++)
		ferry_worker_free(run.sides[k].worker);
	disarm();
	for (unsigned int i = 0; i < HANDOFFS; i++) {
		if (run.items[i].client >= 0)
			close(run.items[i].client);
		if (run.items[i].stolen >= 0)
			close(run.items[i].stolen);
	}
	arm();
}

/* ---- the judgement ---- */

static unsigned int judged; /* the number of an item */

static void describe(void)
{
	const struct item *item = &run.items[judged];

	printf("call %d; %u of %u: accepted %d, served %u, outcomes %u: %d, %d\n", run.call_error,
	       judged, run.handed, item->accepted, item->served, item->outcomes, item->outcome,
	       item->reason);
}

static void judge_item(const struct item *item)
{
	check_that(item->outcomes == item->accepted, "one outcome, or an error at the call");
	check_that(item->served <= 1, "none is given out twice");
	if (!item->accepted)
		return;
	bool taken = item->outcome == FERRY_HANDOFF_DONE || item->outcome == FERRY_HANDOFF_KEPT ||
	             (item->outcome == FERRY_HANDOFF_REJECTED && item->reason == REASON);
	check_that(item->served == taken, "the outcome says whether it was served");
	if (item < &run.items[VAIN_END])
		check_that(!item->ended_at_once, "its outcome did not wait for the end");
}

/* As it is when nothing fails. */
static bool is_as_planned(unsigned int number)
{
	const struct item *item = &run.items[number];

	if (!item->accepted)
		return false;
	if (number == LOST_END)
		return item->outcome == FERRY_HANDOFF_EXPIRED && item->reason == -ETIMEDOUT;
	if (number == VAIN_END)
		return item->outcome == FERRY_HANDOFF_EXPIRED && item->reason == -ECANCELED;
	return item->served == 1;
}

static bool is_complete(void)
{
	for (unsigned int i = 0; i < HANDOFFS; i++)
		if (!is_as_planned(i))
			return false;
	return run.noticed && run.drained == 1 && run.lost == 1;
}

/* An outcome that differs is one that the dispatcher reports. */
static void judge(void)
{
	if (is_complete())
		completed();
	else
		told(-ECANCELED);
	for (judged = 0; judged < HANDOFFS; judged++)
		judge_item(&run.items[judged]);
	judged = 0;
	check_that(!run.out_of_step, "figures add up, and bytes arrive as they were");
	check_that(run.dispatcher == NULL ? run.call_error < 0 : run.handed == HANDOFFS, "it goes on");
}

/* ---- the sweep ---- */

static void fill_bytes(void)
{
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)support_byte(i);
}

static const struct large_scenario large = {
    .judge = judge,
    .describe = describe,
    .first = 16,
    .parts = 30,
    .unharmed_by = {{CALL_SHUTDOWN, 0}},
};

static const struct scenario scenario = {"handoffs",   run_scenario, 0,
                                         CALL_SENDMSG, CALL_NONE,    &large};

TEST_CASE("handoffs", fill_bytes);

enum { SHARES = 8 };

LOOP_TEST(every_call_may_fail, SHARES)
{
	sweep_share_of(&scenario, (unsigned int)_i, SHARES);
}

BEFORE_ALL
{
	heap_take_over();
}
