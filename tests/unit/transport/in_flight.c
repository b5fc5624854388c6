/* The limit of descriptors in flight: who waits at it, who does not, and who goes on when. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "links.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { LINKS = 12 };

static struct ferry_in_flight_info info(void)
{
	struct ferry_in_flight_info result;
	ck_assert_int_eq(ferry_in_flight_get_info(&result), 0);
	return result;
}

static void expect_no_links(void)
{
	close_links();
	ck_assert_uint_eq(info().fds, 0);
	ck_assert_uint_eq(info().transports, 0);
}

/* Queues `count` messages of one descriptor and one byte. */
static void send_numbers(struct link *link, uint32_t count)
{
	while (count-- > 0) {
		int fd = make_marked_fd(link->sent++);
		ck_assert_int_eq(ferry_transport_send_fd(link->near.transport, fd, FERRY_FD_TAKE), 0);
		ck_assert_int_eq(ferry_transport_write(link->near.transport, "n", 1), 0);
	}
}

/* Reads one message, and checks that the numbers come in order. False: there is none. */
static bool receive_message(struct link *link)
{
	struct wire_read got;
	char byte;

	wire_receive(link->far, &byte, 1, &got);
	if (got.bytes == -EAGAIN)
		return false;
	ck_assert_int_eq(got.bytes, 1);
	for (size_t i = 0; i < got.fd_count; i++)
		ck_assert_uint_eq(marked_number(got.fds[i]), link->received++);
	wire_close_fds(&got);
	return true;
}

static void receive_numbers(struct link *link, uint32_t count)
{
	while (link->received < count)
		if (!receive_message(link))
			event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(link->received, count);
}

/* The peers of the links from `first` on read in turn. */
static void receive_from_links(int first, uint32_t count)
{
	bool more = true;

	while (more) {
		bool got = false;
		more = false;
		for (int i = first; i < LINKS; i++) {
			got |= receive_message(&links[i]);
			more |= links[i].received < count;
		}
		if (more && !got)
			event_base_loop(base, EVLOOP_ONCE);
	}
}

static struct ferry_transport_stats stats(const struct link *link)
{
	return stats_of(link->near.transport);
}

static bool has_retried(void *argument)
{
	return stats(argument).send_retries > 0;
}

static void pump_until_waiting(struct link *link)
{
	pump_until(has_retried, link);
}

/* Two peers that do not read have all of a limit of 2. */
static void fill_limit(void)
{
	open_limited_links(LINKS, 2);
	send_numbers(&links[0], 1);
	send_numbers(&links[1], 1);
	pump_turns(2);
	ck_assert_uint_eq(info().fds, 2);
}

TEST_CASE("waiting");

TEST(a_transport_waits_at_its_share_until_the_peer_has_read)
{
	open_limited_links(LINKS, 8);
	send_numbers(&links[0], 20);
	pump_until_waiting(&links[0]);
	ck_assert_uint_eq(stats(&links[0]).fds_in_flight, 4);
	ck_assert_uint_eq(stats(&links[0]).fds_queued, 16);
	ck_assert_uint_eq(info().fds, 4);
	ck_assert_uint_eq(info().transports, 1);

	receive_numbers(&links[0], 20);
	ck_assert_uint_eq(stats(&links[0]).fds_queued, 0);
	ck_assert_uint_le(stats(&links[0]).fds_in_flight, 4);
	ck_assert_uint_eq(stats(&links[0]).fds_in_flight, info().fds);
	expect_no_links();
}

