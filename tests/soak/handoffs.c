/* A dispatcher, a parking place and workers, all in this process: connections go from worker to worker, by way of the
 * queue and the place, while their clients send. Each client compares the echo of all that it has sent. Workers leave
 * in an orderly way, and others follow. */

#include "soak.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"
#include "handoff_info.h"
#include "recorder.h"
#include "wire.h"

enum { CLIENTS = 32, WORKERS = 4, BURST = 2000, WINDOW = 20000 };

/* The one that has the connection. */
enum owner { NOBODY, DISPATCHER, WORKER, PLACE };

struct worker;

struct client {
	enum owner owner;
	int far; /* the client's end; -1: it has closed it */
	uint64_t sent, received;
	struct worker *worker; /* of the owner WORKER */
	struct bufferevent *bev;
	uint64_t id;
};

struct worker {
	struct ferry_worker *near;
	struct ferry_dispatcher_worker *far;
	bool lazy;    /* leaves its input */
	bool leaving; /* drained, and asked to return what is idle */
};

static struct ferry_dispatcher *hub;
static struct ferry_parking *place;
static struct client clients[CLIENTS];
static struct worker workers[WORKERS];

static void set_owner(struct client *client, enum owner from, enum owner to)
{
	ck_assert_int_eq(client->owner, from);
	client->owner = to;
}

static void check_counters(void)
{
	struct ferry_dispatcher_stats stats;
	struct ferry_parking_stats parked;

	ck_assert_int_eq(ferry_dispatcher_get_stats(hub, &stats), 0);
	ck_assert_uint_eq(stats.accepted, stats.done + stats.rejected + stats.expired + stats.kept +
	                                      stats.returned + stats.queued + stats.outstanding);
	ck_assert_uint_eq(stats.expired + stats.rejected + stats.kept + stats.malformed + stats.stale,
	                  0);
	ck_assert_uint_le(stats.unclaimed, stats.outstanding);
	ck_assert_int_eq(ferry_parking_get_stats(place, &parked), 0);
	unsigned int in_place = 0;
	for (int i = 0; i < CLIENTS; i++)
		in_place += clients[i].owner == PLACE;
	ck_assert_uint_eq(parked.idle + parked.pending, in_place);
}

/* ---- the owners ---- */

static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	struct client *client = context;

	(void)handoff, (void)reason;
	ck_assert_ptr_eq(from, hub);
	ck_assert_int_eq(outcome, FERRY_HANDOFF_DONE);
	ck_assert_int_eq(client->far, -1);
	set_owner(client, WORKER, NOBODY);
	soak_totals.handoffs++;
}

static void give(struct client *client, enum owner from, struct ferry_handoff *handoff)
{
	ck_assert_int_eq(ferry_dispatcher_hand_off(hub, handoff, on_outcome, client), 0);
	set_owner(client, from, DISPATCHER);
}

static void on_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                        struct ferry_handoff *handoff, void *context)
{
	struct client *client = handoff_info(handoff).context;

	(void)from, (void)worker, (void)context;
	ck_assert_ptr_null(client->worker);
	soak_totals.handoffs++;
	soak_totals.returns++;
	if (one_in(3)) {
		give(client, WORKER, handoff);
		return;
	}
	ck_assert_int_eq(ferry_parking_park(place, handoff, -1, NULL, client), 0);
	set_owner(client, WORKER, PLACE);
	soak_totals.parked++;
}

static void on_woken(struct ferry_parking *from, struct ferry_handoff *handoff,
                     const struct ferry_parking_event *event, void *context)
{
	struct client *client = handoff_info(handoff).context;

	(void)from, (void)context;
	if (event->reason != FERRY_PARKING_ENDED) {
		give(client, PLACE, handoff);
		return;
	}
	ck_assert_int_eq(client->far, -1);
	ferry_handoff_free(handoff);
	set_owner(client, PLACE, NOBODY);
}

static void open_worker(struct worker *worker);

/* The channel of a worker that has left is over at both ends. */
static void on_drained(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *far,
                       void *context)
{
	(void)from, (void)context;
	for (int i = 0; i < WORKERS; i++)
		if (workers[i].far == far) {
			ck_assert(workers[i].leaving);
			ferry_dispatcher_worker_remove(far);
			workers[i].far = NULL;
		}
}

