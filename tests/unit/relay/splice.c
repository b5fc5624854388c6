/* Much data between two peers goes past the transports, by splice(2). Nobody can see that in what arrives. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/ferry.h"

#include "relay_link.h"
#include "test.h"
#include "wire.h"

enum { TOTAL = 6 << 20, BLOCK = 65536 };

/* ---- splice(2) and pipe2(2), as the test wants them ---- */

static int splice_error;        /* each call fails with it */
static unsigned int fails_each; /* the n-th call fails with EIO; 0: none */
static size_t splice_max;       /* 0: no limit */
static int pipe_error;
static int lowest_slot; /* of the last pipe */
static unsigned int splices;

ssize_t __real_splice(int in, loff_t *in_at, int out, loff_t *out_at, size_t length,
                      unsigned int flags);
ssize_t __wrap_splice(int in, loff_t *in_at, int out, loff_t *out_at, size_t length,
                      unsigned int flags);
int __real_pipe2(int fds[2], int flags);
int __wrap_pipe2(int fds[2], int flags);

ssize_t __wrap_splice(int in, loff_t *in_at, int out, loff_t *out_at, size_t length,
                      unsigned int flags)
{
	splices++;
	if (splice_error != 0 || (fails_each != 0 && splices % fails_each == 0)) {
		errno = splice_error != 0 ? splice_error : EIO;
		return -1;
	}
	if (splice_max != 0 && length > splice_max)
		length = 1 + support_random_below((uint32_t)splice_max);
	return __real_splice(in, in_at, out, out_at, length, flags);
}

int __wrap_pipe2(int fds[2], int flags)
{
	if (pipe_error != 0) {
		errno = pipe_error;
		return -1;
	}
	int status = __real_pipe2(fds, flags);
	lowest_slot = fds[0];
	return status;
}

static void set_up(void)
{
	splice_error = pipe_error = 0;
	fails_each = 0;
	splice_max = 0;
	splices = 0;
}

TEST_CASE("splice", set_up);

/* ---- much data ---- */

struct stream {
	int from, to;
	size_t sent, arrived;
};

static void send_some(struct stream *stream, size_t total)
{
	static unsigned char block[BLOCK];
	size_t length = total - stream->sent < BLOCK ? total - stream->sent : BLOCK;

	for (size_t i = 0; i < length; i++)
		block[i] = support_byte(stream->sent + i);
	ssize_t sent = length > 0 ? wire_send(peers[stream->from], block, length, NULL, 0) : 0;
	stream->sent += sent > 0 ? (size_t)sent : 0;
}

/* The result of the last read. */
static ssize_t take_some(struct stream *stream)
{
	static unsigned char block[BLOCK];
	size_t right = 0;
	ssize_t length = recv(peers[stream->to], block, sizeof(block), MSG_DONTWAIT);

	if (length < 0)
		return -errno;
	while (right < (size_t)length && block[right] == support_byte(stream->arrived + right))
		right++;
	ck_assert_uint_eq(right, (size_t)length);
	stream->arrived += (size_t)length;
	return length;
}

static void pass_all(struct stream *stream, size_t total)
{
	while (stream->arrived < total) {
		send_some(stream, total);
		send_some(stream, total);
		event_base_loop(base, EVLOOP_NONBLOCK);
		(void)take_some(stream);
	}
}

/* The kinds of the client and of the server by two bits. */
static void open_relay_of_kinds(int kinds)
{
	open_relay(kinds & 1 ? PAIR_UNIX : PAIR_TCP, kinds & 2 ? PAIR_UNIX : PAIR_TCP, &noting);
}

/* _i: bit 0: the side; bits 1 and 2: the kinds */
LOOP_TEST(much_data_is_spliced, 8)
{
	int from = _i & 1;
	struct stream stream = {.from = from, .to = 1 - from};

	open_relay_of_kinds(_i >> 1);
	pass_all(&stream, TOTAL);
	struct ferry_relay_flow flow = relay_flow((enum ferry_relay_side)from);
	ck_assert_uint_eq(flow.bytes_received, TOTAL);
	ck_assert_uint_eq(flow.bytes_passed, TOTAL);
	ck_assert_uint_gt(flow.bytes_spliced, 0);
	shutdown(peers[from], SHUT_WR);
	expect_end_of_file((enum ferry_relay_side)(1 - from));
	shutdown(peers[1 - from], SHUT_WR);
	pump_until_count(&relay_notes.ended, 1);
	ck_assert_int_eq(relay_notes.reason, 0);
	close_relay();
}

