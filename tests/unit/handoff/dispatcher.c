/* The dispatcher, with workers that are bare sockets: the messages to them, the effect of their
 * answers, and the one outcome of each handoff, whatever they send and however they end. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "handoff/wire.h"
#include "handoff_info.h"
#include "message/wire.h"
#include "test.h"
#include "wire.h"

enum { PEERS_MAX = 8, HANDOFFS_MAX = 2048, NEVER_USEC = 100000000 };

/* ---- errors of the kernel ---- */

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

/* ---- the callbacks ---- */

struct told {
	unsigned int count;
	enum ferry_handoff_outcome outcome;
	int reason;
	unsigned int attempt;
	bool has_fd;
	struct ferry_dispatcher_worker *worker;
};

struct notes {
	unsigned int outcomes, ready, drained, lost, full, room;
	int reason;
	struct told of[HANDOFFS_MAX];
	int client[HANDOFFS_MAX]; /* the far ends of the connections that are handed off */
	void (*on_outcome)(struct ferry_handoff *handoff);
	void (*on_lost)(struct ferry_dispatcher_worker *worker);
	void (*on_ready)(struct ferry_dispatcher_worker *worker);
	unsigned int depth;
};

static struct notes notes;
static struct ferry_dispatcher *dispatcher;

static void enter(void)
{
	ck_assert_uint_eq(notes.depth++, 0);
}

static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	struct told *told = context;

	enter();
	if (dispatcher != NULL)
		ck_assert_ptr_eq(from, dispatcher);
	told->count++;
	ck_assert_uint_eq(told->count, 1);
	told->outcome = outcome;
	told->reason = reason;
	told->attempt = handoff_info(handoff).attempt;
	told->has_fd = ferry_handoff_get_fd(handoff) >= 0;
	told->worker = handoff_info(handoff).worker;
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

static const struct ferry_dispatcher_callbacks callbacks = {
    .worker_ready = on_ready,
    .worker_drained = on_drained,
    .worker_lost = on_lost,
    .full_changed = on_full,
};

static void set_timeouts(int64_t queue_usec, int64_t answer_usec)
{
	const struct timeval queue = {queue_usec / 1000000, queue_usec % 1000000};
	const struct timeval answer = {answer_usec / 1000000, answer_usec % 1000000};
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &queue, &answer), 0);
}

static void open_dispatcher(void)
{
	notes = (struct notes){0};
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &callbacks, &notes), 0);
	set_timeouts(NEVER_USEC, NEVER_USEC);
}

static struct ferry_dispatcher_stats stats(void)
{
	struct ferry_dispatcher_stats now;
	ck_assert_int_eq(ferry_dispatcher_get_stats(dispatcher, &now), 0);
	ck_assert_uint_eq(now.accepted, now.done + now.rejected + now.expired + now.kept + now.queued +
	                                    now.outstanding);
	return now;
}

static void free_dispatcher(void)
{
	struct ferry_dispatcher *old = dispatcher;
	dispatcher = NULL;
	ferry_dispatcher_free(old);
	pump_turns(3); /* libevent finalises in them */
}

/* ---- workers that are bare sockets ---- */

struct peer {
	int fd;
	struct ferry_dispatcher_worker *worker;
	/* The handoff that was read last. */
	struct handoff_wire_handoff frame;
	int got;
	unsigned char payload[150000];
	bool eof;
};

static struct peer peers[PEERS_MAX];

static struct ferry_transport *make_transport(int fd)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	return transport;
}

/* The first `length` bytes of a message. */
static void put(const struct peer *peer, uint16_t type, const void *payload, size_t length)
{
	unsigned char bytes[MESSAGE_HEADER_SIZE + 1024];
	const struct message_header header = {type, (uint32_t)length, 0};
	message_header_put(bytes, &header);
	memcpy(bytes + MESSAGE_HEADER_SIZE, payload, length);
	ck_assert_int_eq(wire_send(peer->fd, bytes, MESSAGE_HEADER_SIZE + length, NULL, 0),
	                 (ssize_t)(MESSAGE_HEADER_SIZE + length));
}

static void put_hello(const struct peer *peer, uint32_t credits)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];
	handoff_wire_hello_put(payload, &(struct handoff_wire_hello){1, 1, credits, 0});
	put(peer, HANDOFF_WIRE_HELLO, payload, sizeof(payload));
}

static void put_credits(const struct peer *peer, uint32_t credits)
{
	unsigned char payload[HANDOFF_WIRE_CREDITS_SIZE];
	handoff_wire_credits_put(payload, credits);
	put(peer, HANDOFF_WIRE_CREDITS, payload, sizeof(payload));
}

static void put_answer(const struct peer *peer, uint16_t type, uint64_t id, uint64_t epoch,
                       int reason)
{
	unsigned char payload[HANDOFF_WIRE_ANSWER_SIZE];
	handoff_wire_answer_put(payload, &(struct handoff_wire_answer){id, epoch, reason});
	put(peer, type, payload, sizeof(payload));
}

