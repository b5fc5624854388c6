/* ferry limits the descriptors that are pending and the descriptors that go with one byte, and refuses bad
 * calls. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "closes.h"
#include "fd_sender.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("without a byte", NULL, check_closes);

LOOP_TEST(descriptors_without_a_byte_are_lost_with_enodata, 2)
{
	open_fd_sender();
	ck_assert_int_eq(ferry_transport_write(fd_sender.transport, "bytes", 5), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(send_fd(make_marked_fd(1), FERRY_FD_TAKE), 0);
	if (_i == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(fd_sender.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_lose_write_connection(fd_sender.transport), 0);

	pump_turns(5);

	/* The peer receives the bytes that could be sent, and the end. */
	struct wire_read result;
	receive_from_sender(&result);
	ck_assert_int_eq(result.bytes, 5);
	ck_assert_uint_eq(result.fd_count, 0);
	receive_from_sender(&result);
	ck_assert_int_eq(result.bytes, 0);
	ck_assert_uint_eq(stats_of(fd_sender.transport).fds_unsent, 3);
	ck_assert_uint_eq(stats_of(fd_sender.transport).fds_queued, 0);
	if (_i == 1)
		close_receiving_end();
	pump_until_lost(&fd_sender);
	ck_assert_int_eq(fd_sender.reason, -ENODATA);
	close_fd_sender();
}

TEST(an_ending_peer_leaves_descriptors_without_a_byte_as_enodata)
{
	make_pair(PAIR_UNIX, sender_ends);
	recorder_open(&fd_sender, sender_ends[0], &recorder_no_half_close);
	ck_assert_int_eq(send_fd(make_marked_fd(1), FERRY_FD_TAKE), 0);

	ck_assert_int_eq(shutdown(sender_ends[1], SHUT_WR), 0);
	pump_until_lost(&fd_sender);

	ck_assert_int_eq(fd_sender.reason, -ENODATA);
	ck_assert_uint_eq(stats_of(fd_sender.transport).fds_unsent, 1);
	close_fd_sender();
}

LOOP_TEST(descriptors_before_a_file_without_bytes_are_lost_with_enodata, 2)
{
	open_fd_sender();
	ck_assert_int_eq(send_fd(make_marked_fd(1), FERRY_FD_TAKE), 0);
	struct ferry_file_producer *producer;
	ck_assert_int_eq(ferry_transport_send_file(&producer, fd_sender.transport, make_file(100),
	                                           FERRY_FD_TAKE, _i == 0 ? 100 : 0, FERRY_TO_END, 0,
	                                           NULL, NULL),
	                 0);
	if (_i == 1)
		ferry_file_producer_stop(producer);
	ck_assert_int_eq(ferry_transport_lose_connection(fd_sender.transport), 0);

	pump_until_lost(&fd_sender);

	ck_assert_int_eq(fd_sender.reason, -ENODATA);
	ck_assert_uint_eq(stats_of(fd_sender.transport).fds_unsent, 1);
	close_fd_sender();
}

static void check_fd_refused(int expected, int fd)
{
	struct ferry_transport_stats before = stats_of(fd_sender.transport);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_TAKE), expected);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_DUP), expected);
	ck_assert(fd_is_open(fd));
	struct ferry_transport_stats after = stats_of(fd_sender.transport);
	ck_assert_mem_eq(&before, &after, sizeof(before));
}

/* Queues one descriptor with a byte of its own. */
static void queue_one(void)
{
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	write_byte();
}

TEST_CASE("bounds", NULL, check_closes);

/* The limit without a call. Under a hard descriptor limit of 1024 the process reaches that one first; a limit that
 * is set stands for it then. */
static unsigned int reachable_limit(void)
{
	enum { LIMIT = 1024, OTHERS = 100, LOWER = 512 };
	struct rlimit limit;

	raise_descriptor_limit();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= LIMIT + OTHERS)
		return LIMIT;
	ck_assert_int_eq(ferry_transport_set_fd_buffer(fd_sender.transport, 1, LOWER), 0);
	return LOWER;
}

TEST(the_1025th_queued_descriptor_is_refused_and_stays_the_callers)
{
	open_fd_sender();
	const unsigned int count = reachable_limit();
	for (unsigned int i = 0; i < count; i++)
		queue_one();
	int fd = make_marked_fd(1);

	check_fd_refused(-ENOBUFS, fd);

	receive_fd_count(count);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_TAKE), 0);
	write_byte();
	receive_fd_count(1);
	ck_assert(!fd_is_open(fd));
	close_fd_sender();
}

