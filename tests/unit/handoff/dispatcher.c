/* The dispatcher sends each handoff to a worker of its choice, or keeps it in the queue, and reports one
 * outcome for it. The workers are plain sockets. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "ferry/in_flight.h"
#include "handoff/dispatcher_fields.h"
#include "handoff/wire.h"

#include "dispatcher_peer.h"
#include "handoff_info.h"
#include "test.h"
#include "wire.h"

TEST_CASE("handoffs");

TEST(a_handoff_is_claimed_and_done)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	struct ferry_handoff *handoff = make_handoff(0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "www"), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "GET /", 5), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "blob", 4), 0);
	ck_assert_uint_eq(handoff_info(handoff).id, 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[0]), 0);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -EBUSY);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), -EINVAL);

	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	const struct handoff_wire_handoff *frame = &peers[0].frame;
	ck_assert_uint_ne(frame->id, 0);
	ck_assert_uint_eq(frame->attempt, 1);
	ck_assert_str_eq(frame->name, "www");
	ck_assert_mem_eq(frame->bytes, "GET /", 5);
	ck_assert_uint_eq(frame->bytes_length, 5);
	ck_assert_mem_eq(frame->blob, "blob", 4);
	ck_assert_uint_eq(frame->blob_length, 4);
	ck_assert_int_ge(peers[0].got, 0);
	uint64_t cookie;
	socklen_t length = sizeof(cookie);
	ck_assert_int_eq(getsockopt(peers[0].got, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	ck_assert_uint_eq(frame->identity.cookie, cookie);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, 1);

	/* The dispatcher has a copy until the claim, and not longer. */
	peer_drop_fd(&peers[0]);
	pump_turns(3);
	ck_assert(!client_is_closed(&notes.client[0]));
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_until(client_is_closed, &notes.client[0]);
	ck_assert_uint_eq(notes.outcomes, 0);
	ck_assert_uint_eq(dispatcher_stats().outstanding, 1);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, 0);

	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	ck_assert(!notes.of[0].has_fd);
	ck_assert_ptr_eq(notes.of[0].worker, peers[0].worker);
	ck_assert_uint_eq(dispatcher_stats().outstanding, 0);
	ck_assert_uint_eq(dispatcher_stats().stale, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

TEST(credits_bound_the_handoffs_of_a_worker)
{
	open_dispatcher();
	add_peer(&peers[0], 2);
	for (unsigned int i = 0; i < 5; i++)
		hand_off(i);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	uint64_t first = peers[0].frame.id;
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_expect_nothing(&peers[0]);
	ck_assert_uint_eq(dispatcher_stats().queued, 3);

	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, first, peers[0].frame.epoch, 0);
	peer_expect_nothing(&peers[0]); /* a claim gives no credit back */
	peer_put_answer(&peers[0], HANDOFF_WIRE_DONE, first, peers[0].frame.epoch, 0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_expect_nothing(&peers[0]);
	peer_put_credits(&peers[0], 4);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_put_credits(&peers[0], 0);
	ck_assert_uint_eq(dispatcher_stats().queued, 0);
	free_dispatcher();
	ck_assert_uint_eq(notes.outcomes, 5);
	close_peer(&peers[0]);
	close_clients(5);
}

TEST(handoffs_stay_in_order)
{
	open_dispatcher();
	for (unsigned int i = 0; i < 8; i++) {
		struct ferry_handoff *handoff = make_handoff(i);
		unsigned char number = (unsigned char)i;
		ck_assert_int_eq(ferry_handoff_set_bytes(handoff, &number, 1), 0);
		ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[i]),
		                 0);
	}
	add_peer(&peers[0], 8);
	for (unsigned int i = 0; i < 8; i++) {
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[0].frame.bytes[0], i);
	}
	/* None was claimed: they go to another worker, in the same order. */
	add_peer(&peers[1], 8);
	close_peer(&peers[0]);
	for (unsigned int i = 0; i < 8; i++) {
		peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[1].frame.bytes[0], i);
		/* The other worker can have died of the first one only. */
		ck_assert_uint_eq(peers[1].frame.attempt, i == 0 ? 2 : 1);
	}
	ck_assert_uint_eq(dispatcher_stats().retried, 8);
	ck_assert_uint_eq(dispatcher_stats().fenced, 8);
	free_dispatcher();
	close_peer(&peers[1]);
	close_clients(8);
}

TEST_CASE("choice");

TEST(a_handoff_goes_to_the_worker_with_the_fewest_outstanding)
{
	open_dispatcher();
	for (unsigned int i = 0; i < 3; i++)
		add_peer(&peers[i], 100);
	for (unsigned int i = 0; i < 9; i++)
		hand_off(i);
	for (unsigned int i = 0; i < 3; i++)
		for (unsigned int k = 0; k < 3; k++)
			peer_expect(&peers[i], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[1], HANDOFF_WIRE_DONE);
	pump_until_count(&notes.outcomes, 1);
	hand_off(9);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	/* Among several with the fewest, the one that was chosen longest ago. */
	hand_off(10);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	free_dispatcher();
	for (unsigned int i = 0; i < 3; i++)
		close_peer(&peers[i]);
	close_clients(11);
}