TEST(bytes_before_the_descriptor_that_waits_have_left)
{
	char bytes[32] = "";

	open_limited_links(LINKS, 2);
	send_numbers(&links[0], 1);
	ck_assert_int_eq(ferry_transport_write(links[0].near.transport, "before", 6), 0);
	send_numbers(&links[0], 1);
	ck_assert_int_eq(ferry_transport_write(links[0].near.transport, "behind", 6), 0);
	pump_until_waiting(&links[0]);
	ck_assert_uint_eq(stats(&links[0]).bytes_sent, 7);

	receive_numbers(&links[0], 1);
	ck_assert_int_eq(read(links[0].far, bytes, sizeof(bytes)), 6);
	ck_assert_str_eq(bytes, "before");
	receive_numbers(&links[0], 2);
	ck_assert_int_eq(read(links[0].far, bytes, sizeof(bytes)), 6);
	ck_assert_str_eq(bytes, "behind");
	expect_no_links();
}

TEST(a_wait_does_not_spin)
{
	fill_limit();
	send_numbers(&links[2], 1);
	pump_without_spin(300 * 1000, 5 * 1000);
	ck_assert_uint_eq(stats(&links[2]).fds_queued, 1);
	expect_no_links();
}

TEST(a_higher_limit_lets_waiting_transports_go_on)
{
	fill_limit();
	send_numbers(&links[2], 3);
	pump_until_waiting(&links[2]);
	ferry_in_flight_set_limit(UINT_MAX);
	receive_numbers(&links[2], 3);
	expect_no_links();
}

TEST(a_flush_waits_too)
{
	open_limited_links(LINKS, 2);
	send_numbers(&links[0], 2);
	ck_assert_int_eq(
	    ferry_transport_flush(links[0].near.transport, &(struct timeval){.tv_usec = 5000}),
	    -ETIMEDOUT);
	ck_assert_uint_eq(stats(&links[0]).fds_in_flight, 1);
	receive_numbers(&links[0], 1);
	ck_assert_int_eq(ferry_transport_flush(links[0].near.transport, NULL), 0);
	receive_numbers(&links[0], 2);
	expect_no_links();
}

TEST_CASE("messages");

TEST(a_message_larger_than_the_limit_is_sent)
{
	struct wire_read got;
	int fd = make_marked_fd(0);
	char byte;

	open_limited_links(LINKS, 4);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(links[0].near.transport, WIRE_MAX_FDS),
	                 0);
	for (int i = 0; i < 2 * WIRE_MAX_FDS; i++) {
		ck_assert_int_eq(ferry_transport_send_fd(links[0].near.transport, fd, FERRY_FD_DUP), 0);
		if (i % WIRE_MAX_FDS == WIRE_MAX_FDS - 1)
			ck_assert_int_eq(ferry_transport_write(links[0].near.transport, "m", 1), 0);
	}
	send_numbers(&links[1], 1);
	for (int i = 0; i < 2; i++) {
		while (wire_receive(links[0].far, &byte, 1, &got), got.bytes == -EAGAIN)
			event_base_loop(base, EVLOOP_ONCE);
		ck_assert_uint_eq(got.fd_count, WIRE_MAX_FDS);
		wire_close_fds(&got);
		ck_assert_uint_le(info().fds, 4 + WIRE_MAX_FDS - 1);
	}
	receive_numbers(&links[1], 1);
	close(fd);
	expect_no_links();
}

TEST(coalesced_messages_are_not_larger_than_the_share)
{
	struct wire_read got;
	unsigned int count = 0;
	char bytes[64];

	open_limited_links(LINKS, 8);
	ck_assert_int_eq(ferry_transport_set_fd_coalescing(links[0].near.transport, true), 0);
	send_numbers(&links[0], 40);
	while (count < 40) {
		wire_receive(links[0].far, bytes, sizeof(bytes), &got);
		if (got.bytes == -EAGAIN)
			event_base_loop(base, EVLOOP_ONCE);
		ck_assert_uint_le(got.fd_count, 4);
		for (size_t i = 0; i < got.fd_count; i++)
			ck_assert_uint_eq(marked_number(got.fds[i]), count++);
		wire_close_fds(&got);
		ck_assert_uint_le(info().fds, 4);
	}
	expect_no_links();
}

TEST_CASE("several transports");

