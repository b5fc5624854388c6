/* Reports that wait, and leave with the next message to the dispatcher. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/worker.h"

#include "recorder.h"
#include "test.h"
#include "worker_link.h"

enum { MOST = 16 }; /* reports that wait */

enum { CREDITS_SIZE = 8 };

static size_t queued(void)
{
	struct ferry_transport *transport = ferry_worker_get_transport(worker_notes.worker);

	return evbuffer_get_length(bufferevent_get_output(ferry_transport_get_bufferevent(transport)));
}

static void report_later(uint64_t id)
{
	ck_assert_int_eq(ferry_worker_done_later(worker_notes.worker, id), 0);
}

static void expect_answers_here(const unsigned int *types, const uint64_t *ids, size_t count)
{
	struct answer answer = {0};

	for (size_t i = 0; i < count; i++) {
		ck_assert(next_answer(&answer));
		ck_assert_uint_eq(answer.type, types[i]);
		ck_assert_uint_eq(answer.id, ids[i]);
	}
	ck_assert(!next_answer(&answer));
}

static void report_this_later(struct ferry_handoff *handoff)
{
	(void)handoff;
	report_later(worker_notes.id);
}

static void open_and_settle(void)
{
	open_worker();
	pump_turns(3);
}

/* The end of a callback makes no second report of it. */
TEST(a_report_leaves_later_without_another_message)
{
	struct client client = make_client();
	open_and_settle();
	worker_notes.on_handoff = report_this_later;
	give_client(&client, 4);
	expect_answer(CLAIM, 4, 0);
	pump_until_count(&worker_notes.received, 1);
	ck_assert_uint_eq(worker_stats().outstanding, 0);
	ck_assert_uint_eq(worker_stats().done, 1);
	expect_answer(DONE, 4, 0);
	expect_silence();
	expect_closed(&client);
	close_worker();
}

static void check_both_claims(struct ferry_handoff *handoff)
{
	(void)handoff;
	const unsigned int types[] = {CLAIM, DONE, CLAIM};
	const uint64_t ids[] = {1, 1, 2};

	if (worker_notes.received == 1)
		report_later(1);
	else
		expect_answers_here(types, ids, 3);
}

TEST(a_report_leaves_with_the_next_claim)
{
	struct client clients[2] = {make_client(), make_client()};
	open_and_settle();
	worker_notes.on_handoff = check_both_claims;
	give_client(&clients[0], 1);
	give_client(&clients[1], 2);
	pump_until_count(&worker_notes.received, 2);
	expect_answer(DONE, 2, 0);
	expect_closed(&clients[0]);
	expect_closed(&clients[1]);
	close_worker();
}

TEST(so_many_reports_wait_and_no_more)
{
	open_and_settle();
	for (uint64_t id = 1; id <= MOST; id++)
		report_later(id);
	ck_assert_uint_eq(queued(), 0);
	report_later(MOST + 1);
	ck_assert_uint_eq(queued(), (MOST + 1) * (HEADER + ANSWER_SIZE));
	for (uint64_t id = 1; id <= MOST + 1; id++)
		expect_answer(DONE, id, 0);
	close_worker();
}

static void steal_and_close(struct ferry_handoff *handoff)
{
	close(ferry_handoff_steal_fd(handoff));
}

static void claim(uint64_t id)
{
	struct client client = make_client();

	worker_notes.on_handoff = steal_and_close;
	give_client(&client, id);
	expect_answer(CLAIM, id, 0);
	expect_closed(&client);
}

/* Of four credits two may be in use when a report waits, itself included. */
TEST(no_report_waits_when_credits_become_few)
{
	open_and_settle();
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, 4), 0);
	expect_frame(CREDITS);
	for (uint64_t id = 1; id <= 3; id++)
		claim(id);
	pump_until_count(&worker_notes.received, 3);
	report_later(1);
	ck_assert_uint_eq(queued(), HEADER + ANSWER_SIZE);
	expect_answer(DONE, 1, 0);
	pump_turns(1);
	report_later(2);
	ck_assert_uint_eq(queued(), 0);
	expect_answer(DONE, 2, 0);
	close_worker();
}

/* For the dispatcher all of them would be in use. */
TEST(what_waits_leaves_before_other_credits)
{
	open_and_settle();
	report_later(1);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, 1), 0);
	ck_assert_uint_eq(queued(), HEADER + ANSWER_SIZE + HEADER + CREDITS_SIZE);
	expect_answer(DONE, 1, 0);
	expect_frame(CREDITS);
	close_worker();
}

/* _i: 0, by the worker; 1, by the dispatcher */
LOOP_TEST(no_report_waits_once_the_worker_is_drained, 2)
{
	open_and_settle();
	report_later(1);
	if (_i == 0) {
		ck_assert_int_eq(ferry_worker_drain(worker_notes.worker), 0);
		expect_frame(DRAIN);
	} else {
		send_plain(DRAIN, 0);
		pump_until_count(&worker_notes.drains, 1);
	}
	expect_answer(DONE, 1, 0);
	pump_turns(1);
	report_later(2);
	ck_assert_uint_eq(queued(), HEADER + ANSWER_SIZE);
	expect_answer(DONE, 2, 0);
	close_worker();
}

TEST(what_waits_leaves_before_the_worker_is_freed)
{
	const unsigned int types[] = {DONE, DONE};
	const uint64_t ids[] = {1, 2};
	open_and_settle();
	report_later(1);
	report_later(2);
	free_worker();
	expect_answers_here(types, ids, 2);
	close_worker();
}

static void report_and_break(struct ferry_handoff *handoff)
{
	report_this_later(handoff);
	event_base_loopbreak(base);
}

/* _i: the loop is broken 0, in the callback, behind the report; 1, before it */
LOOP_TEST(no_report_waits_for_a_loop_that_ends, 2)
{
	const unsigned int types[] = {CLAIM, DONE};
	const uint64_t ids[] = {1, 1};
	struct client client = make_client();
	open_and_settle();
	worker_notes.on_handoff = report_and_break;
	if (_i == 0) {
		give_client(&client, 1);
		ck_assert_int_eq(event_base_dispatch(base), 0);
		expect_answers_here(types, ids, 2);
	} else {
		event_base_loopbreak(base);
		report_later(1);
		expect_answers_here(types + 1, ids + 1, 1);
		close(client.near);
	}
	expect_closed(&client);
	close_worker();
}

static void break_loop(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what, (void)context;
	event_base_loopbreak(base);
}

/* libevent has no callback for the end of a loop. */
TEST(a_loop_that_others_end_leaves_a_report_for_the_free)
{
	const unsigned int types[] = {DONE};
	const uint64_t ids[] = {1};
	open_and_settle();
	report_later(1);
	event_base_once(base, -1, EV_TIMEOUT, break_loop, NULL, NULL);
	ck_assert_int_eq(event_base_dispatch(base), 0);
	expect_answers_here(NULL, NULL, 0);
	free_worker();
	expect_answers_here(types, ids, 1);
	close_worker();
}

TEST(a_report_without_a_dispatcher_fails)
{
	open_and_settle();
	ck_assert_int_eq(ferry_worker_done_later(NULL, 1), -EINVAL);
	report_later(1); /* and nobody gets it */
	close_dispatcher();
	expect_worker_lost(0);
	ck_assert_int_eq(ferry_worker_done_later(worker_notes.worker, 2), -ENOTCONN);
	ck_assert_uint_eq(worker_stats().done, 1);
	close_worker();
}
