/* A worker answers the dispatcher: rightly, wrongly, late or not at all. */

#include <errno.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "handoff/wire.h"

#include "dispatcher_peer.h"
#include "handoff_info.h"
#include "test.h"
#include "wire.h"

TEST_CASE("answers");

TEST(stale_answers_change_nothing)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	uint64_t id = peers[0].frame.id, epoch = peers[0].frame.epoch;
	unsigned int stale = 0;

	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, id + 1, epoch, 0), stale++;
	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, id + (UINT64_C(1) << 24), epoch, 0), stale++;
	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, 0, 0, 0), stale++;
	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, UINT64_MAX, epoch, 0), stale++;
	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, id, epoch + 1, 0), stale++;
	peer_put_answer(&peers[0], HANDOFF_WIRE_DONE, id, epoch, 0), stale++;  /* not claimed */
	peer_put_answer(&peers[1], HANDOFF_WIRE_CLAIM, id, epoch, 0), stale++; /* another's */
	peer_put_answer(&peers[1], HANDOFF_WIRE_CLAIM, id, epoch + 1, 0), stale++;
	peer_put_answer(&peers[1], HANDOFF_WIRE_LOST, id, epoch + 1, 0), stale++;
	peer_put_answer(&peers[1], HANDOFF_WIRE_REJECT, id, epoch + 1, -1), stale++;
	pump_turns(5);
	ck_assert_uint_eq(dispatcher_stats().stale, stale);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, 1);
	ck_assert(!client_is_closed(&notes.client[0]));

	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM), stale++;
	peer_answer(&peers[0], HANDOFF_WIRE_LOST), stale++;
	pump_turns(5);
	ck_assert_uint_eq(dispatcher_stats().stale, stale);
	ck_assert_uint_eq(dispatcher_stats().claimed, 1);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE);
	peer_answer(&peers[0], HANDOFF_WIRE_DONE), stale++;
	peer_answer(&peers[0], HANDOFF_WIRE_REJECT), stale++;
	peer_put(&peers[0], 4711, "later", 5); /* a type of a later version */
	pump_turns(5);
	ck_assert_uint_eq(dispatcher_stats().stale, stale);
	ck_assert_uint_eq(dispatcher_stats().malformed, 0);
	ck_assert_uint_eq(notes.outcomes, 1);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	ck_assert_uint_eq(notes.lost, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(1);
}

/* A worker may guess an id. A claim of a frame that the kernel has not taken does not count: the
 * descriptor would be closed while it is queued. */
TEST(a_claim_of_an_unsent_handoff_is_stale)
{
	static unsigned char bytes[FERRY_HANDOFF_BYTES_MAX];

	open_dispatcher();
	add_peer(&peers[0], 1000);
	unsigned int count = 0;
	do { /* until the channel is full */
		struct ferry_handoff *handoff = make_handoff(count);
		ck_assert_int_eq(ferry_handoff_set_bytes(handoff, bytes, sizeof(bytes)), 0);
		ck_assert_int_eq(
		    ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[count]), 0);
		count++;
		pump_turns(2);
	} while (count < 100);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	uint64_t first = peers[0].frame.id, epoch = peers[0].frame.epoch;
	/* The place is in the low bits. Place and serial number count up from the first one. */
	for (uint64_t i = 50; i < count; i++)
		peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, first + i * ((UINT64_C(1) << 24) + 1), epoch,
		                0);
	pump_turns(5);
	ck_assert_uint_eq(dispatcher_stats().stale, count - 50);
	ck_assert_uint_eq(dispatcher_stats().claimed, 0);
	for (unsigned int i = 1; i < count; i++) {
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ck_assert_int_ge(peers[0].got, 0);
		ck_assert_uint_eq(peers[0].frame.id, first + i * ((UINT64_C(1) << 24) + 1));
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(count);
}

static void say_garbage(const struct peer *peer, int how)
{
	unsigned char zero[HANDOFF_WIRE_HELLO_SIZE] = {0};

	if (how == 0)
		ck_assert_int_gt(wire_send(peer->fd, "GET / HTTP/1.1\r\n\r\n", 18, NULL, 0), 0);
	else if (how == 1)
		peer_put(peer, HANDOFF_WIRE_CLAIM, zero, HANDOFF_WIRE_ANSWER_SIZE - 1);
	else if (how == 2)
		peer_put(peer, HANDOFF_WIRE_CREDITS, zero, HANDOFF_WIRE_CREDITS_SIZE - 1);
	else if (how == 3)
		peer_put(peer, HANDOFF_WIRE_HELLO, zero, sizeof(zero));
	else
		peer_put_hello(peer, 1); /* a second one */
}

LOOP_TEST(garbage_costs_the_channel, 5)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	hand_off(1);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	say_garbage(&peers[0], _i);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -EPROTO);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF); /* the handoff of the first one */
	peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
	peer_answer(&peers[1], HANDOFF_WIRE_DONE);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	ck_assert_uint_eq(notes.of[0].attempt, 2);
	ck_assert_uint_eq(dispatcher_stats().workers, 1);
	peer_expect(&peers[0], 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(2);
}