/* _i: the kinds */
LOOP_TEST(both_ways_are_spliced_at_once, 4)
{
	struct stream there = {.from = 0, .to = 1}, back = {.from = 1, .to = 0};

	open_relay_of_kinds(_i);
	while (there.arrived < TOTAL || back.arrived < TOTAL) {
		send_some(&there, TOTAL);
		send_some(&back, TOTAL);
		event_base_loop(base, EVLOOP_NONBLOCK);
		(void)take_some(&there);
		(void)take_some(&back);
	}
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_SERVER).bytes_spliced, 0);
	close_relay();
}

/* _i: the kinds */
LOOP_TEST(a_stream_that_becomes_thin_has_no_pipe, 4)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay_of_kinds(_i);
	int fds = count_open_fds();
	for (int i = 1; i <= 3; i++) {
		pass_all(&stream, (size_t)i * TOTAL);
		for (int k = 0; k < 3; k++)
			pass_all(&stream, stream.arrived + 1);
		pump_turns(3);
		ck_assert_int_eq(count_open_fds(), fds);
		stream.sent = stream.arrived = (size_t)i * TOTAL + 3;
		pass_all(&stream, (size_t)i * TOTAL + 4);
		stream.sent = stream.arrived = (size_t)i * TOTAL;
	}
	close_relay();
}

/* The program has closed its standard input. */
TEST(a_pipe_may_have_the_slot_0)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	int input = dup(STDIN_FILENO);
	close(STDIN_FILENO);
	pass_all(&stream, TOTAL);
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	ck_assert_int_eq(lowest_slot, 0);
	for (int i = 0; i < 3; i++)
		pass_all(&stream, stream.arrived + 1);
	pump_turns(3);
	ck_assert(!fd_is_open(STDIN_FILENO));
	pass_all(&stream, stream.arrived + BLOCK);
	close_relay();
	ck_assert_int_eq(dup2(input, STDIN_FILENO), STDIN_FILENO);
	close(input);
}

/* ---- a reader that stands still ---- */

static size_t fill(struct stream *stream)
{
	size_t before;

	do {
		before = stream->sent;
		for (int i = 0; i < 20; i++) {
			send_some(stream, (size_t)1 << 30);
			pump_turns(2);
		}
	} while (stream->sent > before);
	return stream->sent;
}

/* _i: the kinds */
LOOP_TEST(a_reader_that_stands_still_stops_the_splice, 4)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay_of_kinds(_i);
	size_t total = fill(&stream);
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	unsigned int before = splices;
	pump_turns(10);
	ck_assert_uint_eq(splices, before); /* it waits, and does not try */
	pass_all(&stream, total);
	close_relay();
}

