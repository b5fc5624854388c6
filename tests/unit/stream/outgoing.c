/* ferry closes a descriptor that it owns exactly once, whatever ends the connection, and never one that
 * belongs to the caller. */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "closes.h"
#include "fd_sender.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

/* A descriptor with a number that nothing else will get by chance. */
static int make_high_fd(void)
{
	int fd = make_marked_fd(1);
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 700);
	ck_assert_int_ge(high, 700);
	close(fd);
	return high;
}

/* Puts another file at the number, which a second close would take away. */
static void occupy(int number)
{
	ck_assert(!fd_is_open(number));
	int other = make_marked_fd(2);
	ck_assert_int_eq(dup3(other, number, O_CLOEXEC), number);
	close(other);
}

static void check_occupied(int number)
{
	ck_assert(fd_is_open(number));
	ck_assert_uint_eq(marked_number(number), 2);
	close(number);
}

static bool is_closed(void *argument)
{
	return !fd_is_open(*(const int *)argument);
}

static void end_sent(int number)
{
	write_byte();
	pump_until(is_closed, &number);
	struct wire_read result;
	receive_from_sender(&result);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 1);
	wire_close_fds(&result);
}

static void end_peer_gone_before(int number)
{
	(void)number;
	write_byte();
	close_receiving_end();
	pump_until_lost(&fd_sender);
	ck_assert_int_lt(fd_sender.reason, 0);
}

static void end_peer_goes_while_full(int number)
{
	(void)number;
	write_byte();
	pump_turns(3);
	close_receiving_end();
	pump_until_lost(&fd_sender);
	ck_assert_int_lt(fd_sender.reason, 0);
}

static void end_freed(int number)
{
	write_byte();
	recorder_free_transport(&fd_sender);
	ck_assert(!fd_is_open(number));
}

static void end_freed_without_byte(int number)
{
	recorder_free_transport(&fd_sender);
	ck_assert(!fd_is_open(number));
}

static void end_aborted(int number)
{
	(void)number;
	write_byte();
	ck_assert_int_eq(ferry_transport_abort_connection(fd_sender.transport), 0);
	pump_until_lost(&fd_sender);
	ck_assert_int_eq(fd_sender.reason, -ECONNABORTED);
}

static void end_closed_without_byte(int number)
{
	(void)number;
	ck_assert_int_eq(ferry_transport_lose_connection(fd_sender.transport), 0);
	wire_drain(sender_ends[1]);
	while (fd_sender.lost == 0) {
		pump_turns(1);
		wire_drain(sender_ends[1]);
	}
	ck_assert_int_eq(fd_sender.reason, -ENODATA);
}

static void end_half_closed_without_byte(int number)
{
	(void)number;
	ck_assert_int_eq(ferry_transport_lose_write_connection(fd_sender.transport), 0);
	ck_assert_int_eq(shutdown(sender_ends[1], SHUT_WR), 0);
	while (fd_sender.lost == 0) {
		pump_turns(1);
		wire_drain(sender_ends[1]);
	}
	ck_assert_int_eq(fd_sender.reason, -ENODATA);
}

static void end_timed_out(int number)
{
	(void)number;
	write_byte();
	struct timeval soon = {.tv_usec = 1000};
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(fd_sender.transport), NULL, &soon);
	pump_until_lost(&fd_sender);
	ck_assert_int_eq(fd_sender.reason, -ETIMEDOUT);
}

static void free_at_event(struct recorder *recorder, char event)
{
	(void)event;
	recorder_free_transport(recorder);
}

static void end_freed_in_callback(int number)
{
	write_byte();
	wire_put(sender_ends[1], 0, 1);
	fd_sender.hook = free_at_event;
	pump_turns(3);
	ck_assert_ptr_null(fd_sender.transport);
	ck_assert(!fd_is_open(number));
}

static const struct {
	void (*end)(int number);
	bool full; /* the socket, before anything is sent */
} endings[] = {
    {end_sent, false},
    {end_peer_gone_before, false},
    {end_peer_goes_while_full, true},
    {end_freed, true},
    {end_freed_without_byte, false},
    {end_aborted, true},
    {end_closed_without_byte, false},
    {end_closed_without_byte, true},
    {end_half_closed_without_byte, false},
    {end_half_closed_without_byte, true},
    {end_timed_out, true},
    {end_freed_in_callback, true},
};