static const struct ferry_dispatcher_callbacks hub_callbacks = {.worker_drained = on_drained,
                                                                .handoff_returned = on_returned};
static const struct ferry_parking_callbacks place_callbacks = {.handoff_woken = on_woken};

/* ---- the workers ---- */

static void drop(struct client *client)
{
	bufferevent_free(client->bev);
	client->bev = NULL;
	client->worker = NULL;
}

/* Returns the connection with what was read and not served. With output it is not idle. */
static void return_client(struct client *client)
{
	struct ferry_worker *near = client->worker->near;
	struct ferry_handoff *handoff;

	if (!ferry_worker_can_return(near) ||
	    evbuffer_get_length(bufferevent_get_output(client->bev)) > 0)
		return;
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, client->bev), 0);
	drop(client);
	ck_assert_int_eq(ferry_worker_return(near, client->id, handoff), 0);
}

static void echo(struct client *client)
{
	ck_assert_int_eq(bufferevent_write_buffer(client->bev, bufferevent_get_input(client->bev)), 0);
}

static void on_input(struct bufferevent *bev, void *context)
{
	struct client *client = context;

	ck_assert_ptr_eq(bev, client->bev);
	if (!client->worker->lazy)
		echo(client);
}

static void on_idle(struct bufferevent *bev, void *context)
{
	struct client *client = context;

	ck_assert_ptr_eq(bev, client->bev);
	if (client->worker->leaving)
		return_client(client);
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	struct client *client = context;
	struct ferry_worker *near = client->worker->near;

	ck_assert_ptr_eq(bev, client->bev);
	ck_assert_int_ne(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR), 0);
	ck_assert_int_eq(client->far, -1);
	drop(client);
	ck_assert_int_eq(ferry_worker_done(near, client->id), 0);
}

static void on_handoff(struct ferry_worker *from, struct ferry_handoff *handoff, void *context)
{
	struct worker *worker = context;
	struct ferry_handoff_info info = handoff_info(handoff);
	unsigned int number = CLIENTS;

	ck_assert_ptr_eq(from, worker->near);
	ck_assert_int_eq(sscanf(info.name, "client %u", &number), 1);
	ck_assert_uint_lt(number, CLIENTS);
	struct client *client = &clients[number];
	set_owner(client, DISPATCHER, WORKER);
	ck_assert_ptr_null(client->worker);
	ck_assert_int_eq(
	    ferry_handoff_to_bufferevent(&client->bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	client->worker = worker;
	client->id = info.id;
	bufferevent_setcb(client->bev, on_input, on_idle, on_event, client);
	bufferevent_enable(client->bev, EV_READ);
}

static void on_recall(struct ferry_worker *from, const struct timeval *spread, void *context)
{
	struct worker *worker = context;

	(void)from, (void)spread;
	worker->leaving = true;
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].worker == worker)
			return_client(&clients[i]);
}

static void on_lost(struct ferry_worker *from, int reason, void *context)
{
	struct worker *worker = context;

	(void)reason;
	ck_assert(worker->leaving && worker->far == NULL);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_ptr_ne(clients[i].worker, worker);
	ferry_worker_free(from);
	soak_totals.workers++;
	open_worker(worker);
}

static const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = on_handoff, .recall_requested = on_recall, .dispatcher_lost = on_lost};

static void open_worker(struct worker *worker)
{
	int fds[2];

	*worker = (struct worker){.lazy = false};
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_dispatcher_add_worker(&worker->far, hub, make_transport(fds[0]), NULL),
	                 0);
	ck_assert_int_eq(
	    ferry_worker_new(&worker->near, make_transport(fds[1]), &worker_callbacks, worker), 0);
}

static void make_lazy(struct worker *worker, bool lazy)
{
	worker->lazy = lazy;
	for (int i = 0; i < CLIENTS && !lazy; i++)
		if (clients[i].worker == worker)
			echo(&clients[i]);
}