static void answer(const struct peer *peer, uint16_t type)
{
	put_answer(peer, type, peer->frame.id, peer->frame.epoch, 0);
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

static void drop_fd(struct peer *peer)
{
	if (peer->got >= 0)
		close(peer->got);
	peer->got = -1;
}

/* Reads the next message with its payload, and returns its type. 0: there is none. */
static int take(struct peer *peer)
{
	unsigned char bytes[MESSAGE_HEADER_SIZE];
	struct message_header header;

	drop_fd(peer);
	if (!read_whole(peer, bytes, sizeof(bytes)))
		return 0;
	ck_assert_ptr_null(message_header_get(bytes, &header));
	ck_assert_uint_le(header.length, sizeof(peer->payload));
	if (header.length > 0)
		ck_assert(read_whole(peer, peer->payload, header.length));
	if (header.type == HANDOFF_WIRE_HANDOFF)
		ck_assert_ptr_null(handoff_wire_handoff_get(peer->payload, header.length, &peer->frame));
	return header.type;
}

struct wanted {
	struct peer *peer;
	int type;
};

static bool has_come(void *argument)
{
	struct wanted *wanted = argument;
	int type = take(wanted->peer);
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

/* Waits for the next message, which must have this type; 0: for the end. */
static void expect(struct peer *peer, int type)
{
	came = false;
	pump_until(come_once, &(struct wanted){peer, type});
}

static void expect_nothing(struct peer *peer)
{
	pump_turns(3);
	ck_assert_int_eq(take(peer), 0);
	ck_assert(!peer->eof);
}

static void add_silent_peer(struct peer *peer, const char *name)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	*peer = (struct peer){.fd = ends[1], .got = -1};
	ck_assert_int_eq(
	    ferry_dispatcher_add_worker(&peer->worker, dispatcher, make_transport(ends[0]), name), 0);
}

static void add_peer(struct peer *peer, uint32_t credits)
{
	unsigned int ready = notes.ready;
	add_silent_peer(peer, NULL);
	put_hello(peer, credits);
	expect(peer, HANDOFF_WIRE_HELLO);
	pump_until_count(&notes.ready, ready + 1);
}

static void close_peer(struct peer *peer)
{
	drop_fd(peer);
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

/* ---- handing off ---- */

/* A connected socket, whose other end stays in `notes.client`. */
static struct ferry_handoff *make_handoff(unsigned int number)
{
	struct ferry_handoff *handoff = NULL;
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	notes.client[number] = ends[1];
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	return handoff;
}

static void hand_off(unsigned int number)
{
	ck_assert_int_eq(
	    ferry_dispatcher_hand_off(dispatcher, make_handoff(number), on_outcome, &notes.of[number]),
	    0);
	ck_assert_uint_eq(notes.of[number].count, 0);
}

static void close_clients(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		close(notes.client[i]);
}

static void expect_outcome(unsigned int number, enum ferry_handoff_outcome outcome, int reason)
{
	pump_until_count(&notes.of[number].count, 1);
	ck_assert_int_eq(notes.of[number].outcome, outcome);
	ck_assert_int_eq(notes.of[number].reason, reason);
}

/* Whether all copies of a client's other end are closed. */
static bool is_closed(void *argument)
{
	char byte;
	return recv(*(int *)argument, &byte, 1, MSG_PEEK) == 0;
}

/* ---- the plain way ---- */

TEST_CASE("handoffs");

TEST(done)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	struct ferry_handoff *handoff = make_handoff(0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "www"), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "GET /", 5), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "blob", 4), 0);
	ck_assert_uint_eq(handoff_info(handoff).id, 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[0]), 0);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -EBUSY);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), -EINVAL);

	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	const struct handoff_wire_handoff *frame = &peers[0].frame;
	ck_assert_uint_ne(frame->id, 0);
	ck_assert_uint_eq(frame->attempt, 1);
	ck_assert_str_eq(frame->name, "www");
	ck_assert_mem_eq(frame->bytes, "GET /", 5);
	ck_assert_uint_eq(frame->bytes_length, 5);
	ck_assert_mem_eq(frame->blob, "blob", 4);
	ck_assert_uint_eq(frame->blob_length, 4);
	ck_assert_int_ge(peers[0].got, 0);
	uint64_t cookie;
	socklen_t length = sizeof(cookie);
	ck_assert_int_eq(getsockopt(peers[0].got, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	ck_assert_uint_eq(frame->identity.cookie, cookie);
	ck_assert_uint_eq(stats().unclaimed, 1);

	/* The dispatcher has a copy until the claim, and not longer. */
	drop_fd(&peers[0]);
	pump_turns(3);
	ck_assert(!is_closed(&notes.client[0]));
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_until(is_closed, &notes.client[0]);
	ck_assert_uint_eq(notes.outcomes, 0);
	ck_assert_uint_eq(stats().outstanding, 1);
	ck_assert_uint_eq(stats().unclaimed, 0);

	answer(&peers[0], HANDOFF_WIRE_DONE);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	ck_assert(!notes.of[0].has_fd);
	ck_assert_ptr_eq(notes.of[0].worker, peers[0].worker);
	ck_assert_uint_eq(stats().outstanding, 0);
	ck_assert_uint_eq(stats().stale, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

TEST(credits_bound_what_a_worker_has)
{
	open_dispatcher();
	add_peer(&peers[0], 2);
	for (unsigned int i = 0; i < 5; i++)
		hand_off(i);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	uint64_t first = peers[0].frame.id;
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	expect_nothing(&peers[0]);
	ck_assert_uint_eq(stats().queued, 3);

	put_answer(&peers[0], HANDOFF_WIRE_CLAIM, first, peers[0].frame.epoch, 0);
	expect_nothing(&peers[0]); /* a claim gives no credit back */
	put_answer(&peers[0], HANDOFF_WIRE_DONE, first, peers[0].frame.epoch, 0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	expect_nothing(&peers[0]);
	put_credits(&peers[0], 4);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	put_credits(&peers[0], 0);
	ck_assert_uint_eq(stats().queued, 0);
	free_dispatcher();
	ck_assert_uint_eq(notes.outcomes, 5);
	close_peer(&peers[0]);
	close_clients(5);
}

TEST(order_is_kept)
{
	open_dispatcher();
	for (unsigned int i = 0; i < 8; i++) {
		struct ferry_handoff *handoff = make_handoff(i);
		unsigned char number = (unsigned char)i;
		ck_assert_int_eq(ferry_handoff_set_bytes(handoff, &number, 1), 0);
		ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[i]),
		                 0);
	}
	add_peer(&peers[0], 8);
	for (unsigned int i = 0; i < 8; i++) {
		expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[0].frame.bytes[0], i);
	}
	/* None was claimed: they go to another worker, in the same order. */
	add_peer(&peers[1], 8);
	close_peer(&peers[0]);
	for (unsigned int i = 0; i < 8; i++) {
		expect(&peers[1], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[1].frame.bytes[0], i);
		/* The other worker can have died of the first one only. */
		ck_assert_uint_eq(peers[1].frame.attempt, i == 0 ? 2 : 1);
	}
	ck_assert_uint_eq(stats().retried, 8);
	ck_assert_uint_eq(stats().fenced, 8);
	free_dispatcher();
	close_peer(&peers[1]);
	close_clients(8);
}

/* ---- choice ---- */

TEST_CASE("choice");

TEST(least_outstanding)
{
	open_dispatcher();
	for (unsigned int i = 0; i < 3; i++)
		add_peer(&peers[i], 100);
	for (unsigned int i = 0; i < 9; i++)
		hand_off(i);
	for (unsigned int i = 0; i < 3; i++)
		for (unsigned int k = 0; k < 3; k++)
			expect(&peers[i], HANDOFF_WIRE_HANDOFF);
	answer(&peers[1], HANDOFF_WIRE_CLAIM);
	answer(&peers[1], HANDOFF_WIRE_DONE);
	pump_until_count(&notes.outcomes, 1);
	hand_off(9);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	/* Among several with the fewest, the one that was chosen longest ago. */
	hand_off(10);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	free_dispatcher();
	for (unsigned int i = 0; i < 3; i++)
		close_peer(&peers[i]);
	close_clients(11);
}

TEST(round_robin)
{
	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_ROUND_ROBIN), 0);
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, (enum ferry_dispatch_choice)7),
	                 -EINVAL);
	for (unsigned int i = 0; i < 3; i++)
		add_peer(&peers[i], 100);
	for (unsigned int i = 0; i < 6; i++) {
		hand_off(i);
		expect(&peers[i % 3], HANDOFF_WIRE_HANDOFF);
		if (i % 3 == 0) { /* fewer outstanding handoffs do not matter */
			answer(&peers[0], HANDOFF_WIRE_CLAIM);
			answer(&peers[0], HANDOFF_WIRE_DONE);
			pump_until_count(&notes.of[i].count, 1);
		}
	}
	free_dispatcher();
	for (unsigned int i = 0; i < 3; i++)
		close_peer(&peers[i]);
	close_clients(6);
}

