/* A file finishes once when its connection ends. ferry closes the descriptors that it owns, and refuses bad
 * calls. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "file_link.h"
#include "file_script.h"
#include "test.h"
#include "wire.h"

TEST_CASE("the end of the connection");

LOOP_TEST(losing_the_connection_finishes_the_file_with_reason_and_count, LINK_KINDS)
{
	open_link(_i);
	struct told second = {0};
	send_range(&file, 8 << 20, 0, FERRY_TO_END);
	send_range(&second, 100, 0, FERRY_TO_END);
	pump_turns(5);
	uint64_t sent = stats_of(sender.transport).file_bytes_sent;
	ck_assert_uint_gt(sent, 0);

	close_far();
	pump_until_lost(&sender);

	ck_assert_int_lt(sender.reason, 0);
	check_finished(&file, sender.reason, stats_of(sender.transport).file_bytes_sent);
	check_finished(&second, sender.reason, 0);
	close_link();
}

LOOP_TEST(a_paused_file_finishes_when_the_connection_is_aborted, LINK_KINDS)
{
	open_link(_i);
	send_range(&file, 8 << 20, 0, FERRY_TO_END);
	pump_turns(3);
	ferry_file_producer_pause(file.producer);
	pump_turns(3);
	uint64_t sent = stats_of(sender.transport).file_bytes_sent;

	file.quiet = sender.quiet = true;
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	file.quiet = sender.quiet = false;
	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -ECONNABORTED);
	check_finished(&file, -ECONNABORTED, sent);
	close_link();
}

LOOP_TEST(freeing_finishes_the_files_from_the_loop_with_ecanceled, LINK_KINDS)
{
	open_link(_i);
	struct told second = {0};
	send_range(&file, 8 << 20, 0, FERRY_TO_END);
	send_range(&second, 100, 0, FERRY_TO_END);
	pump_turns(5);
	uint64_t sent = stats_of(sender.transport).file_bytes_sent;
	ck_assert_uint_gt(sent, 0);

	file.quiet = second.quiet = true;
	recorder_free_transport(&sender);
	file.quiet = second.quiet = false;
	ck_assert_uint_eq(file.finished, 0);
	pump_turns(3);

	check_finished(&file, -ECANCELED, sent);
	check_finished(&second, -ECANCELED, 0);
	close_link();
}

LOOP_TEST(freeing_finishes_a_file_that_had_been_stopped_or_had_failed_only_once, LINK_KINDS)
{
	open_link(_i);
	send_range(&file, 8 << 20, 0, FERRY_TO_END);
	pump_turns(3);
	uint64_t sent = stats_of(sender.transport).file_bytes_sent;
	file.quiet = true;
	ferry_file_producer_stop(file.producer);
	recorder_free_transport(&sender);
	file.quiet = false;

	pump_turns(3);

	check_finished(&file, -ECANCELED, sent);
	close_link();
}

static void free_transport(struct told *told)
{
	(void)told;
	recorder_free_transport(&sender);
}

LOOP_TEST(the_transport_may_be_freed_in_the_progress_callback, LINK_KINDS)
{
	open_link(_i);
	struct told second = {0};
	file.on_progress = free_transport;
	send_range(&file, 8 << 20, 0, FERRY_TO_END);
	send_text("between");
	send_range(&second, 100, 0, FERRY_TO_END);

	while (sender.transport != NULL)
		pump_turns(1);
	pump_turns(3);

	ck_assert_uint_eq(file.progress, 1);
	ck_assert_uint_eq(file.finished, 1);
	ck_assert_int_eq(file.status, -ECANCELED);
	check_finished(&second, -ECANCELED, 0);
	close_link();
}

LOOP_TEST(the_transport_may_be_freed_in_the_finished_callback, LINK_KINDS)
{
	open_link(_i);
	struct told second = {0};
	file.on_finished = free_transport;
	send_range(&file, 1000, 0, FERRY_TO_END);
	send_range(&second, 8 << 20, 0, FERRY_TO_END);

	while (sender.transport != NULL)
		pump_turns(1);
	pump_turns(3);

	check_finished(&file, 0, 1000);
	ck_assert_uint_eq(second.finished, 1);
	ck_assert_int_eq(second.status, -ECANCELED);
	close_link();
}

static void abort_connection(struct told *told)
{
	(void)told;
	(void)ferry_transport_abort_connection(sender.transport);
}

/* _i: link, and which callback. */
LOOP_TEST(the_connection_may_be_aborted_in_a_files_callbacks, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	struct told second = {0};
	if (_i / LINK_KINDS == 0)
		file.on_progress = abort_connection;
	else
		file.on_finished = abort_connection;
	send_range(&file, _i / LINK_KINDS == 0 ? 8 << 20 : 1000, 0, FERRY_TO_END);
	send_range(&second, 8 << 20, 0, FERRY_TO_END);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -ECONNABORTED);
	ck_assert_uint_eq(file.finished, 1);
	ck_assert_uint_eq(second.finished, 1);
	ck_assert_int_eq(second.status, -ECONNABORTED);
	close_link();
}

