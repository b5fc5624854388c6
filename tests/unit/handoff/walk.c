/* A dispatcher, workers, and bare sockets that misbehave as workers, in a random order, from outside
 * the loop and from inside callbacks. No walk may break a promise: an accepted handoff has one outcome,
 * only one worker gets it, no other process takes it away, the counters add up at any time, and no
 * descriptor leaks or is closed twice. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/thread.h>

#include "closes.h"
#include "ferry/dispatcher.h"
#include "ferry/worker.h"
#include "handoff_info.h"
#include "test.h"
#include "wire.h"
#include "worker_frames.h"

enum { STEPS = 600, WALKS = 40, SLOTS = 6, ITEMS = 2 * STEPS, OPEN_MAX = 100, HELD_MAX = 64 };
enum { DEPTH_MAX = 2, REASON = 5, KNOWN = 32, SOON_USEC = 3000 };

struct item {
	bool accepted;
	unsigned int served, outcomes;
	enum ferry_handoff_outcome outcome;
	int client;
};

struct held {
	uint64_t id;
	int fd;
};

/* A worker at the dispatcher, and its other end: a ferry_worker, or a bare socket. */
struct slot {
	struct ferry_dispatcher_worker *worker;
	struct ferry_worker *real;
	struct held held[HELD_MAX];
	unsigned int held_count;
	int fd; /* -1: none */
	unsigned char in[4096], out[512];
	size_t in_length, out_length;
	struct handoff_wire_answer known[KNOWN];
	unsigned int known_count;
};

static struct ferry_dispatcher *dispatcher;
static struct slot slots[SLOTS];
static struct item items[ITEMS];
static unsigned int item_count, open_count, depth;
static struct ferry_dispatcher_stats sum;
static struct ev_token_bucket_cfg *slow;

static void act(void);

/* From a callback: any call that is legal there. */
static void act_inside(void)
{
	if (depth >= DEPTH_MAX || support_random_below(3) != 0)
		return;
	depth++;
	for (uint32_t i = support_random_below(3); i > 0; i--)
		act();
	depth--;
}

/* ---- invariants ---- */

static void check_stats(void)
{
	if (dispatcher == NULL)
		return;
	ck_assert_int_eq(ferry_dispatcher_get_stats(dispatcher, &sum), 0);
	ck_assert_uint_eq(sum.accepted, sum.done + sum.rejected + sum.expired + sum.kept + sum.queued +
	                                    sum.outstanding);
	ck_assert_uint_le(sum.unclaimed, sum.outstanding);
	ck_assert_uint_ge(sum.sent, sum.claimed + sum.lost + sum.fenced + sum.unclaimed);
}

static void check_end(const struct item *item)
{
	ck_assert_uint_eq(item->outcomes, item->accepted);
	ck_assert_uint_le(item->served, 1);
	if (item->served > 0)
		ck_assert_int_ne(item->outcome, FERRY_HANDOFF_EXPIRED);
}

/* ---- callbacks ---- */

static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)from, (void)reason;
	struct item *item = context;

	ck_assert_uint_eq(item->outcomes++, 0);
	item->outcome = outcome;
	struct ferry_dispatcher_stats of_worker;
	struct ferry_dispatcher_worker *worker = handoff_info(handoff).worker;
	if (worker != NULL)
		ck_assert_int_eq(ferry_dispatcher_worker_get_stats(worker, &of_worker), 0);
	if (outcome == FERRY_HANDOFF_EXPIRED) {
		ck_assert_int_ge(ferry_handoff_get_fd(handoff), 0);
		if (support_random_below(2) == 0)
			close(ferry_handoff_steal_fd(handoff));
	}
	close(item->client);
	open_count--;
	check_stats();
	act_inside();
}

static void on_ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                     void *context)
{
	(void)from, (void)worker, (void)context;
	act_inside();
}

static void on_full(struct ferry_dispatcher *from, bool full, void *context)
{
	(void)from, (void)full, (void)context;
	act_inside();
}

static void on_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                    int reason, void *context)
{
	(void)from, (void)reason, (void)context;
	for (unsigned int i = 0; i < SLOTS; i++)
		if (slots[i].worker == worker)
			slots[i].worker = NULL;
	act_inside();
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_ready = on_ready,
    .worker_drained = on_ready,
    .worker_lost = on_lost,
    .full_changed = on_full,
};

static void drop_held(struct slot *slot)
{
	for (unsigned int i = 0; i < slot->held_count; i++)
		close(slot->held[i].fd);
	slot->held_count = 0;
}