/* _i: the one that goes; bit 1: by a reset */
LOOP_TEST(peers_go_while_the_pipe_is_full, 4)
{
	const struct linger at_once = {.l_onoff = 1};
	struct stream stream = {.from = 0, .to = 1};
	enum ferry_relay_side gone = (enum ferry_relay_side)(_i & 1);
	ssize_t length;

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	size_t total = fill(&stream);
	if (_i & 2)
		setsockopt(peers[gone], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close_peer(gone);
	if (gone == FERRY_RELAY_CLIENT) {
		while ((length = take_some(&stream)) > 0 || length == -EAGAIN)
			event_base_loop(base, EVLOOP_NONBLOCK);
		ck_assert_int_eq(length, _i & 2 ? -ECONNRESET : 0);
		if (_i & 2)
			ck_assert_uint_eq(stream.arrived, relay_flow(FERRY_RELAY_CLIENT).bytes_passed);
		else
			ck_assert_uint_eq(stream.arrived, total);
		close_peer(FERRY_RELAY_SERVER);
	}
	pump_until_count(&relay_notes.ended, 1);
	close_relay();
}

/* The splice itself meets the reset, and takes the error from the kernel. */
LOOP_TEST(a_reset_that_the_splice_meets_is_no_clean_end, 2)
{
	const struct linger at_once = {.l_onoff = 1};
	enum ferry_relay_side gone = (enum ferry_relay_side)_i, left = (enum ferry_relay_side)(1 - _i);
	struct stream stream = {.from = 0, .to = 1};
	char byte;
	ssize_t length;

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	while (relay_flow(FERRY_RELAY_CLIENT).bytes_spliced == 0)
		pass_all(&stream, stream.arrived + BLOCK);
	send_some(&stream, stream.sent + BLOCK);
	setsockopt(peers[gone], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close_peer(gone);
	do {
		event_base_loop(base, EVLOOP_NONBLOCK);
		length = left == FERRY_RELAY_SERVER ? take_some(&stream)
		                                    : recv(peers[left], &byte, 1, MSG_DONTWAIT);
		length = length < 0 && left == FERRY_RELAY_CLIENT ? -errno : length;
	} while (length > 0 || length == -EAGAIN);
	ck_assert_int_eq(length, -ECONNRESET);
	pump_until_count(&relay_notes.ended, 1);
	ck_assert_int_lt(relay_notes.reason, 0);
	ck_assert_int_eq(relay_notes.side, gone);
	ck_assert_uint_eq(relay_notes.half_ends[gone], 0);
	close_relay();
}

/* _i: free, close, abort */
LOOP_TEST(the_owner_ends_the_relay_while_the_pipe_is_full, 3)
{
	struct stream stream = {.from = 0, .to = 1};
	ssize_t length;

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	fill(&stream);
	if (_i == 0) {
		close_relay();
		return;
	}
	if (_i == 1)
		ferry_relay_close(relay);
	else
		ferry_relay_abort(relay, -EPERM);
	while ((length = take_some(&stream)) > 0 || length == -EAGAIN)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(length, _i == 1 ? 0 : -ECONNRESET);
	if (_i == 1) {
		ck_assert_uint_eq(stream.arrived, relay_flow(FERRY_RELAY_CLIENT).bytes_passed);
		close_peer(FERRY_RELAY_CLIENT);
		close_peer(FERRY_RELAY_SERVER);
	}
	expect_relay_end(FERRY_RELAY_CLIENT, _i == 1 ? 0 : -EPERM);
	close_relay();
}

/* The owner pauses and resumes the transport, which then reads beside the splice. */
/* _i: the kinds */
LOOP_TEST(a_read_of_the_transport_does_not_overtake_the_pipe, 4)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay_of_kinds(_i);
	struct ferry_transport *client = ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT);
	for (int i = 0; stream.arrived < TOTAL; i++) {
		send_some(&stream, TOTAL);
		send_some(&stream, TOTAL);
		event_base_loop(base, EVLOOP_NONBLOCK);
		if (i % 5 == 0) {
			ferry_transport_pause_reading(client);
			ferry_transport_resume_reading(client);
		}
		if (i % 3 == 0)
			(void)take_some(&stream);
	}
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	close_relay();
}

/* Sends until bytes wait in the pipe, and all others have left. */
static void fill_pipe(struct stream *stream)
{
	struct ferry_relay_flow flow;

	do {
		send_some(stream, (size_t)1 << 30);
		pump_turns(3);
		flow = relay_flow((enum ferry_relay_side)stream->from);
	} while (flow.bytes_passed == flow.bytes_received);
	ck_assert_uint_eq(flow.bytes_received, stream->sent);
	ck_assert_uint_gt(flow.bytes_spliced, 0);
}

/* The end is noticed while the transport does not read, because both halves have ended. _i: the kinds */
LOOP_TEST(the_last_half_close_does_not_overtake_the_pipe, 4)
{
	struct stream stream = {.from = 0, .to = 1};
	ssize_t length;

	open_relay_of_kinds(_i);
	shutdown(peers[1], SHUT_WR);
	expect_end_of_file(FERRY_RELAY_CLIENT);
	fill_pipe(&stream);
	shutdown(peers[0], SHUT_WR);
	pump_until_count(&relay_notes.half_ends[0], 1);
	while ((length = take_some(&stream)) > 0 || length == -EAGAIN)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(length, 0);
	ck_assert_uint_eq(stream.arrived, stream.sent);
	pump_until_count(&relay_notes.ended, 1);
	ck_assert_int_eq(relay_notes.reason, 0);
	close_relay();
}