TEST(handoffs_go_to_the_workers_in_turn)
{
	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_ROUND_ROBIN), 0);
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, (enum ferry_dispatch_choice)7),
	                 -EINVAL);
	for (unsigned int i = 0; i < 3; i++)
		add_peer(&peers[i], 100);
	for (unsigned int i = 0; i < 6; i++) {
		hand_off(i);
		peer_expect(&peers[i % 3], HANDOFF_WIRE_HANDOFF);
		if (i % 3 == 0) { /* fewer outstanding handoffs do not matter */
			peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
			peer_answer(&peers[0], HANDOFF_WIRE_DONE);
			pump_until_count(&notes.of[i].count, 1);
		}
	}
	free_dispatcher();
	for (unsigned int i = 0; i < 3; i++)
		close_peer(&peers[i]);
	close_clients(6);
}

enum { KEYS = 60 };

/* Hands off one connection for each key, and records the peer that got it. */
static void hand_off_keys(unsigned int peer_count, int got[KEYS])
{
	for (unsigned int key = 0; key < KEYS; key++) {
		struct ferry_handoff *handoff = make_handoff(key);
		got[key] = -1;
		ck_assert_int_eq(ferry_handoff_set_key(handoff, &key, sizeof(key)), 0);
		ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), 0);
		while (got[key] < 0) {
			pump_turns(1);
			for (unsigned int i = 0; i < peer_count; i++)
				if (peers[i].fd >= 0 && peer_take(&peers[i]) == HANDOFF_WIRE_HANDOFF)
					got[key] = (int)i;
		}
		close(notes.client[key]);
	}
}

TEST(handoffs_with_one_key_go_to_one_worker)
{
	int first[KEYS], again[KEYS], after[KEYS];
	unsigned int share[3] = {0};

	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_BY_KEY), 0);
	for (unsigned int i = 0; i < 3; i++)
		add_peer(&peers[i], 1000);
	hand_off_keys(3, first);
	hand_off_keys(3, again);
	ck_assert_mem_eq(first, again, sizeof(first));
	for (unsigned int key = 0; key < KEYS; key++)
		share[first[key]]++;
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_ge(share[i], KEYS / 10);
	/* When one worker leaves, the keys of the others do not move. */
	close_peer(&peers[1]);
	pump_until_count(&notes.lost, 1);
	for (unsigned int i = 0; i < 3; i += 2)
		while (peer_take(&peers[i]) != 0)
			; /* handoffs that the other had not claimed */
	pump_turns(2);
	for (unsigned int i = 0; i < 3; i += 2)
		while (peer_take(&peers[i]) != 0)
			;
	hand_off_keys(3, after);
	for (unsigned int key = 0; key < KEYS; key++)
		if (first[key] != 1)
			ck_assert_int_eq(after[key], first[key]);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[2]);
}

TEST_CASE("handoffs");

TEST(a_rejected_handoff_keeps_its_reason)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_put_answer(&peers[0], HANDOFF_WIRE_REJECT, peers[0].frame.id, peers[0].frame.epoch, 4711);
	expect_outcome(0, FERRY_HANDOFF_REJECTED, 4711);
	ck_assert(!notes.of[0].has_fd);
	ck_assert_uint_eq(dispatcher_stats().outstanding, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

static void refuse(struct peer *peer)
{
	peer_expect(peer, HANDOFF_WIRE_HANDOFF);
	peer_put_answer(peer, HANDOFF_WIRE_REJECT, peer->frame.id, peer->frame.epoch, -EBADMSG);
}

TEST(a_handoff_that_was_refused_unclaimed_goes_elsewhere)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	refuse(&peers[0]);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(peers[1].frame.attempt, 2);
	peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[1], HANDOFF_WIRE_DONE);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	ck_assert_uint_eq(dispatcher_stats().refused, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(1);
}

TEST(three_refusals_end_a_handoff)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	for (unsigned int i = 0; i < 3; i++)
		refuse(&peers[0]);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -EHOSTUNREACH);
	ck_assert(notes.of[0].has_fd);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* The second worker serves, and the first refuses: after twelve refusals it is avoided for five seconds. */