TEST(the_limit_can_be_set)
{
	open_fd_sender();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(fd_sender.transport, 1, 3), 0);
	for (int i = 0; i < 3; i++)
		queue_one();
	int fd = make_marked_fd(1);

	check_fd_refused(-ENOBUFS, fd);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(fd_sender.transport, 1, 4), 0);
	queue_one();
	check_fd_refused(-ENOBUFS, fd);

	/* A lower limit strands nothing. */
	ck_assert_int_eq(ferry_transport_set_fd_buffer(fd_sender.transport, 1, 1), 0);
	receive_fd_count(4);
	queue_one();
	check_fd_refused(-ENOBUFS, fd);
	receive_fd_count(1);
	close(fd);
	close_fd_sender();
}

TEST(bad_bounds_are_refused)
{
	open_fd_sender();
	struct ferry_transport *t = fd_sender.transport;
	ck_assert_int_eq(ferry_transport_set_fd_buffer(NULL, 64, 1024), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(t, 0, 1024), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(t, 65, 64), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(t, 64, 1048577), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(t, 1048576, 1048576), 0);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(t, 1, 1), 0);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(NULL, 64), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(t, 0), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(t, 254), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(t, UINT_MAX), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_fd_coalescing(NULL, true), -EINVAL);
	close_fd_sender();
}

static const unsigned int message_limits[] = {0 /* the default of 64 */, 1, 2, 64, 65, 252, 253};

enum { MESSAGE_LIMITS = sizeof(message_limits) / sizeof(message_limits[0]) };

LOOP_TEST(of_300_at_one_position_those_beyond_a_message_are_refused_and_none_is_lost,
          MESSAGE_LIMITS)
{
	open_fd_sender();
	unsigned int limit = message_limits[_i];
	if (limit > 0)
		ck_assert_int_eq(ferry_transport_set_max_fds_per_message(fd_sender.transport, limit), 0);
	else
		limit = 64;

	unsigned int accepted = 0;
	for (unsigned int i = 0; i < 300; i++) {
		int fd = make_marked_fd(i);
		int status = send_fd(fd, FERRY_FD_TAKE);
		ck_assert_int_eq(status, i < limit ? 0 : -ENOBUFS);
		ck_assert(fd_is_open(fd));
		if (status == 0)
			accepted++;
		else
			close(fd);
	}
	ck_assert_uint_eq(accepted, limit);
	write_byte();
	pump_turns(3);

	struct wire_read result;
	receive_from_sender(&result);
	ck_assert_uint_eq(result.fd_count, limit);
	for (uint32_t i = 0; i < limit; i++)
		ck_assert_uint_eq(marked_number(result.fds[i]), i);
	wire_close_fds(&result);
	close_fd_sender();
}

TEST(a_byte_makes_room_for_the_next_message)
{
	open_fd_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(fd_sender.transport, 2), 0);
	for (int round = 0; round < 5; round++) {
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
		check_fd_refused(-ENOBUFS, STDERR_FILENO);
		write_byte();
	}
	receive_fd_count(10);
	close_fd_sender();
}

TEST(an_empty_write_makes_no_room)
{
	open_fd_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(fd_sender.transport, 1), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(fd_sender.transport, NULL, 0), 0);
	struct evbuffer *empty = evbuffer_new();
	ck_assert_int_eq(ferry_transport_write_buffer(fd_sender.transport, empty), 0);
	evbuffer_free(empty);

	check_fd_refused(-ENOBUFS, STDERR_FILENO);

	write_byte();
	receive_fd_count(1);
	close_fd_sender();
}

TEST(a_lower_message_limit_strands_nothing)
{
	open_fd_sender();
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(fd_sender.transport, 3), 0);
	check_fd_refused(-ENOBUFS, STDERR_FILENO);
	write_byte();
	queue_one();

	receive_fd_count(65);
	close_fd_sender();
}

TEST(descriptors_that_wait_for_a_byte_do_not_bar_those_of_an_empty_file)
{
	open_fd_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(fd_sender.transport, 2), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, fd_sender.transport, make_file(10),
	                                           FERRY_FD_TAKE, 10, 0, 0, NULL, NULL),
	                 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	write_byte();

	receive_fd_count(2);
	close_fd_sender();
}

TEST(more_than_a_message_around_a_stopped_file_is_not_lost)
{
	/* 2 before and 2 after a file that never sends a byte: 4 for one byte, in messages of 2. */
	open_fd_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(fd_sender.transport, 2), 0);
	struct ferry_file_producer *producer;
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_file(&producer, fd_sender.transport, make_file(10),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(fd_sender.transport, "0123456789", 10), 0);

	ferry_file_producer_stop(producer);

	receive_fd_count(4);
	close_fd_sender();
}

TEST(around_a_file_no_more_are_accepted_than_one_message_could_carry_without_it)
{
	/* Should the file turn out to send nothing, all wait for the same byte. */
	open_fd_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(fd_sender.transport, 253), 0);
	struct ferry_file_producer *producer;
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_file(&producer, fd_sender.transport, make_file(10),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	unsigned int accepted = 200;
	for (int i = 0; i < 200; i++) {
		int status = send_fd(STDERR_FILENO, FERRY_FD_DUP);
		ck_assert(status == 0 || status == -ENOBUFS);
		accepted += status == 0;
	}
	ck_assert_int_eq(ferry_transport_write(fd_sender.transport, "0123456789", 10), 0);

	ferry_file_producer_stop(producer);

	receive_fd_count(accepted);
	close_fd_sender();
}

