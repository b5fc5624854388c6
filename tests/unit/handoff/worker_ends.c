/* A worker runs out of descriptor slots, and loses its dispatcher. */

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

static void expect_credits(uint64_t credits)
{
	struct answer answer = expect_frame(CREDITS);
	ck_assert_uint_eq(answer.length, 8);
	ck_assert_uint_eq(get_number(answer.payload, 8), credits);
}

static void set_flag(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	bool *flag = argument;
	*flag = true;
}

/* A timer that is set later, and for a longer time, runs out after the worker's. */
static void run_later_timer(void)
{
	bool over = false;
	event_base_once(base, -1, EV_TIMEOUT, set_flag, &over, &(struct timeval){.tv_usec = 50000});
	pump_until_set(&over);
}

TEST_CASE("descriptor slots");

TEST(lost_descriptors_are_answered_and_credits_withdrawn)
{
	struct client clients[BURST];
	open_worker();
	pump_turns(3);
	give_burst(clients);
	limit_descriptors(0);
	expect_credits(0); /* first: the loss that follows is no attempt then */
	expect_answer(LOST, 1, 0);
	for (uint64_t i = 2; i <= BURST; i++)
		expect_answer(LOST, i, 0);
	run_later_timer(); /* the worker has checked again, and no slot is free */
	expect_silence();
	ck_assert_uint_eq(worker_stats().lost, BURST);
	unlimit_descriptors();
	expect_credits(256);
	expect_silence();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);

	struct client client = make_client();
	give_client(&client, 50);
	expect_answer(CLAIM, 50, 0);
	expect_closed(&client);
	ck_assert_uint_eq(worker_stats().received, BURST + 1);
	ck_assert_uint_eq(worker_notes.received, 1);
	close_worker();
}

enum { SOME = 8 };

TEST(credits_set_meanwhile_are_stated_afterwards)
{
	int spare[SOME];
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	give_client(&client, 1);
	for (int i = 0; i < SOME; i++)
		spare[i] = dup(STDERR_FILENO);
	limit_descriptors(0);
	expect_credits(0);
	expect_answer(LOST, 1, 0);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, SOME - 1), 0);
	expect_silence();
	for (int i = 0; i < SOME; i++)
		close(spare[i]);
	expect_credits(SOME - 1); /* no more slots are free than these */
	unlimit_descriptors();
	expect_closed(&client);
	close_worker();
}

/* _i: 0: the worker has drained meanwhile; 1: the channel is lost; 2: the worker is freed */
LOOP_TEST(a_channel_that_ends_while_slots_are_short_ends, 3)
{
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	give_client(&client, 1);
	limit_descriptors(0);
	expect_credits(0);
	expect_answer(LOST, 1, 0);
	if (_i == 0) {
		ck_assert_int_eq(ferry_worker_drain(worker_notes.worker), 0);
		expect_frame(DRAIN);
	} else if (_i == 1) {
		shutdown(worker_ends[1], SHUT_RDWR); /* the child that sets the limit has a copy */
		pump_until_count(&worker_notes.lost, 1);
	} else {
		free_worker();
	}
	unlimit_descriptors();
	expect_closed(&client);
	run_later_timer();
	if (_i == 0)
		expect_silence();
	close_worker();
}

TEST(credits_are_stated)
{
	open_worker();
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, 0), 0);
	expect_credits(0);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, UINT32_MAX), 0);
	expect_credits(UINT32_MAX);
	close_worker();
}

TEST(a_drained_worker_states_no_credits)
{
	open_worker();
	ck_assert_int_eq(ferry_worker_drain(worker_notes.worker), 0);
	ck_assert_int_eq(ferry_worker_drain(worker_notes.worker), 0);
	ck_assert_uint_eq(expect_frame(DRAIN).length, 0);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, 9), 0);
	expect_silence();
	struct client client = make_client(); /* on its way already */
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	expect_answer(DONE, 1, 0);
	expect_closed(&client);
	close_worker();
}

TEST(the_dispatchers_drain_is_one_callback)
{
	open_worker();
	send_plain(DRAIN, 0);
	send_plain(DRAIN, 8); /* of a later version */
	struct client client = make_client();
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	expect_closed(&client);
	ck_assert_uint_eq(worker_notes.drains, 1);
	close_worker();
}

struct fault {
	size_t offset, size;
	uint64_t value;
	int longer; /* bytes of the frame beyond its parts */
	unsigned int declared;
	size_t fds;
};

