/* Much data between two TCP peers goes past the transports, by splice(2). Nobody can see that in what arrives. */

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
	return __real_pipe2(fds, flags);
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

LOOP_TEST(much_data_is_spliced, 2)
{
	struct stream stream = {.from = _i, .to = 1 - _i};

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	pass_all(&stream, TOTAL);
	struct ferry_relay_flow flow = relay_flow((enum ferry_relay_side)_i);
	ck_assert_uint_eq(flow.bytes_received, TOTAL);
	ck_assert_uint_eq(flow.bytes_passed, TOTAL);
	ck_assert_uint_gt(flow.bytes_spliced, 0);
	shutdown(peers[_i], SHUT_WR);
	expect_end_of_file((enum ferry_relay_side)(1 - _i));
	shutdown(peers[1 - _i], SHUT_WR);
	pump_until_count(&relay_notes.ended, 1);
	ck_assert_int_eq(relay_notes.reason, 0);
	close_relay();
}

TEST(both_ways_are_spliced_at_once)
{
	struct stream there = {.from = 0, .to = 1}, back = {.from = 1, .to = 0};

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
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

TEST(a_stream_that_becomes_thin_has_no_pipe)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
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

TEST(a_reader_that_stands_still_stops_the_splice)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
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
TEST(a_read_of_the_transport_does_not_overtake_the_pipe)
{
	struct stream stream = {.from = 0, .to = 1};

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
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

/* ---- without splice(2) ---- */

static const int denials[] = {EPERM, ENOSYS, EINVAL, EIO};

LOOP_TEST(bytes_are_copied_where_splice_is_denied, COUNT(denials))
{
	struct stream stream = {.from = 0, .to = 1};

	splice_error = denials[_i];
	open_relay(PAIR_TCP, PAIR_TCP, &noting);
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

static const unsigned int failing[] = {2, 3, 7};

LOOP_TEST(a_splice_that_fails_loses_nothing, COUNT(failing))
{
	struct stream stream = {.from = 0, .to = 1};

	fails_each = failing[_i];
	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	pass_all(&stream, TOTAL);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_passed, TOTAL);
	close_relay();
}

TEST(parts_are_spliced_as_they_come)
{
	struct stream stream = {.from = 0, .to = 1};

	splice_max = 50000;
	open_relay(PAIR_TCP, PAIR_TCP, &noting);
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

/* _i: a unix client, a unix server, a filter, a rate limit, a timeout */
LOOP_TEST(only_free_tcp_is_spliced, 5)
{
	struct stream stream = {.from = 0, .to = 1};
	struct ev_token_bucket_cfg *limit =
	    ev_token_bucket_cfg_new(1 << 28, 1 << 28, 1 << 28, 1 << 28, NULL);

	open_relay(_i == 0 ? PAIR_UNIX : PAIR_TCP, _i == 1 ? PAIR_UNIX : PAIR_TCP,
	           _i == 2 ? &filtering : &noting);
	struct bufferevent *bev =
	    ferry_transport_get_bufferevent(ferry_relay_get_transport(relay, FERRY_RELAY_SERVER));
	if (_i == 3)
		bufferevent_set_rate_limit(bev, limit);
	if (_i == 4)
		bufferevent_set_timeouts(bev, NULL, &(struct timeval){100, 0});
	pass_all(&stream, TOTAL);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_spliced, 0);
	close_relay();
	ev_token_bucket_cfg_free(limit);
}