TEST(a_worker_that_refuses_is_chosen_last)
{
	enum { REFUSED = 4, COUNT = 8 };

	open_dispatcher();
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < REFUSED; i++) {
		hand_off(i);
		for (unsigned int attempt = 0; attempt < 3; attempt++)
			refuse(&peers[0]);
		expect_outcome(i, FERRY_HANDOFF_EXPIRED, -EHOSTUNREACH);
	}
	add_peer(&peers[1], COUNT);
	for (unsigned int i = REFUSED; i < REFUSED + COUNT + 1; i++)
		hand_off(i);
	struct ferry_dispatcher_stats first;
	ck_assert_int_eq(ferry_dispatcher_worker_get_stats(peers[0].worker, &first), 0);
	ck_assert_uint_eq(first.sent, 3 * REFUSED + 1); /* the other has no credit left */
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(REFUSED + COUNT + 1);
}

TEST(the_time_for_which_a_worker_is_avoided_doubles_up_to_the_longest)
{
	enum { SHORTEST = 10000, LONGEST = 5000000, REFUSED = 4 };
	int64_t expected = SHORTEST;

	open_dispatcher();
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < 3 * REFUSED; i++) {
		if (i % 3 == 0)
			hand_off(i / 3);
		refuse(&peers[0]);
		pump_turns(3);
		ck_assert_int_eq(peers[0].worker->avoid_usec, expected);
		expected = 2 * expected < LONGEST ? 2 * expected : LONGEST;
	}
	hand_off(REFUSED);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	expect_outcome(REFUSED, FERRY_HANDOFF_DONE, 0);
	ck_assert_int_eq(peers[0].worker->avoid_usec, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(REFUSED + 1);
}

/* The other worker has no credit, and never gets one. */
TEST(a_refused_handoff_waits_for_no_more_than_that_time)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 1);
	hand_off(0);
	hand_off(1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	refuse(&peers[0]);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(peers[0].frame.attempt, 2);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(2);
}

static void lose_without_slots(struct peer *peer)
{
	peer_expect(peer, HANDOFF_WIRE_HANDOFF);
	peer_put_credits(peer, 0);
	peer_answer(peer, HANDOFF_WIRE_LOST);
	peer_put_credits(peer, 4);
}

/* What it states about its credits helps it once. The handoff waits for the other worker, though that has no credit
 * now. */
TEST(a_handoff_is_not_lost_at_one_worker_while_there_is_another)
{
	enum { LOSSES = 10 };

	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	for (unsigned int i = 0; i < LOSSES; i++)
		lose_without_slots(&peers[0]);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF); /* there is no other */
	add_peer(&peers[1], 1);
	hand_off(1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	peer_put_credits(&peers[0], 0);
	peer_answer(&peers[0], HANDOFF_WIRE_LOST);
	peer_put_credits(&peers[0], 4);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().queued, 1);
	peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[1], HANDOFF_WIRE_DONE);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(peers[1].frame.attempt, 1);
	peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[1], HANDOFF_WIRE_DONE);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	ck_assert_uint_eq(dispatcher_stats().lost, LOSSES + 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(2);
}

/* The other worker has left: there is nobody else to wait for. */
TEST(the_last_worker_is_tried_again)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 1);
	hand_off(0);
	hand_off(1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	for (unsigned int i = 0; i < 2; i++) {
		peer_answer(&peers[0], HANDOFF_WIRE_LOST);
		pump_turns(3);
		if (i == 0)
			close_peer(&peers[1]);
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(2);
}

TEST(losses_without_slots_are_bounded)
{
	enum { UNCHARGED = 16 };

	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	for (unsigned int i = 0; i < UNCHARGED + 3; i++) {
		ck_assert_uint_eq(notes.outcomes, 0);
		lose_without_slots(&peers[0]);
	}
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -EHOSTUNREACH);
	ck_assert_uint_eq(dispatcher_stats().lost, UNCHARGED + 3);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

TEST(a_worker_that_claims_nothing_gets_a_bounded_number)
{
	enum { LIMIT = 3 };

	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_unclaimed_limit(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_unclaimed_limit(dispatcher, 0), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_unclaimed_limit(dispatcher, LIMIT), 0);
	add_peer(&peers[0], UINT32_MAX);
	for (unsigned int i = 0; i < 10; i++)
		hand_off(i);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, LIMIT);
	ck_assert_uint_eq(dispatcher_stats().queued, 10 - LIMIT);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, LIMIT);
	ck_assert_uint_eq(dispatcher_stats().queued, 9 - LIMIT);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(10);
}

TEST_CASE("queue");

