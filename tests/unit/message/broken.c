/* The stream loses its connection at bytes that are no message, at messages over the limits, and at an end
 * inside a message. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message_inbox.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("a broken format");

LOOP_TEST(any_other_bit_of_the_header_is_caught, INBOX_HEADER * 8)
{
	unsigned char frame[INBOX_HEADER + 8];
	put_message_frame(frame, 9, 8, 1);
	size_t byte = (size_t)_i / 8;
	frame[byte] ^= (unsigned char)(1U << (_i % 8));
	bool is_type = byte == 4 || byte == 5;
	open_messages();
	far_send_marked(frame, sizeof(frame), 0, 1);
	far_frame(10, 3, 0, 0);
	close_inbox_far();

	expect_inbox_lost(is_type ? 0 : -EPROTO);

	ck_assert(inbox.count == 0 || is_type || byte == 8);
	if (is_type)
		ck_assert_uint_eq(inbox.count, 2);
	close_messages();
}

LOOP_TEST(garbage_ends_the_connection, 100)
{
	unsigned char garbage[400];
	open_messages();
	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (unsigned char)support_random();
	garbage[0] = 'G';
	size_t length = 1 + support_random_below(sizeof(garbage));
	far_send_marked(garbage, length, 0, support_random_below(4));
	close_inbox_far();
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_messages();
}

LOOP_TEST(valid_frames_with_one_byte_changed_never_leak_or_crash, 300)
{
	unsigned char bytes[2048];
	open_messages();
	size_t length = 0;
	for (unsigned int i = 0; i < 4; i++)
		length += put_message_frame(bytes + length, i, support_random_below(100),
		                            support_random_below(3));
	bytes[support_random_below((uint32_t)length)] = (unsigned char)support_random();
	size_t done = 0;
	while (done < length) {
		size_t step = 1 + support_random_below((uint32_t)(length - done));
		far_send_marked(bytes + done, step, 0, support_random_below(3));
		pump_turns((int)support_random_below(3));
		done += step;
		if (inbox.lost > 0)
			break;
	}
	close_inbox_far();
	pump_until_count(&inbox.lost, 1);
	ck_assert(inbox.reason == 0 || inbox.reason == -EPROTO || inbox.reason == -EMSGSIZE);
	close_messages();
}

/* The number of descriptors that the frame declares, and the number that is sent. */
static const struct {
	unsigned int declared, sent;
} lies[] = {{1, 0}, {0, 1}, {2, 1}, {1, 2}, {253, 252}, {252, 253}, {254, 253}, {65535, 1}};

LOOP_TEST(other_descriptors_than_declared_end_the_connection, COUNT(lies))
{
	unsigned char frame[INBOX_HEADER + 1];
	open_messages();
	far_send_marked(frame, put_message_frame(frame, 1, 1, lies[_i].declared), 0, lies[_i].sent);
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_unclaimed, lies[_i].sent);
	close_messages();
}

/* _i + 1: the byte of the frame with the descriptor; only byte 0 is correct. */
LOOP_TEST(a_descriptor_on_another_byte_ends_the_connection, INBOX_HEADER + 3)
{
	unsigned char frame[INBOX_HEADER + 4];
	size_t at = (size_t)_i + 1;
	open_messages();
	put_message_frame(frame, 1, 4, 1);
	far_send_marked(frame, at, 0, 0);
	/* In a read of both parts the descriptor would look as if it came with the first byte. */
	while (stats_of(inbox_transport(&inbox)).bytes_received < at)
		pump_turns(1);
	(void)wire_send(inbox_ends[1], frame + at, sizeof(frame) - at, &(int){STDERR_FILENO}, 1);
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_messages();
}

TEST(descriptors_inside_of_a_header_do_not_pile_up)
{
	unsigned char frame[INBOX_HEADER];
	open_messages();
	put_message_frame(frame, 1, 0, 1);
	far_send_marked(frame, 1, 0, 1);
	far_send_marked(frame + 1, 1, 0, 1);
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_unclaimed, 2);
	close_messages();
}

TEST(descriptors_in_the_payload_end_the_connection)
{
	unsigned char frame[INBOX_HEADER + 100];
	open_messages();
	put_message_frame(frame, 1, 100, 1);
	far_send_marked(frame, INBOX_HEADER + 10, 0, 1);
	far_send_marked(frame + INBOX_HEADER + 10, 10, 0, 1);
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_unclaimed, 2);
	close_messages();
}

