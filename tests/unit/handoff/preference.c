/* A key prefers a worker for as long as that is there; only the keys of one that comes or goes move. */

#include <string.h>

#include "ferry/dispatcher.h"

#include "dispatcher_peer.h"
#include "test.h"

enum { WORKERS = 6, KEYS = 200 };

static struct ferry_dispatcher_worker *of_key[KEYS];

static struct ferry_dispatcher_worker *worker_of(unsigned int key)
{
	struct ferry_handoff *handoff = make_handoff(0);
	struct ferry_dispatcher_stats before[WORKERS], after;
	struct ferry_dispatcher_worker *found = NULL;

	for (unsigned int i = 0; i < WORKERS; i++)
		ferry_dispatcher_worker_get_stats(peers[i].worker, &before[i]);
	ck_assert_int_eq(ferry_handoff_set_key(handoff, &key, sizeof(key)), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), 0);
	for (unsigned int i = 0; i < WORKERS; i++) {
		ferry_dispatcher_worker_get_stats(peers[i].worker, &after);
		if (after.sent != before[i].sent)
			found = peers[i].worker;
	}
	close_clients(1);
	return found;
}

static void open_workers(void)
{
	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_unclaimed_limit(dispatcher, 10000), 0);
	for (unsigned int i = 0; i < WORKERS; i++)
		add_peer(&peers[i], 10000);
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_BY_KEY), 0);
	for (unsigned int key = 0; key < KEYS; key++)
		of_key[key] = worker_of(key);
}

static void close_workers(void)
{
	free_dispatcher();
	for (unsigned int i = 0; i < WORKERS; i++)
		close_peer(&peers[i]);
}

/* Without credits it is not chosen; its keys go to the others, to all of them, and come back. */
TEST(the_keys_of_a_full_worker_spread_and_come_back)
{
	unsigned int moved = 0, away[WORKERS] = {0};

	open_workers();
	peer_put_credits(&peers[0], 0);
	pump_turns(3);
	for (unsigned int key = 0; key < KEYS; key++) {
		struct ferry_dispatcher_worker *now = worker_of(key);
		ck_assert_ptr_eq(now, worker_of(key)); /* always to the same one */
		if (of_key[key] != peers[0].worker)
			ck_assert_ptr_eq(now, of_key[key]);
		moved += of_key[key] == peers[0].worker;
		for (unsigned int i = 0; i < WORKERS; i++)
			away[i] += of_key[key] == peers[0].worker && now == peers[i].worker;
	}
	ck_assert_uint_gt(moved, 0);
	ck_assert_uint_eq(away[0], 0);
	for (unsigned int i = 1; i < WORKERS; i++)
		ck_assert_uint_gt(away[i], 0);
	peer_put_credits(&peers[0], 10000);
	pump_turns(3);
	for (unsigned int key = 0; key < KEYS; key++)
		ck_assert_ptr_eq(worker_of(key), of_key[key]);
	close_workers();
}

/* One that drains has left; one that joins under its name gets just its keys. */
TEST(a_successor_gets_the_keys_of_its_name)
{
	struct ferry_dispatcher_worker *first;

	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_unclaimed_limit(dispatcher, 10000), 0);
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_BY_KEY), 0);
	for (unsigned int i = 0; i < WORKERS; i++) {
		add_silent_peer(&peers[i], (const char *[]){"a", "b", "c", "d", "e", "f"}[i]);
		peer_put_hello(&peers[i], 10000);
	}
	pump_turns(3);
	for (unsigned int key = 0; key < KEYS; key++)
		of_key[key] = worker_of(key);
	first = peers[2].worker;
	ck_assert_int_eq(ferry_dispatcher_worker_drain(first), 0);
	add_silent_peer(&peers[WORKERS], "c");
	peer_put_hello(&peers[WORKERS], 10000);
	pump_turns(3);
	struct peer old = peers[2];
	peers[2] = peers[WORKERS];
	for (unsigned int key = 0; key < KEYS; key++)
		ck_assert_ptr_eq(worker_of(key), of_key[key] == first ? peers[2].worker : of_key[key]);
	close_workers();
	close_peer(&old);
}