enum { KEYS = 60 };

/* Hands off one connection for each key, and records the peer that got it. */
static void hand_off_keys(unsigned int peer_count, int got[KEYS])
{
	for (unsigned int key = 0; key < KEYS; key++) {
		struct ferry_handoff *handoff = make_handoff(key);
		got[key] = -1;
		ck_assert_int_eq(ferry_handoff_set_key(handoff, &key, sizeof(key)), 0);
		ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), 0);
		while (got[key] < 0) {
			pump_turns(1);
			for (unsigned int i = 0; i < peer_count; i++)
				if (peers[i].fd >= 0 && take(&peers[i]) == HANDOFF_WIRE_HANDOFF)
					got[key] = (int)i;
		}
		close(notes.client[key]);
	}
}

TEST(by_key)
{
	int first[KEYS], again[KEYS], after[KEYS];
	unsigned int share[3] = {0};

	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_choice(dispatcher, FERRY_DISPATCH_BY_KEY), 0);
	for (unsigned int i = 0; i < 3; i++)
		add_peer(&peers[i], 1000);
	hand_off_keys(3, first);
	hand_off_keys(3, again);
	ck_assert_mem_eq(first, again, sizeof(first));
	for (unsigned int key = 0; key < KEYS; key++)
		share[first[key]]++;
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_ge(share[i], KEYS / 10);
	/* When one worker leaves, the keys of the others do not move. */
	close_peer(&peers[1]);
	pump_until_count(&notes.lost, 1);
	for (unsigned int i = 0; i < 3; i += 2)
		while (take(&peers[i]) != 0)
			; /* handoffs that the other had not claimed */
	pump_turns(2);
	for (unsigned int i = 0; i < 3; i += 2)
		while (take(&peers[i]) != 0)
			;
	hand_off_keys(3, after);
	for (unsigned int key = 0; key < KEYS; key++)
		if (first[key] != 1)
			ck_assert_int_eq(after[key], first[key]);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[2]);
}