static void free_real(struct slot *slot)
{
	struct ferry_worker *real = slot->real;

	slot->real = NULL;
	ferry_worker_free(real);
	drop_held(slot);
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	struct slot *slot = context;
	unsigned int number = 0;

	ck_assert_ptr_eq(slot->real, worker);
	ck_assert_int_eq(sscanf(handoff_info(handoff).name, "%u", &number), 1);
	ck_assert_uint_lt(number, item_count);
	ck_assert_uint_eq(items[number].served++, 0);
	ck_assert_uint_eq(items[number].outcomes, 0);
	uint32_t what = support_random_below(4);
	if (what == 0)
		ck_assert_int_eq(ferry_handoff_reject(handoff, REASON), 0);
	else if (what < 3 && slot->held_count < HELD_MAX)
		slot->held[slot->held_count++] =
		    (struct held){handoff_info(handoff).id, ferry_handoff_steal_fd(handoff)};
	act_inside();
}

static void drain_requested(struct ferry_worker *worker, void *context)
{
	(void)worker, (void)context;
	act_inside();
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)worker, (void)reason;
	free_real(context);
	act_inside();
}

static const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = handoff_received,
    .drain_requested = drain_requested,
    .dispatcher_lost = dispatcher_lost,
};

/* ---- bare sockets ---- */

static void drop_bare(struct slot *slot)
{
	if (slot->fd >= 0)
		close(slot->fd);
	slot->fd = -1;
}

/* Writes the pending bytes, or a part of them. */
static void flush_bare(struct slot *slot, size_t length)
{
	if (length > slot->out_length)
		length = slot->out_length;
	ssize_t sent = send(slot->fd, slot->out, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent <= 0)
		return;
	slot->out_length -= (size_t)sent;
	memmove(slot->out, slot->out + sent, slot->out_length);
}

/* Appends a message to the bytes that are to be written, if it fits. */
static void say(struct slot *slot, const unsigned char *bytes, size_t length)
{
	if (slot->out_length + length > sizeof(slot->out))
		return;
	memcpy(slot->out + slot->out_length, bytes, length);
	slot->out_length += length;
}

static void say_hello(struct slot *slot)
{
	unsigned char bytes[WORKER_FRAME_MAX];
	say(slot, bytes, worker_hello_frame(bytes, support_random_below(20)));
	flush_bare(slot, sizeof(slot->out));
}

/* An answer about a handoff that it was sent, true or not. */
static void say_answer(struct slot *slot)
{
	unsigned char bytes[WORKER_FRAME_MAX];
	struct handoff_wire_answer content = {support_random(), support_random_below(10), 0};

	if (slot->known_count > 0 && support_random_below(10) != 0)
		content = slot->known[support_random_below(slot->known_count < KNOWN ? slot->known_count
		                                                                     : KNOWN)];
	uint16_t type = (uint16_t)(HANDOFF_WIRE_CLAIM + support_random_below(4));
	say(slot, bytes, worker_answer_frame(bytes, type, &content));
}

static void say_credits(struct slot *slot)
{
	static const uint32_t values[] = {0, 1, 5, UINT32_MAX};
	unsigned char bytes[WORKER_FRAME_MAX];
	say(slot, bytes, worker_credits_frame(bytes, values[support_random_below(4)]));
}

static void say_drain(struct slot *slot)
{
	unsigned char bytes[WORKER_FRAME_MAX];
	say(slot, bytes, worker_frame(bytes, HANDOFF_WIRE_DRAIN, "", 0));
}

