/* lose_connection(): what was sent arrives, whatever the peer still sends, and no close waits for ever. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "plain_link.h"
#include "test.h"
#include "wire.h"

enum { ANSWER = 2 << 20, UPLOAD = 400000, PIECE = 20000 };

static const struct timeval at_once = {0};
static const struct timeval soon = {.tv_usec = 20000};

static void write_block(struct recorder *recorder, size_t length)
{
	char *block = calloc(1, length);
	ck_assert_int_eq(ferry_transport_write(recorder->transport, block, length), 0);
	free(block);
}

static void send_piece(void)
{
	static char piece[PIECE];
	ssize_t n = send(far_out, piece, sizeof(piece), MSG_NOSIGNAL);
	ck_assert(n > 0 || errno == EAGAIN);
}

static void answer_and_close(struct recorder *recorder, char event)
{
	if (event != EVENT_DATA || recorder->argument != NULL)
		return;
	recorder->argument = recorder;
	write_block(recorder, ANSWER);
	ck_assert_int_eq(ferry_transport_lose_connection(recorder->transport), 0);
}

/* Reads to the end; returns the number of bytes. */
static size_t read_to_the_end(void)
{
	char bytes[16384];
	size_t total = 0;

	for (;;) {
		ssize_t n = read(far_in, bytes, sizeof(bytes));
		if (n == 0)
			return total;
		ck_assert(n > 0 || errno == EAGAIN);
		if (n > 0)
			total += (size_t)n;
		pump_turns(1);
	}
}

TEST_CASE("TCP");

TEST(an_answer_that_is_given_before_the_whole_upload_arrives_whole)
{
	open_plain_link(LINK_TCP);
	near.hook = answer_and_close;
	for (int sent = 0; sent < UPLOAD; sent += PIECE) {
		send_piece();
		pump_turns(2);
	}
	end_far_output();

	ck_assert_uint_eq(read_to_the_end(), ANSWER);

	check_lost(0);
	close_plain_link();
}

TEST(a_peer_that_does_not_end_is_closed_at_the_deadline)
{
	open_plain_link(LINK_TCP);
	ck_assert_int_eq(ferry_transport_set_linger_timeout(near.transport, &soon), 0);
	write_text("whole");
	QUIETLY(ferry_transport_lose_connection(near.transport));

	expect_far_text("whole");
	check_lost(0);
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

TEST(nothing_is_waited_for_with_a_deadline_of_0)
{
	open_plain_link(LINK_TCP);
	ck_assert_int_eq(ferry_transport_set_linger_timeout(near.transport, &at_once), 0);
	write_text("whole");
	QUIETLY(ferry_transport_lose_connection(near.transport));

	pump_turns(4);

	ck_assert_uint_eq(near.lost, 1);
	check_lost(0);
	expect_far_text("whole");
	close_plain_link();
}

TEST(a_peer_that_sends_for_ever_is_cut_off)
{
	open_plain_link(LINK_TCP);
	ck_assert_int_eq(ferry_transport_set_linger_timeout(near.transport, NULL), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));

	while (near.lost == 0) {
		static char piece[1 << 20];
		(void)!send(far_out, piece, sizeof(piece), MSG_NOSIGNAL);
		pump_turns(1);
	}

	check_lost(-ECONNABORTED);
	close_plain_link();
}

static void wait_for_the_end_of(const char *text)
{
	write_text(text);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	expect_far_text(text);
	ck_assert_int_eq(far_end(), 0);
}

