/* A worker hears when all its credits are used, and when some are free again. */

#include <string.h>
#include <unistd.h>

#include "ferry/worker.h"

#include "handoff_info.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"
#include "worker_link.h"

enum { ALL = 8, SOME = 2 }; /* credits; a quarter of them */

static struct {
	unsigned int calls;
	bool scarce, free_worker, done;
	uint64_t ids[ALL];
	unsigned int count;
} seen;

static void credits_scarce(struct ferry_worker *worker, bool scarce, void *context)
{
	(void)context;
	ck_assert(scarce != seen.scarce); /* it alternates */
	seen.calls++;
	seen.scarce = scarce;
	if (seen.free_worker) {
		ferry_worker_free(worker);
		worker_notes.worker = NULL;
	}
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)context;
	uint64_t id = handoff_info(handoff).id;

	if (seen.done) {
		ck_assert_int_eq(ferry_worker_done(worker, id), 0);
		return;
	}
	seen.ids[seen.count++] = id;
	close(ferry_handoff_steal_fd(handoff));
}

static void open_with_credits(void)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .credits_scarce = credits_scarce};
	memset(&seen, 0, sizeof(seen));
	open_worker_with(&callbacks);
	greet();
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, ALL), 0);
	expect_frame(CREDITS);
	ck_assert_uint_eq(worker_stats().credits, ALL);
}

static void give(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct client client = make_client();
		unsigned int before = (unsigned int)worker_stats().claimed;
		give_client(&client, seen.count + 100);
		while (worker_notes.worker != NULL && worker_stats().claimed == before)
			pump_turns(1);
		expect_closed(&client);
	}
	pump_turns(2);
}

static void report(unsigned int count)
{
	while (count-- > 0) {
		unsigned int calls = seen.calls;
		ck_assert_int_eq(ferry_worker_done(worker_notes.worker, seen.ids[--seen.count]), 0);
		ck_assert_uint_eq(seen.calls, calls); /* no callback inside the call */
		pump_turns(2);
	}
}

TEST(credits_are_scarce_from_the_last_until_a_quarter_is_free)
{
	open_with_credits();
	give(ALL - 1);
	ck_assert_uint_eq(seen.calls, 0);
	ck_assert_uint_eq(worker_stats().outstanding, ALL - 1);
	give(1);
	ck_assert_uint_eq(seen.calls, 1);
	ck_assert(seen.scarce);
	report(SOME - 1);
	ck_assert_uint_eq(seen.calls, 1);
	report(1);
	ck_assert_uint_eq(seen.calls, 2);
	ck_assert(!seen.scarce);
	ck_assert_uint_eq(worker_stats().outstanding, ALL - SOME);
	report(ALL - SOME);
	ck_assert_uint_eq(worker_stats().outstanding, 0);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 1), 0); /* once too often */
	ck_assert_uint_eq(worker_stats().outstanding, 0);
	ck_assert_uint_eq(seen.calls, 2);
	close_worker();
}

TEST(other_credits_may_be_scarce_or_not)
{
	open_with_credits();
	give(SOME);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, SOME), 0);
	ck_assert_uint_eq(seen.calls, 0);
	pump_turns(2);
	ck_assert_uint_eq(seen.calls, 1);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, ALL), 0);
	pump_turns(2);
	ck_assert_uint_eq(seen.calls, 2);
	/* None are wanted: that is no shortage. */
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, 0), 0);
	pump_turns(2);
	ck_assert_uint_eq(seen.calls, 2);
	close_worker();
}

/* What is over in its own callback uses no credit afterwards. */
TEST(a_handoff_that_is_over_at_once_makes_nothing_scarce)
{
	open_with_credits();
	seen.done = true;
	give(2 * ALL);
	ck_assert_uint_eq(seen.calls, 0);
	ck_assert_uint_eq(worker_stats().outstanding, 0);
	close_worker();
}

TEST(the_worker_may_be_freed_in_the_callback)
{
	open_with_credits();
	give(ALL - 1);
	seen.free_worker = true;
	give(1);
	ck_assert_uint_eq(seen.calls, 1);
	ck_assert_ptr_null(worker_notes.worker);
	close_dispatcher();
}

/* The check for slots and the callback share an event. */
TEST(the_callback_does_not_end_the_check_for_slots)
{
	open_with_credits();
	give(ALL - 1);
	struct client client = make_client();
	give_client(&client, 50);
	limit_descriptors(0);
	struct answer answer;
	do {
		pump_turns(1);
		take_in();
	} while (!next_answer(&answer) || answer.type != LOST);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, ALL - 1), 0);
	pump_turns(2);
	ck_assert_uint_eq(seen.calls, 1);
	unlimit_descriptors();
	expect_frame(CREDITS);
	expect_closed(&client);
	close_worker();
}

static unsigned int calls_before_other;

static void on_other(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	calls_before_other = seen.calls;
}

TEST(the_notice_comes_before_events_of_a_lower_priority)
{
	ck_assert_int_eq(event_base_priority_init(base, 4), 0);
	open_with_credits();
	give(SOME);
	struct event *other = event_new(base, -1, 0, on_other, NULL);
	event_priority_set(other, 1); /* above the priority that events have at first */
	event_active(other, EV_READ, 0);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, SOME), 0);
	pump_turns(3);
	ck_assert_uint_eq(calls_before_other, 1);
	event_free(other);
	close_worker();
}
