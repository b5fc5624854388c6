/* The calls of a dispatcher without memory: either nothing has changed, or the owner is told at once. */

#include <errno.h>

#include "ferry/dispatcher.h"
#include "handoff/wire.h"

#include "dispatcher_peer.h"
#include "heap.h"
#include "test.h"

/* The allocation with the number `failing` fails. Returns the status of the call. */
static int add_without_memory(struct peer *peer, unsigned long failing, unsigned long *allocations)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	*peer = (struct peer){.fd = ends[1], .got = -1};
	struct ferry_transport *transport = make_transport(ends[0]);
	heap_watch(failing);
	int status = ferry_dispatcher_add_worker(&peer->worker, dispatcher, transport, NULL);
	*allocations = heap_unwatch();
	if (status < 0)
		ferry_transport_free(transport);
	return status;
}

/* The deadline for the worker's HELLO never comes: the loss of one that got none must not wait for it. */
TEST(a_worker_without_memory_for_its_hello_is_lost_at_once)
{
	unsigned long failing = 0, allocations;
	unsigned int refused = 0, lost = 0;

	open_dispatcher();
	do {
		int status = add_without_memory(&peers[0], ++failing, &allocations);
		pump_turns(3);
		if (status < 0) {
			ck_assert_int_eq(status, -ENOMEM);
			refused++;
		} else if (notes.lost > lost) {
			ck_assert_uint_eq(notes.lost, ++lost);
			ck_assert_int_eq(notes.reason, -ENOMEM);
			peer_expect(&peers[0], 0);
		} else {
			ck_assert_int_eq(peer_take(&peers[0]), HANDOFF_WIRE_HELLO);
			ferry_dispatcher_worker_remove(peers[0].worker);
		}
		close_peer(&peers[0]);
		pump_turns(3);
	} while (failing <= allocations);
	ck_assert_uint_gt(refused, 0);
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_eq(dispatcher_stats().workers, 0);
	free_dispatcher();
}

static int drain(void)
{
	return ferry_dispatcher_worker_drain(peers[0].worker);
}

static int recall(void)
{
	return ferry_dispatcher_worker_recall(peers[0].worker, &(struct timeval){1, 0});
}

static int choose_by_key(void)
{
	return ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_BY_KEY);
}

static const struct {
	int (*call)(void);
	int message; /* that it sends to the worker; 0: none */
} calls[] = {{drain, HANDOFF_WIRE_DRAIN}, {recall, HANDOFF_WIRE_RECALL}, {choose_by_key, 0}};

LOOP_TEST(a_call_without_memory_changes_nothing, COUNT(calls))
{
	open_dispatcher_for_returns();
	add_peer(&peers[0], 4);
	pump_turns(3);
	heap_watch(1);
	int status = calls[_i].call();
	heap_unwatch();
	ck_assert_int_eq(status, -ENOMEM);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	ck_assert_int_eq(calls[_i].call(), 0);
	if (calls[_i].message != 0)
		peer_expect(&peers[0], calls[_i].message);
	else
		peer_expect_nothing(&peers[0]);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

TEST(a_handoff_without_memory_for_its_number_stays_the_owners)
{
	open_dispatcher();
	struct ferry_handoff *handoff = make_handoff(0);
	heap_watch(1);
	int status = ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[0]);
	heap_unwatch();
	ck_assert_int_eq(status, -ENOMEM);
	ck_assert_uint_eq(dispatcher_stats().accepted, 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[0]), 0);
	ck_assert_uint_eq(dispatcher_stats().queued, 1);
	free_dispatcher();
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	close_clients(1);
}

BEFORE_ALL
{
	heap_take_over();
}