TEST(a_reset_while_the_close_waits_is_the_reason)
{
	open_plain_link(LINK_TCP);
	wait_for_the_end_of("whole");
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	setsockopt(far_in, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close_plain_far();

	check_lost(-ECONNRESET);
	close_plain_link();
}

TEST(the_close_ends_when_the_peer_ends)
{
	open_plain_link(LINK_TCP);
	ck_assert_int_eq(ferry_transport_set_linger_timeout(near.transport, NULL), 0);
	wait_for_the_end_of("whole");
	pump_turns(4);
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_int_eq(send(far_out, "dropped", 7, MSG_NOSIGNAL), 7);
	close_plain_far();

	check_lost(0);
	ck_assert_uint_eq(near.data, 0);
	close_plain_link();
}

enum { BLOCK = 300000 };

/* The kernel has all of it, the peer's window is full. */
static void close_with_a_full_window(const struct timeval *linger)
{
	int size = 4096;
	open_plain_link(LINK_TCP);
	ck_assert_int_eq(setsockopt(far_in, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	ck_assert_int_eq(ferry_transport_set_linger_timeout(near.transport, linger), 0);
	write_block(&near, BLOCK);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	while (near.lost == 0 && stats_of(near.transport).bytes_queued > 0)
		pump_turns(1);
}

TEST(bytes_that_the_peer_never_takes_are_no_clean_end)
{
	close_with_a_full_window(&soon);
	check_lost(-ETIMEDOUT);
	close_plain_link();
}

static void read_some(evutil_socket_t fd, short what, void *argument)
{
	char bytes[2000];
	(void)fd, (void)what;
	ssize_t n = read(far_in, bytes, sizeof(bytes));
	if (n > 0)
		*(size_t *)argument += (size_t)n;
}

TEST(the_peers_end_is_not_enough_while_bytes_are_not_acknowledged)
{
	close_with_a_full_window(NULL);
	end_far_output();
	pump_turns(5);
	ck_assert_uint_eq(near.lost, 0);
	size_t taken = 0;
	struct event *reader = event_new(base, -1, EV_PERSIST, read_some, &taken);
	event_add(reader, &(struct timeval){.tv_usec = 200});

	check_lost(0);

	event_free(reader);
	ck_assert_uint_eq(taken + read_to_the_end(), BLOCK);
	close_plain_link();
}

TEST_CASE("unix");

TEST(unread_bytes_and_descriptors_do_not_turn_the_end_into_an_error)
{
	open_plain_link(LINK_UNIX);
	ck_assert_int_eq(ferry_transport_pause_reading(near.transport), 0);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(far_out, "unread", 6, &fd, 1), 6);
	close(fd);
	write_text("whole");
	QUIETLY(ferry_transport_lose_connection(near.transport));
	check_lost(0);
	recorder_free_transport(&near);
	pump_turns(3);

	expect_far_text("whole");
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

TEST_CASE("no close waits for ever");

LOOP_TEST(two_ends_that_close_with_full_queues_do_not_wait_for_each_other, LINK_KINDS)
{
	static struct recorder other;
	open_plain_link(_i);
	if (_i == LINK_PIPES)
		recorder_open_pipes(&other, far_in, far_out, &recorder_protocol);
	else
		recorder_open(&other, far_in, &recorder_protocol);
	far_in = far_out = -1;
	struct recorder *both[] = {&near, &other};
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ferry_transport_pause_reading(both[i]->transport), 0);
		write_block(both[i], 16 << 20);
	}
	pump_turns(20);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(ferry_transport_lose_connection(both[i]->transport), 0);

	pump_until_lost(&near);
	pump_until_lost(&other);

	if (_i == LINK_TCP) {
		ck_assert_int_eq(near.reason, 0);
		ck_assert_int_eq(other.reason, 0);
	}
	recorder_close(&other);
	close_plain_link();
}

/* Puts a source that never has a byte into the stream; returns its other end. */
static int send_silence(void)
{
	int source[2];
	make_pipe(source);
	ck_assert_int_eq(ferry_transport_send_file(NULL, near.transport, source[0], FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	return source[1];
}

LOOP_TEST(a_close_timeout_ends_a_close_that_a_silent_source_holds_up, LINK_KINDS)
{
	open_plain_link(_i);
	int source = send_silence();
	ck_assert_int_eq(ferry_transport_set_close_timeout(near.transport, &soon), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(-ETIMEDOUT);

	close(source);
	close_plain_link();
}

LOOP_TEST(a_close_timeout_applies_to_a_close_that_the_peer_began, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_no_half_close);
	pump_turns(2);
	int source = send_silence();
	end_far_output();
	pump_turns(5);
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_int_eq(ferry_transport_set_close_timeout(near.transport, &soon), 0);

	check_lost(-ETIMEDOUT);

	close(source);
	close_plain_link();
}

TEST(timeouts_for_closing_are_checked)
{
	const struct timeval negative = {.tv_sec = -1};
	ck_assert_int_eq(ferry_transport_set_linger_timeout(NULL, &soon), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_close_timeout(NULL, &soon), -EINVAL);
	open_plain_link(LINK_UNIX);
	ck_assert_int_eq(ferry_transport_set_linger_timeout(near.transport, &negative), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_close_timeout(near.transport, &negative), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_close_timeout(near.transport, NULL), 0);
	close_plain_link();
}