static void hand_off_behind_garbage(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	/* The garbage was read, and the dispatcher's turn is yet to come. */
	ck_assert_uint_eq(dispatcher_stats().malformed, 1);
	ck_assert_uint_eq(notes.lost, 0);
	hand_off(0);
}

/* Such a handoff would come back, but late. */
TEST(a_worker_that_has_sent_garbage_gets_no_handoff_before_its_end)
{
	int ends[2];

	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	make_pair(PAIR_UNIX, ends);
	struct event *other = event_new(base, ends[0], EV_READ, hand_off_behind_garbage, NULL);
	event_add(other, NULL);
	pump_turns(3);
	say_garbage(&peers[0], 2);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	pump_until_count(&notes.lost, 1);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(dispatcher_stats().sent, 1);
	ck_assert_uint_eq(dispatcher_stats().fenced, 0);
	free_dispatcher();
	event_free(other);
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close(ends[0]);
	close(ends[1]);
	close_clients(1);
}

TEST(a_first_message_that_is_no_hello_costs_the_channel)
{
	open_dispatcher();
	add_silent_peer(&peers[0], NULL);
	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, 1, 1, 0);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -EPROTO);
	ck_assert_uint_eq(notes.ready, 0);
	free_dispatcher();
	close_peer(&peers[0]);
}

TEST(versions_are_compared)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE + 8] = {0};

	open_dispatcher();
	/* A worker that has our version and later ones, in a longer hello. */
	add_silent_peer(&peers[0], NULL);
	handoff_wire_hello_put(payload, &(struct handoff_wire_hello){1, 9, 7, 0});
	peer_put(&peers[0], HANDOFF_WIRE_HELLO, payload, sizeof(payload));
	pump_until_count(&notes.ready, 1);
	ck_assert_uint_eq(dispatcher_stats().credits, 7);
	/* A worker that has only later ones. */
	add_silent_peer(&peers[1], NULL);
	handoff_wire_hello_put(payload, &(struct handoff_wire_hello){2, 9, 7, 0});
	peer_put(&peers[1], HANDOFF_WIRE_HELLO, payload, HANDOFF_WIRE_HELLO_SIZE);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -EPROTONOSUPPORT);
	ck_assert_uint_eq(notes.ready, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
}

TEST_CASE("deadlines");

TEST(a_handoff_that_no_worker_takes_expires)
{
	open_dispatcher();
	set_timeouts(20000, NEVER_USEC);
	hand_off(0);
	hand_off(1);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	expect_outcome(1, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	ck_assert(notes.of[0].has_fd);
	ck_assert_ptr_null(notes.of[0].worker);
	free_dispatcher();
	close_clients(2);
}

TEST(a_worker_that_does_not_answer_in_time_is_lost)
{
	open_dispatcher();
	set_timeouts(NEVER_USEC, 30000);
	add_peer(&peers[0], 4);
	hand_off(0);
	hand_off(1);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -ETIMEDOUT);
	expect_outcome(0, FERRY_HANDOFF_KEPT, -ETIMEDOUT);
	/* It cannot claim any more. */
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	char byte = 0;
	ck_assert_int_eq(wire_send(peers[0].fd, &byte, 1, NULL, 0), -EPIPE);
	add_peer(&peers[1], 4);
	peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[1], HANDOFF_WIRE_CLAIM);
	pump_turns(2);
	ck_assert_uint_eq(dispatcher_stats().claimed, 2);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(2);
}

static struct event *answering;
static unsigned int answered;

static void answer_one(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct peer *peer = argument;
	if (peer_take(peer) != HANDOFF_WIRE_HANDOFF)
		return;
	peer_answer(peer, HANDOFF_WIRE_CLAIM);
	peer_answer(peer, HANDOFF_WIRE_DONE);
	answered++;
}

/* A worker that answers is not late, however many handoffs are in front of one. */
TEST(a_slow_worker_that_answers_is_not_late)
{
	enum { COUNT = 20 };
	open_dispatcher();
	set_timeouts(NEVER_USEC, 1000000);
	add_peer(&peers[0], COUNT);
	for (unsigned int i = 0; i < COUNT; i++)
		hand_off(i);
	answering = event_new(base, -1, EV_PERSIST, answer_one, &peers[0]);
	event_add(answering, &(struct timeval){.tv_usec = 100000});
	pump_until_count(&notes.outcomes, COUNT); /* two seconds, twice the deadline */
	event_free(answering);
	ck_assert_uint_eq(notes.lost, 0);
	ck_assert_uint_eq(dispatcher_stats().done, COUNT);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(COUNT);
}

TEST(a_worker_that_does_not_greet_in_time_is_lost)
{
	open_dispatcher();
	set_timeouts(NEVER_USEC, 20000);
	add_silent_peer(&peers[0], NULL);
	hand_off(0);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -ETIMEDOUT);
	ck_assert_uint_eq(dispatcher_stats().queued, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}