/* ---- answers that change nothing ---- */

TEST_CASE("answers");

TEST(stale_answers)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	uint64_t id = peers[0].frame.id, epoch = peers[0].frame.epoch;
	unsigned int stale = 0;

	put_answer(&peers[0], HANDOFF_WIRE_CLAIM, id + 1, epoch, 0), stale++;
	put_answer(&peers[0], HANDOFF_WIRE_CLAIM, id + (UINT64_C(1) << 24), epoch, 0), stale++;
	put_answer(&peers[0], HANDOFF_WIRE_CLAIM, 0, 0, 0), stale++;
	put_answer(&peers[0], HANDOFF_WIRE_CLAIM, UINT64_MAX, epoch, 0), stale++;
	put_answer(&peers[0], HANDOFF_WIRE_CLAIM, id, epoch + 1, 0), stale++;
	put_answer(&peers[0], HANDOFF_WIRE_DONE, id, epoch, 0), stale++;  /* not claimed */
	put_answer(&peers[1], HANDOFF_WIRE_CLAIM, id, epoch, 0), stale++; /* another's */
	put_answer(&peers[1], HANDOFF_WIRE_CLAIM, id, epoch + 1, 0), stale++;
	put_answer(&peers[1], HANDOFF_WIRE_LOST, id, epoch + 1, 0), stale++;
	put_answer(&peers[1], HANDOFF_WIRE_REJECT, id, epoch + 1, -1), stale++;
	pump_turns(5);
	ck_assert_uint_eq(stats().stale, stale);
	ck_assert_uint_eq(stats().unclaimed, 1);
	ck_assert(!is_closed(&notes.client[0]));

	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	answer(&peers[0], HANDOFF_WIRE_CLAIM), stale++;
	answer(&peers[0], HANDOFF_WIRE_LOST), stale++;
	pump_turns(5);
	ck_assert_uint_eq(stats().stale, stale);
	ck_assert_uint_eq(stats().claimed, 1);
	answer(&peers[0], HANDOFF_WIRE_DONE);
	answer(&peers[0], HANDOFF_WIRE_DONE), stale++;
	answer(&peers[0], HANDOFF_WIRE_REJECT), stale++;
	put(&peers[0], 4711, "later", 5); /* a type of a later version */
	pump_turns(5);
	ck_assert_uint_eq(stats().stale, stale);
	ck_assert_uint_eq(stats().malformed, 0);
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
TEST(claim_of_what_was_not_sent)
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
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	uint64_t first = peers[0].frame.id, epoch = peers[0].frame.epoch;
	/* The place is in the low bits. Place and serial number count up from the first one. */
	for (uint64_t i = 50; i < count; i++)
		put_answer(&peers[0], HANDOFF_WIRE_CLAIM, first + i * ((UINT64_C(1) << 24) + 1), epoch, 0);
	pump_turns(5);
	ck_assert_uint_eq(stats().stale, count - 50);
	ck_assert_uint_eq(stats().claimed, 0);
	for (unsigned int i = 1; i < count; i++) {
		expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ck_assert_int_ge(peers[0].got, 0);
		ck_assert_uint_eq(peers[0].frame.id, first + i * ((UINT64_C(1) << 24) + 1));
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(count);
}

/* ---- a worker that is no worker ---- */

static void say_garbage(const struct peer *peer, int how)
{
	unsigned char zero[HANDOFF_WIRE_HELLO_SIZE] = {0};

	if (how == 0)
		ck_assert_int_gt(wire_send(peer->fd, "GET / HTTP/1.1\r\n\r\n", 18, NULL, 0), 0);
	else if (how == 1)
		put(peer, HANDOFF_WIRE_CLAIM, zero, HANDOFF_WIRE_ANSWER_SIZE - 1);
	else if (how == 2)
		put(peer, HANDOFF_WIRE_CREDITS, zero, HANDOFF_WIRE_CREDITS_SIZE - 1);
	else if (how == 3)
		put(peer, HANDOFF_WIRE_HELLO, zero, sizeof(zero));
	else
		put_hello(peer, 1); /* a second one */
}

LOOP_TEST(garbage_costs_the_channel, 5)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	hand_off(1);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	say_garbage(&peers[0], _i);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -EPROTO);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF); /* the handoff of the first one */
	answer(&peers[1], HANDOFF_WIRE_CLAIM);
	answer(&peers[1], HANDOFF_WIRE_DONE);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	ck_assert_uint_eq(notes.of[0].attempt, 2);
	ck_assert_uint_eq(stats().workers, 1);
	expect(&peers[0], 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(2);
}

TEST(not_a_hello_first)
{
	open_dispatcher();
	add_silent_peer(&peers[0], NULL);
	put_answer(&peers[0], HANDOFF_WIRE_CLAIM, 1, 1, 0);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -EPROTO);
	ck_assert_uint_eq(notes.ready, 0);
	free_dispatcher();
	close_peer(&peers[0]);
}

