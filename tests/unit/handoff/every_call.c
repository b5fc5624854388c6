/* Every call that a dispatcher, its worker, a handoff and their two transports have, in every callback of theirs. The
 * dispatcher and the worker are the two ends of one channel, in one loop. */

#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "every_call.h"
#include "ferry/ferry.h"
#include "recorder.h"
#include "test.h"
#include "transport_calls.h"

enum { BIG = 65536 };

static const struct timeval at_once = {0, 0}, long_time = {100, 0};
static struct ferry_dispatcher *dispatcher; /* NULL once freed */
static struct ferry_dispatcher_worker
    *seat;                               /* the dispatcher's worker; NULL once it is not valid */
static struct ferry_worker *worker;      /* NULL once freed */
static struct ferry_handoff *lent;       /* the callback's argument */
static struct ferry_handoff *mine;       /* a handoff that was given back to the test */
static struct ferry_transport *spare[2]; /* two ends of a channel that nobody has */
static uint64_t id;                      /* of the last handoff that the worker has kept */
static bool keep;                        /* the worker's callback steals the descriptor, once */
static int kept = -1;
static bool give_up; /* the worker's callback rejects the handoff */
static char big[BIG];

static void outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                    enum ferry_handoff_outcome how, int reason, void *context);

/* ---- handoffs ---- */

static struct ferry_handoff *make_handoff(void)
{
	struct ferry_handoff *made;
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	close(fds[1]);
	ck_assert_int_eq(ferry_handoff_new(&made, fds[0]), 0);
	return made;
}

/* The handoff that came back, or a new one. */
static struct ferry_handoff *take_handoff(void)
{
	struct ferry_handoff *taken = mine != NULL ? mine : make_handoff();

	mine = NULL;
	return taken;
}

static void fill(struct ferry_handoff *handoff)
{
	ferry_handoff_set_name(handoff, "name");
	ferry_handoff_set_key(handoff, "key", 3);
	ferry_handoff_set_inet_stream(handoff);
	ferry_handoff_set_bytes(handoff, big, BIG);
	ferry_handoff_set_blob(handoff, big, BIG);
}

static void hand_off(struct ferry_handoff *handoff)
{
	if (ferry_dispatcher_hand_off(dispatcher, handoff, outcome, NULL) < 0)
		ferry_handoff_free(handoff);
}

static void hand_off_long(void)
{
	struct ferry_handoff *handoff = make_handoff();

	fill(handoff);
	hand_off(handoff);
}

/* A handoff of the connection that the worker has kept, if there is one. */
static struct ferry_handoff *make_return(void)
{
	struct ferry_handoff *made;

	if (kept < 0)
		return make_handoff();
	ck_assert_int_eq(ferry_handoff_new(&made, kept), 0);
	kept = -1;
	return made;
}

static void give_back(struct ferry_handoff *handoff)
{
	if (ferry_worker_return(worker, id, handoff) < 0)
		ferry_handoff_free(handoff);
}

/* ---- the callbacks ---- */

static void outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                    enum ferry_handoff_outcome how, int reason, void *context)
{
	static const char *const names[] = {[FERRY_HANDOFF_DONE] = "the outcome DONE",
	                                    [FERRY_HANDOFF_REJECTED] = "the outcome REJECTED",
	                                    [FERRY_HANDOFF_EXPIRED] = "the outcome EXPIRED",
	                                    [FERRY_HANDOFF_KEPT] = "the outcome KEPT"};
	(void)from, (void)reason, (void)context;

	lent = handoff;
	strike(names[how]);
	lent = NULL;
}

static void ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *which,
                  void *context)
{
	(void)from, (void)which, (void)context;
	strike("worker_ready");
}

static void drained(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *which,
                    void *context)
{
	(void)from, (void)which, (void)context;
	strike("worker_drained");
}

static void worker_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *which,
                        int reason, void *context)
{
	(void)from, (void)reason, (void)context;
	strike("worker_lost");
	if (which == seat)
		seat = NULL;
}

static void full_changed(struct ferry_dispatcher *from, bool full, void *context)
{
	(void)from, (void)context;
	strike(full ? "full_changed" : "full_changed, room");
}

static void returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *which,
                     struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)which, (void)context;
	ferry_handoff_free(mine);
	mine = handoff;
	strike("handoff_returned");
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {.worker_ready = ready,
                                                                       .worker_drained = drained,
                                                                       .worker_lost = worker_lost,
                                                                       .full_changed = full_changed,
                                                                       .handoff_returned =
                                                                           returned};

