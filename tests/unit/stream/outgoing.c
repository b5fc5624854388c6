/* Who closes a descriptor, and how many may wait. Linked with the library's objects so that every
 * close(2) of a number that is not open shows. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

static unsigned int bad_closes;

int __real_close(int fd);
int __wrap_close(int fd);

int __wrap_close(int fd)
{
	int result = __real_close(fd);
	if (result != 0 && errno == EBADF)
		bad_closes++;
	return result;
}

static void check_closes(void)
{
	ck_assert_uint_eq(bad_closes, 0);
}

static int ends[2];
static struct recorder sender;

static void open_sender(void)
{
	make_pair(PAIR_UNIX, ends);
	recorder_open(&sender, ends[0], &recorder_protocol);
}

static void close_sender(void)
{
	recorder_close(&sender);
	if (ends[1] >= 0)
		close(ends[1]);
}

static void write_byte(void)
{
	ck_assert_int_eq(ferry_transport_write(sender.transport, ".", 1), 0);
}

static int send_fd(int fd, enum ferry_fd_ownership ownership)
{
	return ferry_transport_send_fd(sender.transport, fd, ownership);
}

static void receive(struct wire_read *result)
{
	static char buffer[65536];
	wire_receive(ends[1], buffer, sizeof(buffer), result);
}

/* ---- closed exactly once ---- */

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

static void lose_peer(void)
{
	close(ends[1]);
	ends[1] = -1;
}

static void end_sent(int number)
{
	write_byte();
	pump_until(is_closed, &number);
	struct wire_read result;
	receive(&result);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 1);
	wire_close_fds(&result);
}

static void end_peer_gone_before(int number)
{
	(void)number;
	write_byte();
	lose_peer();
	pump_until_lost(&sender);
	ck_assert_int_lt(sender.reason, 0);
}

static void end_peer_goes_while_full(int number)
{
	(void)number;
	write_byte();
	pump_turns(3);
	lose_peer();
	pump_until_lost(&sender);
	ck_assert_int_lt(sender.reason, 0);
}

static void end_freed(int number)
{
	write_byte();
	recorder_free_transport(&sender);
	ck_assert(!fd_is_open(number));
}

static void end_freed_without_byte(int number)
{
	recorder_free_transport(&sender);
	ck_assert(!fd_is_open(number));
}

static void end_aborted(int number)
{
	(void)number;
	write_byte();
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, -ECONNABORTED);
}

static void end_closed_without_byte(int number)
{
	(void)number;
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	wire_drain(ends[1]);
	while (sender.lost == 0) {
		pump_turns(1);
		wire_drain(ends[1]);
	}
	ck_assert_int_eq(sender.reason, -ENODATA);
}

static void end_half_closed_without_byte(int number)
{
	(void)number;
	ck_assert_int_eq(ferry_transport_lose_write_connection(sender.transport), 0);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	while (sender.lost == 0) {
		pump_turns(1);
		wire_drain(ends[1]);
	}
	ck_assert_int_eq(sender.reason, -ENODATA);
}

static void end_timed_out(int number)
{
	(void)number;
	write_byte();
	struct timeval soon = {.tv_usec = 1000};
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL, &soon);
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, -ETIMEDOUT);
}

static void free_at_event(struct recorder *recorder, char event)
{
	(void)event;
	recorder_free_transport(recorder);
}

static void end_freed_in_callback(int number)
{
	write_byte();
	wire_put(ends[1], 0, 1);
	sender.hook = free_at_event;
	pump_turns(3);
	ck_assert_ptr_null(sender.transport);
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
	open_sender();
	if (endings[_i].full)
		wire_fill(ends[0]);
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_TAKE), 0);
	ck_assert(fd_is_open(number));

	endings[_i].end(number);

	occupy(number);
	pump_turns(3);
	recorder_free_transport(&sender);
	pump_turns(3);
	check_occupied(number);
	close_sender();
}

LOOP_TEST(a_duplicated_descriptor_stays_the_callers_and_its_duplicate_is_closed, ENDING_COUNT)
{
	open_sender();
	if (endings[_i].full)
		wire_fill(ends[0]);
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_DUP), 0);

	if (endings[_i].end == end_sent) {
		write_byte();
		pump_turns(3);
	} else if (endings[_i].end != end_freed && endings[_i].end != end_freed_without_byte &&
	           endings[_i].end != end_freed_in_callback) {
		endings[_i].end(number);
	}

	recorder_free_transport(&sender);
	pump_turns(3);
	ck_assert(fd_is_open(number));
	ck_assert_uint_eq(marked_number(number), 1);
	close(number);
	close_sender();
}

