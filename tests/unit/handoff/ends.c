/* Workers end before and after their claims, and callbacks of the dispatcher remove workers and free the
 * dispatcher. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "handoff/wire.h"
#include "message/wire.h"

#include "dispatcher_peer.h"
#include "handoff_info.h"
#include "test.h"
#include "wire.h"
#include "worker_frames.h"

TEST_CASE("ends");

LOOP_TEST(claims_before_the_end_count, 3)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < 4; i++)
		hand_off(i);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	unsigned char half[MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE];
	worker_answer_frame(half, HANDOFF_WIRE_CLAIM,
	                    &(struct handoff_wire_answer){peers[0].frame.id, peers[0].frame.epoch, 0});
	/* The last byte of a claim is the claim: half a claim does not count. */
	ck_assert_int_eq(wire_send(peers[0].fd, half, sizeof(half) - 1, NULL, 0), sizeof(half) - 1);
	if (_i == 0)
		close_peer(&peers[0]); /* with unread handoffs: ECONNRESET */
	else if (_i == 1)
		shutdown(peers[0].fd, SHUT_WR);
	else
		ferry_dispatcher_worker_remove(peers[0].worker);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	pump_until_count(&notes.of[1].count, 1);
	ck_assert_int_eq(notes.of[1].outcome, FERRY_HANDOFF_KEPT);
	ck_assert_ptr_eq(notes.of[1].worker, peers[0].worker);
	pump_turns(5);
	ck_assert_uint_eq(notes.outcomes, 2);
	ck_assert_uint_eq(notes.lost, _i == 2 ? 0 : 1);
	ck_assert_uint_eq(dispatcher_stats().queued, 2);
	add_peer(&peers[1], 4);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(peers[1].frame.attempt, 2);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(peers[1].frame.attempt, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(4);
}

TEST(a_handoff_is_tried_three_times)
{
	open_dispatcher();
	hand_off(0);
	for (unsigned int i = 0; i < 3; i++) {
		add_peer(&peers[i], 4);
		peer_expect(&peers[i], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[i].frame.attempt, i + 1);
		close_peer(&peers[i]);
		pump_until_count(&notes.lost, i + 1);
	}
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -EHOSTUNREACH);
	ck_assert(notes.of[0].has_fd);
	free_dispatcher();
	close_clients(1);
}

/* A worker cannot have died of a handoff that never left. */
TEST(an_unsent_handoff_is_no_attempt)
{
	static unsigned char bytes[FERRY_HANDOFF_BYTES_MAX];
	enum { COUNT = 40 };

	open_dispatcher();
	for (unsigned int i = 0; i < COUNT; i++) {
		struct ferry_handoff *handoff = make_handoff(i);
		ck_assert_int_eq(ferry_handoff_set_bytes(handoff, bytes, sizeof(bytes)), 0);
		ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[i]),
		                 0);
	}
	add_peer(&peers[0], COUNT);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, COUNT);
	/* The peer claims all handoffs in the kernel without reading them, by guessed ids. */
	const size_t size = MESSAGE_HEADER_SIZE + HANDOFF_WIRE_HANDOFF_SIZE + 1 + sizeof(bytes);
	struct ferry_transport_stats sent;
	ck_assert_int_eq(
	    ferry_transport_get_stats(ferry_dispatcher_worker_get_transport(peers[0].worker), &sent),
	    0);
	uint64_t whole = (sent.bytes_sent - MESSAGE_HEADER_SIZE - HANDOFF_WIRE_HELLO_SIZE) / size;
	ck_assert_uint_lt(whole, COUNT);
	for (uint64_t i = 0; i < whole; i++)
		peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, (i + 1) << 24 | i, 1, 0);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().claimed, whole);
	close_peer(&peers[0]);
	pump_until_count(&notes.lost, 1);
	add_peer(&peers[1], COUNT);
	for (uint64_t left = COUNT - whole; left > 0; left--) {
		peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[1].frame.attempt, 1);
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(COUNT);
}

/* The loop has yet to report the end. */
TEST(a_handoff_goes_elsewhere_at_once_if_a_channel_takes_no_more)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	ck_assert_int_eq(
	    ferry_transport_abort_connection(ferry_dispatcher_worker_get_transport(peers[0].worker)),
	    0);
	hand_off(0);
	ck_assert_uint_eq(dispatcher_stats().queued, 0);
	ck_assert_uint_eq(dispatcher_stats().sent, 1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -ECONNABORTED);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(1);
}