TEST(a_full_queue_refuses_handoffs)
{
	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_queue_limit(dispatcher, 0), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_queue_limit(dispatcher, 10), 0);
	for (unsigned int i = 0; i < 10; i++) {
		ck_assert(!ferry_dispatcher_is_full(dispatcher));
		hand_off(i);
	}
	ck_assert(ferry_dispatcher_is_full(dispatcher));
	pump_turns(2);
	ck_assert_uint_eq(notes.full, 1);
	struct ferry_handoff *refused = make_handoff(10);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, refused, on_outcome, &notes.of[10]),
	                 -ENOBUFS);
	ck_assert_int_ge(ferry_handoff_get_fd(refused), 0);
	add_peer(&peers[0], 4);
	pump_turns(3);
	ck_assert(ferry_dispatcher_is_full(dispatcher)); /* 6 are left, and half of 10 is 5 */
	ck_assert_uint_eq(notes.room, 0);
	peer_put_credits(&peers[0], 5);
	pump_until_count(&notes.room, 1);
	ck_assert(!ferry_dispatcher_is_full(dispatcher));
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, refused, on_outcome, &notes.of[10]), 0);
	ck_assert_uint_eq(dispatcher_stats().queued_max, 10);
	free_dispatcher();
	ck_assert_uint_eq(notes.outcomes, 11);
	close_peer(&peers[0]);
	close_clients(11);
}

LOOP_TEST(a_drained_worker_gets_no_handoffs, 2)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(NULL), -EINVAL);
	if (_i == 0) {
		ck_assert_int_eq(ferry_dispatcher_worker_drain(peers[0].worker), 0);
		ck_assert_int_eq(ferry_dispatcher_worker_drain(peers[0].worker), 0);
		struct peer copy = peers[0];
		peer_expect(&peers[0], HANDOFF_WIRE_DRAIN);
		peers[0].frame = copy.frame;
	} else {
		peer_put(&peers[0], HANDOFF_WIRE_DRAIN, "", 0);
		pump_turns(3);
	}
	hand_off(1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	hand_off(2);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_turns(3);
	ck_assert_uint_eq(notes.drained, 0);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	pump_until_count(&notes.drained, 1);
	peer_expect_nothing(&peers[0]);
	ck_assert_uint_eq(notes.drained, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(3);
}

TEST_CASE("handoffs");

TEST(bad_arguments_are_refused)
{
	int ends[2];
	struct ferry_dispatcher_stats counted;
	const struct timeval zero = {0}, second = {1, 0}, negative = {-1, 0};

	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_new(NULL, base, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &zero, &second), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &second, &negative), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, NULL, &second), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_get_stats(dispatcher, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_get_stats(NULL, &counted), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_worker_get_stats(NULL, &counted), -EINVAL);
	ck_assert(!ferry_dispatcher_is_full(NULL));
	ferry_dispatcher_worker_remove(NULL);
	ferry_dispatcher_free(NULL);

	make_pair(PAIR_TCP, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, transport, NULL), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, NULL, transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, NULL, NULL), -EINVAL);
	ferry_transport_free(transport);
	close(ends[1]);

	/* A channel sent over itself would be a cycle that only the kernel's garbage collector could free. */
	add_peer(&peers[0], 4);
	int channel = (int)bufferevent_getfd(
	    ferry_transport_get_bufferevent(ferry_dispatcher_worker_get_transport(peers[0].worker)));
	struct ferry_handoff *handoff = NULL;
	ck_assert_int_eq(ferry_handoff_new(&handoff, dup(channel)), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), -ELOOP);
	int fd = ferry_handoff_steal_fd(handoff);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), -EBADF);
	close(fd);
	ferry_handoff_free(handoff);
	ferry_dispatcher_worker_set_context(peers[0].worker, &notes);
	ck_assert_ptr_eq(ferry_dispatcher_worker_get_context(peers[0].worker), &notes);
	free_dispatcher();
	close_peer(&peers[0]);
}

/* A worker that does not read has its share of the descriptors in flight, and the others the rest. What it did not
 * read goes to another one. */
TEST(at_the_limit_of_descriptors_in_flight_workers_that_read_go_on)
{
	enum { HANDOFFS = 40 };
	struct ferry_in_flight_info info;
	unsigned int claimed = 0;

	ferry_in_flight_set_limit(4);
	open_dispatcher();
	set_timeouts(NEVER_USEC, NEVER_USEC);
	add_peer(&peers[0], HANDOFFS);
	add_peer(&peers[1], HANDOFFS);
	for (unsigned int i = 0; i < HANDOFFS; i++)
		hand_off(i);
	while (claimed < HANDOFFS) {
		peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
		ck_assert_int_ge(peers[1].got, 0);
		ck_assert_int_eq(ferry_in_flight_get_info(&info), 0);
		ck_assert_uint_le(info.fds, 4);
		peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
		peer_answer(&peers[1], HANDOFF_WIRE_DONE);
		peer_drop_fd(&peers[1]);
		if (++claimed == HANDOFFS / 2)
			ferry_dispatcher_worker_remove(peers[0].worker);
	}
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	pump_until_count(&notes.outcomes, HANDOFFS);
	ck_assert_uint_eq(dispatcher_stats().claimed, HANDOFFS);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(HANDOFFS);
}