TEST(descriptors_dropped_with_the_connection_are_counted)
{
	open_sender();
	wire_fill(ends[0]);
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
		write_byte();
	}
	ck_assert_uint_eq(stats_of(sender.transport).fds_queued, 10);

	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	pump_until_lost(&sender);

	struct ferry_transport_stats stats = stats_of(sender.transport);
	ck_assert_uint_eq(stats.fds_queued, 0);
	ck_assert_uint_eq(stats.fds_queued_max, 10);
	ck_assert_uint_eq(stats.fds_unsent, 10);
	ck_assert_uint_eq(stats.fds_sent, 0);
	close_sender();
}

TEST(a_descriptor_closed_right_after_being_duplicated_arrives_as_the_right_object)
{
	open_sender();
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_DUP), 0);
	close(number);
	occupy(number);
	write_byte();

	pump_turns(3);

	struct wire_read result;
	receive(&result);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 1);
	wire_close_fds(&result);
	check_occupied(number);
	close_sender();
}

TEST(the_same_descriptor_can_be_duplicated_and_then_given)
{
	open_sender();
	int number = make_high_fd();
	ck_assert_int_eq(send_fd(number, FERRY_FD_DUP), 0);
	ck_assert_int_eq(send_fd(number, FERRY_FD_TAKE), 0);
	write_byte();

	pump_turns(3);

	struct wire_read result;
	receive(&result);
	ck_assert_uint_eq(result.fd_count, 2);
	ck_assert_uint_eq(marked_number(result.fds[0]), 1);
	ck_assert_uint_eq(marked_number(result.fds[1]), 1);
	wire_close_fds(&result);
	ck_assert(!fd_is_open(number));
	close_sender();
}

/* ---- without a byte to travel with ---- */

TEST_CASE("without a byte", NULL, check_closes);

LOOP_TEST(descriptors_without_a_byte_are_told_as_enodata, 2)
{
	open_sender();
	ck_assert_int_eq(ferry_transport_write(sender.transport, "bytes", 5), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(send_fd(make_marked_fd(1), FERRY_FD_TAKE), 0);
	if (_i == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_lose_write_connection(sender.transport), 0);

	pump_turns(5);

	/* The peer sees what could be sent, and the end. */
	struct wire_read result;
	receive(&result);
	ck_assert_int_eq(result.bytes, 5);
	ck_assert_uint_eq(result.fd_count, 0);
	receive(&result);
	ck_assert_int_eq(result.bytes, 0);
	ck_assert_uint_eq(stats_of(sender.transport).fds_unsent, 3);
	ck_assert_uint_eq(stats_of(sender.transport).fds_queued, 0);
	if (_i == 1)
		lose_peer();
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, -ENODATA);
	close_sender();
}

TEST(an_ending_peer_leaves_descriptors_without_a_byte_as_enodata)
{
	make_pair(PAIR_UNIX, ends);
	recorder_open(&sender, ends[0], &recorder_no_half_close);
	ck_assert_int_eq(send_fd(make_marked_fd(1), FERRY_FD_TAKE), 0);

	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -ENODATA);
	ck_assert_uint_eq(stats_of(sender.transport).fds_unsent, 1);
	close_sender();
}

LOOP_TEST(descriptors_before_a_file_without_bytes_are_told_as_enodata, 2)
{
	open_sender();
	ck_assert_int_eq(send_fd(make_marked_fd(1), FERRY_FD_TAKE), 0);
	struct ferry_file_producer *producer;
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(100), FERRY_FD_TAKE,
	                                           _i == 0 ? 100 : 0, FERRY_TO_END, NULL, NULL,
	                                           &producer),
	                 0);
	if (_i == 1)
		ferry_file_producer_stop(producer);
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -ENODATA);
	ck_assert_uint_eq(stats_of(sender.transport).fds_unsent, 1);
	close_sender();
}

/* ---- bounds ---- */

static void check_refused(int expected, int fd)
{
	struct ferry_transport_stats before = stats_of(sender.transport);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_TAKE), expected);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_DUP), expected);
	ck_assert(fd_is_open(fd));
	struct ferry_transport_stats after = stats_of(sender.transport);
	ck_assert_mem_eq(&before, &after, sizeof(before));
}

/* Queues one descriptor with a byte of its own. */
static void queue_one(void)
{
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	write_byte();
}

static void receive_count(unsigned int count)
{
	while (count > 0) {
		struct wire_read result;
		receive(&result);
		if (result.bytes == -EAGAIN)
			pump_turns(1);
		else
			ck_assert_int_gt(result.bytes, 0);
		ck_assert_uint_le(result.fd_count, count);
		count -= (unsigned int)result.fd_count;
		wire_close_fds(&result);
	}
}

