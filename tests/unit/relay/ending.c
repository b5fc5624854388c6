/* Errors of one side end the other, behind all that was sent; the owner ends both; each descriptor is closed once. */

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/ferry.h"

#include "children.h"
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

/* A TCP peer that closes so resets the connection. */
static void reset_peer(int side)
{
	const struct linger at_once = {.l_onoff = 1};

	setsockopt(peers[side], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close_peer((enum ferry_relay_side)side);
}

TEST_CASE("errors");

LOOP_TEST(a_reset_passes_behind_the_bytes, 2)
{
	char byte;

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	put_text(_i, "half a stream");
	expect_text(other(_i), "half a stream");
	reset_peer(_i);
	ck_assert_int_eq(receive_from_relay(other(_i), &byte, 1), -ECONNRESET);
	expect_relay_end((enum ferry_relay_side)_i, -ECONNRESET);
	ck_assert_uint_eq(relay_notes.half_ends[_i], 0);
	close_relay();
}

/* The other peer has not read yet: the relay's queue and the kernel's queues are full. */
static uint64_t fill(int from)
{
	static char block[65536];
	int idle = 0;

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)support_byte(i);
	while (idle < 10) {
		idle = wire_send(peers[from], block, sizeof(block), NULL, 0) > 0 ? 0 : idle + 1;
		pump_turns(2);
	}
	return relay_flow((enum ferry_relay_side)from).bytes_received;
}

static uint64_t read_to_end(int side, int *end)
{
	static char block[65536];
	uint64_t total = 0;
	ssize_t length;

	while ((length = receive_from_relay((enum ferry_relay_side)side, block, sizeof(block))) > 0)
		total += (uint64_t)length;
	*end = (int)length;
	return total;
}

LOOP_TEST(bytes_that_were_received_before_a_reset_arrive_before_it, 2)
{
	int end;

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	fill(_i);
	reset_peer(_i);
	uint64_t total = read_to_end(1 - _i, &end);
	ck_assert_int_eq(end, -ECONNRESET);
	ck_assert_uint_eq(total, relay_flow((enum ferry_relay_side)_i).bytes_passed);
	expect_relay_end((enum ferry_relay_side)_i, -ECONNRESET);
	close_relay();
}

/* It does not read the answers: the kernel reports ECONNRESET, or EPIPE to the writer. */
LOOP_TEST(a_unix_peer_that_dies_with_unread_input_loses_nothing_that_it_sent, 2)
{
	int end;

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	put_text(1 - _i, "unread");
	uint64_t sent = fill(_i);
	pump_turns(5);
	close_peer((enum ferry_relay_side)_i);
	uint64_t total = read_to_end(1 - _i, &end);
	ck_assert(end == 0 || end == -ECONNRESET);
	ck_assert_uint_ge(total, sent);
	ck_assert_uint_eq(total, relay_flow((enum ferry_relay_side)_i).bytes_passed);
	pump_until_count(&relay_notes.ended, 1);
	ck_assert_int_eq(relay_notes.side, _i);
	close_relay();
}

/* Both queues are full, and both peers go. */
LOOP_TEST(both_peers_go_at_once, 4)
{
	open_relay(_i & 1 ? PAIR_TCP : PAIR_UNIX, _i & 2 ? PAIR_TCP : PAIR_UNIX, &noting);
	fill(0);
	fill(1);
	close_peer(FERRY_RELAY_CLIENT);
	close_peer(FERRY_RELAY_SERVER);
	pump_until_count(&relay_notes.ended, 1);
	close_relay();
}

static struct ferry_transport *connect_to_nobody(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int bound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ferry_transport *transport;

	ck_assert_int_eq(bind(bound, (struct sockaddr *)&address, length), 0);
	ck_assert_int_eq(getsockname(bound, (struct sockaddr *)&address, &length), 0);
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_socket_connect(bev, (struct sockaddr *)&address, (int)length);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	close(bound);
	return transport;
}

TEST(a_server_that_refuses_the_connection_ends_the_relay)
{
	char byte;

	open_half_relay(PAIR_TCP, &noting);
	put_text(0, "in vain");
	ck_assert_int_eq(ferry_relay_set_server(relay, connect_to_nobody()), 0);
	expect_relay_end(FERRY_RELAY_SERVER, -ECONNREFUSED);
	ck_assert_int_eq(receive_from_relay(FERRY_RELAY_CLIENT, &byte, 1), -ECONNRESET);
	close_relay();
}

TEST_CASE("limits");

static void put_fds(size_t count)
{
	int fds[WIRE_MAX_FDS] = {0};

	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd((uint32_t)i);
	ck_assert_int_eq(wire_send(peers[0], "x", 1, fds, count), 1);
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

TEST(more_descriptors_than_the_limit_of_the_queue_end_the_relay)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	ferry_transport_set_fd_buffer(ferry_relay_get_transport(relay, FERRY_RELAY_SERVER), 1, 2);
	put_fds(3);
	expect_relay_end(FERRY_RELAY_SERVER, -ENOBUFS);
	expect_end_of_file(FERRY_RELAY_CLIENT);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).fds_passed, 2);
	close_relay();
}

