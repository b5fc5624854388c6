/* Two strangers at the two ends of a relay: each writes random bytes, descriptors, half-closes and closes, and reads at
 * a random speed. Each must see exactly that of the other: every byte, and every descriptor at its byte.
 *
 * FERRY_MODEL_WALKS sets the number of walks. Walk n has the seed FERRY_TEST_SEED + n, which FERRY_MODEL_TRACE prints
 * before each. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "recorder.h"
#include "relay_link.h"
#include "set_clock.h"
#include "test.h"
#include "wire.h"

enum {
	WALKS = 300,
	STEPS = 400,
	BUNDLES_MAX = 512, /* messages with descriptors, in one direction */
	LENGTH_MAX = 60000,
	TURNS_MAX = 100000 /* of the loop, for the rest */
};

/* Descriptors that travel with the byte at `position`; each has `number` inside. */
struct bundle {
	uint64_t position;
	uint32_t number;
	size_t count;
};

/* One direction, from the stranger that writes to the one that reads. */
struct direction {
	uint64_t sent, arrived;
	struct bundle bundles[BUNDLES_MAX];
	unsigned int sent_bundles, arrived_bundles;
	bool ended;   /* the writer has half-closed or closed */
	bool void_by; /* the reader has closed: nothing is promised */
	bool eof;     /* the reader knows of the end */
};

static struct direction ways[2]; /* by the writer */
static bool carries_fds, filters, server_is_late, closed[2];
static enum pair_kind kind;
static struct evbuffer *kept[2];

/* ---- a filter that changes nothing, but delays ---- */

static int keep(struct ferry_relay *which, enum ferry_relay_side from, struct evbuffer *bytes,
                void *context)
{
	(void)which, (void)context;
	evbuffer_add_buffer(kept[from], bytes);
	if (evbuffer_get_length(kept[from]) > 1000 || support_random_below(2) == 0)
		evbuffer_add_buffer(bytes, kept[from]);
	return 0;
}

/* Descriptors stand behind all bytes before them: those that were kept go first. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the type of the callback */
static int pass_kept_first(struct ferry_relay *which, enum ferry_relay_side from, int *fd,
                           void *context)
{
	struct ferry_transport *to =
	    ferry_relay_get_transport(which, (enum ferry_relay_side)(1 - from));
	(void)fd, (void)context;

	ferry_transport_write_buffer(to, kept[from]);
	return 0;
}

static void pass_kept_last(struct ferry_relay *which, enum ferry_relay_side from, bool is_closed,
                           void *context)
{
	note_side_ended(which, from, is_closed, context);
	(void)pass_kept_first(which, from, NULL, NULL);
}

static const struct ferry_relay_callbacks keeping = {.filter_bytes = keep,
                                                     .filter_fd = pass_kept_first,
                                                     .side_ended = pass_kept_last,
                                                     .relay_ended = note_relay_ended};

/* ---- the strangers ---- */

static size_t random_length(void)
{
	switch (support_random_below(4)) {
	case 0:
		return 1;
	case 1:
		return 1 + support_random_below(20);
	case 2:
		return 1 + support_random_below(2000);
	default:
		return 1 + support_random_below(LENGTH_MAX);
	}
}

static size_t random_count(void)
{
	static const size_t many[] = {28, 63, 64, 65, 253};

	if (!carries_fds || support_random_below(3) > 0)
		return 0;
	return support_random_below(20) == 0 ? many[support_random_below(COUNT(many))]
	                                     : 1 + support_random_below(3);
}

static void send_something(int side)
{
	static unsigned char bytes[LENGTH_MAX];
	struct direction *way = &ways[side];
	size_t length = random_length(), count = random_count();
	uint32_t number = (uint32_t)side * 1000000 + way->sent_bundles;
	int fds[WIRE_MAX_FDS] = {0};

	if (way->ended || closed[side] || way->sent_bundles == BUNDLES_MAX)
		return;
	int fd = count > 0 ? make_marked_fd(number) : -1;
	for (size_t i = 0; i < count; i++)
		fds[i] = fd;
	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(way->sent + i);
	ssize_t sent = wire_send(peers[side], bytes, length, fds, count);
	if (fd >= 0)
		close(fd);
	ck_assert_msg(sent > 0 || sent == -EAGAIN || sent == -ETOOMANYREFS || way->void_by,
	              "sending: %zd", sent);
	if (sent > 0 && count > 0)
		way->bundles[way->sent_bundles++] = (struct bundle){way->sent, number, count};
	way->sent += sent > 0 ? (uint64_t)sent : 0;
}