static void replace(struct worker *worker)
{
	if (worker->leaving || worker->far == NULL)
		return;
	worker->leaving = true;
	ck_assert_int_eq(ferry_dispatcher_worker_drain(worker->far), 0);
	ck_assert_int_eq(ferry_dispatcher_worker_recall(worker->far, &(struct timeval){0, 0}), 0);
}

/* ---- the clients ---- */

/* The two ends of a connection have patterns that no other client has at the same position. */
static uint64_t position_of(const struct client *client, uint64_t count)
{
	return count + (uint64_t)(client - clients) * 1013;
}

static void read_echo(struct client *client)
{
	ssize_t length;

	while (client->far >= 0 &&
	       (length = wire_expect(client->far, position_of(client, client->received), 16384)) > 0) {
		client->received += (uint64_t)length;
		soak_totals.bytes += (uint64_t)length;
		ck_assert_uint_le(client->received, client->sent);
	}
}

static void send_some(struct client *client)
{
	size_t length = 1 + support_random_below(BURST);

	if (client->far < 0 || client->sent - client->received > WINDOW)
		return;
	wire_put(client->far, position_of(client, client->sent), length);
	client->sent += length;
}

static void connect_client(struct client *client)
{
	struct ferry_handoff *handoff;
	char name[32];
	int fds[2];

	make_pair(one_in(3) ? PAIR_TCP : PAIR_UNIX, fds);
	*client = (struct client){.far = fds[0]};
	snprintf(name, sizeof(name), "client %d", (int)(client - clients));
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[1]), 0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, name), 0);
	give(client, NOBODY, handoff);
}

static void leave(struct client *client)
{
	if (client->far < 0 || client->received < client->sent)
		return;
	close(client->far);
	client->far = -1;
}

static void act(struct client *client)
{
	read_echo(client);
	switch (support_random_below(8)) {
	case 0:
		if (one_in(3))
			leave(client);
		break;
	case 1:
	case 2:
		if (client->worker != NULL)
			return_client(client);
		break;
	case 3:
		if (one_in(4))
			ck_assert_int_ge(ferry_parking_evict(place, support_random_below(3)), 0);
		break;
	default:
		send_some(client);
	}
}

static void step(void)
{
	struct client *client = &clients[support_random_below(CLIENTS)];
	struct worker *worker = &workers[support_random_below(WORKERS)];

	if (one_in(40))
		replace(worker);
	else if (one_in(15))
		make_lazy(worker, !worker->lazy);
	else if (client->owner == NOBODY)
		connect_client(client);
	else
		act(client);
	check_counters();
}

/* ---- opened and at rest ---- */

static void open_part(void)
{
	const struct timeval late = {1000000, 0};

	ck_assert_int_eq(ferry_dispatcher_new(&hub, base, &hub_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(hub, &late, &late), 0);
	ck_assert_int_eq(ferry_parking_new(&place, base, &place_callbacks, NULL), 0);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = (struct client){.far = -1};
	for (int i = 0; i < WORKERS; i++)
		open_worker(&workers[i]);
}

static bool all_have_left(void *argument)
{
	bool left = true;

	(void)argument;
	for (int i = 0; i < CLIENTS; i++) {
		read_echo(&clients[i]);
		leave(&clients[i]);
		left = left && clients[i].owner == NOBODY;
	}
	for (int i = 0; i < WORKERS; i++)
		left = left && !workers[i].leaving;
	return left;
}

static void rest(void)
{
	struct ferry_dispatcher_stats stats;

	for (int i = 0; i < WORKERS; i++)
		make_lazy(&workers[i], false);
	pump_until(all_have_left, NULL);
	check_counters();
	ck_assert_int_eq(ferry_dispatcher_get_stats(hub, &stats), 0);
	ck_assert_uint_eq(stats.queued + stats.outstanding, 0);
	ck_assert_uint_eq(stats.workers, WORKERS);
}

static void close_part(void)
{
	rest();
	for (int i = 0; i < WORKERS; i++) {
		ferry_dispatcher_worker_remove(workers[i].far);
		ferry_worker_free(workers[i].near);
	}
	ferry_parking_free(place);
	ferry_dispatcher_free(hub);
}

const struct soak_part soak_handoffs = {"handoffs", 25, open_part, step, rest, close_part};