static void say_garbage(struct slot *slot)
{
	static const unsigned char garbage[30] = {'F', 'R', 'Y', 2, 9, 9};
	unsigned char bytes[WORKER_FRAME_MAX];
	if (support_random_below(2) == 0) {
		uint16_t type = (uint16_t)(HANDOFF_WIRE_CLAIM + support_random_below(5));
		say(slot, bytes, worker_frame(bytes, type, garbage, support_random_below(sizeof(garbage))));
	} else {
		(void)send(slot->fd, garbage, sizeof(garbage), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

static void understand(struct slot *slot)
{
	struct message_header header;
	struct handoff_wire_handoff frame;

	while (slot->in_length >= MESSAGE_HEADER_SIZE) {
		ck_assert_ptr_null(message_header_get(slot->in, &header));
		size_t size = MESSAGE_HEADER_SIZE + header.length;
		if (slot->in_length < size)
			return;
		if (header.type == HANDOFF_WIRE_HANDOFF) {
			ck_assert_ptr_null(
			    handoff_wire_handoff_get(slot->in + MESSAGE_HEADER_SIZE, header.length, &frame));
			slot->known[slot->known_count++ % KNOWN] =
			    (struct handoff_wire_answer){frame.id, frame.epoch, 0};
		}
		slot->in_length -= size;
		memmove(slot->in, slot->in + size, slot->in_length);
	}
}

static void read_bare(struct slot *slot)
{
	struct wire_read result;

	wire_receive(slot->fd, slot->in + slot->in_length,
	             1 + support_random_below((uint32_t)(sizeof(slot->in) - slot->in_length - 1)),
	             &result);
	for (size_t i = 0; i < result.fd_count; i++)
		close(result.fds[i]);
	if (result.bytes > 0) {
		slot->in_length += (size_t)result.bytes;
		understand(slot);
	}
}

static void act_bare(struct slot *slot)
{
	switch (support_random_below(12)) {
	case 0:
		say_credits(slot);
		break;
	case 1:
		say_drain(slot);
		break;
	case 2:
		if (support_random_below(10) == 0)
			say_garbage(slot);
		break;
	case 3:
		if (support_random_below(5) == 0)
			drop_bare(slot);
		break;
	case 4:
		shutdown(slot->fd, support_random_below(20) == 0 ? SHUT_WR : SHUT_RD + 100);
		break;
	case 5:
	case 6:
		flush_bare(slot, 1 + support_random_below(60));
		break;
	case 7:
	case 8:
		say_answer(slot);
		break;
	default:
		read_bare(slot);
		break;
	}
}

/* ---- ferry's workers ---- */

static void say_done(struct slot *slot)
{
	if (slot->held_count == 0)
		return;
	struct held *one = &slot->held[support_random_below(slot->held_count)];
	close(one->fd);
	int status = ferry_worker_done(slot->real, one->id);
	ck_assert(status == 0 || status == -ENOTCONN);
	*one = slot->held[--slot->held_count];
}

static void act_real(struct slot *slot)
{
	struct ferry_transport *transport = ferry_worker_get_transport(slot->real);

	switch (support_random_below(12)) {
	case 0:
		ferry_worker_set_credits(slot->real, support_random_below(20));
		break;
	case 1:
		if (support_random_below(4) == 0)
			ferry_worker_drain(slot->real);
		break;
	case 2:
		if (support_random_below(4) == 0)
			free_real(slot);
		break;
	case 3:
		ferry_transport_pause_reading(transport);
		break;
	case 4:
		bufferevent_disable(ferry_transport_get_bufferevent(transport), EV_WRITE);
		break;
	case 5:
		if (support_random_below(6) == 0)
			ferry_transport_lose_connection(transport);
		break;
	case 6:
	case 7:
		ferry_transport_resume_reading(transport);
		bufferevent_enable(ferry_transport_get_bufferevent(transport), EV_WRITE);
		break;
	default:
		say_done(slot);
		break;
	}
}

/* ---- the dispatcher ---- */

static struct ferry_transport *make_end(int fd)
{
	struct ferry_transport *transport = NULL;
	int options = BEV_OPT_CLOSE_ON_FREE;

	if (support_random_below(3) == 0)
		options |= BEV_OPT_DEFER_CALLBACKS;
	if (support_random_below(3) == 0)
		options |= BEV_OPT_THREADSAFE;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, options);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	if (support_random_below(4) == 0)
		bufferevent_setwatermark(bev, EV_READ, support_random_below(50), support_random_below(99));
	if (support_random_below(6) == 0)
		bufferevent_set_rate_limit(bev, slow);
	return transport;
}

static void add_worker(struct slot *slot, bool real)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	*slot = (struct slot){.fd = -1};
	ck_assert_int_eq(ferry_dispatcher_add_worker(&slot->worker, dispatcher, make_end(ends[0]),
	                                             support_random_below(2) == 0 ? "name" : NULL),
	                 0);
	if (real) {
		ck_assert_int_eq(ferry_worker_new(&slot->real, make_end(ends[1]), &worker_callbacks, slot),
		                 0);
		return;
	}
	slot->fd = ends[1];
	if (support_random_below(10) != 0)
		say_hello(slot);
}

static void hand_off(void)
{
	struct ferry_handoff *handoff = NULL;
	struct item *item = &items[item_count];
	char name[10];
	int ends[2];

	if (item_count == ITEMS || open_count >= OPEN_MAX)
		return;
	snprintf(name, sizeof(name), "%u", item_count++);
	make_pair(PAIR_UNIX, ends);
	*item = (struct item){.client = ends[1]};
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, name), 0);
	if (support_random_below(2) == 0)
		ck_assert_int_eq(ferry_handoff_set_key(handoff, name, 1), 0);
	int status = ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, item);
	item->accepted = status == 0;
	if (status == 0) {
		open_count++;
		return;
	}
	ck_assert_int_eq(status, -ENOBUFS);
	ferry_handoff_free(handoff);
	close(item->client);
}