/* Never across a byte that has descriptors: a read that ends before it has none, the one that begins with it all. */
static size_t limit_of_read(const struct direction *way, const struct bundle **due)
{
	*due = NULL;
	if (way->arrived_bundles == way->sent_bundles)
		return LENGTH_MAX;
	const struct bundle *next = &way->bundles[way->arrived_bundles];
	if (next->position > way->arrived)
		return (size_t)(next->position - way->arrived);
	*due = next;
	return LENGTH_MAX;
}

static void check_bundle(struct wire_read *read, const struct bundle *due)
{
	ck_assert(!read->truncated);
	ck_assert_uint_eq(read->fd_count, due != NULL ? due->count : 0);
	/* All of a bundle are the same file. */
	if (read->fd_count > 0)
		ck_assert_uint_eq(marked_number(read->fds[0]), due->number);
	for (size_t i = 1; i < read->fd_count; i++)
		ck_assert(same_file(read->fds[0], read->fds[i]));
	wire_close_fds(read);
}

/* One assertion for all of them: each is a write to a pipe. */
static void check_bytes(const unsigned char *bytes, uint64_t position, size_t length)
{
	size_t right = 0;

	while (right < length && bytes[right] == support_byte(position + right))
		right++;
	ck_assert_msg(right == length, "byte %ju is wrong", (uintmax_t)position + right);
}

/* False: nothing is there. */
static bool read_something(int side)
{
	static unsigned char bytes[LENGTH_MAX];
	struct direction *way = &ways[1 - side];
	const struct bundle *due;
	struct wire_read read;

	if (closed[side] || way->eof || peers[side] < 0)
		return false;
	size_t limit = limit_of_read(way, &due), size = random_length();
	/* A read behind the first byte of a bundle would end at the next one: not crossed either. */
	if (due != NULL && way->arrived_bundles + 1 < way->sent_bundles)
		limit = (size_t)(due[1].position - way->arrived);
	wire_receive(peers[side], bytes, size < limit ? size : limit, &read);
	if (read.bytes == -EAGAIN)
		return false;
	if (read.bytes <= 0) {
		ck_assert_msg(read.bytes == 0 || way->void_by || ways[side].void_by, "reading: %zd",
		              read.bytes);
		ck_assert_msg(way->ended || closed[1 - side], "an end that nobody sent");
		ck_assert_msg(way->arrived == way->sent || way->void_by, "%ju of %ju bytes before the end",
		              (uintmax_t)way->arrived, (uintmax_t)way->sent);
		ck_assert(way->arrived_bundles == way->sent_bundles || way->void_by);
		way->eof = true;
		return true;
	}
	check_bytes(bytes, way->arrived, (size_t)read.bytes);
	check_bundle(&read, due);
	way->arrived += (uint64_t)read.bytes;
	way->arrived_bundles += due != NULL;
	return true;
}

static void half_close(int side)
{
	if (closed[side] || ways[side].ended || peers[side] < 0)
		return;
	shutdown(peers[side], SHUT_WR);
	ways[side].ended = true;
}

/* All that was sent before still arrives, if the peer has read all: a TCP peer with unread bytes resets. */
static void close_one(int side)
{
	if (closed[side] || peers[side] < 0)
		return;
	ways[side].void_by |= kind == PAIR_TCP;
	ways[1 - side].void_by = true;
	closed[side] = true;
	ways[side].ended = true;
	close_peer((enum ferry_relay_side)side);
}

/* ---- a walk ---- */

static void settle(enum ferry_relay_side side)
{
	struct ferry_transport *transport = ferry_relay_get_transport(relay, side);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	/* A TCP window that was shut opens by timers of the kernel, which the clock of the test does not move. */
	if (kind == PAIR_UNIX && support_random_below(2) == 0)
		wire_shrink(bufferevent_getfd(bev));
	if (kind == PAIR_UNIX && support_random_below(2) == 0)
		wire_shrink(peers[side]);
	if (support_random_below(3) == 0)
		bufferevent_setwatermark(bev, EV_WRITE, support_random_below(100), 100);
	if (support_random_below(3) == 0)
		ferry_transport_set_fd_buffer(transport, 1 + support_random_below(10), 400);
	if (support_random_below(3) == 0)
		bufferevent_set_max_single_read(bev, 1 + support_random_below(5000));
}

