/* A limit of queued bytes on the channel between a dispatcher and a worker. */

#include <errno.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/worker.h"

#include "dispatcher_peer.h"
#include "handoff_info.h"
#include "test.h"

static struct bufferevent *bev_of(const struct peer *peer)
{
	return ferry_transport_get_bufferevent(ferry_dispatcher_worker_get_transport(peer->worker));
}

static void limit(const struct peer *peer, size_t bytes)
{
	ck_assert_int_eq(
	    ferry_transport_set_byte_limit(ferry_dispatcher_worker_get_transport(peer->worker), bytes),
	    0);
}

/* Of a worker that takes nothing for now. */
static void open_full_channel(struct peer *peer, size_t bytes)
{
	open_dispatcher();
	add_peer(peer, UINT32_MAX);
	limit(peer, bytes);
	bufferevent_disable(bev_of(peer), EV_WRITE);
}

static void close_all(unsigned int peer_count, unsigned int client_count)
{
	free_dispatcher();
	for (unsigned int i = 0; i < peer_count; i++)
		close_peer(&peers[i]);
	close_clients(client_count);
}

/* A handoff without a name takes 65 bytes. */
TEST(handoffs_beyond_the_limit_wait_in_the_queue_until_the_channel_has_room)
{
	open_full_channel(&peers[0], 2 * 65);
	for (unsigned int i = 0; i < 4; i++)
		hand_off(i);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, 2);
	ck_assert_uint_eq(dispatcher_stats().queued, 2);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().queued, 2);
	bufferevent_enable(bev_of(&peers[0]), EV_WRITE);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, 4);
	for (int i = 0; i < 4; i++)
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	close_all(1, 4);
}

TEST(a_handoff_goes_to_another_worker_if_a_channel_is_full)
{
	open_full_channel(&peers[0], 65);
	hand_off(0);
	add_peer(&peers[1], UINT32_MAX);
	for (unsigned int i = 1; i < 4; i++)
		hand_off(i);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, 4);
	for (int i = 0; i < 3; i++)
		peer_expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	close_all(2, 4);
}

TEST(an_empty_channel_takes_one_handoff_of_any_length)
{
	open_full_channel(&peers[0], 1);
	hand_off(0);
	hand_off(1);
	ck_assert_uint_eq(dispatcher_stats().unclaimed, 1);
	bufferevent_enable(bev_of(&peers[0]), EV_WRITE);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	close_all(1, 2);
}

TEST(the_limit_holds_back_no_other_message)
{
	open_full_channel(&peers[0], 1);
	hand_off(0);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(peers[0].worker), 0);
	bufferevent_enable(bev_of(&peers[0]), EV_WRITE);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_expect(&peers[0], HANDOFF_WIRE_DRAIN);
	close_all(1, 1);
}

/* ---- the worker's end ---- */

static uint64_t ids[2];
static unsigned int received;
static int served[2];

static void on_received(struct ferry_worker *from, struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)context;
	ids[received] = handoff_info(handoff).id;
	served[received++] = ferry_handoff_steal_fd(handoff);
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = on_received};

static struct ferry_worker *open_worker(void)
{
	struct ferry_worker *worker;
	int ends[2];

	received = 0;
	open_dispatcher_for_returns();
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, make_transport(ends[0]), NULL),
	                 0);
	ck_assert_int_eq(ferry_worker_new(&worker, make_transport(ends[1]), &worker_callbacks, NULL),
	                 0);
	pump_until_count(&notes.ready, 1);
	hand_off(0);
	hand_off(1);
	pump_until_count(&received, 2);
	return worker;
}

static struct ferry_handoff *make_return(unsigned int number)
{
	struct ferry_handoff *made;

	ck_assert_int_eq(ferry_handoff_new(&made, served[number]), 0);
	return made;
}

TEST(a_return_beyond_the_limit_is_refused_and_the_connection_stays_the_workers)
{
	struct ferry_worker *worker = open_worker();
	struct ferry_transport *transport = ferry_worker_get_transport(worker);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	ck_assert_int_eq(ferry_transport_set_byte_limit(transport, 1), 0);
	bufferevent_disable(bev, EV_WRITE);
	ck_assert_int_eq(ferry_worker_return(worker, ids[0], make_return(0)), 0);
	struct ferry_handoff *second = make_return(1);
	ck_assert_int_eq(ferry_worker_return(worker, ids[1], second), -ENOBUFS);
	ck_assert_int_ge(ferry_handoff_get_fd(second), 0);
	bufferevent_enable(bev, EV_WRITE);
	pump_until_count(&notes.returned, 1);
	ferry_handoff_free(notes.back);
	ck_assert_int_eq(ferry_worker_return(worker, ids[1], second), 0);
	pump_until_count(&notes.returned, 2);
	ferry_handoff_free(notes.back);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(2);
}
