/* Channels of messages: their events, the descriptors in them, the limits, and sending. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listening.h"
#include "message_inbox.h"
#include "poll_log.h"
#include "test.h"
#include "wire.h"

enum { LIMIT = 4096 };

/* The far end writes frames by hand: message_inbox.h sends on inbox_ends[1]. */
static void open_message_channel(void)
{
	int ends[2];

	open_poller();
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_channel_new_socket(&channel, poller, ends[0]), 0);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 100000, 253), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	peer = inbox_ends[1] = ends[1];
}

static void expect_message(const struct ferry_channel_event *event, unsigned int type,
                           size_t length, size_t fds, uint32_t mark)
{
	size_t payload_length;

	ck_assert_int_eq(event->kind, FERRY_CHANNEL_MESSAGE);
	ck_assert_ptr_eq(event->channel, channel);
	ck_assert_uint_eq(ferry_message_get_type(event->message), type);
	ck_assert_ptr_eq(ferry_message_get_payload(event->message, &payload_length), event->data);
	ck_assert_uint_eq(payload_length, length);
	ck_assert_uint_eq(event->length, length);
	ck_assert_int_eq(event->fd, -1);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq((unsigned char)event->data[i], support_byte(i));
	ck_assert_uint_eq(ferry_message_get_fd_count(event->message), fds);
	ck_assert_uint_eq(ferry_message_get_fds_lost(event->message), 0);
	for (size_t i = 0; i < fds; i++)
		ck_assert_uint_eq(marked_number(ferry_message_get_fd(event->message, i)), mark + i);
	ck_assert_int_eq(ferry_message_get_fd(event->message, fds), -ENOENT);
}

/* The next events, however many turns they take. */
static int poll_some(int max)
{
	int count = ferry_poller_poll(poller, &deadline, events, max);

	ck_assert_int_gt(count, 0);
	return count;
}

TEST_CASE("receiving");

TEST(each_message_is_an_event_with_its_descriptors)
{
	static const size_t lengths[] = {10, 0, 3000}, fd_counts[] = {2, 0, 3};
	static const uint32_t seeds[] = {5, 0, 9};
	unsigned int got = 0;

	open_message_channel();
	far_frame(1, 10, 5, 2);
	far_frame(2, 0, 0, 0);
	far_frame(3, 3000, 9, 3);
	while (got < 3) {
		int count = poll_some(8);
		for (int i = 0; i < count; i++, got++) {
			ck_assert_uint_lt(got, 3);
			expect_message(&events[i], got + 1, lengths[got], fd_counts[got], seeds[got]);
		}
	}
	close_poller();
}

TEST(a_stolen_descriptor_is_the_callers_and_the_others_are_closed)
{
	open_message_channel();
	far_frame(1, 5, 7, 3);
	ck_assert_int_eq(poll_some(8), 1);
	int kept = ferry_message_steal_fd(events[0].message, 1);
	int closed = ferry_message_get_fd(events[0].message, 2);
	ck_assert_uint_eq(marked_number(kept), 8);
	ck_assert_int_eq(ferry_message_steal_fd(events[0].message, 1), -ENOENT);
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[0]), -ENOENT);
	ck_assert(fd_is_open(closed));
	ck_assert_int_eq(ferry_poller_poll(poller, &at_once, events, 8), 0);
	ck_assert(!fd_is_open(closed) && fd_is_open(kept));
	close(kept);
	close_poller();
}

/* _i: what becomes of the channel while its events are in the program's hands */
LOOP_TEST(a_message_is_valid_until_the_next_poll, 3)
{
	open_message_channel();
	far_frame(1, 100, 3, 2);
	ck_assert_int_eq(poll_some(8), 1);
	if (_i == 0)
		ferry_channel_free(channel);
	else if (_i == 1)
		ck_assert_int_eq(ferry_channel_send_message(channel, 1, "x", 1, NULL, 0, 0), 0);
	else
		ck_assert_int_eq(ferry_channel_close(channel), 0);
	expect_message(&events[0], 1, 100, 2, 3);
	close_poller();
}

TEST(messages_that_nobody_polls_are_freed)
{
	open_message_channel();
	for (unsigned int i = 0; i < 20; i++)
		far_frame(i, 50, i, 2);
	ck_assert_int_eq(poll_some(3), 3);
	close_poller();
}