static void set_timeouts(void)
{
	const struct timeval soon = {.tv_usec = SOON_USEC}, late = {.tv_sec = 1000};
	ferry_dispatcher_set_timeouts(dispatcher, support_random_below(3) == 0 ? &soon : &late,
	                              support_random_below(3) == 0 ? &soon : &late);
}

static void free_dispatcher(void)
{
	struct ferry_dispatcher *old = dispatcher;

	dispatcher = NULL;
	for (unsigned int i = 0; i < SLOTS; i++)
		slots[i].worker = NULL;
	ferry_dispatcher_free(old);
}

static void act_on_dispatcher(struct slot *slot)
{
	switch (support_random_below(40)) {
	case 0:
		ferry_dispatcher_worker_remove(slot->worker);
		slot->worker = NULL;
		break;
	case 1:
		if (slot->worker != NULL)
			ck_assert_int_eq(ferry_dispatcher_worker_drain(slot->worker), 0);
		break;
	case 2:
		ferry_dispatcher_set_choice(dispatcher,
		                            (enum ferry_dispatch_choice)support_random_below(3));
		break;
	case 3:
		ferry_dispatcher_set_queue_limit(dispatcher, 1 + support_random_below(50));
		break;
	case 4:
		set_timeouts();
		break;
	case 5:
		if (support_random_below(50) == 0)
			free_dispatcher();
		break;
	default:
		hand_off();
		break;
	}
}

static void act(void)
{
	struct slot *slot = &slots[support_random_below(SLOTS)];

	if (dispatcher != NULL && support_random_below(3) == 0)
		act_on_dispatcher(slot);
	else if (slot->real != NULL)
		act_real(slot);
	else if (slot->fd >= 0)
		act_bare(slot);
	else if (slot->worker == NULL && dispatcher != NULL)
		add_worker(slot, support_random_below(2) == 0);
	check_stats();
}

/* ---- the walk ---- */

static bool all_told(void *argument)
{
	(void)argument;
	while (slots[0].real != NULL && slots[0].held_count > 0)
		say_done(&slots[0]);
	return open_count == 0;
}

/* All handoffs also have their outcome without the end: by the deadline, or by one worker that behaves
 * well. */
static void settle(bool served)
{
	const struct timeval soon = {.tv_usec = SOON_USEC}, late = {.tv_sec = 1000};
	const struct timeval *timeout = served ? &late : &soon;

	ferry_dispatcher_set_timeouts(dispatcher, timeout, timeout);
	depth = DEPTH_MAX;
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (slots[i].real != NULL)
			free_real(&slots[i]);
		drop_bare(&slots[i]);
	}
	if (served)
		add_worker(&slots[0], true);
	pump_until(all_told, NULL);
}

static void finish(void)
{
	if (dispatcher != NULL && support_random_below(3) != 0)
		settle(support_random_below(2) == 0);
	depth = DEPTH_MAX;
	if (dispatcher != NULL)
		free_dispatcher();
	pump_turns(3);
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (slots[i].real != NULL)
			free_real(&slots[i]);
		drop_bare(&slots[i]);
	}
	pump_turns(3);
	for (unsigned int i = 0; i < item_count; i++)
		check_end(&items[i]);
	ck_assert_uint_eq(open_count, 0);
	check_closes();
}

static unsigned int total_served, total_accepted;

static void walk(void)
{
	item_count = open_count = depth = 0;
	for (unsigned int i = 0; i < SLOTS; i++)
		slots[i] = (struct slot){.fd = -1};
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &dispatcher_callbacks, NULL), 0);
	for (unsigned int step = 0; step < STEPS; step++) {
		act();
		if (support_random_below(3) == 0)
			pump_turns(1);
	}
	finish();
	for (unsigned int i = 0; i < item_count; i++) {
		total_served += items[i].served;
		total_accepted += items[i].accepted;
	}
}

TEST(no_order_of_calls_loses_a_handoff)
{
	slow = ev_token_bucket_cfg_new(500, 700, 500, 700, &(struct timeval){.tv_usec = 1000});
	for (int i = 0; i < WALKS; i++)
		walk();
	ev_token_bucket_cfg_free(slow);
	printf("%u of %u served by workers of ferry's\n", total_served, total_accepted);
	ck_assert_uint_gt(total_served, 0);
}

BEFORE_ALL
{
	evthread_use_pthreads();
}
