/* What the dispatcher does for a handoff does not grow with the number of its workers. Calls are counted, not
 * time. */

#include <unistd.h>

#include "ferry/dispatcher.h"
#include "ferry/transport.h"
#include "message/send.h"
#include "transport/interface.h"
#include "util/tournament.h"

#include "dispatcher_peer.h"
#include "test.h"

enum { FEW = 2, MANY = 64, HANDOFFS = 128 };

static unsigned int calls;

/* The functions that the dispatcher calls where it looks at a worker. */
uint64_t __real_transport_get_cookie(const struct ferry_transport *transport);
uint64_t __wrap_transport_get_cookie(const struct ferry_transport *transport);
uint64_t __real_message_stream_sent_position(const struct ferry_message_stream *stream);
uint64_t __wrap_message_stream_sent_position(const struct ferry_message_stream *stream);
int __real_ferry_transport_get_stats(const struct ferry_transport *transport,
                                     struct ferry_transport_stats *stats);
int __wrap_ferry_transport_get_stats(const struct ferry_transport *transport,
                                     struct ferry_transport_stats *stats);
void __real_tournament_put(struct tournament *tournament, struct tournament_node *node,
                           struct tournament_key key);
void __wrap_tournament_put(struct tournament *tournament, struct tournament_node *node,
                           struct tournament_key key);

uint64_t __wrap_transport_get_cookie(const struct ferry_transport *transport)
{
	calls++;
	return __real_transport_get_cookie(transport);
}

uint64_t __wrap_message_stream_sent_position(const struct ferry_message_stream *stream)
{
	calls++;
	return __real_message_stream_sent_position(stream);
}

int __wrap_ferry_transport_get_stats(const struct ferry_transport *transport,
                                     struct ferry_transport_stats *stats)
{
	calls++;
	return __real_ferry_transport_get_stats(transport, stats);
}

void __wrap_tournament_put(struct tournament *tournament, struct tournament_node *node,
                           struct tournament_key key)
{
	calls++;
	__real_tournament_put(tournament, node, key);
}

static struct peer workers[MANY];

static void open_workers(unsigned int count)
{
	open_dispatcher();
	for (unsigned int i = 0; i < count; i++)
		add_peer(&workers[i], 4 * HANDOFFS);
	pump_turns(3);
}

static void close_workers(unsigned int count)
{
	free_dispatcher();
	for (unsigned int i = 0; i < count; i++)
		close_peer(&workers[i]);
	close_clients(HANDOFFS);
}

/* Each is claimed and done before the next. */
static void serve(unsigned int count)
{
	for (unsigned int i = 0; i < HANDOFFS; i++) {
		struct peer *peer = &workers[i % count];
		hand_off(i);
		peer_expect(peer, HANDOFF_WIRE_HANDOFF);
		peer_answer(peer, HANDOFF_WIRE_CLAIM);
		peer_answer(peer, HANDOFF_WIRE_DONE);
		expect_outcome(i, FERRY_HANDOFF_DONE, 0);
	}
}

TEST(the_work_for_a_handoff_does_not_grow_with_the_workers)
{
	unsigned int few, many;

	open_workers(FEW);
	calls = 0;
	serve(FEW);
	few = calls;
	close_workers(FEW);
	open_workers(MANY);
	calls = 0;
	serve(MANY);
	many = calls;
	close_workers(MANY);
	ck_assert_uint_gt(few, HANDOFFS);
	ck_assert_uint_le(many, few + HANDOFFS);
}

/* The same with keys, whose table is not compared anew. */
TEST(the_work_for_a_key_does_not_grow_with_the_workers)
{
	unsigned int cost[2];

	for (unsigned int i = 0; i < 2; i++) {
		unsigned int count = i == 0 ? FEW : MANY;
		open_workers(count);
		ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_BY_KEY), 0);
		calls = 0;
		for (unsigned int number = 0; number < HANDOFFS; number++) {
			struct ferry_handoff *handoff = make_handoff(number);
			ck_assert_int_eq(ferry_handoff_set_key(handoff, &number, sizeof(number)), 0);
			ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), 0);
		}
		cost[i] = calls;
		close_workers(count);
	}
	ck_assert_uint_le(cost[1], cost[0] + HANDOFFS);
}
