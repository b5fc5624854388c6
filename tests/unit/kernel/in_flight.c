/* The ledger of descriptors in flight, over sockets without a transport. */

#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/in_flight.h"

#include "test.h"
#include "wire.h"

#include "kernel/in_flight.h"
#include "kernel/send_queue.h"

enum { SOCKETS = 40 };

static int pairs[SOCKETS][2];
static struct in_flight accounts[SOCKETS];
static int passed_fd;

static void open_sockets(void)
{
	in_flight_start();
	for (int i = 0; i < SOCKETS; i++)
		make_pair(PAIR_UNIX, pairs[i]);
	passed_fd = make_marked_fd(1);
}

static void close_sockets(void)
{
	for (int i = 0; i < SOCKETS; i++) {
		in_flight_forget(&accounts[i]);
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
	close(passed_fd);
}

static struct ferry_in_flight_info info(void)
{
	struct ferry_in_flight_info result;
	ck_assert_int_eq(ferry_in_flight_get_info(&result), 0);
	return result;
}

/* What a transport does for a message. */
static bool pass(int socket, unsigned int count)
{
	int fds[WIRE_MAX_FDS];

	if (!in_flight_admit(&accounts[socket], pairs[socket][0], count))
		return false;
	for (unsigned int i = 0; i < count; i++)
		fds[i] = passed_fd;
	ck_assert_int_eq(wire_send(pairs[socket][0], "m", 1, fds, count), 1);
	in_flight_sent(&accounts[socket]);
	return true;
}

static unsigned int pass_all(int socket, unsigned int count)
{
	unsigned int messages = 0;

	while (messages < 1000 && pass(socket, count))
		messages++;
	return messages;
}

static void take(int socket, unsigned int messages)
{
	struct wire_read got;
	char byte;

	while (messages-- > 0) {
		wire_receive(pairs[socket][1], &byte, 1, &got);
		ck_assert_int_eq(got.bytes, 1);
		wire_close_fds(&got);
	}
}

TEST_CASE("the kernel");

TEST(a_message_costs_its_sender_more_than_512_bytes)
{
	open_sockets();
	for (int i = 1; i <= 10; i++) {
		ck_assert_int_eq(wire_send(pairs[0][0], "m", 1, &passed_fd, 1), 1);
		ck_assert_int_gt(send_queue_length(pairs[0][0]), i * 512);
	}
	for (int i = 9; i >= 0; i--) {
		take(0, 1);
		ck_assert_int_eq(send_queue_length(pairs[0][0]) > 0, i > 0);
	}
	close_sockets();
}

TEST_CASE("the limit");

TEST(the_limit_is_at_first_half_of_that_of_descriptors)
{
	struct rlimit limit = {.rlim_cur = 100, .rlim_max = 100};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_eq(info().limit, 50);

	ferry_in_flight_set_limit(7);
	ck_assert_uint_eq(info().limit, 7);
	limit.rlim_cur = 81;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ferry_in_flight_set_limit(0);
	ck_assert_uint_eq(info().limit, 40);
	ferry_in_flight_set_limit(UINT_MAX);
	ck_assert_uint_eq(info().limit, UINT_MAX);
	ck_assert_int_lt(ferry_in_flight_get_info(NULL), 0);
}

TEST(the_limit_is_never_0)
{
	struct rlimit limit;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	rlim_t before = limit.rlim_cur;
	limit.rlim_cur = 1;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ferry_in_flight_set_limit(0);
	limit.rlim_cur = before;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_eq(info().limit, 1);
	ck_assert_uint_eq(in_flight_share(), 1);

	open_sockets();
	ck_assert_uint_eq(pass_all(0, 1), 1);
	ck_assert(!pass(1, 1));
	take(0, 1);
	ck_assert(pass(1, 1));
	close_sockets();
}

TEST(each_socket_gets_half_of_what_the_others_leave)
{
	open_sockets();
	ferry_in_flight_set_limit(64);
	ck_assert_uint_eq(in_flight_share(), 32);
	ck_assert_uint_eq(pass_all(0, 1), 32);
	ck_assert_uint_eq(pass_all(1, 1), 16);
	ck_assert_uint_eq(pass_all(2, 1), 8);
	ck_assert_uint_eq(pass_all(3, 1), 4);
	ck_assert_uint_eq(pass_all(4, 1), 2);
	ck_assert_uint_eq(pass_all(5, 1), 1);
	ck_assert_uint_eq(pass_all(6, 1), 1);
	ck_assert_uint_eq(pass_all(7, 1), 0);
	ck_assert_uint_eq(info().fds, 64);
	ck_assert_uint_eq(info().transports, 7);
	close_sockets();
	ck_assert_uint_eq(info().fds, 0);
	ck_assert_uint_eq(info().transports, 0);
}

TEST(a_message_larger_than_the_limit_goes_if_nothing_else_is_in_flight)
{
	open_sockets();
	ferry_in_flight_set_limit(32);
	ck_assert(pass(0, WIRE_MAX_FDS));
	ck_assert(!pass(0, 1));
	ck_assert(!pass(1, 1));
	ck_assert_uint_eq(info().fds, WIRE_MAX_FDS);
	take(0, 1);
	ck_assert(pass(1, 1));
	ck_assert(pass(0, WIRE_MAX_FDS));
	ck_assert(!pass(1, 1));
	take(0, 1);
	take(1, 1);
	close_sockets();
}

TEST(a_message_larger_than_the_share_waits_until_its_socket_is_empty)
{
	open_sockets();
	ferry_in_flight_set_limit(64);
	ck_assert(pass(0, 1));
	ck_assert(!pass(0, 40));
	ck_assert(pass(1, 40));
	take(0, 1);
	ck_assert(pass(0, 40));
	close_sockets();
}

TEST(a_message_that_was_not_sent_does_not_count)
{
	open_sockets();
	ferry_in_flight_set_limit(10);
	ck_assert(pass(0, 2));
	for (int i = 0; i < 100; i++) {
		ck_assert(in_flight_admit(&accounts[0], pairs[0][0], 3));
		ck_assert_uint_eq(info().fds, 5);
		in_flight_withdraw(&accounts[0], 3);
	}
	ck_assert_uint_eq(info().fds, 2);
	take(0, 1);
	ferry_in_flight_set_limit(1);
	ck_assert(pass(0, 1));
	close_sockets();
}

TEST_CASE("what was read");

TEST(messages_that_were_read_make_room_before_the_queue_is_empty)
{
	open_sockets();
	ferry_in_flight_set_limit(128);
	ck_assert_uint_eq(pass_all(0, 1), 64);
	take(0, 60);
	ck_assert_uint_ge(pass_all(0, 1), 40);
	ck_assert_uint_le(info().fds, 64);
	close_sockets();
}

TEST(no_more_descriptors_are_in_flight_than_count)
{
	enum { STEPS = 2000 };
	unsigned int fds[STEPS], first = 0, last = 0, unread = 0;

	open_sockets();
	ferry_in_flight_set_limit(48);
	for (int i = 0; i < STEPS; i++) {
		unsigned int count = 1 + support_random_below(5);
		if (support_random_below(2) == 0 && first < last) {
			take(0, 1);
			unread -= fds[first++];
		} else if (pass(0, count)) {
			fds[last++] = count;
			unread += count;
		}
		ck_assert_uint_ge(info().fds, unread);
		ck_assert_uint_le(info().fds, 24);
	}
	take(0, last - first);
	ferry_in_flight_set_limit(1);
	ck_assert(pass(0, 1));
	ck_assert_uint_eq(info().fds, 1);
	close_sockets();
}

TEST(what_the_peers_of_others_have_read_is_found)
{
	open_sockets();
	ferry_in_flight_set_limit(SOCKETS - 2);
	for (int i = 0; i < SOCKETS - 2; i++)
		ck_assert(pass(i, 1));
	ck_assert(!pass(SOCKETS - 1, 1));
	/* More looks than one admission has. */
	take(SOCKETS - 3, 1);
	int tries = 1;
	while (!pass(SOCKETS - 1, 1))
		ck_assert_int_lt(tries++, SOCKETS);
	ck_assert_int_gt(tries, 1);
	close_sockets();
}

TEST(sockets_of_peers_that_have_read_all_leave_the_list)
{
	open_sockets();
	ferry_in_flight_set_limit(4);
	for (int round = 0; round < 20; round++)
		for (int i = 0; i < SOCKETS; i++) {
			ck_assert(pass(i, 1));
			take(i, 1);
			ck_assert_uint_le(info().transports, 4);
		}
	close_sockets();
}

TEST(the_descriptors_of_a_dead_peer_do_not_count)
{
	open_sockets();
	ferry_in_flight_set_limit(8);
	ck_assert_uint_eq(pass_all(0, 1), 4);
	ck_assert_uint_eq(pass_all(1, 4), 1);
	ck_assert(!pass(2, 1));
	close(pairs[1][1]);
	pairs[1][1] = dup(passed_fd);
	ck_assert(pass(2, 1));
	close_sockets();
}

TEST(an_account_whose_socket_was_replaced_begins_again)
{
	open_sockets();
	ferry_in_flight_set_limit(8);
	ck_assert_uint_eq(pass_all(0, 1), 4);
	ck_assert(in_flight_admit(&accounts[0], pairs[1][0], 3));
	ck_assert_uint_eq(info().fds, 3);
	in_flight_withdraw(&accounts[0], 3);
	close_sockets();
}

TEST(an_account_that_sends_is_not_looked_at)
{
	open_sockets();
	ferry_in_flight_set_limit(4);
	ck_assert(in_flight_admit(&accounts[0], pairs[0][0], 4));
	/* Its queue is still empty. */
	ck_assert(!pass(1, 1));
	ck_assert_uint_eq(in_flight_count(&accounts[0]), 4);
	in_flight_sent(&accounts[0]);
	ck_assert(pass(1, 1));
	close_sockets();
}

static unsigned int woken[SOCKETS];

static void on_wake(void *argument)
{
	unsigned int *count = argument;
	++*count;
}

/* A message of one descriptor. */
static bool pass_or_wait(int socket)
{
	bool passed = pass(socket, 1);

	if (!passed)
		in_flight_wait(&accounts[socket], on_wake, &woken[socket]);
	return passed;
}

TEST(those_that_wait_take_turns)
{
	open_sockets();
	ferry_in_flight_set_limit(2);
	ck_assert(pass_or_wait(0));
	ck_assert(pass_or_wait(1));
	for (int i = 2; i < 5; i++)
		ck_assert(!pass_or_wait(i));

	take(0, 1);
	ck_assert(!pass_or_wait(5)); /* the room that it finds is that of the first */
	ck_assert_uint_eq(woken[2], 1);
	ck_assert(pass_or_wait(2));
	take(1, 1);
	ck_assert(!pass_or_wait(0));
	ck_assert_uint_eq(woken[3], 1);
	ck_assert(!pass_or_wait(1)); /* the woken one has not tried: nobody waits for it */
	ck_assert_uint_eq(woken[4], 1);
	ck_assert(pass_or_wait(4));
	for (int i = 2; i < 5; i++)
		ck_assert_uint_eq(woken[i], 1);
	close_sockets();
}

TEST(one_that_takes_its_turn_leaves_room_to_nobody)
{
	open_sockets();
	ferry_in_flight_set_limit(2);
	ck_assert(pass_or_wait(0));
	ck_assert(pass_or_wait(1));
	ck_assert(!pass_or_wait(2));
	take(0, 1);
	in_flight_take_turn(&accounts[3]);
	ck_assert(pass_or_wait(3));
	ck_assert_uint_eq(woken[2], 0);
	close_sockets();
}