enum { ENDING_COUNT = sizeof(endings) / sizeof(endings[0]) };

TEST_CASE("ownership", NULL, check_closes);

LOOP_TEST(a_taken_descriptor_is_closed_exactly_once, ENDING_COUNT)
{
	open_fd_sender();
	if (endings[_i].full)
		wire_fill(sender_ends[0]);
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_TAKE), 0);
	ck_assert(fd_is_open(number));

	endings[_i].end(number);

	occupy(number);
	pump_turns(3);
	recorder_free_transport(&fd_sender);
	pump_turns(3);
	check_occupied(number);
	close_fd_sender();
}

LOOP_TEST(a_duplicated_descriptor_stays_the_callers_and_its_duplicate_is_closed, ENDING_COUNT)
{
	open_fd_sender();
	if (endings[_i].full)
		wire_fill(sender_ends[0]);
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_DUP), 0);

	if (endings[_i].end == end_sent) {
		write_byte();
		pump_turns(3);
	} else if (endings[_i].end != end_freed && endings[_i].end != end_freed_without_byte &&
	           endings[_i].end != end_freed_in_callback) {
		endings[_i].end(number);
	}

	recorder_free_transport(&fd_sender);
	pump_turns(3);
	ck_assert(fd_is_open(number));
	ck_assert_uint_eq(marked_number(number), 1);
	close(number);
	close_fd_sender();
}

TEST(descriptors_dropped_with_the_connection_are_counted)
{
	open_fd_sender();
	wire_fill(sender_ends[0]);
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
		write_byte();
	}
	ck_assert_uint_eq(stats_of(fd_sender.transport).fds_queued, 10);

	ck_assert_int_eq(ferry_transport_abort_connection(fd_sender.transport), 0);
	pump_until_lost(&fd_sender);

	struct ferry_transport_stats stats = stats_of(fd_sender.transport);
	ck_assert_uint_eq(stats.fds_queued, 0);
	ck_assert_uint_eq(stats.fds_queued_max, 10);
	ck_assert_uint_eq(stats.fds_unsent, 10);
	ck_assert_uint_eq(stats.fds_sent, 0);
	close_fd_sender();
}

TEST(a_descriptor_closed_right_after_being_duplicated_arrives_as_the_right_object)
{
	open_fd_sender();
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_DUP), 0);
	close(number);
	occupy(number);
	write_byte();

	pump_turns(3);

	struct wire_read result;
	receive_from_sender(&result);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 1);
	wire_close_fds(&result);
	check_occupied(number);
	close_fd_sender();
}

TEST(the_same_descriptor_can_be_duplicated_and_then_given)
{
	open_fd_sender();
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_DUP), 0);
	ck_assert_int_eq(send_fd(number, FERRY_FD_TAKE), 0);
	write_byte();

	pump_turns(3);

	struct wire_read result;
	receive_from_sender(&result);
	ck_assert_uint_eq(result.fd_count, 2);
	ck_assert_uint_eq(marked_number(result.fds[0]), 1);
	ck_assert_uint_eq(marked_number(result.fds[1]), 1);
	wire_close_fds(&result);
	ck_assert(!fd_is_open(number));
	close_fd_sender();
}

static bool has_no_queued_fds(void *argument)
{
	(void)argument;
	return stats_of(fd_sender.transport).fds_queued == 0;
}

TEST(a_taken_descriptor_is_closed_once_the_kernel_has_it)
{
	/* The last writing end of a pipe: its reader sees the end when the receiver closes it. */
	open_fd_sender();
	int pipe_ends[2];
	make_pipe(pipe_ends);
	ck_assert_int_eq(send_fd(pipe_ends[1], FERRY_FD_TAKE), 0);
	write_byte();
	pump_until(has_no_queued_fds, NULL);
	ck_assert(!fd_is_open(pipe_ends[1]));

	receive_fd_count(1);

	char byte;
	ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 0);
	close(pipe_ends[0]);
	close_fd_sender();
}