static const struct fault faults[] = {
    {34, 2, 256, 0, 1, 1},                                         /* name over the limit */
    {34, 2, 2, 0, 1, 1},                                           /* and shorter than it is */
    {34, 2, 4, 0, 1, 1},                                           /* and longer */
    {34, 2, 65535, 0, 1, 1},      {36, 4, BLOCK_MAX + 1, 0, 1, 1}, /* blob */
    {36, 4, UINT32_MAX, 0, 1, 1}, {36, 4, 1, 0, 1, 1},
    {36, 4, 3, 0, 1, 1},          {40, 4, BLOCK_MAX + 1, 0, 1, 1}, /* bytes */
    {40, 4, UINT32_MAX, 0, 1, 1}, {40, 4, 3, 0, 1, 1},
    {40, 4, 5, 0, 1, 1},          {48, 1, 0, 0, 1, 1},   /* a zero in the name */
    {50, 1, 0, 0, 1, 1},          {51, 1, 'x', 0, 1, 1}, /* none at its end */
    {48, 0, 0, 1, 1, 1},                                 /* the frame is longer than its lengths */
    {48, 0, 0, -1, 1, 1},         {48, 0, 0, -10, 1, 1},
    {48, 0, 0, -11, 1, 1},        {48, 0, 0, -57, 1, 1},
    {48, 0, 0, -58, 1, 1},       /* and has nothing in it */
    {48, 0, 0, FRAME_MAX, 1, 1}, /* over all limits */
    {48, 0, 0, 0, 0, 0},         /* no descriptor is declared */
    {48, 0, 0, 0, 0, 1},         /* and one comes */
    {48, 0, 0, 0, 1, 0},         /* none comes */
    {48, 0, 0, 0, 1, 2},          {48, 0, 0, 0, 2, 2},
    {48, 0, 0, 0, 2, 1},
};

TEST_CASE("end");

LOOP_TEST(a_malformed_handoff_ends_the_channel, COUNT(faults))
{
	const struct fault *fault = &faults[_i];
	open_worker();
	struct client clients[2] = {make_client(), make_client()};
	int fds[2] = {clients[0].near, clients[1].near};
	struct parcel parcel = make_parcel(1, fds[0]);
	size_t length = put_handoff(&parcel);
	ck_assert_uint_eq(length, HEADER + 58);
	put_number(HEADER + fault->offset, fault->value, fault->size);
	put_number(8, (uint64_t)((int64_t)length + fault->longer) - HEADER, 4);
	put_number(12, fault->declared, 2);
	/* Too long a frame is refused by its header. */
	send_frame(fault->longer > 64 ? length : (size_t)((int64_t)length + fault->longer), fds,
	           fault->fds);
	close(fds[0]);
	close(fds[1]);
	expect_worker_lost(-EPROTO);
	expect_closed(&clients[0]);
	expect_closed(&clients[1]);
	ck_assert_uint_eq(worker_notes.received, 0);
	ck_assert_uint_eq(count_waiting(CLAIM), 0);
	close_worker();
}

TEST(answers_before_a_broken_format_leave)
{
	struct client client = make_client();
	open_worker();
	give_client(&client, 1);
	send_hello(1, 1, HELLO_SIZE);
	expect_worker_lost(-EPROTO);
	expect_answer(CLAIM, 1, 0);
	expect_answer(DONE, 1, 0);
	expect_closed(&client);
	close_worker();
}

TEST(types_that_are_unknown_are_ignored)
{
	static const unsigned int types[] = {0, 3, 4, 5, 6, 7, 9, 1000, 65535};
	enum { COUNT = sizeof(types) / sizeof(types[0]) };
	struct client client = make_client(), stray = make_client();
	open_worker();
	for (size_t i = 0; i < COUNT; i++)
		send_plain(types[i], i * 10);
	send_frame(put_header(77, 5, 1), &stray.near, 1);
	close(stray.near);
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	expect_closed(&client);
	expect_closed(&stray);
	ck_assert_uint_eq(worker_stats().ignored, COUNT + 1);
	ck_assert_uint_eq(worker_notes.lost, 0);
	close_worker();
}

TEST(after_the_dispatcher_is_lost_nothing_is_sent)
{
	open_worker();
	struct client client = make_client();
	worker_notes.on_handoff = steal_descriptor;
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	close_dispatcher();
	expect_worker_lost(0);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 1), -ENOTCONN);
	ck_assert_int_eq(ferry_worker_drain(worker_notes.worker), -ENOTCONN);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, 1), -ENOTCONN);
	ck_assert_uint_eq(worker_stats().claimed, 1);
	ck_assert_uint_eq(worker_stats().done, 0);
	expect_open(&client); /* a claimed handoff is still served */
	close(client.far);
	close_worker();
}

static void free_and_look(struct ferry_handoff *handoff)
{
	free_worker();
	check_parcel(handoff); /* it is still valid */
	if (worker_notes.id % 2 == 0)
		steal_descriptor(handoff);
	else if (worker_notes.id % 4 == 1)
		ck_assert_int_eq(ferry_handoff_reject(handoff, 1), 0);
}

/* _i: 0-3: the end of the handoff; +4: after the claim has waited */
LOOP_TEST(the_worker_may_be_freed_in_its_callback, 8)
{
	struct client clients[2] = {make_client(), make_client()};
	open_worker();
	pump_turns(3);
	if (_i >= 4)
		plan_send(-EAGAIN);
	expected = make_parcel((uint64_t)_i, clients[0].near);
	expected.bytes = 30000;
	worker_notes.on_handoff = free_and_look;
	give_parcel(&expected);
	give_client(&clients[1], 100);
	pump_until_count(&worker_notes.received, 1);
	pump_turns(5);
	close(clients[0].near);
	if (_i % 2 == 0) {
		expect_open(&clients[0]);
		close(clients[0].far);
	} else {
		expect_closed(&clients[0]);
	}
	expect_answer(CLAIM, (uint64_t)_i, 0);
	close_dispatcher(); /* with the unread answers */
	expect_closed(&clients[1]);
	ck_assert_uint_eq(worker_notes.received, 1);
	close_worker();
}