TEST(no_more_than_the_limits_is_read_ahead)
{
	unsigned int got = 0;
	const int open_before = count_open_fds();

	open_message_channel();
	ck_assert_int_eq(ferry_channel_set_limits(channel, LIMIT, LIMIT), 0);
	for (unsigned int i = 0; i < 12; i++)
		far_frame(i, 2000, i, 20);
	ck_assert_int_eq(poll_some(1), 1);
	expect_message(&events[0], got++, 2000, 20, 0);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(ferry_channel_flush(channel, &at_once), 0);
	/* 12 messages have 240; a poller has 5, and a read ahead brings those of one message more. */
	ck_assert_int_le(count_open_fds(), open_before + 10 + 6 * 20);
	while (got < 12) {
		int count = poll_some(2);
		for (int i = 0; i < count; i++, got++)
			expect_message(&events[i], got, 2000, 20, got);
	}
	close_poller();
}

TEST(lost_descriptors_are_reported_for_their_message)
{
	open_message_channel();
	far_frame(1, 5, 0, 3);
	far_frame(2, 5, 0, 0);
	limit_descriptors(1);
	int count = poll_some(8);
	unlimit_descriptors();
	ck_assert_uint_eq(ferry_message_get_fd_count(events[0].message), 3);
	ck_assert_uint_eq(ferry_message_get_fds_lost(events[0].message), 2);
	ck_assert_uint_eq(marked_number(ferry_message_get_fd(events[0].message, 0)), 0);
	if (count == 1)
		count = poll_some(8) + 1;
	ck_assert_int_eq(count, 2);
	close_poller();
}

TEST(a_peer_that_breaks_the_format_closes_the_channel_behind_its_messages)
{
	open_message_channel();
	far_frame(1, 5, 0, 1);
	ck_assert_int_eq(write(peer, "no frame at all ", 16), 16);
	ck_assert_int_eq(poll_some(1), 1);
	expect_message(&events[0], 1, 5, 1, 0);
	ck_assert_int_eq(poll_some(8), 1);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_CLOSED);
	ck_assert_int_eq(events[0].reason, -EPROTO);
	ck_assert_int_eq(ferry_channel_send_message(channel, 1, NULL, 0, NULL, 0, 0), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 1, 1), -ENOTCONN);
	close_poller();
}

TEST(the_peers_end_comes_behind_its_messages)
{
	open_message_channel();
	ck_assert_int_eq(ferry_channel_set_half_close(channel, true), 0);
	far_frame(1, 5, 0, 0);
	ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
	ck_assert_int_eq(poll_some(1), 1);
	expect_message(&events[0], 1, 5, 0, 0);
	ck_assert_int_eq(poll_some(8), 1);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_END);
	ck_assert_int_eq(ferry_channel_send_message(channel, 2, "late", 4, NULL, 0, 0), 0);
	ck_assert_int_eq(ferry_channel_close(channel), 0);
	ck_assert_int_eq(poll_some(8), 1);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_CLOSED);
	ck_assert_int_eq(events[0].reason, 0);
	ck_assert_uint_eq(wire_drain(peer), INBOX_HEADER + 4);
	close_poller();
}

TEST(a_channel_that_is_not_registered_reads_nothing_and_loses_nothing)
{
	open_message_channel();
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	far_frame(1, 5, 4, 1);
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), 0);
	ck_assert_int_eq(ferry_poller_poll(poller, &at_once, events, 8), -ENOENT);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(poll_some(8), 1);
	expect_message(&events[0], 1, 5, 1, 4);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ferry_channel_free(channel);
	close_poller();
}

TEST_CASE("sending");

TEST(a_message_is_sent_at_once)
{
	unsigned char bytes[INBOX_HEADER + 5];
	struct wire_read result;

	open_message_channel();
	int fd = make_marked_fd(6);
	ck_assert_int_eq(ferry_channel_send_message(channel, 0x1234, "hello", 5, &fd, 1, FERRY_FD_TAKE),
	                 0);
	wire_receive(peer, bytes, sizeof(bytes), &result);
	ck_assert_int_eq(result.bytes, sizeof(bytes));
	ck_assert_uint_eq(bytes[4], 0x34);
	ck_assert_mem_eq(bytes + INBOX_HEADER, "hello", 5);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 6);
	wire_close_fds(&result);
	close_poller();
}

TEST(a_full_queue_refuses_a_message_and_an_event_comes_once_there_is_room)
{
	static char payload[LIMIT];
	int status;

	open_message_channel();
	ck_assert_int_eq(ferry_channel_set_limits(channel, LIMIT, LIMIT), 0);
	do
		status = ferry_channel_send_message(channel, 1, payload, LIMIT, NULL, 0, 0);
	while (status == 0);
	ck_assert_int_eq(status, -EAGAIN);
	ck_assert_int_eq(ferry_poller_poll(poller, &at_once, events, 8), 0);
	int count = 0;
	while (count == 0) {
		(void)wire_drain(peer);
		count = ferry_poller_poll(poller, &at_once, events, 8);
	}
	ck_assert_int_eq(count, 1);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_WRITABLE);
	ck_assert_int_eq(ferry_channel_send_message(channel, 1, payload, LIMIT, NULL, 0, 0), 0);
	close_poller();
}

