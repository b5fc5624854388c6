/* The position of a descriptor in a unix stream can be found before it is read. A failure here means that the kernel
 * has changed: then review src/kernel/fd_ahead.c. */

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/fd_ahead.h"
#include "test.h"
#include "wire.h"

enum { LAYOUTS = 1000, ROOM = 128 * 1024 };

static int ends[2], marked;
static char bytes[ROOM];

static void open_pair(void)
{
	make_pair(PAIR_UNIX, ends);
	marked = make_marked_fd(1);
}

static void close_pair(void)
{
	close(ends[0]);
	close(ends[1]);
	close(marked);
}

/* Returns the count of bytes that the socket took. */
static size_t put(size_t length, size_t fds)
{
	int list[3] = {marked, marked, marked};
	ssize_t taken = wire_send(ends[0], bytes, length, list, fds);

	return taken < 0 ? 0 : (size_t)taken;
}

static struct fd_ahead look(size_t room, bool far)
{
	struct iovec vectors[2] = {{bytes, room / 3}, {bytes + room / 3, room - room / 3}};
	struct fd_ahead ahead = {0};

	ck_assert_int_eq(far ? fd_ahead_look_far(ends[1], vectors, 2, &ahead)
	                     : fd_ahead_look(ends[1], vectors, 2, &ahead),
	                 1);
	return ahead;
}

/* Reads as far as the look permits, until a descriptor comes; returns the count of bytes before it. */
static size_t find_fd(size_t max_room)
{
	size_t position = 0;
	struct wire_read got;

	struct fd_ahead ahead = {0};

	do {
		if (ahead.next > 0)
			ahead = (struct fd_ahead){.length = ahead.next, .descriptors = true};
		else
			ahead =
			    look(1 + support_random_below((uint32_t)max_room), support_random_below(2) == 0);
		ck_assert_uint_gt(ahead.length, 0);
		wire_receive(ends[1], bytes, ahead.length < ROOM ? ahead.length : ROOM, &got);
		ck_assert_int_gt(got.bytes, 0);
		ck_assert(got.fd_count == 0 || ahead.descriptors);
		if (got.fd_count == 0)
			position += (size_t)got.bytes;
	} while (got.fd_count == 0);
	wire_close_fds(&got);
	return position;
}

/* _i: with room for all at once, and with little. */
LOOP_TEST(in_random_layouts_the_descriptor_is_at_the_first_byte_of_its_read, 2)
{
	for (int i = 0; i < LAYOUTS; i++) {
		size_t before = 0;

		open_pair();
		for (uint32_t messages = support_random_below(6); messages > 0; messages--)
			before += put(1 + support_random_below(support_random_below(4) > 0 ? 300 : 20000), 0);
		size_t own = put(1 + support_random_below(500), 1 + support_random_below(3));
		for (uint32_t messages = support_random_below(3); messages > 0; messages--)
			(void)put(1 + support_random_below(300), 0);

		if (own > 0)
			ck_assert_uint_eq(find_fd(_i == 0 ? ROOM : 700), before);
		close_pair();
	}
}

TEST(a_look_installs_no_descriptor)
{
	open_pair();
	(void)put(100, 0);
	(void)put(100, 3);
	int before = count_open_fds();

	ck_assert_uint_eq(look(1000, false).length, 100);
	ck_assert_uint_eq(look(1000, true).length, 100);

	ck_assert_int_eq(count_open_fds(), before);
	close_pair();
}

TEST(a_look_takes_nothing_out_of_the_socket)
{
	int waiting;

	open_pair();
	(void)put(100, 0);
	(void)put(100, 1);
	(void)look(1000, false);
	(void)look(1000, true);

	ck_assert_int_eq(ioctl(ends[1], FIONREAD, &waiting), 0);
	ck_assert_int_eq(waiting, 200);
	close_pair();
}

TEST(a_far_look_passes_over_all_messages_without_descriptors)
{
	open_pair();
	for (int i = 0; i < 20; i++)
		(void)put(1000, 0);

	struct fd_ahead ahead = look(10, true);

	ck_assert_uint_eq(ahead.length, 20000);
	ck_assert(!ahead.descriptors);
	ck_assert_uint_eq(ahead.next, 0);
	close_pair();
}

TEST(a_look_finds_the_length_of_the_next_read_too)
{
	open_pair();
	(void)put(100, 0);
	(void)put(50, 2);
	(void)put(100, 0);

	struct fd_ahead ahead = look(1000, false);

	ck_assert_uint_eq(ahead.length, 100);
	ck_assert_uint_eq(ahead.next, 50);
	close_pair();
}

TEST(descriptors_behind_the_room_of_a_look_cut_nothing_off)
{
	open_pair();
	(void)put(1000, 0);
	(void)put(1000, 1);

	ck_assert_uint_eq(look(500, true).length, 500);
	ck_assert_uint_eq(find_fd(500), 1000);
	close_pair();
}

/* The kernel looks into the next message even if no room is left for its bytes. */
TEST(room_that_ends_where_a_descriptor_begins_is_used_up_before_it)
{
	open_pair();
	(void)put(300, 0);
	(void)put(200, 0);
	(void)put(100, 1);

	ck_assert_uint_eq(look(500, false).length, 300);
	ck_assert_uint_eq(find_fd(500), 500);
	close_pair();
}

TEST(nothing_to_see_is_eagain_or_the_end)
{
	struct iovec vector = {bytes, sizeof(bytes)};
	struct fd_ahead ahead;

	open_pair();
	ck_assert_int_eq(fd_ahead_look(ends[1], &vector, 1, &ahead), -EAGAIN);
	ck_assert_int_eq(fd_ahead_look_far(ends[1], &vector, 1, &ahead), -EAGAIN);
	shutdown(ends[0], SHUT_WR);
	ck_assert_int_eq(fd_ahead_look(ends[1], &vector, 1, &ahead), 0);
	ck_assert_int_eq(fd_ahead_look_far(ends[1], &vector, 1, &ahead), 0);
	close_pair();
}

/* The reset that follows the bytes is not returned twice: it is the look's result. */
LOOP_TEST(a_look_returns_the_error_that_the_read_would, 2)
{
	struct iovec vector = {bytes, sizeof(bytes)};
	struct fd_ahead ahead;

	open_pair();
	(void)put(10, 0);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, NULL, 0), 1);
	struct wire_read got;
	wire_receive(ends[1], bytes, 10, &got);
	close(ends[0]);
	ck_assert_int_eq(_i == 0 ? fd_ahead_look(ends[1], &vector, 1, &ahead)
	                         : fd_ahead_look_far(ends[1], &vector, 1, &ahead),
	                 -ECONNRESET);
	close(ends[1]);
	close(marked);
}

/* Each read then brings control messages, and for lack of room each look seems to have found descriptors. */
TEST(credentials_that_come_with_each_read_cost_looks_but_no_position)
{
	open_pair();
	ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)), 0);
	for (int i = 0; i < 5; i++)
		(void)put(100, 0);
	(void)put(100, 2);
	ck_assert_uint_eq(find_fd(ROOM), 500);
	close_pair();
}

TEST(the_kernel_lets_positions_be_found_without_a_copy)
{
	ck_assert_int_eq(fd_ahead_probe(), FD_AHEAD_FREE);
}

TEST(without_free_descriptors_positions_are_found_by_copies)
{
	limit_descriptors(1);
	enum fd_ahead_support support = fd_ahead_probe();
	unlimit_descriptors();
	ck_assert_int_eq(support, FD_AHEAD_COPIES);
}
