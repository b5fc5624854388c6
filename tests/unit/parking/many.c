/* Ten thousand parked connections: their memory, their silence, and their order. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/parking.h"

#include "handoff_info.h"
#include "heap.h"
#include "test.h"
#include "wire.h"

enum { WANTED = 10000, OTHERS = 100, EACH_MAX = 400 };

static struct ferry_parking *parking;
static int peers[WANTED];
static unsigned int woken, order[WANTED];

static void on_woken(struct ferry_parking *from, struct ferry_handoff *handoff,
                     const struct ferry_parking_event *event, void *context)
{
	(void)from, (void)event, (void)context;
	order[woken++] = (unsigned int)((int *)handoff_info(handoff).context - peers);
	ferry_handoff_free(handoff);
}

static const struct ferry_parking_callbacks callbacks = {.handoff_woken = on_woken};

/* Ten thousand, or what the hard descriptor limit allows: each has its client's end in this process too. */
static unsigned int count_connections(void)
{
	struct rlimit limit;

	raise_descriptor_limit();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	return limit.rlim_cur >= 2 * WANTED + OTHERS ? WANTED
	                                             : (unsigned int)(limit.rlim_cur - OTHERS) / 2;
}

/* The client's end is not in the loop, and neither is anything else of its memory counted. */
static void park_one(unsigned int number, const struct timeval *timeout)
{
	struct ferry_handoff *handoff = NULL;
	int ends[2];

	heap_suspend();
	make_pair(PAIR_UNIX, ends);
	heap_continue();
	peers[number] = ends[1];
	must(ferry_handoff_new(&handoff, ends[0]) == 0);
	must(ferry_handoff_set_name(handoff, "www") == 0);
	must(ferry_parking_park(parking, handoff, -1, timeout, &peers[number]) == 0);
}

static void count_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	++*(unsigned int *)argument;
}

/* _i: whether they have deadlines */
LOOP_TEST(ten_thousand_are_small_and_silent_and_leave_in_their_order, 2)
{
	const unsigned int count = count_connections();
	const struct timeval timeout = {1000, 0}, moment = {0, 50000};
	unsigned int probes = 0;

	woken = 0;
	ck_assert_uint_gt(count, 0);
	ck_assert_int_eq(ferry_parking_new(&parking, base, &callbacks, NULL), 0);
	heap_watch(0);
	for (unsigned int i = 0; i < count; i++)
		park_one(i, _i == 1 ? &timeout : NULL);
	heap_unwatch();
	printf("%u connections, %zu bytes of heap each\n", count, heap_bytes() / count);
	ck_assert_uint_le(heap_bytes(), (size_t)count * EACH_MAX);

	/* The one event that the loop runs is the probe. */
	event_base_once(base, -1, EV_TIMEOUT, count_turn, &probes, &moment);
	ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(probes, 1);
	ck_assert_uint_eq(woken, 0);

	ck_assert_int_eq(ferry_parking_evict(parking, 100), 100);
	pump_until_count(&woken, 100);
	for (unsigned int i = 100; i < count; i++)
		ck_assert_int_eq(wire_send(peers[i], "x", 1, NULL, 0), 1);
	pump_until_count(&woken, count);
	for (unsigned int i = 0; i < 100; i++)
		ck_assert_uint_eq(order[i], i);
	ferry_parking_free(parking);
	for (unsigned int i = 0; i < count; i++)
		close(peers[i]);
}

BEFORE_ALL
{
	heap_take_over();
}
