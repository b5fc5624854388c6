/* The callback of a worker runs if the kernel has taken the whole claim of the handoff, and only then. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/worker.h"

#include "handoff_info.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"
#include "worker_link.h"

static struct ferry_transport_stats channel_stats(void)
{
	return stats_of(ferry_worker_get_transport(worker_notes.worker));
}

/* With deferred callbacks more has been read, and more has happened, before the worker reads a
 * message. */
static void open_worker_deferred(bool deferred)
{
	if (deferred)
		bev_options |= BEV_OPT_DEFER_CALLBACKS;
	open_worker();
}

static void see_claim(struct ferry_handoff *handoff)
{
	struct answer answer = {0};
	ck_assert(next_answer(&answer));
	ck_assert_uint_eq(answer.type, CLAIM);
	ck_assert_uint_eq(answer.id, handoff_info(handoff).id);
	ck_assert(!next_answer(&answer));
}

TEST(the_claim_is_in_the_kernel_before_the_callback_runs)
{
	open_worker();
	struct client client = make_client();
	worker_notes.on_handoff = see_claim;
	give_client(&client, 11);
	expect_closed(&client);
	expect_answer(DONE, 11, 0);
	close_worker();
}

static void see_own_claim_only(struct ferry_handoff *handoff)
{
	ck_assert_uint_eq(handoff_info(handoff).id, worker_notes.received);
	ck_assert_uint_eq(count_waiting(CLAIM), worker_notes.received);
}

LOOP_TEST(of_a_burst_only_the_one_in_work_is_claimed, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	pump_turns(5);
	uint64_t before = channel_stats().send_calls;
	worker_notes.on_handoff = see_own_claim_only;
	give_burst(clients);
	pump_until_count(&worker_notes.received, BURST);
	for (uint64_t i = 0; i < BURST; i++) {
		expect_closed(&clients[i]);
		expect_answer(CLAIM, i + 1, 0);
		expect_answer(DONE, i + 1, 0);
	}
	/* One call for each claim, together with the DONE before it, and one for the last DONE. */
	ck_assert_uint_eq(channel_stats().send_calls - before, BURST + 1);
	close_worker();
}

LOOP_TEST(after_the_fence_nothing_is_claimed, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	pump_turns(5);
	give_burst(clients);
	ck_assert_int_eq(shutdown(worker_ends[1], SHUT_RD), 0);
	expect_worker_lost(-EPIPE);
	ck_assert_uint_eq(worker_notes.received, 0);
	ck_assert_uint_eq(count_waiting(CLAIM), 0);
	ck_assert_uint_ge(worker_stats().unclaimed, 1);
	ck_assert_uint_eq(worker_stats().claimed, 0);
	free_worker();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}

static void fence(struct ferry_handoff *handoff)
{
	(void)handoff;
	if (worker_notes.received == 2)
		ck_assert_int_eq(shutdown(worker_ends[1], SHUT_RD), 0);
}

LOOP_TEST(a_fence_in_the_middle_parts_the_claimed_from_the_others, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	worker_notes.on_handoff = fence;
	give_burst(clients);
	expect_worker_lost(-EPIPE);
	free_worker();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	ck_assert_uint_eq(worker_notes.received, 2);
	ck_assert_uint_eq(count_waiting(CLAIM), 2);
	close_worker();
}

/* The worker sends until the channel is full. */
static unsigned int fill_channel(void)
{
	unsigned int count = 0;
	wire_shrink(worker_ends[0]);
	pump_turns(3);
	do {
		ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 1000), 0);
		count++;
		pump_turns(2);
	} while (channel_stats().bytes_queued == 0);
	return count;
}

static bool has_waited(void *unused)
{
	(void)unused;
	return worker_stats().waited == 1;
}

/* Sends a burst to a worker whose channel is full. Nothing is claimed. */
static unsigned int give_to_full_channel(struct client *clients)
{
	unsigned int filled = fill_channel();
	give_burst(clients);
	pump_until(has_waited, NULL);
	pump_turns(5);
	ck_assert_uint_eq(worker_notes.received, 0);
	ck_assert_uint_eq(worker_stats().received, 1); /* those behind it wait unread */
	return filled;
}

static void see_last_claim(struct ferry_handoff *handoff)
{
	struct answer answer = {0};
	struct answer last = {0};
	take_in();
	while (look_at(&taken, &answer))
		last = answer;
	ck_assert_uint_eq(last.type, CLAIM);
	ck_assert_uint_eq(last.id, handoff_info(handoff).id);
	ck_assert_uint_eq(last.id, worker_notes.received);
}

