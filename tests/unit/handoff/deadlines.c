/* How long a dispatcher waits for a worker, and how long it avoids one. The test moves the clock. */

#include "ferry/dispatcher.h"
#include "handoff/dispatcher_fields.h"
#include "handoff/wire.h"

#include "dispatcher_peer.h"
#include "set_clock.h"
#include "test.h"

enum { ANSWER_USEC = 1000000 };

static void claim(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	const struct handoff_wire_handoff *frame = argument;

	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, frame->id, frame->epoch, 0);
}

/* The second time, another event of the loop takes as long as the worker may, and the answer comes meanwhile. */
TEST(a_worker_that_was_overdue_and_answered_has_the_whole_time_again)
{
	struct handoff_wire_handoff frames[2];

	open_dispatcher();
	set_timeouts(NEVER_USEC, ANSWER_USEC);
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < 2; i++) {
		hand_off(i);
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		frames[i] = peers[0].frame;
	}
	clock_advance(ANSWER_USEC);
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK); /* once: the next would be the second */
	ck_assert(peers[0].worker->suspect);
	claim(-1, 0, &frames[0]);
	pump_turns(2);
	ck_assert_uint_eq(dispatcher_stats().claimed, 1);
	struct event *busy = event_new(base, -1, 0, claim, &frames[1]);
	event_add(busy, &(struct timeval){.tv_usec = ANSWER_USEC / 2});
	clock_advance(ANSWER_USEC);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().claimed, 2);
	ck_assert_uint_eq(notes.lost, 0);
	event_free(busy);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(2);
}

TEST(a_worker_is_pardoned_again_once_it_has_served)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < 2; i++) {
		hand_off(i);
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		peer_put_credits(&peers[0], 0);
		peer_answer(&peers[0], HANDOFF_WIRE_LOST);
		pump_turns(3);
		ck_assert(peers[0].worker->avoided);
		peer_put_credits(&peers[0], 4);
		pump_turns(3);
		ck_assert(!peers[0].worker->avoided);
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
		peer_answer(&peers[0], HANDOFF_WIRE_DONE);
		expect_outcome(i, FERRY_HANDOFF_DONE, 0);
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(2);
}
