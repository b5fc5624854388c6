/* Faults of the dispatcher that a review found, each by the scenario that shows it. */

#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "handoff/handoff.h"
#include "handoff/wire.h"
#include "kernel/clock.h"
#include "message/wire.h"

#include "dispatcher_peer.h"
#include "handoff_info.h"
#include "test.h"
#include "wire.h"
#include "worker_frames.h"

static int send_error; /* of each sendmsg(2) with descriptors, except the tests' own; 0: none */

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (send_error == 0 || message->msg_controllen == 0)
		return __real_sendmsg(fd, message, flags);
	errno = send_error;
	return -1;
}

static struct event *answering;

static size_t make_answer(const struct peer *peer, uint16_t type, unsigned char *bytes)
{
	return worker_answer_frame(bytes, type,
	                           &(struct handoff_wire_answer){peer->frame.id, peer->frame.epoch, 0});
}

/* The start of a claim was read, and the rest is still in the socket when the owner ends the channel. */
LOOP_TEST_FROM(a_claim_in_two_halves_counts, 1, MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE)
{
	unsigned char bytes[MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE];
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	size_t length = make_answer(&peers[0], HANDOFF_WIRE_CLAIM, bytes);
	wire_send(peers[0].fd, bytes, (size_t)_i, NULL, 0);
	pump_turns(3);
	wire_send(peers[0].fd, bytes + _i, length - (size_t)_i, NULL, 0);
	ferry_dispatcher_worker_remove(peers[0].worker);
	expect_outcome(0, FERRY_HANDOFF_KEPT, -ECANCELED);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* A timer that is set must not cancel the turn that is pending. */
TEST(outcomes_come_although_a_deadline_is_set)
{
	open_dispatcher();
	set_timeouts(10 * (int64_t)NEVER_USEC, 10 * (int64_t)NEVER_USEC);
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	pump_turns(3);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(peers[0].worker), 0);
	hand_off(0);
	pump_until_count(&notes.drained, 1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(1);
}

/* A handoff in the queue does not name a worker that was freed. */
TEST(a_queued_handoff_outlives_its_worker)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	close_peer(&peers[0]);
	pump_until_count(&notes.lost, 1);
	free_dispatcher();
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	ck_assert_ptr_null(notes.of[0].worker);
	close_clients(1);
}

/* A handoff that comes back has the place in the queue that it would have if it had never left. */
TEST(handoffs_that_come_back_stay_in_order)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < 4; i++)
		hand_off(i);
	hand_off(4);
	uint64_t ids[4];
	for (unsigned int i = 0; i < 4; i++) {
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ids[i] = peers[0].frame.id;
	}
	peer_put_credits(&peers[0], 0);
	for (unsigned int i = 0; i < 4; i++)
		peer_put_answer(&peers[0], HANDOFF_WIRE_LOST, ids[i ^ 1], peers[0].frame.epoch, 0);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().queued, 5);
	add_peer(&peers[1], 8);
	for (unsigned int i = 0; i < 5; i++) {
		peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
		char byte = (char)i, got = -1;
		ck_assert_int_eq(send(peers[1].got, &byte, 1, 0), 1);
		ck_assert_int_eq(recv(notes.client[i], &got, 1, 0), 1);
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(5);
}

/* A deadline holds for the handoffs that are in the queue already, too. */
TEST(a_shorter_deadline_holds_at_once)
{
	open_dispatcher();
	hand_off(0);
	set_timeouts(20000, NEVER_USEC);
	hand_off(1);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	expect_outcome(1, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	free_dispatcher();
	close_clients(2);
}

static void babble(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	const struct peer *peer = argument;
	unsigned char bytes[MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE];
	size_t length = make_answer(peer, HANDOFF_WIRE_DONE, bytes);
	(void)wire_send(peer->fd, bytes, length, NULL, 0); /* of a handoff that it has not claimed */
}

/* A message that fits no handoff is no answer: a worker cannot delay its deadline by such messages. */
TEST(a_worker_that_babbles_is_late)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answering = event_new(base, -1, EV_PERSIST, babble, &peers[0]);
	event_add(answering, &(struct timeval){.tv_usec = 5000});
	set_timeouts(NEVER_USEC, 100000);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -ETIMEDOUT);
	event_free(answering);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* The answer came in time, and was not read because this process was busy or stopped. */