/* _i: as usual, with deferred callbacks, or with a mark below the deferred message, for which libevent
 * would repeat the callback without end. */
LOOP_TEST(a_full_channel_delays_the_callback, 3)
{
	struct client clients[BURST];
	open_worker_deferred(_i == 1);
	if (_i == 2)
		bufferevent_setwatermark(
		    ferry_transport_get_bufferevent(ferry_worker_get_transport(worker_notes.worker)),
		    EV_READ, 0, 10);
	give_to_full_channel(clients);
	for (int i = 0; i < BURST; i++)
		expect_open(&clients[i]);
	worker_notes.on_handoff = see_last_claim;
	do {
		take_in();
		pump_turns(1);
	} while (worker_notes.received == 0);
	while (worker_notes.received < BURST) {
		take_in();
		pump_turns(1);
	}
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	expect_answer(DONE, BURST, 0);
	ck_assert_uint_eq(worker_stats().claimed, BURST);
	ck_assert_uint_eq(worker_notes.lost, 0);
	close_worker();
}

enum { END_CLOSE, END_FENCE, END_ABORT, END_FREE, ENDINGS };

/* _i: how */
LOOP_TEST(a_claim_that_waits_when_the_channel_ends_is_none, ENDINGS)
{
	struct client clients[BURST];
	open_worker();
	give_to_full_channel(clients);
	switch (_i) {
	case END_CLOSE:
		close_dispatcher();
		break;
	case END_FENCE: /* as in a dispatcher, which then reads the rest */
		ck_assert_int_eq(shutdown(worker_ends[1], SHUT_RD), 0);
		take_in();
		ck_assert_uint_eq(count_waiting(CLAIM), 0);
		break;
	case END_ABORT:
		ferry_transport_abort_connection(ferry_worker_get_transport(worker_notes.worker));
		break;
	default:
		free_worker();
		break;
	}
	if (_i != END_FREE) {
		pump_until_count(&worker_notes.lost, 1);
		ck_assert_int_lt(worker_notes.reason, 0);
		ck_assert_uint_ge(worker_stats().unclaimed, 1);
		ck_assert_uint_eq(worker_stats().claimed, 0);
	}
	free_worker();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	ck_assert_uint_eq(worker_notes.received, 0);
	close_worker();
}

enum { CLAIM_SIZE = HEADER + ANSWER_SIZE };

/* _i: how much of it */
LOOP_TEST(half_a_claim_is_none, CLAIM_SIZE)
{
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	if (_i > 0)
		plan_send(_i);
	else
		plan_send(-EAGAIN);
	plan_send(-EPIPE);
	give_client(&client, 1);
	expect_worker_lost(-EPIPE);
	expect_closed(&client);
	ck_assert_uint_eq(worker_notes.received, 0);
	ck_assert_uint_eq(worker_stats().waited, 1);
	ck_assert_uint_eq(worker_stats().unclaimed, 1);
	ck_assert_uint_eq(count_waiting(CLAIM), 0);
	close_worker();
}

/* _i: how much of it at first */
LOOP_TEST(a_claim_in_pieces_is_one, CLAIM_SIZE)
{
	struct client clients[BURST];
	open_worker();
	pump_turns(3);
	if (_i > 0)
		plan_send(_i);
	plan_send(-EAGAIN);
	plan_send(-ENOBUFS);
	plan_send(CLAIM_SIZE - _i - 1 > 0 ? CLAIM_SIZE - _i - 1 : 1);
	worker_notes.on_handoff = see_own_claim_only;
	give_burst(clients);
	pump_until_count(&worker_notes.received, BURST);
	for (uint64_t i = 0; i < BURST; i++) {
		expect_closed(&clients[i]);
		expect_answer(CLAIM, i + 1, 0);
		expect_answer(DONE, i + 1, 0);
	}
	ck_assert_uint_eq(worker_stats().waited, 1);
	close_worker();
}

enum { MANY = 4000 };

/* The claim leaves with the first message of a flush, and the next one finds the connection broken. */
LOOP_TEST(a_claim_that_has_left_counts_though_the_channel_breaks_behind_it, 2)
{
	open_worker_deferred(_i > 0);
	pump_turns(3);
	struct client client = make_client();
	plan_send(-EAGAIN);
	plan_send(-EAGAIN);
	give_client(&client, 1);
	pump_until(has_waited, NULL);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 5), 0);
	script_next = script_length = 0;
	plan_send(0);
	plan_send(-EPIPE);
	expect_worker_lost(-EPIPE);
	ck_assert_uint_eq(script_next, 2);
	expect_closed(&client);
	ck_assert_uint_eq(worker_notes.received, 1);
	ck_assert_uint_eq(worker_stats().claimed, 1);
	ck_assert_uint_eq(worker_stats().unclaimed, 0);
	expect_answer(CLAIM, 1, 0);
	close_worker();
}