TEST_CASE("bounds", NULL, check_closes);

TEST(the_1025th_queued_descriptor_is_refused_and_stays_the_callers)
{
	raise_descriptor_limit();
	open_sender();
	for (int i = 0; i < 1024; i++)
		queue_one();
	int fd = make_marked_fd(1);

	check_refused(-ENOBUFS, fd);

	receive_count(1024);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_TAKE), 0);
	write_byte();
	receive_count(1);
	ck_assert(!fd_is_open(fd));
	close_sender();
}

TEST(the_limit_can_be_set)
{
	open_sender();
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 1, 3), 0);
	for (int i = 0; i < 3; i++)
		queue_one();
	int fd = make_marked_fd(1);

	check_refused(-ENOBUFS, fd);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 1, 4), 0);
	queue_one();
	check_refused(-ENOBUFS, fd);

	/* A lower limit strands nothing. */
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 1, 1), 0);
	receive_count(4);
	queue_one();
	check_refused(-ENOBUFS, fd);
	receive_count(1);
	close(fd);
	close_sender();
}

TEST(bad_bounds_are_refused)
{
	open_sender();
	struct ferry_transport *t = sender.transport;
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
	close_sender();
}

static const unsigned int message_limits[] = {0 /* the default of 64 */, 1, 2, 64, 65, 252, 253};
enum { MESSAGE_LIMITS = sizeof(message_limits) / sizeof(message_limits[0]) };

LOOP_TEST(of_300_at_one_position_those_beyond_a_message_are_refused_and_none_is_lost,
          MESSAGE_LIMITS)
{
	open_sender();
	unsigned int limit = message_limits[_i];
	if (limit > 0)
		ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, limit), 0);
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
	receive(&result);
	ck_assert_uint_eq(result.fd_count, limit);
	for (uint32_t i = 0; i < limit; i++)
		ck_assert_uint_eq(marked_number(result.fds[i]), i);
	wire_close_fds(&result);
	close_sender();
}

TEST(a_byte_makes_room_for_the_next_message)
{
	open_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, 2), 0);
	for (int round = 0; round < 5; round++) {
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
		check_refused(-ENOBUFS, STDERR_FILENO);
		write_byte();
	}
	receive_count(10);
	close_sender();
}

TEST(an_empty_write_makes_no_room)
{
	open_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, 1), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(sender.transport, NULL, 0), 0);
	struct evbuffer *empty = evbuffer_new();
	ck_assert_int_eq(ferry_transport_write_buffer(sender.transport, empty), 0);
	evbuffer_free(empty);

	check_refused(-ENOBUFS, STDERR_FILENO);

	write_byte();
	receive_count(1);
	close_sender();
}

TEST(a_lower_message_limit_strands_nothing)
{
	open_sender();
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, 3), 0);
	check_refused(-ENOBUFS, STDERR_FILENO);
	write_byte();
	queue_one();

	receive_count(65);
	close_sender();
}

TEST(descriptors_that_wait_for_a_byte_do_not_bar_those_of_an_empty_file)
{
	open_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, 2), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(10), FERRY_FD_TAKE, 10,
	                                           0, NULL, NULL, NULL),
	                 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	write_byte();

	receive_count(2);
	close_sender();
}

TEST(more_than_a_message_around_a_stopped_file_is_not_lost)
{
	/* 2 before and 2 after a file that never sends a byte: 4 for one byte, in messages of 2. */
	open_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, 2), 0);
	struct ferry_file_producer *producer;
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(10), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, NULL, NULL, &producer),
	                 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(sender.transport, "0123456789", 10), 0);

	ferry_file_producer_stop(producer);

	receive_count(4);
	close_sender();
}

TEST(around_a_file_no_more_are_accepted_than_one_message_could_carry_without_it)
{
	/* Should the file turn out to send nothing, all wait for the same byte. */
	open_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, 253), 0);
	struct ferry_file_producer *producer;
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(send_fd(STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_file(sender.transport, make_file(10), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, NULL, NULL, &producer),
	                 0);
	unsigned int accepted = 200;
	for (int i = 0; i < 200; i++) {
		int status = send_fd(STDERR_FILENO, FERRY_FD_DUP);
		ck_assert(status == 0 || status == -ENOBUFS);
		accepted += status == 0;
	}
	ck_assert_int_eq(ferry_transport_write(sender.transport, "0123456789", 10), 0);

	ferry_file_producer_stop(producer);

	receive_count(accepted);
	close_sender();
}

/* ---- refusals ---- */

TEST_CASE("refusals", NULL, check_closes);

