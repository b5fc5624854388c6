/* Each allocation of the calls fails in turn: the call fails and changes nothing, or the connection that was idle
 * longest makes room. */

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/parking.h"

#include "handoff_info.h"
#include "heap.h"
#include "heap_sweep.h"
#include "test.h"
#include "wire.h"

static struct ferry_parking *parking;
static struct ferry_handoff *handoff;
static int far, wake_fd;
static unsigned int woken, evicted;

static void on_woken(struct ferry_parking *from, struct ferry_handoff *it,
                     const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)context;
	woken++;
	evicted += event->reason == FERRY_PARKING_EVICTED && event->error == -ENOMEM;
	ferry_handoff_free(it);
	if (event->wake_fd >= 0)
		close(event->wake_fd);
}

static const struct ferry_parking_callbacks callbacks = {.handoff_woken = on_woken};

/* ---- calls that fail ---- */

static int make_place(void)
{
	return ferry_parking_new(&parking, base, &callbacks, NULL);
}

static void no_place(void)
{
	ck_assert_ptr_null(parking);
}

static void make_handoff(void)
{
	int ends[2];

	ck_assert_int_eq(make_place(), 0);
	make_pair(PAIR_UNIX, ends);
	far = ends[1];
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	wake_fd = eventfd(0, EFD_CLOEXEC);
}

static int park(void)
{
	return ferry_parking_park(parking, handoff, wake_fd, &(struct timeval){100, 0}, NULL);
}

static int let_wait(void)
{
	return ferry_parking_wait(parking, handoff, wake_fd, &(struct timeval){100, 0}, NULL);
}

static void still_ours(void)
{
	struct ferry_parking_stats stats;

	ck_assert_int_eq(ferry_parking_get_stats(parking, &stats), 0);
	ck_assert_uint_eq(stats.idle + stats.waiting + stats.parked + stats.waited, 0);
	ck_assert(fd_is_open(wake_fd));
	int fd = ferry_handoff_steal_fd(handoff); /* it can be taken out and used */
	ck_assert(fd_is_open(fd));
	ferry_handoff_free(handoff);
	ck_assert_int_eq(ferry_handoff_new(&handoff, fd), 0);
}

static void parked(void)
{
	handoff = NULL;
	wake_fd = -1;
	ck_assert_int_eq(wire_send(far, "x", 1, NULL, 0), 1);
}

static void clean_up(void)
{
	ferry_handoff_free(handoff);
	ferry_parking_free(parking);
	if (far >= 0)
		close(far);
	if (wake_fd >= 0)
		close(wake_fd);
	handoff = NULL;
	parking = NULL;
	far = wake_fd = -1;
}

static void nothing(void)
{
}

/* The first allocations of a new loop: of the timers, of the descriptors, of the second event. */
static const struct swept_function functions[] = {
    {"ferry_parking_new", nothing, make_place, no_place, nothing, 3, 0},
    {"ferry_parking_park", make_handoff, park, still_ours, parked, 3, 0},
    {"ferry_parking_wait", make_handoff, let_wait, still_ours, parked, 2, 0},
};

/* _i: the function */
LOOP_TEST(a_call_without_memory_fails_and_changes_nothing, COUNT(functions))
{
	far = wake_fd = -1;
	sweep_function(&functions[_i], clean_up);
}

/* ---- a connection that was idle makes room ---- */

/* The second connection needs memory of the loop for its descriptor. Once that fails, the first one leaves, and the
 * second try succeeds. */
TEST(the_one_that_was_idle_longest_leaves_when_memory_is_short)
{
	int ends[2], other[2];

	woken = evicted = 0;
	ck_assert_int_eq(make_place(), 0);
	make_pair(PAIR_UNIX, ends);
	make_pair(PAIR_UNIX, other);
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, -1, NULL, NULL), 0);
	ck_assert_int_eq(ferry_handoff_new(&handoff, other[0]), 0);
	heap_watch(1);
	int status = ferry_parking_park(parking, handoff, -1, NULL, NULL);
	ck_assert_uint_gt(heap_unwatch(), 0);
	ck_assert_int_eq(status, 0);
	pump_until_count(&woken, 1);
	ck_assert_uint_eq(evicted, 1);
	struct ferry_parking_stats stats;
	ferry_parking_get_stats(parking, &stats);
	ck_assert_uint_eq(stats.idle, 1);
	ck_assert_uint_eq(stats.evicted, 1);
	ferry_parking_free(parking);
	close(ends[1]);
	close(other[1]);
}

BEFORE_ALL
{
	heap_take_over();
}
