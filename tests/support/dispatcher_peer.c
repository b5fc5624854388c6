#include "dispatcher_peer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "handoff_info.h"
#include "support.h"
#include "wire.h"
#include "worker_frames.h"

struct notes notes;

struct ferry_dispatcher *dispatcher;

static void enter(void)
{
	ck_assert_uint_eq(notes.depth++, 0);
}

void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                enum ferry_handoff_outcome outcome, int reason, void *context)
{
	struct outcome_notes *outcome_notes = context;

	enter();
	if (dispatcher != NULL)
		ck_assert_ptr_eq(from, dispatcher);
	outcome_notes->count++;
	ck_assert_uint_eq(outcome_notes->count, 1);
	outcome_notes->outcome = outcome;
	outcome_notes->reason = reason;
	outcome_notes->attempt = handoff_info(handoff).attempt;
	outcome_notes->has_fd = ferry_handoff_get_fd(handoff) >= 0;
	outcome_notes->worker = handoff_info(handoff).worker;
	notes.outcomes++;
	if (notes.on_outcome != NULL)
		notes.on_outcome(handoff);
	notes.depth--;
}

static void on_ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                     void *context)
{
	ck_assert_ptr_eq(context, &notes);
	ck_assert_ptr_eq(from, dispatcher);
	enter();
	notes.ready++;
	if (notes.on_ready != NULL)
		notes.on_ready(worker);
	notes.depth--;
}

static void on_drained(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                       void *context)
{
	(void)from, (void)worker, (void)context;
	enter();
	notes.drained++;
	notes.depth--;
}

static void on_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                    int reason, void *context)
{
	(void)from, (void)context;
	enter();
	notes.lost++;
	notes.reason = reason;
	if (notes.on_lost != NULL)
		notes.on_lost(worker);
	notes.depth--;
}

static void on_full(struct ferry_dispatcher *from, bool full, void *context)
{
	(void)context;
	enter();
	ck_assert_int_eq(ferry_dispatcher_is_full(from), full);
	if (full)
		notes.full++;
	else
		notes.room++;
	ck_assert_uint_eq(notes.full - notes.room, full ? 1 : 0);
	notes.depth--;
}

static void on_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                        struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)worker, (void)context;
	enter();
	notes.returned++;
	notes.back = handoff;
	notes.depth--;
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_ready = on_ready,
    .worker_drained = on_drained,
    .worker_lost = on_lost,
    .full_changed = on_full,
};

static const struct ferry_dispatcher_callbacks callbacks_for_returns = {
    .worker_ready = on_ready,
    .worker_drained = on_drained,
    .worker_lost = on_lost,
    .full_changed = on_full,
    .handoff_returned = on_returned,
};

void set_timeouts(int64_t queue_usec, int64_t answer_usec)
{
	const struct timeval queue = {(time_t)(queue_usec / 1000000),
	                              (suseconds_t)(queue_usec % 1000000)};
	const struct timeval peer_answer = {(time_t)(answer_usec / 1000000),
	                                    (suseconds_t)(answer_usec % 1000000)};
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &queue, &peer_answer), 0);
}

static void open_dispatcher_with(const struct ferry_dispatcher_callbacks *callbacks)
{
	notes = (struct notes){0};
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, callbacks, &notes), 0);
	set_timeouts(NEVER_USEC, NEVER_USEC);
}

void open_dispatcher(void)
{
	open_dispatcher_with(&dispatcher_callbacks);
}

void open_dispatcher_for_returns(void)
{
	open_dispatcher_with(&callbacks_for_returns);
}

struct ferry_dispatcher_stats dispatcher_stats(void)
{
	struct ferry_dispatcher_stats now;
	ck_assert_int_eq(ferry_dispatcher_get_stats(dispatcher, &now), 0);
	ck_assert_uint_eq(now.accepted, now.done + now.rejected + now.expired + now.kept + now.queued +
	                                    now.outstanding + now.returned);
	return now;
}

void free_dispatcher(void)
{
	struct ferry_dispatcher *old = dispatcher;
	dispatcher = NULL;
	ferry_dispatcher_free(old);
	pump_turns(3); /* libevent finalises in them */
}

struct peer peers[PEERS_MAX];

struct ferry_transport *make_transport(int fd)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	return transport;
}

static void peer_send(const struct peer *peer, const unsigned char *bytes, size_t length)
{
	ck_assert_int_eq(wire_send(peer->fd, bytes, length, NULL, 0), (ssize_t)length);
}

void peer_put(const struct peer *peer, uint16_t type, const void *payload, size_t length)
{
	unsigned char bytes[WORKER_FRAME_MAX];
	peer_send(peer, bytes, worker_frame(bytes, type, payload, length));
}

void peer_put_hello(const struct peer *peer, uint32_t credits)
{
	unsigned char bytes[WORKER_FRAME_MAX];
	peer_send(peer, bytes, worker_hello_frame(bytes, credits));
}