/* The stream is empty then, which does not mean that the claim was sent. */
LOOP_TEST(a_claim_that_the_end_has_dropped_was_not_sent, 2)
{
	open_worker_deferred(_i > 0);
	pump_turns(3);
	struct client clients[2] = {make_client(), make_client()};
	plan_send(-EPIPE);
	give_client(&clients[0], 1);
	give_client(&clients[1], 2);
	expect_worker_lost(-EPIPE);
	expect_closed(&clients[0]);
	expect_closed(&clients[1]);
	ck_assert_uint_eq(worker_notes.received, 0);
	ck_assert_uint_eq(channel_stats().bytes_queued, 0);
	close_worker();
}

/* The dispatcher may send its last handoffs and close its half: the worker claims them too. */
LOOP_TEST(the_end_of_the_dispatchers_half_waits_for_the_claims, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	pump_turns(3);
	plan_send(-EAGAIN);
	give_burst(clients);
	ck_assert_int_eq(shutdown(worker_ends[1], SHUT_WR), 0);
	expect_worker_lost(0);
	ck_assert_uint_eq(worker_notes.received, BURST);
	for (uint64_t i = 0; i < BURST; i++) {
		expect_closed(&clients[i]);
		expect_answer(CLAIM, i + 1, 0);
		expect_answer(DONE, i + 1, 0);
	}
	close_worker();
}

static void lose_connection(struct ferry_handoff *handoff)
{
	steal_descriptor(handoff);
	ck_assert_int_eq(
	    ferry_transport_lose_connection(ferry_worker_get_transport(worker_notes.worker)), 0);
}

TEST(a_connection_that_closes_while_a_claim_waits_is_claimed_if_that_leaves)
{
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	plan_send(-EAGAIN);
	plan_send(-EAGAIN);
	worker_notes.on_handoff = steal_descriptor;
	give_client(&client, 1);
	pump_until(has_waited, NULL);
	ck_assert_int_eq(
	    ferry_transport_lose_connection(ferry_worker_get_transport(worker_notes.worker)), 0);
	expect_worker_lost(0);
	expect_answer(CLAIM, 1, 0);
	ck_assert_uint_eq(worker_notes.received, 1);
	expect_open(&client);
	close(client.far);
	close_worker();
}

TEST(the_user_may_close_the_channel_in_the_callback)
{
	struct client clients[BURST];
	open_worker();
	worker_notes.on_handoff = lose_connection;
	give_burst(clients);
	expect_worker_lost(0);
	ck_assert_uint_eq(worker_notes.received, 1);
	expect_open(&clients[0]);
	close(clients[0].far);
	free_worker();
	for (int i = 1; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}

static void pause_reading(struct ferry_handoff *handoff)
{
	(void)handoff;
	ck_assert_int_eq(ferry_transport_pause_reading(ferry_worker_get_transport(worker_notes.worker)),
	                 0);
}

/* _i: whether the claim waits */
LOOP_TEST(the_programs_own_pause_stays, 2)
{
	struct client clients[BURST];
	open_worker();
	pump_turns(3);
	if (_i > 0)
		plan_send(-EAGAIN);
	worker_notes.on_handoff = pause_reading;
	give_burst(clients);
	for (unsigned int i = 1; i <= BURST; i++) {
		pump_until_count(&worker_notes.received, i);
		pump_turns(5);
		ck_assert_uint_eq(worker_notes.received, i);
		ferry_transport_resume_reading(ferry_worker_get_transport(worker_notes.worker));
	}
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}

TEST(resuming_the_transport_does_not_let_others_overtake_a_claim)
{
	struct client clients[BURST];
	open_worker();
	give_to_full_channel(clients);
	struct ferry_transport *transport = ferry_worker_get_transport(worker_notes.worker);
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_turns(10);
	ck_assert_uint_eq(worker_stats().received, 1);
	ck_assert_uint_eq(worker_notes.received, 0);
	worker_notes.on_handoff = see_last_claim;
	while (worker_notes.received < BURST) {
		take_in();
		pump_turns(1);
	}
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}