static struct told chain[5];
static unsigned int chained;

static void send_next(struct told *told)
{
	(void)told;
	if (chained == 5)
		return;
	struct told *next = &chain[chained++];
	next->on_finished = send_next;
	send_text("|");
	send_range(next, 1000, 0, FERRY_TO_END);
}

LOOP_TEST(a_files_callback_may_send_the_next_file, LINK_KINDS)
{
	open_link(_i);
	file.on_finished = send_next;
	send_range(&file, 1000, 0, FERRY_TO_END);
	while (chained < 5 || chain[4].finished == 0)
		pump_turns(1);

	finish_stream();

	expect_range(0, 1000);
	for (int i = 0; i < 5; i++) {
		expect_text("|");
		expect_range(0, 1000);
		check_finished(&chain[i], 0, 1000);
	}
	expect_end();
	close_link();
}

TEST_CASE("ownership and arguments");

LOOP_TEST(a_taken_file_is_closed_when_it_is_finished_and_a_duplicated_one_stays, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(1000);
	struct told duplicated = {0};
	ck_assert_int_eq(try_send(&duplicated, fd, FERRY_FD_DUP, 0, FERRY_TO_END), 0);
	pump_until_count(&duplicated.finished, 1);
	ck_assert(fd_is_open(fd));

	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, 0, FERRY_TO_END), 0);
	ck_assert(fd_is_open(fd));
	pump_until_count(&file.finished, 1); /* which looks whether it is closed */

	start_collecting();
	finish_stream();
	expect_range(0, 1000);
	expect_range(0, 1000);
	expect_end();
	close_link();
}

LOOP_TEST(a_file_closed_right_after_being_duplicated_is_sent, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(1000);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 0, FERRY_TO_END), 0);
	close(fd);
	int other = make_marked_fd(1); /* at the same number */

	finish_stream();

	expect_range(0, 1000);
	expect_end();
	ck_assert(fd_is_open(other));
	close(other);
	close_link();
}

LOOP_TEST(callbacks_and_the_producer_may_be_null, LINK_KINDS)
{
	static const struct ferry_file_callbacks none = {0};
	open_link(_i);
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, make_file(1000),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, make_file(1000),
	                                           FERRY_FD_TAKE, 0, 2000, 0, &none, NULL),
	                 0);
	ferry_file_producer_pause(NULL);
	ferry_file_producer_resume(NULL);
	ferry_file_producer_stop(NULL);

	finish_stream();

	expect_range(0, 1000);
	expect_range(0, 1000);
	expect_end();
	close_link();
}

static void check_refused_with(unsigned int flags, int expected, int fd, int64_t offset,
                               int64_t length)
{
	struct ferry_transport_stats before = stats_of(sender.transport);
	struct ferry_file_producer *untouched = (struct ferry_file_producer *)&before;
	for (int ownership = FERRY_FD_DUP; ownership <= FERRY_FD_TAKE; ownership++) {
		struct told told = {.producer = untouched};
		bool was_open = fd_is_open(fd);
		int status = try_send(&told, fd, (unsigned int)ownership | flags, offset, length);
		ck_assert_msg(status == expected, "%d for offset %lld, length %lld", status,
		              (long long)offset, (long long)length);
		ck_assert_ptr_eq(told.producer, untouched);
		ck_assert(fd_is_open(fd) == was_open);
	}
	struct ferry_transport_stats after = stats_of(sender.transport);
	ck_assert_mem_eq(&before, &after, sizeof(before));
}

static void check_refused(int expected, int fd, int64_t offset, int64_t length)
{
	check_refused_with(0, expected, fd, offset, length);
}