TEST(a_message_that_is_refused_leaves_its_descriptors_the_callers)
{
	open_message_channel();
	int fd = make_marked_fd(1);
	ck_assert_int_eq(ferry_channel_send_message(channel, 1, NULL, 100001, &fd, 1, FERRY_FD_TAKE),
	                 -EINVAL);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 10, 0), 0);
	ck_assert_int_eq(ferry_channel_send_message(channel, 1, "12345678901", 11, NULL, 0, 0),
	                 -EMSGSIZE);
	ck_assert_int_eq(ferry_channel_send_message(channel, 1, "x", 1, &fd, 1, FERRY_FD_TAKE),
	                 -EMSGSIZE);
	ck_assert_int_eq(ferry_channel_close_write(channel), 0);
	ck_assert_int_eq(ferry_channel_send_message(channel, 1, "x", 1, NULL, 0, 0), -EPIPE);
	ck_assert(fd_is_open(fd));
	close(fd);
	close_poller();
}

TEST_CASE("settings");

TEST(bytes_would_break_a_channel_of_messages)
{
	open_message_channel();
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_printf(channel, "x"), -EINVAL);
	ck_assert_int_eq(ferry_channel_send_fd(channel, 0, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 10), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, NULL, 0, 0), -EINVAL);
	close_poller();
}

TEST(only_a_channel_that_is_new_becomes_one_of_messages)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_set_messages(NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 1, 254), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_messages(channel, (size_t)1 << 31, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 1, 1), -EBUSY);
	ck_assert_int_eq(ferry_channel_send_message(channel, 1, "x", 1, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_send_message(NULL, 1, "x", 1, NULL, 0, 0), -EINVAL);
	peer_put("bytes");
	ck_assert_int_eq(poll_now(), 1);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 1, 1), -EBUSY);
	ck_assert_int_eq(ferry_channel_write(channel, "still bytes", 11), 0);
	expect_sent(peer, "still bytes");
	ferry_channel_free(channel);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 1, 1), -ENOTCONN);
	close_poller();
}

TEST(a_transport_with_input_becomes_a_channel_of_messages)
{
	int ends[2];

	open_poller();
	make_pair(PAIR_UNIX, ends);
	peer = inbox_ends[1] = ends[1];
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new_socket(&transport, ferry_poller_get_base(poller), ends[0]),
	                 0);
	ck_assert_int_eq(ferry_channel_new_transport(&channel, poller, transport), 0);
	far_frame(1, 5, 2, 1);
	ck_assert_int_eq(ferry_channel_set_messages(channel, 100, 1), 0);
	ck_assert_ptr_eq(ferry_channel_get_transport(channel), transport);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(poll_some(8), 1);
	expect_message(&events[0], 1, 5, 1, 2);
	close_poller();
}

TEST(the_connections_of_a_server_have_messages)
{
	struct ferry_channel *server;

	open_poller();
	int listening = listen_abstract();
	ck_assert_int_eq(evutil_make_socket_nonblocking(listening), 0);
	ck_assert_int_eq(ferry_poller_add_server(&server, poller, listening), 0);
	ck_assert_int_eq(ferry_channel_set_messages(server, 1000, 2), 0);
	peer = inbox_ends[1] = connect_to(listening);
	far_frame(1, 5, 2, 1);
	ck_assert_int_eq(poll_some(1), 1);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_ACCEPTED);
	channel = events[0].accepted;
	ck_assert_int_eq(poll_some(1), 1);
	expect_message(&events[0], 1, 5, 1, 2);
	far_frame(2, 1001, 0, 0);
	ck_assert_int_eq(poll_some(1), 1);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_CLOSED);
	ck_assert_int_eq(events[0].reason, -EPROTO);

	ck_assert_int_eq(ferry_channel_set_lines(server, "\n", 1, 100), 0);
	int second = connect_to(listening);
	ck_assert_int_eq(write(second, "line\n", 5), 5);
	ck_assert_int_eq(poll_some(1), 1);
	ck_assert_int_eq(poll_some(1), 1);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_LINE);
	close(second);
	ferry_channel_free(server);
	close(listening);
	close_poller();
}