static void note_no_more(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_uint_eq(box->count, 1);
}

TEST(messages_before_the_fault_are_delivered_and_none_behind_it)
{
	unsigned char frame[INBOX_HEADER];
	open_messages();
	inbox.hook = note_no_more;
	far_frame(1, 10, 5, 2);
	put_message_frame(frame, 2, 0, 0);
	frame[3] = 2;
	far_send_marked(frame, INBOX_HEADER, 0, 0);
	far_frame(3, 10, 5, 2);
	ck_assert_int_eq(send_plain(7, "unsent", 6), 0);
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 1);
	ck_assert_int_eq(send_plain(7, "unsent", 6), -EPIPE);
	close_messages();
}

static const struct {
	size_t length;
	unsigned int fds;
	bool fits;
} sizes[] = {{1000, 0, true},        {1001, 0, false},       {0x7fffffff, 0, false},
             {0x80000000, 0, false}, {0xffffffff, 0, false}, {0xfffffff0, 0, false},
             {1000, 3, true},        {0, 4, false}};

TEST_CASE("limits");

LOOP_TEST(a_frame_over_the_limits_is_refused_by_its_header_alone, COUNT(sizes))
{
	static unsigned char frame[INBOX_HEADER + 1000];
	open_messages();
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1000, 3), 0);
	put_message_frame(frame, 1, 0, sizes[_i].fds);
	for (int i = 0; i < 4; i++)
		frame[8 + i] = (unsigned char)(sizes[_i].length >> (8 * i));
	far_send_marked(frame, INBOX_HEADER, 0, sizes[_i].fds);
	if (sizes[_i].fits) {
		far_send_marked(frame + INBOX_HEADER, sizes[_i].length, 0, 0);
		pump_until_count(&inbox.count, 1);
	} else {
		expect_inbox_lost(-EPROTO);
	}
	close_messages();
}