TEST(versions)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE + 8] = {0};

	open_dispatcher();
	/* A worker that has our version and later ones, in a longer hello. */
	add_silent_peer(&peers[0], NULL);
	handoff_wire_hello_put(payload, &(struct handoff_wire_hello){1, 9, 7, 0});
	put(&peers[0], HANDOFF_WIRE_HELLO, payload, sizeof(payload));
	pump_until_count(&notes.ready, 1);
	ck_assert_uint_eq(stats().credits, 7);
	/* A worker that has only later ones. */
	add_silent_peer(&peers[1], NULL);
	handoff_wire_hello_put(payload, &(struct handoff_wire_hello){2, 9, 7, 0});
	put(&peers[1], HANDOFF_WIRE_HELLO, payload, HANDOFF_WIRE_HELLO_SIZE);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -EPROTONOSUPPORT);
	ck_assert_uint_eq(notes.ready, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
}

/* ---- the end of a channel ---- */

TEST_CASE("ends");

LOOP_TEST(claims_before_the_end_count, 3)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < 4; i++)
		hand_off(i);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	answer(&peers[0], HANDOFF_WIRE_DONE);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	unsigned char half[MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE];
	message_header_put(half,
	                   &(struct message_header){HANDOFF_WIRE_CLAIM, HANDOFF_WIRE_ANSWER_SIZE, 0});
	handoff_wire_answer_put(
	    half + MESSAGE_HEADER_SIZE,
	    &(struct handoff_wire_answer){peers[0].frame.id, peers[0].frame.epoch, 0});
	/* The last byte of a claim is the claim: half a claim does not count. */
	ck_assert_int_eq(wire_send(peers[0].fd, half, sizeof(half) - 1, NULL, 0), sizeof(half) - 1);
	if (_i == 0)
		close_peer(&peers[0]); /* with unread handoffs: ECONNRESET */
	else if (_i == 1)
		shutdown(peers[0].fd, SHUT_WR);
	else
		ferry_dispatcher_worker_remove(peers[0].worker);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	pump_until_count(&notes.of[1].count, 1);
	ck_assert_int_eq(notes.of[1].outcome, FERRY_HANDOFF_KEPT);
	ck_assert_ptr_eq(notes.of[1].worker, peers[0].worker);
	pump_turns(5);
	ck_assert_uint_eq(notes.outcomes, 2);
	ck_assert_uint_eq(notes.lost, _i == 2 ? 0 : 1);
	ck_assert_uint_eq(stats().queued, 2);
	add_peer(&peers[1], 4);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(peers[1].frame.attempt, 2);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	ck_assert_uint_eq(peers[1].frame.attempt, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(4);
}

TEST(three_attempts)
{
	open_dispatcher();
	hand_off(0);
	for (unsigned int i = 0; i < 3; i++) {
		add_peer(&peers[i], 4);
		expect(&peers[i], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[i].frame.attempt, i + 1);
		close_peer(&peers[i]);
		pump_until_count(&notes.lost, i + 1);
	}
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -EHOSTUNREACH);
	ck_assert(notes.of[0].has_fd);
	free_dispatcher();
	close_clients(1);
}

/* A worker cannot have died of a handoff that never left. */
TEST(unsent_is_no_attempt)
{
	static unsigned char bytes[FERRY_HANDOFF_BYTES_MAX];
	enum { COUNT = 40 };

	open_dispatcher();
	for (unsigned int i = 0; i < COUNT; i++) {
		struct ferry_handoff *handoff = make_handoff(i);
		ck_assert_int_eq(ferry_handoff_set_bytes(handoff, bytes, sizeof(bytes)), 0);
		ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[i]),
		                 0);
	}
	add_peer(&peers[0], COUNT);
	pump_turns(3);
	ck_assert_uint_eq(stats().unclaimed, COUNT);
	/* The peer claims all handoffs in the kernel without reading them, by guessed ids. */
	const size_t size = MESSAGE_HEADER_SIZE + HANDOFF_WIRE_HANDOFF_SIZE + 1 + sizeof(bytes);
	struct ferry_transport_stats sent;
	ck_assert_int_eq(
	    ferry_transport_get_stats(ferry_dispatcher_worker_get_transport(peers[0].worker), &sent),
	    0);
	uint64_t whole = (sent.bytes_sent - MESSAGE_HEADER_SIZE - HANDOFF_WIRE_HELLO_SIZE) / size;
	ck_assert_uint_lt(whole, COUNT);
	for (uint64_t i = 0; i < whole; i++)
		put_answer(&peers[0], HANDOFF_WIRE_CLAIM, (i + 1) << 24 | i, 1, 0);
	pump_turns(3);
	ck_assert_uint_eq(stats().claimed, whole);
	close_peer(&peers[0]);
	pump_until_count(&notes.lost, 1);
	add_peer(&peers[1], COUNT);
	for (uint64_t left = COUNT - whole; left > 0; left--) {
		expect(&peers[1], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[1].frame.attempt, 1);
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(COUNT);
}

