/* Bytes, descriptors, half-closes and closes pass the relay, and arrive as they would directly. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/ferry.h"

#include "recorder.h"
#include "relay_link.h"
#include "test.h"
#include "wire.h"

static enum ferry_relay_side other(int side)
{
	return (enum ferry_relay_side)(1 - side);
}

static void put_text(int side, const char *text)
{
	ck_assert_int_eq(wire_send(peers[side], text, strlen(text), NULL, 0), (ssize_t)strlen(text));
}

/* Sends the text, with `count` descriptors that have the numbers from `number` on. */
static void put_fds(int side, const char *text, uint32_t number, size_t count)
{
	int fds[WIRE_MAX_FDS] = {0};

	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd(number + (uint32_t)i);
	ck_assert_int_eq(wire_send(peers[side], text, strlen(text), fds, count), (ssize_t)strlen(text));
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

/* Reads one byte, with `count` descriptors that have the numbers from `number` on. */
static void expect_fds_at_byte(int side, char byte, uint32_t number, size_t count)
{
	struct wire_read result;
	char arrived;

	do {
		event_base_loop(base, EVLOOP_NONBLOCK);
		wire_receive(peers[side], &arrived, 1, &result);
	} while (result.bytes == -EAGAIN);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_int_eq(arrived, byte);
	ck_assert_uint_eq(result.fd_count, count);
	if (count > 0) { /* few assertions: each is a write to a pipe */
		ck_assert_uint_eq(marked_number(result.fds[0]), number);
		ck_assert_uint_eq(marked_number(result.fds[count - 1]), number + count - 1);
	}
	wire_close_fds(&result);
}

/* _i: bit 0: the client is on TCP; bit 1: the server is; bit 2: the sender is the server */
LOOP_TEST(bytes_pass, 8)
{
	int from = _i >> 2;

	open_relay(_i & 1 ? PAIR_TCP : PAIR_UNIX, _i & 2 ? PAIR_TCP : PAIR_UNIX, &noting);
	put_text(from, "from here");
	expect_text(other(from), "from here");
	put_text(1 - from, "from there");
	expect_text((enum ferry_relay_side)from, "from there");
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)from).bytes_received, 9);
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)from).bytes_passed, 9);
	ck_assert_uint_eq(relay_flow(other(from)).bytes_passed, 10);
	close_relay();
}

LOOP_TEST(a_descriptor_passes_with_its_byte, 2)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	put_text(_i, "ab");
	put_fds(_i, "cd", 7, 1);
	put_fds(_i, "e", 8, 2);
	put_text(_i, "f");
	expect_fds_at_byte(1 - _i, 'a', 0, 0);
	expect_fds_at_byte(1 - _i, 'b', 0, 0);
	expect_fds_at_byte(1 - _i, 'c', 7, 1);
	expect_fds_at_byte(1 - _i, 'd', 0, 0);
	expect_fds_at_byte(1 - _i, 'e', 8, 2);
	expect_fds_at_byte(1 - _i, 'f', 0, 0);
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)_i).fds_received, 3);
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)_i).fds_passed, 3);
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)_i).fds_dropped, 0);
	close_relay();
}

static const size_t message_sizes[] = {1, 28, 63, 64, 65, 128, 253};

LOOP_TEST(all_descriptors_of_a_byte_pass_in_one_message, COUNT(message_sizes))
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	put_fds(0, "x", 1000, message_sizes[_i]);
	put_text(0, "y");
	expect_fds_at_byte(1, 'x', 1000, message_sizes[_i]);
	expect_fds_at_byte(1, 'y', 0, 0);
	close_relay();
}

/* _i: bit 0: the side; bits 1 and 2: the kinds */
LOOP_TEST(a_half_close_passes_and_the_other_half_lives_on, 8)
{
	int from = _i & 1;

	open_relay(_i & 2 ? PAIR_TCP : PAIR_UNIX, _i & 4 ? PAIR_TCP : PAIR_UNIX, &noting);
	put_text(from, "question");
	shutdown(peers[from], SHUT_WR);
	expect_text(other(from), "question");
	expect_end_of_file(other(from));
	ck_assert_uint_eq(relay_notes.half_ends[from], 1);
	ck_assert(!relay_notes.closed[from]);
	put_text(1 - from, "answer");
	expect_text((enum ferry_relay_side)from, "answer");
	shutdown(peers[1 - from], SHUT_WR);
	expect_end_of_file((enum ferry_relay_side)from);
	pump_until_count(&relay_notes.ended, 1);
	ck_assert_int_eq(relay_notes.reason, 0);
	close_relay();
}