void peer_put_credits(const struct peer *peer, uint32_t credits)
{
	unsigned char bytes[WORKER_FRAME_MAX];
	peer_send(peer, bytes, worker_credits_frame(bytes, credits));
}

void peer_put_answer(const struct peer *peer, uint16_t type, uint64_t id, uint64_t epoch,
                     int reason)
{
	const struct handoff_wire_answer answer = {id, epoch, reason};
	unsigned char bytes[WORKER_FRAME_MAX];
	peer_send(peer, bytes, worker_answer_frame(bytes, type, &answer));
}

void peer_answer(const struct peer *peer, uint16_t type)
{
	peer_put_answer(peer, type, peer->frame.id, peer->frame.epoch, 0);
}

/* Reads `length` bytes, and any descriptors that come with them. False: not all bytes are there. */
static bool read_whole(struct peer *peer, void *bytes, size_t length)
{
	struct wire_read result;
	wire_receive(peer->fd, bytes, length, &result);
	if (result.bytes == 0)
		peer->eof = true;
	if (result.bytes <= 0)
		return false;
	for (size_t i = 0; i < result.fd_count; i++) {
		ck_assert_int_eq(peer->got, -1);
		peer->got = result.fds[i];
	}
	size_t have = (size_t)result.bytes;
	while (have < length) {
		ssize_t count = recv(peer->fd, (unsigned char *)bytes + have, length - have, 0);
		if (count < 0 && errno == EAGAIN)
			pump_turns(1);
		else
			ck_assert_int_gt(count, 0);
		have += count > 0 ? (size_t)count : 0;
	}
	return true;
}

void peer_drop_fd(struct peer *peer)
{
	if (peer->got >= 0)
		close(peer->got);
	peer->got = -1;
}

int peer_take(struct peer *peer)
{
	unsigned char bytes[MESSAGE_HEADER_SIZE];
	struct message_header header;

	peer_drop_fd(peer);
	if (!read_whole(peer, bytes, sizeof(bytes)))
		return 0;
	ck_assert_ptr_null(message_header_get(bytes, &header));
	ck_assert_uint_le(header.length, sizeof(peer->payload));
	if (header.length > 0)
		ck_assert(read_whole(peer, peer->payload, header.length));
	if (header.type == HANDOFF_WIRE_HANDOFF)
		ck_assert_ptr_null(handoff_wire_handoff_get(peer->payload, header.length, &peer->frame));
	else
		ck_assert_int_eq(peer->got, -1); /* no other message has a descriptor */
	return header.type;
}

struct wanted {
	struct peer *peer;
	int type;
};

static bool has_come(void *argument)
{
	struct wanted *wanted = argument;
	int type = peer_take(wanted->peer);
	if (type != 0)
		ck_assert_int_eq(type, wanted->type);
	return type != 0 || (wanted->type == 0 && wanted->peer->eof);
}

static bool came;

static bool come_once(void *argument)
{
	came = came || has_come(argument);
	return came;
}

void peer_expect(struct peer *peer, int type)
{
	came = false;
	pump_until(come_once, &(struct wanted){peer, type});
}

void peer_expect_nothing(struct peer *peer)
{
	pump_turns(3);
	ck_assert_int_eq(peer_take(peer), 0);
	ck_assert(!peer->eof);
}

void add_silent_peer(struct peer *peer, const char *name)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	*peer = (struct peer){.fd = ends[1], .got = -1};
	ck_assert_int_eq(
	    ferry_dispatcher_add_worker(&peer->worker, dispatcher, make_transport(ends[0]), name), 0);
}

void add_peer(struct peer *peer, uint32_t credits)
{
	unsigned int ready = notes.ready;
	add_silent_peer(peer, NULL);
	peer_put_hello(peer, credits);
	peer_expect(peer, HANDOFF_WIRE_HELLO);
	pump_until_count(&notes.ready, ready + 1);
}

void close_peer(struct peer *peer)
{
	peer_drop_fd(peer);
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

struct ferry_handoff *make_handoff(unsigned int number)
{
	struct ferry_handoff *handoff = NULL;
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	notes.client[number] = ends[1];
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	return handoff;
}

void hand_off(unsigned int number)
{
	ck_assert_int_eq(
	    ferry_dispatcher_hand_off(dispatcher, make_handoff(number), on_outcome, &notes.of[number]),
	    0);
	ck_assert_uint_eq(notes.of[number].count, 0);
}

void close_clients(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		close(notes.client[i]);
}

void expect_outcome(unsigned int number, enum ferry_handoff_outcome outcome, int reason)
{
	pump_until_count(&notes.of[number].count, 1);
	ck_assert_int_eq(notes.of[number].outcome, outcome);
	ck_assert_int_eq(notes.of[number].reason, reason);
}

bool client_is_closed(void *argument)
{
	char byte;
	return recv(*(int *)argument, &byte, 1, MSG_PEEK) == 0;
}