/* _i: 0, drain_requested; 1, dispatcher_lost */
LOOP_TEST(the_worker_may_be_freed_in_its_other_callbacks, 2)
{
	open_worker();
	worker_notes.on_event = free_worker;
	if (_i == 0) {
		send_plain(DRAIN, 0);
		send_plain(DRAIN, 0);
		pump_until_count(&worker_notes.drains, 1);
	} else {
		close_dispatcher();
		pump_until_count(&worker_notes.lost, 1);
	}
	pump_turns(5);
	ck_assert_uint_eq(worker_notes.drains + worker_notes.lost, 1);
	close_worker();
}

static void do_everything(struct ferry_handoff *handoff)
{
	steal_descriptor(handoff);
	ck_assert_int_eq(ferry_worker_set_credits(worker_notes.worker, 7), 0);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, worker_notes.id), 0);
	ck_assert_int_eq(ferry_worker_drain(worker_notes.worker), 0);
}

/* _i: whether the claim has waited */
LOOP_TEST(every_call_is_allowed_in_the_callback, 2)
{
	struct client client = make_client();
	open_worker();
	pump_turns(3);
	if (_i > 0)
		plan_send(-EAGAIN);
	worker_notes.on_handoff = do_everything;
	give_client(&client, 4);
	expect_answer(CLAIM, 4, 0);
	expect_credits(7);
	expect_answer(DONE, 4, 0);
	expect_frame(DRAIN);
	expect_silence();
	expect_open(&client);
	close(client.far);
	close_worker();
}

TEST_CASE("a loop that is broken");

static void say_done_and_break(void)
{
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 4), 0);
	event_base_loopbreak(base);
}

static void break_in_the_handoff(struct ferry_handoff *handoff)
{
	(void)handoff;
	say_done_and_break();
}

static void steal_and_break(struct ferry_handoff *handoff)
{
	steal_descriptor(handoff);
	event_base_loopbreak(base);
}

static void steal_and_exit(struct ferry_handoff *handoff)
{
	steal_descriptor(handoff);
	event_base_loopexit(base, NULL);
}

static void leave_open_and_break(struct ferry_handoff *handoff)
{
	(void)handoff;
	event_base_loopbreak(base); /* the worker itself reports DONE */
}

static void (*const breaking[])(struct ferry_handoff *handoff) = {
    break_in_the_handoff, break_in_the_handoff, leave_open_and_break,
    steal_and_break,      steal_and_exit,       steal_descriptor};

/* A process that ends now has said it. _i: 0 to 2, in the handoff's callback, and 1 after a claim that waited; 3, 4,
 * behind a loop that has ended; 5, in another callback of the worker. No turn follows. */
LOOP_TEST(a_report_leaves_though_the_loop_is_broken, 6)
{
	struct client client = make_client();
	struct answer answer = {0};
	open_worker();
	pump_turns(3);
	if (_i == 1)
		plan_send(-EAGAIN);
	worker_notes.on_handoff = breaking[_i];
	give_client(&client, 4);
	if (_i == 5) {
		pump_until_count(&worker_notes.received, 1);
		worker_notes.on_event = say_done_and_break;
		send_plain(DRAIN, 0);
	}
	ck_assert_int_eq(event_base_dispatch(base), 0);
	if (_i == 3 || _i == 4)
		ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 4), 0);
	ck_assert(next_answer(&answer));
	ck_assert_uint_eq(answer.type, CLAIM);
	ck_assert(next_answer(&answer));
	ck_assert_uint_eq(answer.type, DONE);
	ck_assert_uint_eq(answer.id, 4);
	worker_notes.on_event = NULL;
	close(client.far);
	close_worker();
}

/* The kernel must not take the claim of a connection that nobody would serve. */
TEST(a_claim_that_waits_for_room_waits_though_the_loop_is_broken)
{
	struct client clients[2] = {make_client(), make_client()};
	struct answer answer;
	open_worker();
	worker_notes.on_handoff = steal_descriptor;
	give_client(&clients[0], 1);
	pump_until_count(&worker_notes.received, 1);
	expect_answer(CLAIM, 1, 0);
	close(worker_notes.fd);
	worker_notes.fd = -1;
	pump_turns(3);

	plan_send(-EAGAIN); /* the claim's own attempt */
	plan_send(-EAGAIN); /* the loop's */
	give_client(&clients[1], 2);
	while (script_next < script_length)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	event_base_loopbreak(base);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 1), 0);
	ck_assert(!next_answer(&answer));
	ck_assert_uint_eq(worker_stats().waited, 1);
	expect_answer(CLAIM, 2, 0); /* the loop runs again */
	expect_answer(DONE, 1, 0);
	pump_until_count(&worker_notes.received, 2);
	expect_closed(&clients[0]);
	close(clients[1].far);
	close_worker();
}