TEST(a_peer_that_does_not_read_stops_no_other)
{
	open_limited_links(LINKS, 8);
	send_numbers(&links[0], 50);
	send_numbers(&links[1], 50);
	pump_until_waiting(&links[0]);
	pump_until_waiting(&links[1]);
	for (int i = 2; i < LINKS; i++)
		send_numbers(&links[i], 50);
	receive_from_links(2, 50);
	ck_assert_uint_le(info().fds, 8);
	receive_numbers(&links[1], 50);
	receive_numbers(&links[0], 50);
	expect_no_links();
}

TEST(transports_whose_peers_have_read_leave_room_for_others)
{
	open_limited_links(LINKS, 4);
	for (int round = 0; round < 5; round++)
		for (int i = 0; i < LINKS; i++) {
			send_numbers(&links[i], 1);
			pump_turns(2);
			ck_assert_uint_eq(stats(&links[i]).send_retries, 0);
			ck_assert(receive_message(&links[i]));
		}
	expect_no_links();
}

TEST(the_end_of_a_peer_makes_room)
{
	fill_limit();
	send_numbers(&links[2], 1);
	pump_until_waiting(&links[2]);
	close_far_of(&links[0]);
	receive_numbers(&links[2], 1);
	pump_until_lost(&links[0].near);
	expect_no_links();
}

TEST(a_transport_whose_peer_ends_while_it_waits_is_lost)
{
	open_limited_links(LINKS, 2);
	send_numbers(&links[0], 5);
	pump_until_waiting(&links[0]);
	close_far_of(&links[0]);
	pump_until_lost(&links[0].near);
	ck_assert_uint_eq(stats(&links[0]).fds_queued, 0);
	expect_no_links();
}

TEST(transports_are_freed_while_they_wait)
{
	fill_limit();
	for (int i = 2; i < LINKS; i++)
		send_numbers(&links[i], 3);
	for (int i = 2; i < LINKS; i++)
		pump_until_waiting(&links[i]);
	for (int i = 3; i < LINKS; i++)
		recorder_free_transport(&links[i].near);
	receive_numbers(&links[1], 1);
	receive_numbers(&links[2], 3);
	expect_no_links();
}

TEST(a_transport_that_was_freed_or_detached_no_longer_counts)
{
	struct bufferevent *bev;

	fill_limit();
	recorder_free_transport(&links[0].near);
	pump_turns(2);
	ck_assert_uint_eq(info().fds, 1);
	ck_assert_int_eq(ferry_transport_detach(links[1].near.transport, &bev), 0);
	links[1].near.transport = NULL;
	pump_turns(2);
	ck_assert_uint_eq(info().fds, 0);
	bufferevent_free(bev);
	/* They are in flight still: the kernel does not care who sent them. */
	receive_numbers(&links[0], 1);
	receive_numbers(&links[1], 1);
	expect_no_links();
}

TEST(another_socket_has_an_account_of_its_own)
{
	int ends[2];

	open_limited_links(LINKS, 4);
	send_numbers(&links[0], 4);
	pump_until_waiting(&links[0]);
	ck_assert_uint_eq(info().fds, 2);
	make_pair(PAIR_UNIX, ends);
	int before = bufferevent_getfd(ferry_transport_get_bufferevent(links[0].near.transport));
	ck_assert_int_eq(ferry_transport_set_socket(links[0].near.transport, ends[0]), 0);
	close(before);
	close(links[0].far);
	links[0].far = ends[1];
	links[0].received = 2;
	receive_numbers(&links[0], 4);
	expect_no_links();
}

LOOP_TEST_FROM(connections_without_descriptors_do_not_wait, LINK_TCP, LINK_KINDS)
{
	fill_limit();
	open_plain_link(_i);
	write_text("no descriptor");
	expect_far_text("no descriptor");
	ck_assert_uint_eq(stats_of(near.transport).send_retries, 0);
	close_plain_link();
	expect_no_links();
}