/* ---- without splice(2) ---- */

static const int denials[] = {EPERM, ENOSYS, EINVAL, EIO, EOPNOTSUPP};

LOOP_TEST(bytes_are_copied_where_splice_is_denied, 4 * COUNT(denials))
{
	struct stream stream = {.from = 0, .to = 1};

	splice_error = denials[_i % (int)COUNT(denials)];
	open_relay_of_kinds(_i / (int)COUNT(denials));
	pass_all(&stream, TOTAL);
	ck_assert_uint_gt(splices, 0);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	close_relay();
}

TEST(bytes_are_copied_if_there_is_no_slot_for_a_pipe)
{
	struct stream stream = {.from = 0, .to = 1};

	pipe_error = EMFILE;
	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	pass_all(&stream, TOTAL);
	ck_assert_uint_eq(splices, 0);
	close_relay();
}

/* The slots are for the descriptors that pass. */
TEST(bytes_are_copied_if_slots_are_scarce)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	limit_descriptors(6);
	pass_all(&stream, TOTAL);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	unlimit_descriptors();
	pass_all(&stream, 2 * TOTAL);
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	close_relay();
}

static const unsigned int failing[] = {2, 3, 7};

/* _i: the kinds */
LOOP_TEST(a_splice_that_fails_loses_nothing, 4 * COUNT(failing))
{
	struct stream stream = {.from = 0, .to = 1};

	fails_each = failing[_i % (int)COUNT(failing)];
	open_relay_of_kinds(_i / (int)COUNT(failing));
	pass_all(&stream, TOTAL);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_passed, TOTAL);
	close_relay();
}

/* _i: the kinds */
LOOP_TEST(parts_are_spliced_as_they_come, 4)
{
	struct stream stream = {.from = 0, .to = 1};

	splice_max = 50000;
	open_relay_of_kinds(_i);
	pass_all(&stream, TOTAL);
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	close_relay();
}

static int pass(struct ferry_relay *which, enum ferry_relay_side from, struct evbuffer *bytes,
                void *context)
{
	(void)which, (void)from, (void)bytes, (void)context;
	return 0;
}

static const struct ferry_relay_callbacks filtering = {.filter_bytes = pass,
                                                       .relay_ended = note_relay_ended};

/* _i: a filter, a rate limit, a timeout; bit 2 and 3: the kinds */
LOOP_TEST(only_free_sockets_are_spliced, 12)
{
	struct stream stream = {.from = 0, .to = 1};
	int reason = _i % 3;
	struct ev_token_bucket_cfg *limit =
	    ev_token_bucket_cfg_new(1 << 28, 1 << 28, 1 << 28, 1 << 28, NULL);

	open_relay(_i / 3 & 1 ? PAIR_UNIX : PAIR_TCP, _i / 3 & 2 ? PAIR_UNIX : PAIR_TCP,
	           reason == 0 ? &filtering : &noting);
	struct bufferevent *bev =
	    ferry_transport_get_bufferevent(ferry_relay_get_transport(relay, FERRY_RELAY_SERVER));
	if (reason == 1)
		bufferevent_set_rate_limit(bev, limit);
	if (reason == 2)
		bufferevent_set_timeouts(bev, NULL, &(struct timeval){100, 0});
	pass_all(&stream, TOTAL);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	close_relay();
	ev_token_bucket_cfg_free(limit);
}

/* ---- descriptors among spliced bytes ---- */

/* Sends the next byte with descriptors; the number inside is its position. False: the socket is full. */
static bool send_fds(struct stream *stream, size_t count)
{
	int fd = make_marked_fd((uint32_t)stream->sent), fds[WIRE_MAX_FDS];
	unsigned char byte = support_byte(stream->sent);

	for (size_t i = 0; i < count; i++)
		fds[i] = fd;
	ssize_t sent = wire_send(peers[stream->from], &byte, 1, fds, count);
	close(fd);
	stream->sent += sent > 0;
	return sent > 0;
}