TEST(lost_descriptors_are_attempts)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	uint64_t ids[3];
	for (unsigned int i = 0; i < 3; i++) {
		expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ids[i] = peers[0].frame.id;
		for (unsigned int k = 0; k < i; k++)
			ck_assert_uint_ne(ids[k], ids[i]);
		answer(&peers[0], HANDOFF_WIRE_LOST);
		answer(&peers[0], HANDOFF_WIRE_CLAIM); /* too late, and under an old id */
	}
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -EHOSTUNREACH);
	pump_turns(3);
	ck_assert_uint_eq(stats().lost, 3);
	ck_assert_uint_eq(stats().stale, 3);
	ck_assert_uint_eq(notes.lost, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* A worker that has stated 0 credits gets no handoffs until it states others. The handoff that it lost
 * waits until the queue's deadline, and the loss is not an attempt. */
TEST(losses_of_one_that_is_short_are_no_attempts)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	for (unsigned int i = 0; i < 5; i++) {
		expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ck_assert_uint_eq(peers[0].frame.attempt, 1);
		put_credits(&peers[0], 0);
		answer(&peers[0], HANDOFF_WIRE_LOST);
		expect_nothing(&peers[0]);
		ck_assert_uint_eq(stats().queued, 1);
		put_credits(&peers[0], 4);
	}
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	put_credits(&peers[0], 0);
	answer(&peers[0], HANDOFF_WIRE_LOST);
	pump_turns(3);
	set_timeouts(1000, NEVER_USEC);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	ck_assert(notes.of[0].has_fd);
	ck_assert_uint_eq(stats().lost, 6);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

TEST(short_of_numbers_goes_elsewhere)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_LOST);
	put_credits(&peers[0], 0);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	hand_off(1);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	put_credits(&peers[0], 4);
	pump_turns(3);
	hand_off(2);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(3);
}

TEST_CASE("handoffs");

TEST(rejected)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	put_answer(&peers[0], HANDOFF_WIRE_REJECT, peers[0].frame.id, peers[0].frame.epoch, -EBADMSG);
	expect_outcome(0, FERRY_HANDOFF_REJECTED, -EBADMSG);
	ck_assert(notes.of[0].has_fd);
	hand_off(1);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	put_answer(&peers[0], HANDOFF_WIRE_REJECT, peers[0].frame.id, peers[0].frame.epoch, 4711);
	expect_outcome(1, FERRY_HANDOFF_REJECTED, 4711);
	ck_assert(!notes.of[1].has_fd);
	ck_assert_uint_eq(stats().outstanding, 0);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(2);
}

/* ---- deadlines ---- */

TEST_CASE("deadlines");

TEST(nobody_in_time)
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

TEST(no_answer_in_time)
{
	open_dispatcher();
	set_timeouts(NEVER_USEC, 30000);
	add_peer(&peers[0], 4);
	hand_off(0);
	hand_off(1);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -ETIMEDOUT);
	expect_outcome(0, FERRY_HANDOFF_KEPT, -ETIMEDOUT);
	/* It cannot claim any more. */
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	char byte = 0;
	ck_assert_int_eq(wire_send(peers[0].fd, &byte, 1, NULL, 0), -EPIPE);
	add_peer(&peers[1], 4);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	answer(&peers[1], HANDOFF_WIRE_CLAIM);
	pump_turns(2);
	ck_assert_uint_eq(stats().claimed, 2);
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
	if (take(peer) != HANDOFF_WIRE_HANDOFF)
		return;
	answer(peer, HANDOFF_WIRE_CLAIM);
	answer(peer, HANDOFF_WIRE_DONE);
	answered++;
}

/* A worker that answers is not late, however many handoffs are in front of one. */
TEST(slow_is_not_late)
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
	ck_assert_uint_eq(stats().done, COUNT);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(COUNT);
}

TEST(no_hello_in_time)
{
	open_dispatcher();
	set_timeouts(NEVER_USEC, 20000);
	add_silent_peer(&peers[0], NULL);
	hand_off(0);
	pump_until_count(&notes.lost, 1);
	ck_assert_int_eq(notes.reason, -ETIMEDOUT);
	ck_assert_uint_eq(stats().queued, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* ---- the queue ---- */

TEST_CASE("queue");

TEST(full_queue)
{
	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_set_queue_limit(dispatcher, 0), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_queue_limit(dispatcher, 10), 0);
	for (unsigned int i = 0; i < 10; i++) {
		ck_assert(!ferry_dispatcher_is_full(dispatcher));
		hand_off(i);
	}
	ck_assert(ferry_dispatcher_is_full(dispatcher));
	pump_turns(2);
	ck_assert_uint_eq(notes.full, 1);
	struct ferry_handoff *refused = make_handoff(10);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, refused, on_outcome, &notes.of[10]),
	                 -ENOBUFS);
	ck_assert_int_ge(ferry_handoff_get_fd(refused), 0);
	add_peer(&peers[0], 4);
	pump_turns(3);
	ck_assert(ferry_dispatcher_is_full(dispatcher)); /* 6 are left, and half of 10 is 5 */
	ck_assert_uint_eq(notes.room, 0);
	put_credits(&peers[0], 5);
	pump_until_count(&notes.room, 1);
	ck_assert(!ferry_dispatcher_is_full(dispatcher));
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, refused, on_outcome, &notes.of[10]), 0);
	ck_assert_uint_eq(stats().queued_max, 10);
	free_dispatcher();
	ck_assert_uint_eq(notes.outcomes, 11);
	close_peer(&peers[0]);
	close_clients(11);
}