static void begin(void)
{
	memset(ways, 0, sizeof(ways));
	memset(closed, 0, sizeof(closed));
	kind = support_random_below(3) == 0 ? PAIR_TCP : PAIR_UNIX;
	carries_fds = kind == PAIR_UNIX && support_random_below(4) > 0;
	filters = support_random_below(3) == 0;
	server_is_late = support_random_below(3) == 0;
	kept[0] = evbuffer_new();
	kept[1] = evbuffer_new();
	if (server_is_late)
		open_half_relay(kind, filters ? &keeping : &noting);
	else
		open_relay(kind, kind, filters ? &keeping : &noting);
	settle(FERRY_RELAY_CLIENT);
	if (!server_is_late)
		settle(FERRY_RELAY_SERVER);
}

static void bring_late_server(void)
{
	if (!server_is_late)
		return;
	server_is_late = false;
	ck_assert_int_eq(bring_server(kind), 0);
	settle(FERRY_RELAY_SERVER);
}

static void step(void)
{
	int side = (int)support_random_below(2);
	uint32_t choice = support_random_below(100);

	if (server_is_late && choice == 99)
		bring_late_server();
	if (side == 1 && server_is_late)
		return;
	if (choice < 45)
		send_something(side);
	else if (choice < 70)
		(void)read_something(side);
	else if (choice < 97)
		event_base_loop(base, EVLOOP_NONBLOCK);
	else if (choice == 97 && support_random_below(6) == 0)
		half_close(side);
	else if (choice == 98 && support_random_below(8) == 0)
		close_one(side);
}

static bool is_over(void)
{
	return (closed[0] || ways[1].eof) && (closed[1] || ways[0].eof) && relay_notes.ended > 0;
}

/* Both read to the end, and the relay ends by itself. */
static void finish(void)
{
	unsigned int turns = 0;

	bring_late_server();
	half_close(0);
	half_close(1);
	while (!is_over() && turns++ < TURNS_MAX) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		(void)read_something((int)support_random_below(2));
		clock_advance(1000);
	}
	ck_assert_msg(is_over(), "ended %u; eof %d %d; closed %d %d; sent %ju %ju arrived %ju %ju",
	              relay_notes.ended, ways[0].eof, ways[1].eof, closed[0], closed[1],
	              (uintmax_t)ways[0].sent, (uintmax_t)ways[1].sent, (uintmax_t)ways[0].arrived,
	              (uintmax_t)ways[1].arrived);
	if (!closed[0] && !closed[1])
		ck_assert_int_eq(relay_notes.reason, 0);
	for (int i = 0; i < 2; i++) {
		struct ferry_relay_flow flow = relay_flow((enum ferry_relay_side)i);
		ck_assert_uint_eq(flow.fds_received, flow.fds_passed + flow.fds_dropped);
		if (!closed[0] && !closed[1] && !filters)
			ck_assert_uint_eq(flow.bytes_passed, ways[i].sent);
	}
}

static unsigned int walk_count(void)
{
	const char *walks = getenv("FERRY_MODEL_WALKS");

	return walks != NULL ? (unsigned int)strtoul(walks, NULL, 0) : WALKS;
}

enum { WALKS_OF_A_TEST = 100 };

static int test_count(void)
{
	return (int)((walk_count() + WALKS_OF_A_TEST - 1) / WALKS_OF_A_TEST);
}

LOOP_TEST(each_sees_exactly_what_the_other_sends, test_count())
{
	unsigned int first = (unsigned int)_i * WALKS_OF_A_TEST, left = walk_count() - first;
	uint32_t seed = support_seed() + first;
	int fds = count_open_fds();

	raise_descriptor_limit();
	for (unsigned int walk = 0; walk < left && walk < WALKS_OF_A_TEST; walk++) {
		support_reseed(seed + walk);
		if (getenv("FERRY_MODEL_TRACE") != NULL)
			fprintf(stderr, "walk with the seed %u\n", seed + walk);
		begin();
		for (int i = 0; i < STEPS; i++)
			step();
		finish();
		close_relay();
		evbuffer_free(kept[0]);
		evbuffer_free(kept[1]);
		pump_turns(4);
		ck_assert_msg(count_open_fds() == fds, "walk %u leaks a descriptor", seed + walk);
	}
}