TEST(a_number_that_is_not_open_is_refused_at_the_call)
{
	open_sender();
	int closed = make_marked_fd(1);
	close(closed);
	const int numbers[] = {-1, INT_MIN, INT_MAX, closed};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		ck_assert_int_eq(send_fd(numbers[i], FERRY_FD_TAKE), -EBADF);
		ck_assert_int_eq(send_fd(numbers[i], FERRY_FD_DUP), -EBADF);
	}
	ck_assert_uint_eq(stats_of(sender.transport).fds_queued, 0);
	close_sender();
}

TEST(bad_arguments_leave_the_descriptor_open)
{
	open_sender();
	int fd = make_marked_fd(1);
	ck_assert_int_eq(ferry_transport_send_fd(NULL, fd, FERRY_FD_TAKE), -EINVAL);
	ck_assert_int_eq(ferry_transport_send_fd(NULL, fd, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(send_fd(fd, (enum ferry_fd_ownership)0), -EINVAL);
	ck_assert_int_eq(send_fd(fd, (enum ferry_fd_ownership)3), -EINVAL);
	ck_assert(fd_is_open(fd));
	close(fd);
	close_sender();
}

TEST(the_transports_own_socket_is_refused)
{
	open_sender();
	int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
	int other[2];
	make_pair(PAIR_UNIX, other);

	check_refused(-ELOOP, ends[0]);
	check_refused(-ELOOP, copy);

	ck_assert_int_eq(send_fd(other[0], FERRY_FD_TAKE), 0);
	write_byte();
	receive_count(1);
	close(copy);
	close(other[1]);
	close_sender();
}

LOOP_TEST(tcp_and_pipes_carry_no_descriptors, 2)
{
	int read_ends[2], write_ends[2];
	if (_i == 0) {
		make_pair(PAIR_TCP, ends);
		recorder_open(&sender, ends[0], &recorder_protocol);
	} else {
		make_pipe(read_ends);
		make_pipe(write_ends);
		ends[1] = -1;
		recorder_open_pipes(&sender, read_ends[0], write_ends[1], &recorder_protocol);
	}
	int fd = make_marked_fd(1);

	check_refused(-EOPNOTSUPP, fd);

	close(fd);
	if (_i == 1) {
		close(read_ends[1]);
		close(write_ends[0]);
	}
	close_sender();
}

TEST(an_o_path_descriptor_can_be_sent)
{
	open_sender();
	int fd = open("/", O_PATH | O_CLOEXEC);
	ck_assert_int_eq(send_fd(fd, FERRY_FD_DUP), 0);
	write_byte();
	pump_turns(3);

	struct wire_read result;
	receive(&result);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert(same_file(fd, result.fds[0]));
	wire_close_fds(&result);
	close(fd);
	close_sender();
}

static void close_half(void)
{
	ck_assert_int_eq(ferry_transport_lose_write_connection(sender.transport), 0);
}

static void close_whole(void)
{
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
}

static void abort_it(void)
{
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
}

static void lose_it(void)
{
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	pump_until_lost(&sender);
}

LOOP_TEST(after_the_end_a_descriptor_is_refused_and_stays_open, 4)
{
	static void (*const ways[])(void) = {close_half, close_whole, abort_it, lose_it};
	open_sender();
	ways[_i]();
	int fd = make_marked_fd(1);

	check_refused(-EPIPE, fd);
	ck_assert_int_eq(ferry_transport_write(sender.transport, "x", 1), -EPIPE);

	close(fd);
	close_sender();
}

TEST(at_the_descriptor_limit_a_duplicate_is_refused_and_giving_works)
{
	open_sender();
	int fd = make_marked_fd(1);

	limit_descriptors(0);
	int duplicated = send_fd(fd, FERRY_FD_DUP);
	int taken = send_fd(fd, FERRY_FD_TAKE);
	unlimit_descriptors();

	ck_assert_int_eq(duplicated, -EMFILE);
	ck_assert_int_eq(taken, 0);
	write_byte();
	receive_count(1);
	close_sender();
}

static bool has_no_queued_fds(void *argument)
{
	(void)argument;
	return stats_of(sender.transport).fds_queued == 0;
}

TEST_CASE("ownership", NULL, check_closes);

TEST(a_taken_descriptor_is_closed_once_the_kernel_has_it)
{
	/* The last writing end of a pipe: its reader sees the end when the receiver closes it. */
	open_sender();
	int pipe_ends[2];
	make_pipe(pipe_ends);
	ck_assert_int_eq(send_fd(pipe_ends[1], FERRY_FD_TAKE), 0);
	write_byte();
	pump_until(has_no_queued_fds, NULL);
	ck_assert(!fd_is_open(pipe_ends[1]));

	receive_count(1);

	char byte;
	ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 0);
	close(pipe_ends[0]);
	close_sender();
}