TEST(a_thousand_without_a_worker)
{
	enum { COUNT = 1000 };
	struct rusage before, after;

	raise_descriptor_limit();
	open_dispatcher();
	set_timeouts(200000, NEVER_USEC);
	getrusage(RUSAGE_SELF, &before);
	for (unsigned int i = 0; i < COUNT; i++)
		hand_off(i);
	ck_assert_uint_eq(stats().queued, COUNT);
	pump_until_count(&notes.outcomes, COUNT);
	getrusage(RUSAGE_SELF, &after);
	/* 1 KiB each, and the memory that the process takes anyway. */
	ck_assert_int_le(after.ru_maxrss - before.ru_maxrss, 4096);
	for (unsigned int i = 0; i < COUNT; i++)
		expect_outcome(i, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	free_dispatcher();
	close_clients(COUNT);
}

/* ---- draining ---- */

LOOP_TEST(drained, 2)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(NULL), -EINVAL);
	if (_i == 0) {
		ck_assert_int_eq(ferry_dispatcher_worker_drain(peers[0].worker), 0);
		ck_assert_int_eq(ferry_dispatcher_worker_drain(peers[0].worker), 0);
		struct peer copy = peers[0];
		expect(&peers[0], HANDOFF_WIRE_DRAIN);
		peers[0].frame = copy.frame;
	} else {
		put(&peers[0], HANDOFF_WIRE_DRAIN, "", 0);
		pump_turns(3);
	}
	hand_off(1);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	hand_off(2);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_turns(3);
	ck_assert_uint_eq(notes.drained, 0);
	answer(&peers[0], HANDOFF_WIRE_DONE);
	pump_until_count(&notes.drained, 1);
	expect_nothing(&peers[0]);
	ck_assert_uint_eq(notes.drained, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(3);
}

/* ---- callbacks that change everything ---- */

static void free_all(struct ferry_handoff *handoff)
{
	(void)handoff;
	notes.on_outcome = NULL;
	ferry_dispatcher_free(dispatcher);
	ferry_dispatcher_free(dispatcher); /* a second call has no effect */
	struct ferry_handoff *late = make_handoff(100);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, late, on_outcome, &notes.of[100]),
	                 -ESHUTDOWN);
	ferry_handoff_free(late);
	dispatcher = NULL;
}

TEST_CASE("callbacks");

TEST(freed_in_an_outcome)
{
	open_dispatcher();
	add_peer(&peers[0], 2);
	for (unsigned int i = 0; i < 4; i++)
		hand_off(i);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	answer(&peers[0], HANDOFF_WIRE_DONE);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	notes.on_outcome = free_all;
	pump_until_count(&notes.outcomes, 4);
	ck_assert_int_eq(notes.of[0].outcome, FERRY_HANDOFF_DONE);
	unsigned int kept = 0, expired = 0;
	for (unsigned int i = 1; i < 4; i++) {
		kept += notes.of[i].outcome == FERRY_HANDOFF_KEPT;
		expired += notes.of[i].outcome == FERRY_HANDOFF_EXPIRED && notes.of[i].reason == -ECANCELED;
	}
	ck_assert_uint_eq(kept, 1);
	ck_assert_uint_eq(expired, 2);
	pump_turns(3);
	close_peer(&peers[0]);
	close_clients(4);
	close(notes.client[100]);
}

static int stolen;

static void steal(struct ferry_handoff *handoff)
{
	stolen = ferry_handoff_steal_fd(handoff);
}

TEST(expired_can_be_answered)
{
	open_dispatcher();
	set_timeouts(10000, NEVER_USEC);
	notes.on_outcome = steal;
	hand_off(0);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ETIMEDOUT);
	ck_assert_int_eq(write(stolen, "503", 3), 3);
	char bytes[3];
	ck_assert_int_eq(read(notes.client[0], bytes, 3), 3);
	close(stolen);
	free_dispatcher();
	close_clients(1);
}

static void remove_second(struct ferry_handoff *handoff)
{
	ck_assert_ptr_eq(handoff_info(handoff).worker, peers[0].worker);
	notes.on_outcome = NULL;
	ferry_dispatcher_worker_remove(peers[1].worker);
}

TEST(removed_in_an_outcome)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	hand_off(0);
	hand_off(1);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	answer(&peers[0], HANDOFF_WIRE_DONE);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	answer(&peers[1], HANDOFF_WIRE_CLAIM);
	notes.on_outcome = remove_second;
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	pump_until_count(&notes.of[1].count, 1);
	ck_assert_uint_eq(notes.lost, 0);
	ck_assert_uint_eq(stats().workers, 1);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(2);
}

static void free_in_callback(struct ferry_dispatcher_worker *worker)
{
	ck_assert_ptr_eq(worker, peers[0].worker);
	ferry_dispatcher_worker_remove(worker); /* nothing is left to remove */
	ferry_dispatcher_free(dispatcher);
	dispatcher = NULL;
}

TEST(freed_when_a_worker_is_lost)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	notes.on_lost = free_in_callback;
	close_peer(&peers[0]);
	pump_until_count(&notes.lost, 1);
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	pump_turns(3);
	close_clients(1);
}

TEST_CASE("handoffs");