TEST_CASE("refusals", NULL, check_closes);

TEST(a_number_that_is_not_open_is_refused_at_the_call)
{
	open_fd_sender();
	int closed = make_marked_fd(1);
	close(closed);
	const int numbers[] = {-1, INT_MIN, INT_MAX, closed};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		ck_assert_int_eq(send_fd(numbers[i], FERRY_FD_TAKE), -EBADF);
		ck_assert_int_eq(send_fd(numbers[i], FERRY_FD_DUP), -EBADF);
	}
	ck_assert_uint_eq(stats_of(fd_sender.transport).fds_queued, 0);
	close_fd_sender();
}

TEST(bad_arguments_leave_the_descriptor_open)
{
	open_fd_sender();
	int fd = make_marked_fd(1);
	ck_assert_int_eq(ferry_transport_send_fd(NULL, fd, FERRY_FD_TAKE), -EINVAL);
	ck_assert_int_eq(ferry_transport_send_fd(NULL, fd, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(send_fd(fd, (enum ferry_fd_ownership)0), -EINVAL);
	ck_assert_int_eq(send_fd(fd, (enum ferry_fd_ownership)3), -EINVAL);
	ck_assert(fd_is_open(fd));
	close(fd);
	close_fd_sender();
}

TEST(the_transports_own_socket_is_refused)
{
	open_fd_sender();
	int copy = fcntl(sender_ends[0], F_DUPFD_CLOEXEC, 0);
	int other[2];
	make_pair(PAIR_UNIX, other);

	check_fd_refused(-ELOOP, sender_ends[0]);
	check_fd_refused(-ELOOP, copy);

	ck_assert_int_eq(send_fd(other[0], FERRY_FD_TAKE), 0);
	write_byte();
	receive_fd_count(1);
	close(copy);
	close(other[1]);
	close_fd_sender();
}

LOOP_TEST(tcp_and_pipes_carry_no_descriptors, 2)
{
	int read_ends[2], write_ends[2];
	if (_i == 0) {
		make_pair(PAIR_TCP, sender_ends);
		recorder_open(&fd_sender, sender_ends[0], &recorder_protocol);
	} else {
		make_pipe(read_ends);
		make_pipe(write_ends);
		sender_ends[1] = -1;
		recorder_open_pipes(&fd_sender, read_ends[0], write_ends[1], &recorder_protocol);
	}
	int fd = make_marked_fd(1);

	check_fd_refused(-EOPNOTSUPP, fd);

	close(fd);
	if (_i == 1) {
		close(read_ends[1]);
		close(write_ends[0]);
	}
	close_fd_sender();
}

TEST(an_o_path_descriptor_can_be_sent)
{
	open_fd_sender();
	int fd = open("/", O_PATH | O_CLOEXEC);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_DUP), 0);
	write_byte();
	pump_turns(3);

	struct wire_read result;
	receive_from_sender(&result);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert(same_file(fd, result.fds[0]));
	wire_close_fds(&result);
	close(fd);
	close_fd_sender();
}

static void close_half(void)
{
	ck_assert_int_eq(ferry_transport_lose_write_connection(fd_sender.transport), 0);
}

static void close_whole(void)
{
	ck_assert_int_eq(ferry_transport_lose_connection(fd_sender.transport), 0);
}

static void abort_it(void)
{
	ck_assert_int_eq(ferry_transport_abort_connection(fd_sender.transport), 0);
}

static void lose_it(void)
{
	ck_assert_int_eq(ferry_transport_abort_connection(fd_sender.transport), 0);
	pump_until_lost(&fd_sender);
}

LOOP_TEST(after_the_end_a_descriptor_is_refused_and_stays_open, 4)
{
	static void (*const ways[])(void) = {close_half, close_whole, abort_it, lose_it};
	open_fd_sender();
	ways[_i]();
	int fd = make_marked_fd(1);

	check_fd_refused(-EPIPE, fd);
	ck_assert_int_eq(ferry_transport_write(fd_sender.transport, "x", 1), -EPIPE);

	close(fd);
	close_fd_sender();
}

TEST(at_the_descriptor_limit_a_duplicate_is_refused_and_giving_works)
{
	open_fd_sender();
	int fd = make_marked_fd(1);

	limit_descriptors(0);
	int duplicated = send_fd(fd, FERRY_FD_DUP);
	int taken = send_fd(fd, FERRY_FD_TAKE);
	unlimit_descriptors();

	ck_assert_int_eq(duplicated, -EMFILE);
	ck_assert_int_eq(taken, 0);
	write_byte();
	receive_fd_count(1);
	close_fd_sender();
}