/* Reads up to the byte at `position`, if it was sent, or the rest: neither brings a descriptor. */
static void take_plain(struct stream *stream, size_t position)
{
	unsigned char block[BLOCK];
	struct wire_read read;
	size_t left = position - stream->arrived;

	wire_receive(peers[stream->to], block, left < sizeof(block) ? left : sizeof(block), &read);
	ck_assert_uint_eq(read.fd_count, 0);
	for (ssize_t i = 0; i < read.bytes; i++)
		if (block[i] != support_byte(stream->arrived + (size_t)i))
			ck_abort_msg("byte %zu is wrong", stream->arrived + (size_t)i);
	stream->arrived += read.bytes > 0 ? (size_t)read.bytes : 0;
}

static void take_fds(struct stream *stream, size_t count)
{
	unsigned char byte;
	struct wire_read read;

	do {
		event_base_loop(base, EVLOOP_NONBLOCK);
		wire_receive(peers[stream->to], &byte, 1, &read);
	} while (read.bytes == -EAGAIN);
	ck_assert_int_eq(read.bytes, 1);
	ck_assert_uint_eq(byte, support_byte(stream->arrived));
	ck_assert_uint_eq(read.fd_count, count);
	ck_assert_uint_eq(marked_number(read.fds[0]), stream->arrived);
	wire_close_fds(&read);
	stream->arrived++;
}

static size_t random_step(void)
{
	return 1 + support_random_below(8 * BLOCK);
}

/* _i: the number of descriptors in a message */
LOOP_TEST(descriptors_keep_their_byte_among_spliced_ones, 4)
{
	static const size_t counts[] = {1, 2, 64, 253};
	struct stream stream = {.from = 0, .to = 1};

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	for (int message = 0; message < 60; message++) {
		size_t position = stream.sent + random_step();
		while (stream.arrived < position) {
			send_some(&stream, position);
			if (stream.sent < position || support_random_below(2) == 0)
				event_base_loop(base, EVLOOP_NONBLOCK);
			if (stream.sent < position || support_random_below(2) == 0)
				take_plain(&stream, position);
			if (stream.sent == position && send_fds(&stream, counts[_i]))
				break;
		}
		if (stream.sent == position) /* the bytes have all arrived before */
			ck_assert(send_fds(&stream, counts[_i]));
		while (stream.arrived < position) {
			event_base_loop(base, EVLOOP_NONBLOCK);
			take_plain(&stream, position);
		}
		take_fds(&stream, counts[_i]);
	}
	struct ferry_relay_flow flow = relay_flow(FERRY_RELAY_CLIENT);
	ck_assert_uint_gt(flow.bytes_spliced, 0);
	ck_assert_uint_eq(flow.fds_passed, 60 * counts[_i]);
	close_relay();
}

/* The owner sends a descriptor of its own beside the spliced stream: the next byte takes it, spliced or not. */
TEST(a_descriptor_of_the_owner_leaves_with_the_next_byte)
{
	struct stream stream = {.from = 0, .to = 1};
	static unsigned char block[BLOCK];
	struct wire_read read;

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	pass_all(&stream, TOTAL);
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	int fd = make_marked_fd(77);
	ck_assert_int_eq(ferry_transport_send_fd(ferry_relay_get_transport(relay, FERRY_RELAY_SERVER),
	                                         fd, FERRY_FD_TAKE),
	                 0);
	send_some(&stream, TOTAL + BLOCK);
	do {
		event_base_loop(base, EVLOOP_NONBLOCK);
		wire_receive(peers[1], block, sizeof(block), &read);
	} while (read.bytes == -EAGAIN);
	ck_assert_uint_eq(block[0], support_byte(TOTAL));
	ck_assert_uint_eq(read.fd_count, 1);
	ck_assert_uint_eq(marked_number(read.fds[0]), 77);
	wire_close_fds(&read);
	close_relay();
}

/* The client closes behind much data, with nobody that reads: everything arrives, and then the end. */
TEST(a_close_passes_behind_a_full_pipe)
{
	struct stream stream = {.from = 0, .to = 1};
	ssize_t length;

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	size_t total = fill(&stream);
	ck_assert_uint_gt(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	close_peer(FERRY_RELAY_CLIENT);
	while ((length = take_some(&stream)) > 0 || length == -EAGAIN)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(length, 0);
	ck_assert_uint_eq(stream.arrived, total);
	expect_hang_up(FERRY_RELAY_SERVER);
	expect_relay_end(FERRY_RELAY_CLIENT, 0);
	close_relay();
}