TEST(a_lost_descriptor_is_an_attempt)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	uint64_t ids[3];
	for (unsigned int i = 0; i < 3; i++) {
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ids[i] = peers[0].frame.id;
		for (unsigned int k = 0; k < i; k++)
			ck_assert_uint_ne(ids[k], ids[i]);
		peer_answer(&peers[0], HANDOFF_WIRE_LOST);
		peer_answer(&peers[0], HANDOFF_WIRE_CLAIM); /* too late, and under an old id */
	}
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -EHOSTUNREACH);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().lost, 3);
	ck_assert_uint_eq(dispatcher_stats().stale, 3);
	ck_assert_uint_eq(notes.lost, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* A worker that has stated 0 credits gets no handoffs until it states others. The handoff that it lost
 * waits until the queue's deadline, and the loss is not an attempt. */
TEST(losses_of_a_worker_without_slots_are_no_attempts)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	for (unsigned int i = 0; i < 5; i++) {
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[0].frame.attempt, 1);
		peer_put_credits(&peers[0], 0);
		peer_answer(&peers[0], HANDOFF_WIRE_LOST);
		peer_expect_nothing(&peers[0]);
		ck_assert_uint_eq(dispatcher_stats().queued, 1);
		peer_put_credits(&peers[0], 4);
	}
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_put_credits(&peers[0], 0);
	peer_answer(&peers[0], HANDOFF_WIRE_LOST);
	pump_turns(3);
	set_timeouts(1000, NEVER_USEC);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	ck_assert(notes.of[0].has_fd);
	ck_assert_uint_eq(dispatcher_stats().lost, 6);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

TEST(a_handoff_goes_elsewhere_if_the_worker_has_no_slots)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_LOST);
	peer_put_credits(&peers[0], 0);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	hand_off(1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	peer_put_credits(&peers[0], 4);
	pump_turns(3);
	hand_off(2);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(3);
}

static void free_all(struct ferry_handoff *handoff)
{
	(void)handoff;
	notes.on_outcome = NULL;
	ferry_dispatcher_free(dispatcher);
	ferry_dispatcher_free(dispatcher); /* a second call has no effect */
	struct ferry_handoff *late = make_handoff(100);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, late, on_outcome, &notes.of[100]),
	                 -ESHUTDOWN);
	ferry_handoff_free(late);
	dispatcher = NULL;
}

TEST_CASE("callbacks");

TEST(the_dispatcher_may_be_freed_in_an_outcome)
{
	open_dispatcher();
	add_peer(&peers[0], 2);
	for (unsigned int i = 0; i < 4; i++)
		hand_off(i);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	notes.on_outcome = free_all;
	pump_until_count(&notes.outcomes, 4);
	ck_assert_int_eq(notes.of[0].outcome, FERRY_HANDOFF_DONE);
	unsigned int kept = 0, expired = 0;
	for (unsigned int i = 1; i < 4; i++) {
		kept += notes.of[i].outcome == FERRY_HANDOFF_KEPT;
		expired += notes.of[i].outcome == FERRY_HANDOFF_EXPIRED && notes.of[i].reason == -ECANCELED;
	}
	ck_assert_uint_eq(kept, 1);
	ck_assert_uint_eq(expired, 2);
	pump_turns(3);
	close_peer(&peers[0]);
	close_clients(4);
	close(notes.client[100]);
}

static int stolen;

static void steal(struct ferry_handoff *handoff)
{
	stolen = ferry_handoff_steal_fd(handoff);
}

TEST(an_expired_handoff_can_be_answered)
{
	open_dispatcher();
	set_timeouts(10000, NEVER_USEC);
	notes.on_outcome = steal;
	hand_off(0);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	ck_assert_int_eq(write(stolen, "503", 3), 3);
	char bytes[3];
	ck_assert_int_eq(read(notes.client[0], bytes, 3), 3);
	close(stolen);
	free_dispatcher();
	close_clients(1);
}

static void remove_second(struct ferry_handoff *handoff)
{
	ck_assert_ptr_eq(handoff_info(handoff).worker, peers[0].worker);
	notes.on_outcome = NULL;
	ferry_dispatcher_worker_remove(peers[1].worker);
}

TEST(a_worker_may_be_removed_in_an_outcome)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	hand_off(1);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
	notes.on_outcome = remove_second;
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	pump_until_count(&notes.of[1].count, 1);
	ck_assert_uint_eq(notes.lost, 0);
	ck_assert_uint_eq(dispatcher_stats().workers, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(2);
}

static void free_in_callback(struct ferry_dispatcher_worker *worker)
{
	ck_assert_ptr_eq(worker, peers[0].worker);
	ferry_dispatcher_worker_remove(worker); /* nothing is left to remove */
	ferry_dispatcher_free(dispatcher);
	dispatcher = NULL;
}

TEST(the_dispatcher_may_be_freed_when_a_worker_is_lost)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	notes.on_lost = free_in_callback;
	close_peer(&peers[0]);
	pump_until_count(&notes.lost, 1);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	pump_turns(3);
	close_clients(1);
}
