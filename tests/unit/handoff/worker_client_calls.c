/* Every call of a worker client in every callback of the client and of its workers. Their dispatcher is in the same
 * loop. */

#include <unistd.h>

#include "every_call.h"
#include "ferry/ferry.h"
#include "listening.h"
#include "test.h"

static struct ferry_worker_client *client; /* NULL once freed */
static struct ferry_worker *worker;        /* the callback's argument */
static struct ferry_dispatcher *dispatcher;
static struct ferry_dispatcher_worker *seat; /* NULL until it is ready, and once it is lost */
static struct ferry_listener *listener;

/* ---- the callbacks ---- */

static void run_callback(const char *name, struct ferry_worker *of)
{
	worker = of;
	strike(name);
	worker = NULL;
}

static void received(struct ferry_worker *of, struct ferry_handoff *handoff, void *context)
{
	(void)context;
	close(ferry_handoff_steal_fd(handoff));
	run_callback("handoff_received", of);
}

static void drain_requested(struct ferry_worker *of, void *context)
{
	(void)context;
	run_callback("drain_requested", of);
}

static void recall_requested(struct ferry_worker *of, const struct timeval *spread, void *context)
{
	(void)spread, (void)context;
	run_callback("recall_requested", of);
}

static void credits_scarce(struct ferry_worker *of, bool scarce, void *context)
{
	(void)context;
	run_callback(scarce ? "credits_scarce" : "credits_scarce, no more", of);
}

static void dispatcher_lost(struct ferry_worker *of, int reason, void *context)
{
	(void)reason, (void)context;
	run_callback("dispatcher_lost", of);
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = received,
                                                               .drain_requested = drain_requested,
                                                               .recall_requested = recall_requested,
                                                               .credits_scarce = credits_scarce,
                                                               .dispatcher_lost = dispatcher_lost};

static void failed(struct ferry_worker_client *from, const char *path, int reason, void *context)
{
	(void)from, (void)path, (void)reason, (void)context;
	run_callback("failed", NULL);
}

static void failed_to_connect(struct ferry_worker_client *from, const char *path, int reason,
                              void *context)
{
	(void)from, (void)path, (void)reason, (void)context;
	run_callback("failed, by the user of the other end", NULL);
}

/* ---- the dispatcher ---- */

static void seat_ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *which,
                       void *context)
{
	(void)from, (void)context;
	seat = which;
}

static void seat_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *which,
                      int reason, void *context)
{
	(void)from, (void)reason, (void)context;
	if (which == seat)
		seat = NULL;
}

static void returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *which,
                     struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)which, (void)context;
	ferry_handoff_free(handoff);
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_ready = seat_ready, .worker_lost = seat_lost, .handoff_returned = returned};

static void accepted(struct ferry_listener *from, struct ferry_transport *transport, void *context)
{
	(void)from, (void)context;
	if (dispatcher == NULL || ferry_dispatcher_add_worker(NULL, dispatcher, transport, "seat") < 0)
		ferry_transport_free(transport);
}

static void outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                    enum ferry_handoff_outcome how, int reason, void *context)
{
	(void)from, (void)handoff, (void)how, (void)reason, (void)context;
}

/* ---- how they are provoked ---- */

static bool is_seated(void *argument)
{
	(void)argument;
	return seat != NULL;
}

static void join(void)
{
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, socket_path, NULL, accepted, NULL),
	                 0);
	ck_assert_int_eq(ferry_worker_client_add_unix(client, socket_path), 0);
	pump_until(is_seated, NULL);
	pump_turns(4);
}

static void by_handoff(void)
{
	struct ferry_handoff *handoff;
	int fds[2];

	join();
	make_pair(PAIR_UNIX, fds);
	close(fds[1]);
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[0]), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, outcome, NULL), 0);
	pump_turns(8);
}

static void by_drain(void)
{
	join();
	ck_assert_int_eq(ferry_dispatcher_worker_drain(seat), 0);
	pump_turns(8);
}

