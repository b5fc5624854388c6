/* The ends of a stream of messages: the peer's half, and a message that the peer refuses. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message_inbox.h"
#include "test.h"

TEST_CASE("a refused message");

enum { REFUSED = 1, MIB = 1024 * 1024 };

/* A stream at each end; the second takes 1000 bytes, and no descriptor. */
static void open_both(enum pair_kind kind)
{
	make_pair(kind, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], 0);
	open_inbox(&second_inbox, inbox_ends[1], 0);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 8 * MIB, 253), 0);
	ck_assert_int_eq(ferry_message_stream_set_limits(second_inbox.stream, 1000, 0), 0);
}

static void expect_refused(void)
{
	pump_until_count(&inbox.lost, 1);
	pump_until_count(&second_inbox.lost, 1);
	ck_assert_int_eq(inbox.reason, -EMSGSIZE);
	ck_assert_int_eq(second_inbox.reason, -EPROTO);
	ck_assert_uint_eq(second_inbox.count, 1);
	free_messages(&inbox);
	free_messages(&second_inbox);
	pump_turns(3);
}

static const size_t sizes[] = {1001, 8 * MIB};

/* _i: the size, and the kind of socket. Of the long one the peer reads no more than the beginning. */
LOOP_TEST(a_sender_over_the_peers_limit_learns_why, 4)
{
	char *payload = calloc(1, 8 * MIB);

	open_both(_i / 2 == 0 ? PAIR_UNIX : PAIR_TCP);
	ck_assert_int_eq(send_plain(1, payload, 1000), 0);
	ck_assert_int_eq(send_plain(2, payload, sizes[_i % 2]), 0);
	ck_assert_int_eq(send_plain(3, payload, 10), 0);
	expect_refused();
	free(payload);
}

TEST(a_sender_of_more_descriptors_than_the_peer_takes_learns_why)
{
	int fd = dup(0);

	open_both(PAIR_UNIX);
	ck_assert_int_eq(send_plain(1, "x", 1), 0);
	ck_assert_int_eq(send_fds(2, &fd, 1, FERRY_FD_TAKE), 0);
	expect_refused();
}

static void put_refusal(unsigned char *frame, unsigned int why)
{
	put_message_frame(frame, why, 0, 0);
	frame[6] = 1;
}

TEST(a_refusal_is_a_header_with_a_flag)
{
	unsigned char frame[INBOX_HEADER + 2000], expected[INBOX_HEADER], received[100];
	size_t length = put_message_frame(frame, 7, 2000, 0);

	put_refusal(expected, REFUSED);
	open_messages();
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1999, 0), 0);
	far_send_marked(frame, length, 0, 0);
	expect_inbox_lost(-EPROTO);
	ck_assert_int_eq(recv(inbox_ends[1], received, sizeof(received), 0), INBOX_HEADER);
	ck_assert_mem_eq(received, expected, INBOX_HEADER);
	close_messages();
}

/* _i: 0 as it should be; 1 for another reason; 2 with a payload */
LOOP_TEST(a_refusal_that_this_version_does_not_know_is_a_fault, 3)
{
	unsigned char frame[INBOX_HEADER];

	open_messages();
	put_refusal(frame, _i == 1 ? 2 : REFUSED);
	frame[8] = _i == 2;
	far_send_marked(frame, sizeof(frame), 0, 0);
	expect_inbox_lost(_i == 0 ? -EMSGSIZE : -EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_messages();
}

TEST_CASE("the peer's end");

static struct {
	struct ferry_message_stream *stream; /* NULL once freed */
	unsigned int received, ended, lost;
	int reason;
	bool pauses, frees;
} half;

static void half_received(struct ferry_message_stream *stream, struct ferry_message *message,
                          void *context)
{
	(void)message, (void)context;
	half.received++;
	ck_assert_uint_eq(half.ended, 0);
	if (half.pauses)
		ferry_transport_pause_reading(ferry_message_stream_get_transport(stream));
}

static void half_ended(struct ferry_message_stream *stream, void *context)
{
	(void)context;
	half.ended++;
	if (half.frees) {
		ferry_message_stream_free(stream);
		half.stream = NULL;
	}
}

static void half_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream, (void)context;
	half.lost++;
	half.reason = reason;
}

static const struct ferry_message_callbacks half_close = {
    .message_received = half_received,
    .read_connection_lost = half_ended,
    .connection_lost = half_lost,
};
static const struct ferry_message_callbacks no_half_close = {
    .message_received = half_received,
    .connection_lost = half_lost,
};

/* The peer sends `count` messages and ends its half. */
static void open_half(const struct ferry_message_callbacks *callbacks, unsigned int count)
{
	make_pair(PAIR_UNIX, inbox_ends);
	ck_assert_int_eq(
	    ferry_message_stream_new(&half.stream, make_transport(inbox_ends[0]), callbacks, NULL), 0);
	for (unsigned int i = 0; i < count; i++)
		far_frame(i, 10, 0, 0);
	ck_assert_int_eq(shutdown(inbox_ends[1], SHUT_WR), 0);
}

static void close_half(void)
{
	ferry_message_stream_free(half.stream);
	pump_turns(3);
	close(inbox_ends[1]);
}

static int reply(void)
{
	return ferry_message_stream_send(half.stream, 9, "reply", 5, NULL, 0, 0);
}

TEST(a_reply_may_come_after_the_peers_end)
{
	unsigned char received[100];

	open_half(&half_close, 2);
	pump_until_count(&half.ended, 1);
	pump_turns(5);
	ck_assert_uint_eq(half.received, 2);
	ck_assert_uint_eq(half.ended, 1);
	ck_assert_uint_eq(half.lost, 0);
	ck_assert_int_eq(reply(), 0);
	ferry_transport_lose_connection(ferry_message_stream_get_transport(half.stream));
	pump_until_count(&half.lost, 1);
	ck_assert_int_eq(half.reason, 0);
	ck_assert_uint_eq(half.ended, 1);
	ck_assert_int_eq(recv(inbox_ends[1], received, sizeof(received), 0), INBOX_HEADER + 5);
	close_half();
}