TEST(more_bytes_than_the_limit_end_the_relay)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	ferry_transport_set_byte_limit(ferry_relay_get_transport(relay, FERRY_RELAY_SERVER), 4);
	put_text(0, "hello");
	expect_relay_end(FERRY_RELAY_SERVER, -ENOBUFS);
	close_relay();
}

TEST(descriptors_that_the_kernel_cannot_install_end_the_relay)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	put_text(0, "before");
	put_fds(20);
	limit_descriptors(5);
	expect_text(FERRY_RELAY_SERVER, "before");
	expect_relay_end(FERRY_RELAY_CLIENT, -EMSGSIZE);
	unlimit_descriptors();
	wire_drain(peers[1]);
	close_relay();
}

TEST_CASE("the owner");

LOOP_TEST(closing_sends_the_rest, 2)
{
	int end;

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	uint64_t total = fill(_i);
	ck_assert_int_eq(ferry_relay_close(relay), 0);
	ck_assert_int_eq(ferry_relay_close(relay), 0);
	ck_assert_uint_eq(read_to_end(1 - _i, &end), total);
	ck_assert_int_eq(end, 0);
	expect_relay_end(FERRY_RELAY_CLIENT, 0);
	close_relay();
}

/* The client's byte is below its low-water mark, and was not passed on; its descriptor was. The server never gets it, and
 * the end says so. */
LOOP_TEST(closing_between_a_descriptor_and_its_byte_is_no_clean_end, 2)
{
	enum ferry_relay_side to = (enum ferry_relay_side)(1 - _i);
	struct wire_read read;
	char byte;

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	struct ferry_transport *from = ferry_relay_get_transport(relay, (enum ferry_relay_side)_i);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(from), EV_READ, 10, 0);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(peers[_i], "x", 1, &fd, 1), 1);
	close(fd);
	while (relay_flow((enum ferry_relay_side)_i).fds_received == 0)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(ferry_relay_close(relay), 0);
	expect_hang_up(to);
	wire_receive(peers[to], &byte, 1, &read);
	ck_assert_int_eq(read.bytes, 0);
	ck_assert_uint_eq(read.fd_count, 0);
	expect_relay_end(to, -ENODATA);
	close_relay();
}

TEST(aborting_drops_the_rest)
{
	int end;

	open_relay(PAIR_TCP, PAIR_TCP, &noting);
	fill(0);
	ck_assert_int_eq(ferry_relay_abort(relay, -EPERM), 0);
	ck_assert_int_eq(ferry_relay_abort(relay, -EACCES), 0);
	expect_relay_end(FERRY_RELAY_CLIENT, -EPERM);
	read_to_end(1, &end);
	ck_assert_int_eq(end, -ECONNRESET);
	close_relay();
}

TEST(a_relay_that_closes_can_be_aborted)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	fill(0);
	ferry_relay_close(relay);
	pump_turns(5);
	ck_assert_uint_eq(relay_notes.ended, 0);
	ferry_relay_abort(relay, -ESHUTDOWN);
	expect_relay_end(FERRY_RELAY_CLIENT, -ESHUTDOWN);
	close_relay();
}

LOOP_TEST(without_callbacks_the_relay_frees_itself, 2)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, NULL);
	close_peer((enum ferry_relay_side)_i);
	expect_end_of_file(other(_i));
	pump_turns(5);
	relay = NULL;
	close_relay();
}

TEST(freeing_closes_both_connections)
{
	open_relay(PAIR_UNIX, PAIR_TCP, &noting);
	ferry_relay_free(relay);
	relay = NULL;
	expect_end_of_file(FERRY_RELAY_CLIENT);
	expect_end_of_file(FERRY_RELAY_SERVER);
	close_relay();
	ferry_relay_free(NULL);
}

TEST(a_child_may_free_its_copy)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	put_text(0, "one");
	expect_text(FERRY_RELAY_SERVER, "one");
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		ck_assert_int_eq(event_reinit(base), 0);
		ferry_relay_free(relay);
		pump_turns(3);
		die();
	}
	wait_for_death(child);
	put_text(0, "two");
	expect_text(FERRY_RELAY_SERVER, "two");
	put_text(1, "three");
	expect_text(FERRY_RELAY_CLIENT, "three");
	ck_assert_uint_eq(relay_notes.half_ends[0] + relay_notes.half_ends[1], 0);
	close_relay();
}

TEST(the_credentials_of_the_client_are_at_hand)
{
	struct ferry_peer_credentials peer;

	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	ck_assert_int_eq(ferry_transport_get_peer_credentials(
	                     ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT), &peer),
	                 0);
	ck_assert_int_eq(peer.pid, getpid());
	close_peer(FERRY_RELAY_CLIENT);
	expect_relay_end(FERRY_RELAY_CLIENT, 0);
	ck_assert_int_eq(ferry_transport_get_peer_credentials(
	                     ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT), &peer),
	                 0);
	close_relay();
}
