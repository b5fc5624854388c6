/* The memory of handoffs that wait in the dispatcher's queue. */

#include <errno.h>

#include "ferry/dispatcher.h"

#include "dispatcher_peer.h"
#include "heap.h"
#include "test.h"
#include "wire.h"

TEST(a_thousand_handoffs_wait_in_little_memory)
{
	enum { COUNT = 1000, EACH_MAX = 1024 };

	raise_descriptor_limit();
	open_dispatcher();
	set_timeouts(200000, NEVER_USEC);
	heap_watch(0);
	for (unsigned int i = 0; i < COUNT; i++)
		hand_off(i);
	heap_unwatch();
	ck_assert_uint_eq(dispatcher_stats().queued, COUNT);
	ck_assert_uint_ge(heap_blocks(), COUNT);
	ck_assert_uint_le(heap_bytes(), COUNT * EACH_MAX);
	pump_until_count(&notes.outcomes, COUNT);
	for (unsigned int i = 0; i < COUNT; i++)
		expect_outcome(i, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	ck_assert_uint_lt(heap_blocks(), COUNT / 10);
	free_dispatcher();
	close_clients(COUNT);
}

BEFORE_ALL
{
	heap_take_over();
}
