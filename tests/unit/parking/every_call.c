/* Every call that a place has, in each of its callbacks. */

#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "every_call.h"
#include "parking_place.h"
#include "test.h"
#include "wire.h"

static struct ferry_handoff *woken; /* in handoff_woken: this callback's */
static int far[CLIENTS_MAX];
static unsigned int far_count;

static struct ferry_handoff *new_client(void)
{
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);

	far[far_count++] = clients[0];
	return handoff;
}

static void park_new(int wake_fd)
{
	struct ferry_handoff *handoff = new_client();

	if (ferry_parking_park(parking, handoff, wake_fd, &(struct timeval){100, 0}, NULL) == 0)
		return;
	ferry_handoff_free(handoff);
	if (wake_fd >= 0)
		close(wake_fd);
}

static void wait_new(void)
{
	struct ferry_handoff *handoff = new_client();

	if (ferry_parking_wait(parking, handoff, -1, NULL, NULL) < 0)
		ferry_handoff_free(handoff);
}

/* ---- the callbacks ---- */

static enum ferry_parking_verdict verdict;

static enum ferry_parking_verdict on_filter(struct ferry_parking *from,
                                            struct ferry_handoff *handoff,
                                            const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)event, (void)context;
	wire_drain(ferry_handoff_get_fd(handoff));
	strike(verdict == FERRY_PARKING_WAKE   ? "filter, wake"
	       : verdict == FERRY_PARKING_STAY ? "filter, stay"
	                                       : "filter, renew");
	/* The handoff is valid whatever the call has freed. */
	ferry_handoff_set_bytes(handoff, "x", 1);
	return verdict;
}

static const char *name_of(const struct ferry_parking_event *event)
{
	static const char *const names[] = {
	    [FERRY_PARKING_INPUT] = "woken by input",     [FERRY_PARKING_ENDED] = "woken by the end",
	    [FERRY_PARKING_WAKE_FD] = "woken by wake_fd", [FERRY_PARKING_TIMEOUT] = "woken by time",
	    [FERRY_PARKING_EVICTED] = "evicted",
	};
	return names[event->reason];
}

static void on_woken(struct ferry_parking *from, struct ferry_handoff *handoff,
                     const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)context;
	int wake_fd = event->wake_fd;

	woken = handoff;
	strike(name_of(event));
	ferry_handoff_free(woken);
	woken = NULL;
	if (wake_fd >= 0)
		close(wake_fd);
}

static const struct ferry_parking_callbacks callbacks = {.filter = on_filter,
                                                         .handoff_woken = on_woken};

static void set_up(void)
{
	far_count = 0;
	verdict = FERRY_PARKING_WAKE;
	ck_assert_int_eq(ferry_parking_new(&parking, base, &callbacks, NULL), 0);
	ferry_parking_set_limit(parking, 6);
	park_new(-1);
	wait_new();
	park_new(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static void tear_down(void)
{
	pump_turns(4);
	ferry_parking_free(parking);
	for (unsigned int i = 0; i < far_count; i++)
		close(far[i]);
}

/* ---- what provokes them ---- */

static void by_input(void)
{
	wire_send(far[0], "x", 1, NULL, 0);
	pump_turns(4);
}

static void by_input_that_stays(void)
{
	verdict = FERRY_PARKING_STAY;
	by_input();
}

static void by_input_that_renews(void)
{
	verdict = FERRY_PARKING_RENEW;
	by_input();
}

static void by_end(void)
{
	shutdown(far[0], SHUT_WR);
	pump_turns(4);
}

static void by_wake_fd(void)
{
	park_new(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
	pump_turns(4);
}

static void by_time(void)
{
	ck_assert_int_eq(ferry_parking_park(parking, new_client(), -1, &(struct timeval){0, 1}, NULL),
	                 0);
	while (!struck)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	pump_turns(4);
}

static void by_eviction(void)
{
	ferry_parking_evict(parking, 2);
	pump_turns(4);
}

static const struct every_callback of_parking[] = {
    {"filter, wake", by_input},
    {"filter, stay", by_input_that_stays},
    {"filter, renew", by_input_that_renews},
    {"woken by input", by_input},
    {"woken by the end", by_end},
    {"woken by wake_fd", by_wake_fd},
    {"woken by time", by_time},
    {"evicted", by_eviction},
};

/* ---- the calls ---- */

static void call_free(void)
{
	ferry_parking_free(parking);
	ferry_parking_free(parking); /* the same in the same callback */
	park_new(-1);
	parking = NULL;
}

static void call_park(void)
{
	park_new(-1);
}

static void call_park_until_full(void)
{
	for (int i = 0; i < 10; i++)
		park_new(-1);
}

static void call_park_this(void)
{
	if (woken != NULL && ferry_parking_park(parking, woken, -1, NULL, NULL) == 0)
		woken = NULL;
}

static void call_wait_this(void)
{
	if (woken != NULL && ferry_parking_wait(parking, woken, -1, NULL, NULL) == 0)
		woken = NULL;
}

static void call_wait(void)
{
	wait_new();
}

static void call_take_all(void)
{
	struct ferry_handoff *handoff;

	while (ferry_parking_take_idle(&handoff, parking, NULL) == 0)
		ferry_handoff_free(handoff);
	while (ferry_parking_take_waiting(&handoff, parking, NULL) == 0)
		ferry_handoff_free(handoff);
}

static void call_evict_all(void)
{
	ferry_parking_evict(parking, 100);
}

static void call_set_limit(void)
{
	ferry_parking_set_limit(parking, 1);
}

static void call_set_fd_reserve(void)
{
	ferry_parking_set_fd_reserve(parking, 1U << 30);
	park_new(-1);
}

static void call_get_stats(void)
{
	parking_stats();
}

static void call_take_all_and_free(void)
{
	call_take_all();
	call_free();
}

static void call_evict_all_and_free(void)
{
	call_evict_all();
	call_free();
}

static void call_new(void)
{
	struct ferry_parking_stats stats;
	struct ferry_parking *made;

	ck_assert_int_eq(ferry_parking_new(&made, base, &callbacks, NULL), 0);
	ferry_parking_free(made);
	(void)ferry_parking_get_stats(parking, &stats);
}

static const struct every_call calls[] = {
    {"ferry_parking_new, _get_stats", call_new},
    {"free", call_free},
    {"park", call_park},
    {"park until full", call_park_until_full},
    {"park this", call_park_this},
    {"let this wait", call_wait_this},
    {"wait", call_wait},
    {"take all", call_take_all},
    {"evict all", call_evict_all},
    {"set_limit", call_set_limit},
    {"set_fd_reserve", call_set_fd_reserve},
    {"get_stats", call_get_stats},
    {"take all, free", call_take_all_and_free},
    {"evict all, free", call_evict_all_and_free},
};

/* _i: the callback */
LOOP_TEST(every_call_is_legal_in_every_callback, COUNT(of_parking))
{
	every_call_run(&of_parking[_i], calls, COUNT(calls), set_up, tear_down);
}