static void by_recall(void)
{
	join();
	ck_assert_int_eq(ferry_dispatcher_worker_recall(seat, &(struct timeval){0}), 0);
	pump_turns(8);
}

static void end_dispatcher(void)
{
	ferry_dispatcher_free(dispatcher);
	dispatcher = NULL;
	seat = NULL;
	pump_turns(8);
}

static void by_end(void)
{
	join();
	end_dispatcher();
}

static void by_end_in_scarcity(void)
{
	by_handoff();
	end_dispatcher();
}

static void by_absence(void)
{
	ck_assert_int_eq(ferry_worker_client_add_unix(client, socket_path), 0);
	pump_turns(4);
}

static void by_stranger(void)
{
	ck_assert_int_eq(ferry_worker_client_set_failed_cb(client, failed_to_connect, NULL), 0);
	ck_assert_int_eq(ferry_worker_client_allow_uid(client, geteuid() + 1), 0);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, socket_path, NULL, accepted, NULL),
	                 0);
	ck_assert_int_eq(ferry_worker_client_add_unix(client, socket_path), 0);
	pump_turns(8);
}

static const struct every_callback callbacks[] = {
    {"handoff_received", by_handoff},
    {"drain_requested", by_drain},
    {"recall_requested", by_recall},
    {"credits_scarce", by_handoff},
    {"credits_scarce, no more", by_end_in_scarcity},
    {"dispatcher_lost", by_end},
    {"failed", by_absence},
    {"failed, by the user of the other end", by_stranger},
};

/* ---- the calls ---- */

static void free_client(void)
{
	struct ferry_worker_client *freed = client;

	client = NULL;
	ferry_worker_client_free(freed);
}

static void drain_client(void)
{
	ferry_worker_client_drain(client);
}

static void drain_and_free(void)
{
	drain_client();
	free_client();
}

static void free_worker(void)
{
	ferry_worker_free(worker);
}

static void free_both(void)
{
	free_worker();
	free_client();
}

static void add_another(void)
{
	ferry_worker_client_add_unix(client, own_abstract_name());
	ferry_worker_client_add_unix(client, socket_path);
	ferry_worker_client_add_from_environment(client);
}

static void settle(void)
{
	const struct timeval one = {.tv_sec = 1};

	ferry_worker_client_allow_uid(client, 0);
	ferry_worker_client_set_credits(client, 5);
	ferry_worker_client_set_pauses(client, &one, &one);
	ferry_worker_client_set_failed_cb(client, NULL, NULL);
	ferry_worker_client_get_state(client);
}

static void make_another(void)
{
	struct ferry_worker_client *made;

	ck_assert_int_eq(ferry_worker_client_new(&made, base, &worker_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_worker_client_add_unix(made, socket_path), 0);
	ferry_worker_client_free(made);
}

static const struct every_call calls[] = {
    {"ferry_worker_client_free", free_client},
    {"ferry_worker_client_drain", drain_client},
    {"ferry_worker_client_drain, _free", drain_and_free},
    {"ferry_worker_free", free_worker},
    {"ferry_worker_free, ferry_worker_client_free", free_both},
    {"ferry_worker_client_add_…", add_another},
    {"ferry_worker_client_set_…, _allow_uid, _get_state", settle},
    {"ferry_worker_client_new", make_another},
};

/* ---- the world ---- */

static void set_up(void)
{
	make_directory();
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &dispatcher_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_worker_client_new(&client, base, &worker_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_worker_client_set_credits(client, 1), 0);
	ck_assert_int_eq(ferry_worker_client_set_failed_cb(client, failed, NULL), 0);
}

static void tear_down(void)
{
	free_client();
	end_dispatcher();
	ferry_listener_free(listener);
	listener = NULL;
	pump_turns(4);
	remove_directory();
}

LOOP_TEST(every_call_is_safe_in_every_callback_of_a_worker_client, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
}