LOOP_TEST(a_close_passes_as_a_hang_up, 2)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	put_text(_i, "farewell");
	put_fds(_i, "!", 3, 1);
	close_peer((enum ferry_relay_side)_i);
	expect_hang_up(other(_i));
	for (const char *at = "farewell"; *at != '\0'; at++)
		expect_fds_at_byte(1 - _i, *at, 0, 0);
	expect_fds_at_byte(1 - _i, '!', 3, 1);
	ck_assert_int_eq(wire_send(peers[1 - _i], "x", 1, NULL, 0), -EPIPE);
	expect_end_of_file(other(_i));
	ck_assert(relay_notes.closed[_i]);
	expect_relay_end((enum ferry_relay_side)_i, 0);
	close_relay();
}

/* The peer had shut its sending half down before: nothing is read from it any more. */
LOOP_TEST(a_close_behind_a_half_close_passes, 2)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	shutdown(peers[_i], SHUT_WR);
	expect_end_of_file(other(_i));
	close_peer((enum ferry_relay_side)_i);
	expect_hang_up(other(_i));
	ck_assert_int_eq(wire_send(peers[1 - _i], "x", 1, NULL, 0), -EPIPE);
	expect_relay_end((enum ferry_relay_side)_i, 0);
	close_relay();
}

/* ---- a slow reader ---- */

/* A read is added to a queue that is under its mark of 64 KiB. The queues of the kernel for TCP are much longer. */
enum { RELAY_HOLDS_MAX = (64 + 256) << 10, KERNEL_MAX = 64 << 20, BLOCK = 65536 };

static size_t send_until_full(int side)
{
	static unsigned char block[BLOCK];
	size_t total = 0, moved;

	do {
		moved = 0;
		for (int i = 0; i < 20; i++) {
			for (size_t k = 0; k < BLOCK; k++)
				block[k] = support_byte(total + k);
			ssize_t sent = wire_send(peers[side], block, BLOCK, NULL, 0);
			if (sent > 0) {
				moved += (size_t)sent;
				total += (size_t)sent;
			}
			pump_turns(2);
		}
	} while (moved > 0 && total <= KERNEL_MAX);
	return total;
}

/* _i: bit 0: the side; bit 1: the kind */
LOOP_TEST(a_reader_that_stands_still_stops_the_sender, 4)
{
	enum pair_kind kind = _i & 2 ? PAIR_TCP : PAIR_UNIX;
	int from = _i & 1;

	open_relay(kind, kind, &noting);
	size_t total = send_until_full(from), arrived = 0;
	ck_assert_uint_le(total, KERNEL_MAX);
	const struct ferry_transport *to = ferry_relay_get_transport(relay, other(from));
	ck_assert_uint_le(stats_of(to).bytes_queued_max, RELAY_HOLDS_MAX);
	ck_assert_uint_gt(relay_flow((enum ferry_relay_side)from).pauses, 0);
	put_text(1 - from, "the other way is free");
	expect_text((enum ferry_relay_side)from, "the other way is free");
	while (arrived < total) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		ssize_t length = wire_expect(peers[1 - from], arrived, BLOCK);
		if (length != -EAGAIN)
			ck_assert_int_gt(length, 0);
		arrived += length > 0 ? (size_t)length : 0;
	}
	ck_assert_uint_eq(arrived, total);
	close_relay();
}

/* As many messages with descriptors as the sender can send, then it closes. Nobody has read yet. */
static const size_t bundles[] = {1, 8, 64, 253};

LOOP_TEST(no_descriptor_of_a_gone_sender_is_lost, COUNT(bundles))
{
	int fds[WIRE_MAX_FDS] = {0};
	unsigned int sent = 0, arrived = 0, idle = 0;

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	raise_descriptor_limit();
	for (size_t i = 0; i < bundles[_i]; i++)
		fds[i] = make_marked_fd((uint32_t)i);
	while (idle < 20 && sent < 1000) {
		ssize_t length = wire_send(peers[0], "x", 1, fds, bundles[_i]);
		ck_assert(length == 1 || length == -EAGAIN || length == -ETOOMANYREFS);
		sent += length == 1;
		idle = length == 1 ? 0 : idle + 1;
		pump_turns(2);
	}
	for (size_t i = 0; i < bundles[_i]; i++)
		close(fds[i]);
	close_peer(FERRY_RELAY_CLIENT);
	pump_turns(5);
	for (; arrived < sent; arrived++)
		expect_fds_at_byte(1, 'x', 0, bundles[_i]);
	expect_end_of_file(FERRY_RELAY_SERVER);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).fds_passed, sent * bundles[_i]);
	expect_relay_end(FERRY_RELAY_CLIENT, 0);
	close_relay();
}

/* ---- a side that carries no descriptors ---- */

TEST(a_descriptor_for_tcp_ends_the_relay)
{
	open_relay(PAIR_UNIX, PAIR_TCP, &noting);
	put_text(0, "before");
	expect_text(FERRY_RELAY_SERVER, "before");
	put_fds(0, "x", 1, 3);
	expect_relay_end(FERRY_RELAY_SERVER, -EOPNOTSUPP);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).fds_dropped,
	                  relay_flow(FERRY_RELAY_CLIENT).fds_received);
	expect_end_of_file(FERRY_RELAY_CLIENT);
	close_relay();
}
