/* Received descriptors come with their bytes, in order. ferry closes and counts them if the program does not
 * take them. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd_receiver.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("delivery");

TEST(a_descriptor_comes_before_the_bytes_it_came_with)
{
	open_fd_receiver(&recorder_protocol);
	send_marked("first", 0, 1);
	send_marked("second", 1, 2);

	pump_until_length(&fd_receiver, strlen("firstsecond"));

	check_received(0, 3);
	check_text("firstsecond");
	ck_assert_uint_eq(fd_receiver.fd_at[0], 0);
	ck_assert_uint_le(fd_receiver.fd_at[1], strlen("first"));
	ck_assert_uint_le(fd_receiver.fd_at[2], strlen("first"));
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_received, 3);
	close_fd_receiver();
}

TEST(received_descriptors_are_close_on_exec)
{
	open_fd_receiver(&recorder_protocol);
	send_marked("x", 0, 5);

	pump_until_length(&fd_receiver, 1);

	check_received(0, 5);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(fcntl(fd_receiver.fds[i], F_GETFD), FD_CLOEXEC);
	close_fd_receiver();
}

TEST(a_message_of_253_descriptors_arrives_whole)
{
	open_fd_receiver(&recorder_protocol);
	int one = 1;
	/* With all that can stand beside them in the control buffer. */
	ck_assert_int_eq(setsockopt(receiver_ends[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	(void)setsockopt(receiver_ends[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one));
	(void)setsockopt(receiver_ends[1], SOL_SOCKET, SO_PASSSEC, &one, sizeof(one));
	send_marked("x", 0, WIRE_MAX_FDS);

	pump_until_length(&fd_receiver, 1);

	check_received(0, WIRE_MAX_FDS);
	ck_assert_uint_eq(fd_receiver.fds_lost, 0);
	close_fd_receiver();
}

TEST(descriptors_on_single_bytes_keep_their_order)
{
	open_fd_receiver(&recorder_protocol);
	for (uint32_t i = 0; i < 50; i++)
		send_marked("x", i, 1);

	pump_until_length(&fd_receiver, 50);

	check_received(0, 50);
	for (unsigned int i = 0; i < 50; i++)
		ck_assert_uint_le(fd_receiver.fd_at[i], i);
	close_fd_receiver();
}

TEST(a_long_text_after_a_descriptor_may_come_in_pieces)
{
	/* Twisted's documentation example puts the descriptor on the first byte of a line. */
	open_fd_receiver(&recorder_protocol);
	send_marked("/", 0, 1);
	pump_until_length(&fd_receiver, 1);
	check_received(0, 1);

	wire_send(receiver_ends[0], "etc/motd\r\n", 10, NULL, 0);
	pump_until_length(&fd_receiver, 11);

	check_text("/etc/motd\r\n");
	close_fd_receiver();
}

TEST(bytes_from_before_the_transport_was_made_are_delivered)
{
	make_pair(PAIR_UNIX, receiver_ends);
	send_marked("early", 0, 2);
	recorder_open(&fd_receiver, receiver_ends[1], &recorder_protocol);

	pump_until_length(&fd_receiver, strlen("early"));

	ck_assert_str_eq(fd_receiver.events, "MFFD");
	check_received(0, 2);
	close_fd_receiver();
}

TEST(descriptors_and_bytes_are_delivered_before_the_end)
{
	open_fd_receiver(&recorder_no_half_close);
	send_marked("last", 0, 3);
	close(receiver_ends[0]);
	receiver_ends[0] = -1;

	pump_until_lost(&fd_receiver);

	ck_assert_str_eq(fd_receiver.events, "MFFFDX");
	ck_assert_int_eq(fd_receiver.reason, 0);
	check_received(0, 3);
	check_text("last");
	close_fd_receiver();
}

TEST(descriptors_and_bytes_are_delivered_before_a_reset)
{
	open_fd_receiver(&recorder_no_half_close);
	ck_assert_int_eq(ferry_transport_write(fd_receiver.transport, "never read", 10), 0);
	pump_turns(3);
	send_marked("last", 0, 3);
	close(receiver_ends[0]);
	receiver_ends[0] = -1;

	pump_until_lost(&fd_receiver);

	ck_assert_str_eq(fd_receiver.events, "MFFFDX");
	ck_assert_int_eq(fd_receiver.reason, -ECONNRESET);
	check_received(0, 3);
	check_text("last");
	close_fd_receiver();
}

TEST(descriptors_and_bytes_are_delivered_when_writing_finds_the_peer_gone)
{
	open_fd_receiver(&recorder_no_half_close);
	send_marked("one", 0, 1);
	send_marked("two", 1, 1);
	send_marked("three", 2, 1);
	close(receiver_ends[0]);
	receiver_ends[0] = -1;
	ck_assert_int_eq(ferry_transport_write(fd_receiver.transport, "into the void", 13), 0);

	pump_until_lost(&fd_receiver);

	check_received(0, 3);
	check_text("onetwothree");
	ck_assert_int_eq(fd_receiver.reason, -EPIPE);
	close_fd_receiver();
}

TEST_CASE("nobody takes them");

TEST(without_a_callback_descriptors_are_closed_and_counted_and_bytes_delivered)
{
	open_fd_receiver(&no_fd_callback);
	send_marked("bytes", 0, 10);

	pump_until_length(&fd_receiver, 5);

	check_text("bytes");
	ck_assert_str_eq(fd_receiver.events, "MD");
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_unclaimed, 10);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_received, 10);
	close_fd_receiver();
}

TEST(a_bufferevent_without_a_descriptor_callback_closes_and_counts_them)
{
	make_pair(PAIR_UNIX, receiver_ends);
	struct ferry_transport *transport = make_transport(receiver_ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_enable(bev, EV_READ);
	send_marked("bytes", 0, 10);

	pump_turns(3);

	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 5);
	ck_assert_uint_eq(stats_of(transport).fds_unclaimed, 10);
	ferry_transport_free(transport);
	close(receiver_ends[0]);
}

/* _i: bufferevent options. */
LOOP_TEST(a_bufferevents_descriptor_callback_runs_before_its_read_callback, 2)
{
	make_pair(PAIR_UNIX, receiver_ends);
	int options = BEV_OPT_CLOSE_ON_FREE | (_i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	struct bufferevent *bev = bufferevent_socket_new(base, receiver_ends[1], options);
	struct ferry_transport *transport;
	bufferevent_setcb(bev, note_read, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_transport_set_fd_cb(transport, take_and_close, &cb_fds), 0);
	send_marked("x", 0, 7);

	pump_until_count(&cb_reads, 1);

	ck_assert_uint_eq(fds_at_read, 7);
	ck_assert_uint_eq(stats_of(transport).fds_unclaimed, 0);
	ferry_transport_free(transport);
	close(receiver_ends[0]);
}