TEST(limits_apply_to_sending_too)
{
	int fds[4];
	static char payload[1001];
	open_messages();
	open_marked(fds, 0, 4);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1000, 3), 0);
	ck_assert_int_eq(send_plain(1, payload, 1000), 0);
	ck_assert_int_eq(send_plain(1, payload, 1001), -EMSGSIZE);
	ck_assert_int_eq(send_plain(1, payload, SIZE_MAX), -EMSGSIZE);
	ck_assert_int_eq(send_fds(1, fds, 4, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(send_fds(1, fds, SIZE_MAX, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(send_fds(1, fds, 3, FERRY_FD_TAKE), 0);
	ck_assert(fd_is_open(fds[3]));
	close(fds[3]);
	close_messages();
}

TEST(limits_are_1_mib_and_253_at_first)
{
	static char payload[(1 << 20) + 1];
	static int fds[254];
	open_messages();
	ck_assert_int_eq(send_plain(1, payload, sizeof(payload)), -EMSGSIZE);
	ck_assert_int_eq(send_plain(1, payload, sizeof(payload) - 1), 0);
	ck_assert_int_eq(send_fds(1, fds, 254, FERRY_FD_DUP), -EMSGSIZE);
	for (int i = 0; i < 253; i++)
		fds[i] = STDERR_FILENO;
	ck_assert_int_eq(send_fds(1, fds, 253, FERRY_FD_DUP), 0);
	close_messages();
}

TEST(bad_arguments_are_refused)
{
	struct ferry_message_stream *stream = NULL;
	struct ferry_transport *transport;
	int fd = STDERR_FILENO;
	open_messages();
	transport = inbox_transport(&inbox);

	ck_assert_int_eq(ferry_message_stream_new(NULL, transport, &inbox_callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_new(&stream, NULL, &inbox_callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, NULL, NULL), -EINVAL);
	ck_assert_ptr_null(stream);
	ck_assert_int_eq(ferry_message_stream_set_limits(NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, (1U << 30) + 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1, 254), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1U << 30, 253), 0);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_send(NULL, 1, "", 0, NULL, 0, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(send_plain(1, NULL, 1), -EINVAL);
	ck_assert_int_eq(send_fds(1, NULL, 1, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(send_fds(1, &fd, 1, (enum ferry_fd_ownership)0), -EINVAL);
	ck_assert_int_eq(send_fds(1, &fd, 1, (enum ferry_fd_ownership)3), -EINVAL);
	ck_assert_ptr_null(ferry_message_stream_get_transport(NULL));
	ferry_message_stream_free(NULL);
	close_messages();
}

TEST_CASE("the end");

TEST(an_end_between_messages_is_clean)
{
	open_messages();
	far_frame(1, 10, 0, 2);
	close_inbox_far();
	expect_inbox_lost(0);
	ck_assert_uint_eq(inbox.count, 1);
	close_messages();
}

/* _i bytes of the frame came. */
LOOP_TEST(an_end_inside_a_message_is_a_broken_format, PIECES - 1)
{
	unsigned char frame[PIECES];
	put_message_frame(frame, 1, PIECES_PAYLOAD, 2);
	open_messages();
	far_frame(0, 1, 0, 1);
	far_send_marked(frame, (size_t)_i + 1, 0, 2);
	close_inbox_far();
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 1);
	close_messages();
}

TEST(queued_messages_are_sent_when_the_peer_ends_its_half)
{
	open_messages();
	size_t filled = wire_fill(inbox_ends[0]);
	ck_assert_int_eq(send_plain(1, "answer", 6), 0);
	shutdown(inbox_ends[1], SHUT_WR);
	pump_turns(3);
	size_t got = 0;
	while (inbox.lost == 0) {
		got += wire_drain(inbox_ends[1]);
		pump_turns(1);
	}
	got += wire_drain(inbox_ends[1]);
	ck_assert_uint_eq(got, filled + INBOX_HEADER + 6);
	ck_assert_int_eq(inbox.reason, 0);
	close_messages();
}

TEST_CASE("the log");

static char logged[256];
static unsigned int log_lines;

static void keep_line(enum ferry_log_level level, const char *line)
{
	ck_assert_int_eq(level, FERRY_LOG_WARNING);
	snprintf(logged, sizeof(logged), "%s", line);
	log_lines++;
}

/* One line, with the socket of the stream and this fault of its peer. */
static void expect_logged(const char *fault)
{
	char expected[256];
	int fd = (int)bufferevent_getfd(inbox_bufferevent(&inbox));

	ck_assert_int_ge(fd, 0);
	snprintf(expected, sizeof(expected), "messages on %d: the peer sent %s", fd, fault);
	ck_assert_str_eq(logged, expected);
	ck_assert_uint_eq(log_lines, 1);
	ferry_log_set_cb(NULL);
}

static void open_logged(void)
{
	open_messages();
	log_lines = 0;
	ferry_log_set_cb(keep_line);
}

TEST(a_message_over_the_limits_is_logged)
{
	unsigned char frame[INBOX_HEADER + 11];
	open_logged();
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 10, 3), 0);
	far_send_marked(frame, put_message_frame(frame, 1, 11, 0), 0, 0);
	pump_until_count(&log_lines, 1);
	expect_logged("a message over the limits");
	close_messages();
}

TEST(other_descriptors_than_declared_are_logged)
{
	unsigned char frame[INBOX_HEADER];
	open_logged();
	far_send_marked(frame, put_message_frame(frame, 1, 0, 1), 0, 2);
	pump_until_count(&log_lines, 1);
	expect_logged("a message with other descriptors than it declares");
	close_messages();
}

TEST(descriptors_without_a_message_are_logged)
{
	unsigned char frame[INBOX_HEADER];
	open_logged();
	far_send_marked(frame, put_message_frame(frame, 1, 0, 0), 0, 1);
	pump_until_count(&log_lines, 1);
	expect_logged("descriptors that no message declares");
	close_messages();
}

TEST(an_end_inside_of_a_message_is_logged)
{
	unsigned char frame[INBOX_HEADER + 2];
	open_logged();
	far_send_marked(frame, put_message_frame(frame, 1, 2, 0) - 1, 0, 0);
	close_inbox_far();
	pump_until_count(&log_lines, 1);
	expect_logged("its end in the middle of a message");
	close_messages();
}

TEST(a_clean_end_is_not_logged)
{
	open_logged();
	far_frame(1, 10, 0, 2);
	close_inbox_far();
	expect_inbox_lost(0);
	ck_assert_uint_eq(log_lines, 0);
	ferry_log_set_cb(NULL);
	close_messages();
}