TEST(bad_arguments)
{
	int ends[2];
	struct ferry_dispatcher_stats counted;
	const struct timeval zero = {0}, second = {1, 0}, negative = {-1, 0};

	open_dispatcher();
	ck_assert_int_eq(ferry_dispatcher_new(NULL, base, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &zero, &second), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &second, &negative), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, NULL, &second), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_get_stats(dispatcher, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_get_stats(NULL, &counted), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_worker_get_stats(NULL, &counted), -EINVAL);
	ck_assert(!ferry_dispatcher_is_full(NULL));
	ferry_dispatcher_worker_remove(NULL);
	ferry_dispatcher_free(NULL);

	make_pair(PAIR_TCP, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, transport, NULL), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, NULL, transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, NULL, NULL), -EINVAL);
	ferry_transport_free(transport);
	close(ends[1]);

	/* A channel sent over itself would be a cycle that only the kernel's garbage collector could free. */
	add_peer(&peers[0], 4);
	int channel = (int)bufferevent_getfd(
	    ferry_transport_get_bufferevent(ferry_dispatcher_worker_get_transport(peers[0].worker)));
	struct ferry_handoff *handoff = NULL;
	ck_assert_int_eq(ferry_handoff_new(&handoff, dup(channel)), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), -ELOOP);
	int fd = ferry_handoff_steal_fd(handoff);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, NULL, NULL), -EBADF);
	close(fd);
	ferry_handoff_free(handoff);
	ferry_dispatcher_worker_set_context(peers[0].worker, &notes);
	ck_assert_ptr_eq(ferry_dispatcher_worker_get_context(peers[0].worker), &notes);
	free_dispatcher();
	close_peer(&peers[0]);
}

/* ---- former faults ---- */

static size_t make_answer(const struct peer *peer, uint16_t type, unsigned char *bytes)
{
	message_header_put(bytes, &(struct message_header){type, HANDOFF_WIRE_ANSWER_SIZE, 0});
	handoff_wire_answer_put(bytes + MESSAGE_HEADER_SIZE,
	                        &(struct handoff_wire_answer){peer->frame.id, peer->frame.epoch, 0});
	return MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE;
}

TEST_CASE("regressions");

/* The start of a claim was read, and the rest is still in the socket when the owner ends the channel. */
LOOP_TEST_FROM(claim_in_two_halves_counts, 1, MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE)
{
	unsigned char bytes[MESSAGE_HEADER_SIZE + HANDOFF_WIRE_ANSWER_SIZE];
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
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
TEST(told_although_a_deadline_is_set)
{
	open_dispatcher();
	set_timeouts(10 * (int64_t)NEVER_USEC, 10 * (int64_t)NEVER_USEC);
	add_peer(&peers[0], 4);
	add_peer(&peers[1], 4);
	pump_turns(3);
	ck_assert_int_eq(ferry_dispatcher_worker_drain(peers[0].worker), 0);
	hand_off(0);
	pump_until_count(&notes.drained, 1);
	expect(&peers[1], HANDOFF_WIRE_HANDOFF);
	free_dispatcher();
	close_peer(&peers[0]);
	close_peer(&peers[1]);
	close_clients(1);
}

/* A handoff in the queue does not name a worker that was freed. */
TEST(queued_without_its_worker)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	close_peer(&peers[0]);
	pump_until_count(&notes.lost, 1);
	free_dispatcher();
	expect_outcome(0, FERRY_HANDOFF_EXPIRED, -ECANCELED);
	ck_assert_ptr_null(notes.of[0].worker);
	close_clients(1);
}

/* A handoff that comes back has the place in the queue that it would have if it had never left. */
TEST(order_of_what_comes_back)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	for (unsigned int i = 0; i < 4; i++)
		hand_off(i);
	hand_off(4);
	uint64_t ids[4];
	for (unsigned int i = 0; i < 4; i++) {
		expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		ids[i] = peers[0].frame.id;
	}
	put_credits(&peers[0], 0);
	for (unsigned int i = 0; i < 4; i++)
		put_answer(&peers[0], HANDOFF_WIRE_LOST, ids[i ^ 1], peers[0].frame.epoch, 0);
	pump_turns(3);
	ck_assert_uint_eq(stats().queued, 5);
	add_peer(&peers[1], 8);
	for (unsigned int i = 0; i < 5; i++) {
		expect(&peers[1], HANDOFF_WIRE_HANDOFF);
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
TEST(shorter_deadline)
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
TEST(babbling_is_late)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
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
TEST(busy_dispatcher_reads_before_it_judges)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	const struct timespec busy = {.tv_nsec = 2000000};
	nanosleep(&busy, NULL);
	set_timeouts(NEVER_USEC, 1000);
	pump_turns(5);
	ck_assert_uint_eq(notes.lost, 0);
	ck_assert_uint_eq(stats().claimed, 1);
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
LOOP_TEST(shortage_is_not_late, 2)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	send_error = _i == 0 ? ETOOMANYREFS : ENOBUFS;
	set_timeouts(NEVER_USEC, 200000);
	hand_off(0);
	ending_shortage = event_new(base, -1, 0, end_shortage, NULL);
	event_add(ending_shortage, &(struct timeval){.tv_usec = 600000});
	expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	answer(&peers[0], HANDOFF_WIRE_CLAIM);
	pump_turns(3);
	ck_assert_uint_eq(notes.lost, 0);
	ck_assert_uint_eq(stats().claimed, 1);
	event_free(ending_shortage);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

LOOP_TEST(closing_transport_is_refused, 2)
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
TEST(freed_in_the_third_attempt)
{
	open_dispatcher();
	hand_off(0);
	for (unsigned int i = 0; i < 3; i++) {
		add_peer(&peers[i], 4);
		expect(&peers[i], HANDOFF_WIRE_HANDOFF);
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