TEST(the_peers_end_comes_behind_its_last_message)
{
	open_half(&half_close, 3);
	half.pauses = true;
	for (unsigned int i = 1; i <= 3; i++) {
		pump_until_count(&half.received, i);
		pump_turns(5);
		ck_assert_uint_eq(half.received, i);
		ck_assert_uint_eq(half.ended, 0);
		ferry_transport_resume_reading(ferry_message_stream_get_transport(half.stream));
	}
	pump_until_count(&half.ended, 1);
	close_half();
}

TEST(the_stream_may_be_freed_at_the_peers_end)
{
	open_half(&half_close, 1);
	half.frees = true;
	pump_until_count(&half.ended, 1);
	close_half();
}

TEST(half_a_message_and_the_end_are_no_end)
{
	unsigned char frame[INBOX_HEADER + 10];

	make_pair(PAIR_UNIX, inbox_ends);
	ck_assert_int_eq(
	    ferry_message_stream_new(&half.stream, make_transport(inbox_ends[0]), &half_close, NULL),
	    0);
	put_message_frame(frame, 1, 10, 0);
	far_send_marked(frame, sizeof(frame) - 1, 0, 0);
	ck_assert_int_eq(shutdown(inbox_ends[1], SHUT_WR), 0);
	pump_until_count(&half.lost, 1);
	ck_assert_int_eq(half.reason, -EPROTO);
	ck_assert_uint_eq(half.ended, 0);
	close_half();
}

TEST(without_the_callback_the_connection_ends_with_the_peers_half)
{
	open_half(&no_half_close, 1);
	pump_until_count(&half.lost, 1);
	ck_assert_int_eq(half.reason, 0);
	ck_assert_int_eq(reply(), -EPIPE);
	close_half();
}

TEST_CASE("closing through the stream");

TEST(a_stream_sends_what_is_queued_and_closes)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], 0);
	open_inbox(&second_inbox, inbox_ends[1], 0);
	ck_assert_int_eq(send_plain(7, "last", 4), 0);
	ck_assert_int_eq(ferry_message_stream_lose_connection(inbox.stream), 0);
	ck_assert_int_eq(ferry_message_stream_lose_connection(inbox.stream), 0);
	ck_assert_int_eq(send_plain(8, "late", 4), -EPIPE);
	ck_assert_uint_eq(inbox.lost, 0); /* not inside the call */
	expect_inbox_lost(0);
	pump_until_count(&second_inbox.lost, 1);
	ck_assert_uint_eq(second_inbox.count, 1);
	ck_assert_int_eq(ferry_message_stream_lose_connection(inbox.stream), -ENOTCONN);
	free_messages(&inbox);
	free_messages(&second_inbox);
}

TEST(a_stream_that_closes_its_sending_half_still_receives)
{
	char byte;

	open_messages();
	ck_assert_int_eq(ferry_message_stream_lose_write_connection(inbox.stream), 0);
	pump_turns(3);
	ck_assert_int_eq(read(inbox_ends[1], &byte, 1), 0);
	far_frame(3, 10, 0, 0);
	pump_until_count(&inbox.count, 1);
	ck_assert_uint_eq(inbox.lost, 0);
	close_inbox_far();
	expect_inbox_lost(0);
	close_messages();
}

TEST(a_stream_is_aborted)
{
	open_messages();
	ck_assert_int_eq(send_plain(7, "dropped", 7), 0);
	ck_assert_int_eq(ferry_message_stream_abort_connection(inbox.stream), 0);
	ck_assert_uint_eq(inbox.lost, 0);
	expect_inbox_lost(-ECONNABORTED);
	ck_assert_uint_eq(wire_drain(inbox_ends[1]), 0);
	ck_assert_int_eq(ferry_message_stream_abort_connection(inbox.stream), -ENOTCONN);
	ck_assert_int_eq(ferry_message_stream_lose_write_connection(inbox.stream), -ENOTCONN);
	close_messages();
}

TEST_CASE("arguments");

TEST(no_stream_is_closed)
{
	ck_assert_int_eq(ferry_message_stream_lose_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_lose_write_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_abort_connection(NULL), -EINVAL);
}

TEST(ownership_is_ignored_without_a_descriptor)
{
	open_messages();
	for (int ownership = 0; ownership < 4; ownership++)
		ck_assert_int_eq(ferry_message_stream_send(inbox.stream, 1, "x", 1, NULL, 0,
		                                           (enum ferry_fd_ownership)ownership),
		                 0);
	ck_assert_int_eq(ferry_message_stream_send(inbox.stream, 1, "x", 1, &(int){0}, 1,
	                                           (enum ferry_fd_ownership)0),
	                 -EINVAL);
	close_messages();
}

TEST(getters_take_null)
{
	size_t length = 1;

	ck_assert_uint_eq(ferry_message_get_type(NULL), 0);
	ck_assert_ptr_null(ferry_message_get_payload(NULL, &length));
	ck_assert_uint_eq(length, 0);
	ck_assert_ptr_null(ferry_message_get_payload(NULL, NULL));
	ck_assert_uint_eq(ferry_message_get_fd_count(NULL), 0);
	ck_assert_uint_eq(ferry_message_get_fds_lost(NULL), 0);
	ck_assert_int_eq(ferry_message_get_fd(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_steal_fd(NULL, 0), -EINVAL);
}