LOOP_TEST(bad_ranges_are_refused_at_the_call, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(1000);
	check_refused(-EINVAL, fd, -1, 10);
	check_refused(-EINVAL, fd, INT64_MIN + 1, 10);
	check_refused(-EINVAL, fd, 0, -1);
	check_refused(-EINVAL, fd, 0, INT64_MIN);
	check_refused(-EINVAL, fd, FERRY_FILE_POSITION, -1);
	check_refused(-EINVAL, fd, INT64_MAX, 1);
	check_refused(-EINVAL, fd, 2, INT64_MAX - 1);
	check_refused(-EINVAL, fd, INT64_MAX - 10, 11);
	close(fd);
	close_link();
}

LOOP_TEST(a_file_that_cannot_be_read_is_refused_at_the_call, LINK_KINDS)
{
	open_link(_i);
	int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int path = open("/", O_PATH | O_CLOEXEC);
	int pipe_ends[2];
	make_pipe(pipe_ends);
	char name[] = "/tmp/ferry-test-XXXXXX";
	int readable = mkostemp(name, O_CLOEXEC);
	int write_only = open(name, O_WRONLY | O_CLOEXEC);
	unlink(name);
	int closed = make_file(0);
	close(closed);

	check_refused(-EISDIR, directory, 0, FERRY_TO_END);
	check_refused(-EBADF, write_only, 0, FERRY_TO_END);
	check_refused(-EBADF, closed, 0, FERRY_TO_END);
	check_refused(-EBADF, -1, 0, FERRY_TO_END);
	check_refused(-ESPIPE, pipe_ends[0], 1, 10);
	int status = try_send(&file, path, FERRY_FD_TAKE, 0, FERRY_TO_END);
	ck_assert(status == -EBADF || status == -EISDIR);

	close(directory);
	close(path);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	close(readable);
	close(write_only);
	close_link();
}

TEST(bad_arguments_are_refused)
{
	open_link(LINK_UNIX);
	int fd = make_file(1000);
	ck_assert_int_eq(ferry_transport_send_file(NULL, NULL, fd, FERRY_FD_TAKE, 0, 10, 0, NULL, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, fd, 0, 0, 10, 0, NULL, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, fd, 3, 0, 10, 0, NULL, NULL),
	                 -EINVAL);
	ck_assert_int_eq(try_send(&file, fd, SEND_COPIED, 0, 10), -EINVAL);
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, fd, FERRY_FD_TAKE, 0, 10,
	                                           FERRY_FILE_REGULAR << 1, NULL, NULL),
	                 -EINVAL);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE | 0x20, 0, 10), -EINVAL);
	check_refused_with(SEND_REGULAR, -EINVAL, fd, FERRY_FILE_POSITION, 10);
	check_refused_with(SEND_REGULAR, -EINVAL, fd, -1, 10);
	check_refused_with(SEND_REGULAR, -EINVAL, fd, 0, FERRY_TO_END);
	check_refused_with(SEND_REGULAR, -EINVAL, fd, 0, -1);
	check_refused_with(SEND_REGULAR, -EINVAL, fd, 2, INT64_MAX - 1);
	check_refused_with(SEND_REGULAR, -EBADF, -1, 0, 10);
	ck_assert(fd_is_open(fd));
	close(fd);
	close_link();
}

LOOP_TEST(after_the_end_a_file_is_refused, 3 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	if (_i / LINK_KINDS == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	else if (_i / LINK_KINDS == 1)
		ck_assert_int_eq(ferry_transport_lose_write_connection(sender.transport), 0);
	else
		ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	int fd = make_file(1000);

	check_refused(-EPIPE, fd, 0, FERRY_TO_END);

	close(fd);
	close_link();
}

TEST(at_the_descriptor_limit_a_duplicate_is_refused)
{
	open_link(LINK_UNIX);
	int fd = make_file(1000);
	limit_descriptors(0);
	int duplicated = try_send(&file, fd, FERRY_FD_DUP, 0, FERRY_TO_END);
	int taken = try_send(&file, fd, FERRY_FD_TAKE, 0, FERRY_TO_END);
	unlimit_descriptors();
	ck_assert_int_eq(duplicated, -EMFILE);
	ck_assert_int_eq(taken, 0);
	finish_stream();
	expect_range(0, 1000);
	expect_end();
	close_link();
}