static void received(struct ferry_worker *from, struct ferry_handoff *handoff, void *context)
{
	struct ferry_handoff_info info;
	(void)from, (void)context;

	ck_assert_int_eq(ferry_handoff_get_info(handoff, &info), 0);
	id = info.id;
	lent = handoff;
	strike("handoff_received");
	lent = NULL;
	if (keep && kept < 0)
		kept = ferry_handoff_steal_fd(handoff);
	else if (give_up)
		ferry_handoff_reject(handoff, 1);
}

static void drain_requested(struct ferry_worker *from, void *context)
{
	(void)from, (void)context;
	strike("drain_requested");
}

static void recall_requested(struct ferry_worker *from, const struct timeval *spread, void *context)
{
	(void)from, (void)spread, (void)context;
	strike("recall_requested");
}

static void return_failed(struct ferry_worker *from, uint64_t of, struct ferry_handoff *handoff,
                          void *context)
{
	(void)from, (void)of, (void)context;
	ferry_handoff_free(mine);
	mine = handoff;
	strike("return_failed");
}

static void dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)from, (void)reason, (void)context;
	strike("dispatcher_lost");
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = received,
                                                               .drain_requested = drain_requested,
                                                               .recall_requested = recall_requested,
                                                               .return_failed = return_failed,
                                                               .dispatcher_lost = dispatcher_lost};

/* Those of a producer on the transport, and of its output: they run inside the calls. */

static void paused(void *context)
{
	(void)context;
	strike("pause_producing");
}

static void resumed(void *context)
{
	(void)context;
	strike("resume_producing");
}

static void stopped(void *context)
{
	(void)context;
	strike("stop_producing");
}

static const struct ferry_producer_callbacks producer = {
    .resume_producing = resumed, .pause_producing = paused, .stop_producing = stopped};

static void on_change(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
	(void)buffer, (void)context;
	strike(info->n_added > 0 ? "the output's growth" : "the output's drain");
}

/* ---- how they are provoked ---- */

static void run(void)
{
	pump_turns(8);
}

static struct ferry_transport *seats_transport(void)
{
	return ferry_dispatcher_worker_get_transport(seat);
}

static struct ferry_transport *workers_transport(void)
{
	return ferry_worker_get_transport(worker);
}

static void free_worker(void)
{
	struct ferry_worker *freed = worker;

	worker = NULL;
	ferry_worker_free(freed);
}

static void free_dispatcher(void)
{
	struct ferry_dispatcher *freed = dispatcher;

	dispatcher = NULL;
	seat = NULL;
	ferry_dispatcher_free(freed);
}

static void remove_worker(void)
{
	struct ferry_dispatcher_worker *removed = seat;

	seat = NULL;
	ferry_dispatcher_worker_remove(removed);
}

static void by_handoff(void)
{
	run();
	hand_off(make_handoff());
	run();
}

static void by_rejection(void)
{
	give_up = true;
	by_handoff();
}

static void by_drain(void)
{
	run();
	ck_assert_int_eq(ferry_dispatcher_worker_drain(seat), 0);
	run();
}

static void by_recall(void)
{
	run();
	ck_assert_int_eq(ferry_dispatcher_worker_recall(seat, &long_time), 0);
	run();
}

static void by_workers_end(void)
{
	run();
	keep = true;
	hand_off(make_handoff());
	run();
	free_worker();
	run();
}

static void by_dispatchers_end(void)
{
	run();
	free_dispatcher();
	run();
}

/* With a handoff in the queue, and one at the worker. */
static void by_free(void)
{
	run();
	hand_off(make_handoff());
	ck_assert_int_eq(ferry_worker_set_credits(worker, 0), 0);
	run();
	hand_off(make_handoff());
	free_dispatcher();
	run();
}

static void by_full_queue(void)
{
	ck_assert_int_eq(ferry_dispatcher_set_queue_limit(dispatcher, 1), 0);
	hand_off(make_handoff()); /* the worker's HELLO has not arrived */
	run();
}

static void by_return(void)
{
	keep = true;
	by_handoff();
	give_back(make_return());
	run();
}

/* The dispatcher does not read, so the kernel does not take the whole return. */
static void by_failed_return(void)
{
	run();
	keep = true;
	hand_off(make_handoff());
	run();
	ferry_transport_pause_reading(seats_transport());
	for (int i = 0; i < 4; i++) {
		struct ferry_handoff *handoff = make_handoff();
		fill(handoff);
		give_back(handoff);
	}
	remove_worker();
	run();
}

static void by_seats_producer(void)
{
	run();
	ck_assert_int_eq(
	    ferry_transport_register_producer(seats_transport(), &producer, NULL, FERRY_PRODUCER_PUSH),
	    0);
	hand_off_long();
	run();
	remove_worker();
	run();
}