TEST(a_busy_dispatcher_reads_before_it_judges)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	const struct timespec busy = {.tv_nsec = 2000000};
	nanosleep(&busy, NULL);
	set_timeouts(NEVER_USEC, 1000);
	pump_turns(5);
	ck_assert_uint_eq(notes.lost, 0);
	ck_assert_uint_eq(dispatcher_stats().claimed, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* The same for the queue: the answer that frees the credit is in the channel. */
TEST(a_busy_dispatcher_reads_before_it_expires)
{
	open_dispatcher();
	add_peer(&peers[0], 1);
	hand_off(0);
	hand_off(1);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	const struct timespec busy = {.tv_nsec = 2000000};
	nanosleep(&busy, NULL);
	set_timeouts(1000, NEVER_USEC);
	pump_turns(5);
	ck_assert_uint_eq(dispatcher_stats().expired, 0);
	ck_assert_uint_eq(dispatcher_stats().sent, 2);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(2);
}

/* What a hung worker had may wait for another as long as a new handoff, however long the first has taken. */
TEST(a_worker_that_hung_has_used_up_none_of_the_queues_time)
{
	struct ferry_handoff *handoff = make_handoff(0);

	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[0]), 0);
	int64_t first = handoff->queued_at;
	ck_assert_int_gt(first, 0);
	add_peer(&peers[0], 4);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	set_timeouts(NEVER_USEC, 1000);
	int64_t sent = clock_now();
	pump_until_count(&notes.lost, 1);
	ck_assert_uint_eq(dispatcher_stats().queued, 1);
	ck_assert_int_ge(handoff->queued_at, sent);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

static struct event *ending_shortage;

static void end_shortage(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	send_error = 0;
}

/* A worker owes no answer for a handoff that the kernel does not take, for example because too many
 * descriptors are in flight. */
LOOP_TEST(a_worker_that_is_short_of_slots_is_not_late, 2)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	send_error = _i == 0 ? ETOOMANYREFS : ENOBUFS;
	set_timeouts(NEVER_USEC, 200000);
	hand_off(0);
	ending_shortage = event_new(base, -1, 0, end_shortage, NULL);
	event_add(ending_shortage, &(struct timeval){.tv_usec = 600000});
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_turns(3);
	ck_assert_uint_eq(notes.lost, 0);
	ck_assert_uint_eq(dispatcher_stats().claimed, 1);
	event_free(ending_shortage);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

LOOP_TEST(a_closing_transport_is_refused, 2)
{
	int ends[2];
	open_dispatcher();
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	if (_i == 0)
		ferry_transport_lose_connection(transport);
	else
		ferry_transport_lose_write_connection(transport);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, transport, NULL), -ENOTCONN);
	ferry_transport_free(transport);
	free_dispatcher();
	close(ends[1]);
}

/* The loop runs its other events, whatever a callback does. */
static unsigned int toggled;

static void stop_loop(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	event_base_loopbreak(base);
}

static void toggle(struct ferry_dispatcher *of, bool full, void *context)
{
	(void)context;
	toggled++;
	ck_assert_uint_lt(toggled, 100000);
	ferry_dispatcher_set_queue_limit(of, full ? 100 : 1);
}

TEST(callbacks_cannot_starve_the_loop)
{
	static const struct ferry_dispatcher_callbacks toggling = {.full_changed = toggle};
	struct ferry_handoff *handoff = make_handoff(0);
	toggled = 0;
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &toggling, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_set_queue_limit(dispatcher, 1), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), 0);
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(send(ends[0], "", 1, 0), 1);
	struct event *other = event_new(base, ends[1], EV_READ, stop_loop, NULL);
	event_add(other, NULL);
	event_base_loop(base, 0);
	ck_assert_uint_gt(toggled, 1);
	event_free(other);
	ferry_dispatcher_free(dispatcher);
	close(ends[0]);
	close(ends[1]);
	close_clients(1);
}

/* The reason is -ECANCELED when the dispatcher is freed, for any number of attempts. */
TEST(the_dispatcher_may_be_freed_in_the_third_attempt)
{
	open_dispatcher();
	hand_off(0);
	for (unsigned int i = 0; i < 3; i++) {
		add_peer(&peers[i], 4);
		peer_expect(&peers[i], HANDOFF_WIRE_HANDOFF);
		if (i == 2)
			break;
		close_peer(&peers[i]);
		pump_until_count(&notes.lost, i + 1);
	}
	free_dispatcher();
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	close_peer(&peers[2]);
	close_clients(1);
}
