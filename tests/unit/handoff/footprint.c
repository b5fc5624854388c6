/* The memory of handoffs that wait in the dispatcher's queue. */

#include <errno.h>
#include <sys/resource.h>

#include "ferry/dispatcher.h"

#include "dispatcher_peer.h"
#include "heap.h"
#include "test.h"
#include "wire.h"

/* A thousand, or what the hard descriptor limit allows: each has its client's end in this process too. */
static unsigned int count_handoffs(void)
{
	enum { WANTED = 1000, OTHERS = 100 };
	struct rlimit limit;

	raise_descriptor_limit();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	return limit.rlim_cur >= 2 * WANTED + OTHERS ? WANTED
	                                             : (unsigned int)(limit.rlim_cur - OTHERS) / 2;
}

TEST(a_thousand_handoffs_wait_in_little_memory)
{
	enum { EACH_MAX = 1024, LEFT_MAX = 100 };
	const unsigned int count = count_handoffs();

	open_dispatcher();
	set_timeouts(200000, NEVER_USEC);
	heap_watch(0);
	for (unsigned int i = 0; i < count; i++)
		hand_off(i);
	heap_unwatch();
	ck_assert_uint_eq(dispatcher_stats().queued, count);
	ck_assert_uint_ge(heap_blocks(), count);
	ck_assert_uint_le(heap_bytes(), count * EACH_MAX);
	pump_until_count(&notes.outcomes, count);
	for (unsigned int i = 0; i < count; i++)
		expect_outcome(i, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	ck_assert_uint_lt(heap_blocks(), LEFT_MAX);
	free_dispatcher();
	close_clients(count);
}

BEFORE_ALL
{
	heap_take_over();
}