static void by_workers_producer(void)
{
	keep = true;
	by_handoff();
	ck_assert_int_eq(ferry_transport_register_producer(workers_transport(), &producer, NULL,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	struct ferry_handoff *handoff = make_return();
	fill(handoff);
	give_back(handoff);
	run();
	free_worker();
	run();
}

static void watch_output(struct ferry_transport *transport)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	evbuffer_add_cb(bufferevent_get_output(bev), on_change, NULL);
}

static void by_seats_output(void)
{
	run();
	watch_output(seats_transport());
	hand_off_long();
	run();
}

/* From the queue, in the dispatcher's turn. */
static void by_seats_output_later(void)
{
	watch_output(seats_transport());
	hand_off_long();
	hand_off_long();
	run();
}

/* The end of the channel empties the output. */
static void by_seats_end(void)
{
	run();
	watch_output(seats_transport());
	hand_off_long();
	remove_worker();
	run();
}

static void by_dispatchers_free(void)
{
	run();
	watch_output(seats_transport());
	hand_off_long();
	free_dispatcher();
	run();
}

static void by_workers_output(void)
{
	run();
	watch_output(workers_transport());
	keep = true;
	hand_off(make_handoff());
	run();
	give_back(make_return());
	run();
}

static void by_workers_return(void)
{
	keep = true;
	by_handoff();
	watch_output(workers_transport());
	struct ferry_handoff *handoff = make_return();
	fill(handoff);
	give_back(handoff);
	run();
}

static void by_workers_free(void)
{
	run();
	watch_output(workers_transport());
	ferry_worker_done(worker, id);
	free_worker();
	run();
}

static const struct every_callback callbacks[] = {
    {"worker_ready", run},
    {"worker_drained", by_drain},
    {"worker_lost", by_workers_end},
    {"full_changed", by_full_queue},
    {"full_changed, room", by_full_queue},
    {"handoff_returned", by_return},
    {"the outcome DONE", by_handoff},
    {"the outcome REJECTED", by_rejection},
    {"the outcome EXPIRED", by_free},
    {"the outcome KEPT", by_workers_end},
    {"handoff_received", by_handoff},
    {"drain_requested", by_drain},
    {"recall_requested", by_recall},
    {"return_failed", by_failed_return},
    {"dispatcher_lost", by_dispatchers_end},
    {"pause_producing", by_seats_producer},
    {"resume_producing", by_seats_producer},
    {"stop_producing", by_seats_producer},
    {"pause_producing", by_workers_producer},
    {"resume_producing", by_workers_producer},
    {"stop_producing", by_workers_producer},
    {"the output's growth", by_seats_output},
    {"the output's growth", by_seats_output_later},
    {"the output's drain", by_seats_output},
    {"the output's drain", by_seats_end},
    {"the output's drain", by_dispatchers_free},
    {"the output's growth", by_workers_output},
    {"the output's growth", by_workers_return},
    {"the output's drain", by_workers_return},
    {"the output's drain", by_workers_free},
};

/* ---- the calls ---- */

static void free_both(void)
{
	free_worker();
	free_dispatcher();
}

static void hand_off_another(void)
{
	hand_off(take_handoff());
}

static void hand_off_many(void)
{
	for (int i = 0; i < 3; i++)
		hand_off_long();
}

static void drain_seat(void)
{
	ferry_dispatcher_worker_drain(seat);
}

static void recall(void)
{
	ferry_dispatcher_worker_recall(seat, &at_once);
}

static void add_worker(void)
{
	struct ferry_worker *made;

	if (spare[0] == NULL || ferry_dispatcher_add_worker(NULL, dispatcher, spare[0], "other") < 0)
		return;
	spare[0] = NULL;
	ck_assert_int_eq(ferry_worker_new(&made, spare[1], &worker_callbacks, NULL), 0);
	spare[1] = NULL;
	ferry_worker_free(made);
}

static void make_dispatcher(void)
{
	struct ferry_dispatcher *made;

	ck_assert_int_eq(ferry_dispatcher_new(&made, base, NULL, NULL), 0);
	ferry_dispatcher_free(made);
}

static void settle_dispatcher(void)
{
	struct ferry_dispatcher_stats stats;

	ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_BY_KEY);
	ferry_dispatcher_set_queue_limit(dispatcher, 1);
	ferry_dispatcher_set_unclaimed_limit(dispatcher, 1);
	ferry_dispatcher_set_timeouts(dispatcher, &long_time, &long_time);
	ferry_dispatcher_worker_set_context(seat, NULL);
	ferry_dispatcher_worker_get_context(seat);
	ferry_dispatcher_worker_get_stats(seat, &stats);
	ferry_dispatcher_get_stats(dispatcher, &stats);
	ferry_dispatcher_is_full(dispatcher);
	ck_assert(seat != NULL || seats_transport() == NULL);
}

static void set_credits(void)
{
	struct ferry_worker_stats stats;

	ferry_worker_set_credits(worker, 1);
	ferry_worker_get_stats(worker, &stats);
	ferry_worker_can_return(worker);
	ferry_worker_is_drained(worker);
	ck_assert(worker != NULL || workers_transport() == NULL);
}

static void drain_worker(void)
{
	ferry_worker_drain(worker);
}

static void report_done(void)
{
	ferry_worker_done(worker, id);
}

static void report_done_later(void)
{
	ferry_worker_done_later(worker, id);
}

static void return_handoff(void)
{
	give_back(mine != NULL ? take_handoff() : make_return());
}

static void return_and_free(void)
{
	return_handoff();
	free_worker();
}

static void steal_fd(void)
{
	int fd = ferry_handoff_steal_fd(lent);

	if (fd >= 0)
		close(fd);
	ferry_handoff_get_fd(lent);
}

static void reject(void)
{
	ferry_handoff_reject(lent, 2);
}

static void make_bufferevent(void)
{
	struct bufferevent *bev;

	if (ferry_handoff_to_bufferevent(&bev, lent != NULL ? lent : mine, base,
	                                 BEV_OPT_CLOSE_ON_FREE) == 0)
		bufferevent_free(bev);
}

static void make_listener(void)
{
	struct evconnlistener *listener;

	if (ferry_handoff_to_listener(&listener, lent != NULL ? lent : mine, base, NULL, NULL,
	                              LEV_OPT_CLOSE_ON_FREE) == 0)
		evconnlistener_free(listener);
}

static void make_handoffs(void)
{
	struct ferry_handoff *made;
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&made, bev), 0);
	bufferevent_free(bev);
	hand_off(made);
	struct evconnlistener *listener =
	    evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED, 0, fds[1]);
	ck_assert_int_eq(ferry_handoff_from_listener(&made, listener), 0);
	evconnlistener_free(listener);
	hand_off(made);
}

static void free_handoff(void)
{
	ferry_handoff_free(take_handoff());
}

static void change_handoff(void)
{
	struct ferry_handoff_info info;
	size_t length;

	ferry_handoff_get_info(lent, &info);
	fill(lent != NULL ? lent : mine);
	ferry_handoff_get_bytes(lent, &length);
	ferry_handoff_get_blob(lent, &length);
}

static const struct every_call calls[] = {
    {"ferry_dispatcher_free", free_dispatcher},
    {"ferry_worker_free", free_worker},
    {"ferry_worker_free, ferry_dispatcher_free", free_both},
    {"ferry_dispatcher_worker_remove", remove_worker},
    {"ferry_dispatcher_hand_off", hand_off_another},
    {"ferry_dispatcher_hand_off of many", hand_off_many},
    {"ferry_dispatcher_worker_drain", drain_seat},
    {"ferry_dispatcher_worker_recall", recall},
    {"ferry_dispatcher_add_worker", add_worker},
    {"ferry_dispatcher_new", make_dispatcher},
    {"ferry_dispatcher_set_…, _get_…", settle_dispatcher},
    {"ferry_worker_set_credits", set_credits},
    {"ferry_worker_drain", drain_worker},
    {"ferry_worker_done", report_done},
    {"ferry_worker_done_later", report_done_later},
    {"ferry_worker_return", return_handoff},
    {"ferry_worker_return, ferry_worker_free", return_and_free},
    {"ferry_handoff_steal_fd", steal_fd},
    {"ferry_handoff_reject", reject},
    {"ferry_handoff_to_bufferevent", make_bufferevent},
    {"ferry_handoff_to_listener", make_listener},
    {"ferry_handoff_from_…", make_handoffs},
    {"ferry_handoff_free", free_handoff},
    {"ferry_handoff_set_…, _get_…", change_handoff},
};

/* ---- the world ---- */

static void set_up(void)
{
	int fds[2];

	transport_of_first = seats_transport;
	transport_of_second = workers_transport;
	id = 0;
	keep = give_up = false;
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &dispatcher_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &long_time, &long_time), 0);
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_dispatcher_add_worker(&seat, dispatcher, make_transport(fds[0]), "seat"),
	                 0);
	ck_assert_int_eq(ferry_worker_new(&worker, make_transport(fds[1]), &worker_callbacks, NULL), 0);
	make_pair(PAIR_UNIX, fds);
	spare[0] = make_transport(fds[0]);
	spare[1] = make_transport(fds[1]);
}

static void tear_down(void)
{
	free_both();
	ferry_transport_free(spare[0]);
	ferry_transport_free(spare[1]);
	ferry_handoff_free(mine);
	mine = NULL;
	if (kept >= 0)
		close(kept);
	kept = -1;
	pump_turns(8);
}

LOOP_TEST(every_call_is_safe_in_every_callback_of_a_dispatcher_and_a_worker, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
	every_call_run(&callbacks[_i], transport_calls, transport_call_count, set_up, tear_down);
}
