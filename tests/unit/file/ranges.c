/* ferry sends ranges of files between other bytes, sends small files together with the bytes before them, and
 * waits for slow readers. */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "file_link.h"
#include "file_script.h"
#include "test.h"
#include "wire.h"

static const struct {
	uint64_t size;
	int64_t offset, length;
	int status;
	uint64_t sent;
} ranges[] = {
    {300000, 0, FERRY_TO_END, 0, 300000},
    {300000, 0, 300000, 0, 300000},
    {1, 0, FERRY_TO_END, 0, 1},
    {4096, 0, FERRY_TO_END, 0, 4096},
    {10000, 1000, 5000, 0, 5000},
    {10000, 9999, 1, 0, 1},
    {10000, 1000, FERRY_TO_END, 0, 9000},
    {0, 0, FERRY_TO_END, 0, 0},
    {10000, 0, 0, 0, 0},
    {10000, 5000, 0, 0, 0},
    {10000, 10000, FERRY_TO_END, 0, 0},
    {10000, 20000, FERRY_TO_END, 0, 0},
    {10000, 0, 20000, -EIO, 10000},
    {10000, 5000, 5001, -EIO, 5000},
    {10000, 10000, 1, -EIO, 0},
    {10000, 20000, 1, -EIO, 0},
    {0, 0, 1, -EIO, 0},
};

enum { RANGE_COUNT = sizeof(ranges) / sizeof(ranges[0]) };

TEST_CASE("ranges");

/* _i: link, range, and whether a header stands before it, which a small file is joined with. */
LOOP_TEST(a_range_is_sent_between_the_bytes_before_and_after, 2 * LINK_KINDS * RANGE_COUNT)
{
	open_link(_i / RANGE_COUNT % LINK_KINDS);
	int i = _i % RANGE_COUNT;
	const char *header = _i / RANGE_COUNT / LINK_KINDS == 0 ? "header" : "";
	send_text(header);
	send_range(&file, ranges[i].size, ranges[i].offset, ranges[i].length);
	send_text("trailer");

	finish_stream();

	expect_text(header);
	expect_range((uint64_t)ranges[i].offset, ranges[i].sent);
	expect_text("trailer");
	expect_end();
	check_finished(&file, ranges[i].status, ranges[i].sent);
	struct ferry_transport_stats stats = stats_of(sender.transport);
	ck_assert_uint_eq(stats.files_sent, ranges[i].status == 0);
	ck_assert_uint_eq(stats.file_bytes_sent, ranges[i].sent);
	ck_assert_uint_eq(stats.bytes_sent, ranges[i].sent + strlen(header) + strlen("trailer"));
	ck_assert_uint_eq(stats.files_queued, 0);
	close_link();
}

/* The ends of the file come to light while it is sent. */
LOOP_TEST(a_range_that_the_caller_knows_is_sent_the_same_way, 2 * LINK_KINDS * RANGE_COUNT)
{
	int i = _i % RANGE_COUNT;
	unsigned int copy = _i / RANGE_COUNT / LINK_KINDS == 0 ? SEND_COPIED : 0;
	if (ranges[i].length == FERRY_TO_END)
		return;
	open_link(_i / RANGE_COUNT % LINK_KINDS);
	send_text("header");
	ck_assert_int_eq(try_send(&file, make_file(ranges[i].size), FERRY_FD_TAKE | SEND_REGULAR | copy,
	                          ranges[i].offset, ranges[i].length),
	                 0);
	send_text("trailer");

	finish_stream();

	expect_text("header");
	expect_range((uint64_t)ranges[i].offset, ranges[i].sent);
	expect_text("trailer");
	expect_end();
	check_finished(&file, ranges[i].status, ranges[i].sent);
	close_link();
}

LOOP_TEST(an_offset_leaves_the_files_own_position_alone, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(10000);
	ck_assert_int_eq(lseek(fd, 123, SEEK_SET), 123);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 1000, 5000), 0);

	finish_stream();

	expect_range(1000, 5000);
	expect_end();
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 123);
	close(fd);
	close_link();
}

LOOP_TEST(from_the_files_position_the_position_moves_by_the_bytes_sent, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	int64_t length = _i / LINK_KINDS == 0 ? 3000 : FERRY_TO_END;
	uint64_t sent = length == FERRY_TO_END ? 9500 : 3000;
	int fd = make_file(10000);
	ck_assert_int_eq(lseek(fd, 500, SEEK_SET), 500);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, length), 0);

	finish_stream();

	check_finished(&file, 0, sent);
	expect_range(500, sent);
	expect_end();
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 500 + (off_t)sent);
	close(fd);
	close_link();
}

TEST(a_descriptor_before_it_does_not_disturb_the_files_position)
{
	/* The file's first bytes go with a descriptor, in another system call. */
	open_link(LINK_UNIX);
	int fd = make_file(10000);
	ck_assert_int_eq(lseek(fd, 500, SEEK_SET), 500);
	ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, 9000), 0);

	finish_stream();

	check_finished(&file, 0, 9000);
	expect_range(500, 9000);
	expect_end();
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 9500);
	close(fd);
	close_link();
}

LOOP_TEST(the_position_moves_by_exactly_the_bytes_sent_when_the_connection_goes, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(4 << 20);
	ck_assert_int_eq(lseek(fd, 500, SEEK_SET), 500);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	pump_turns(5);
	ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);

	pump_until_lost(&sender);

	ck_assert_int_eq(file.status, -ECONNABORTED);
	ck_assert_uint_gt(file.sent, 0);
	ck_assert_uint_lt(file.sent, (4 << 20) - 500);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 500 + (off_t)file.sent);
	close(fd);
	close_link();
}

LOOP_TEST(a_range_beyond_four_gibibytes_is_sent, LINK_KINDS)
{
	open_link(_i);
	const int64_t offset = (5LL << 30) + 12345;
	int fd = memfd_create("ferry-test", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fd, offset + 50000), 0);
	unsigned char content[50000];
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = support_byte(i);
	ck_assert_int_eq(pwrite(fd, content, sizeof(content), offset), sizeof(content));
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, offset, FERRY_TO_END), 0);

	finish_stream();

	check_finished(&file, 0, sizeof(content));
	expect_range(0, sizeof(content));
	expect_end();
	close_link();
}

LOOP_TEST(two_files_back_to_back_arrive_in_order, LINK_KINDS)
{
	open_link(_i);
	struct told second = {0};
	send_range(&file, 200000, 0, FERRY_TO_END);
	send_range(&second, 100000, 100, 50000);

	finish_stream();

	expect_range(0, 200000);
	expect_range(100, 50000);
	expect_end();
	check_finished(&file, 0, 200000);
	check_finished(&second, 0, 50000);
	close_link();
}

LOOP_TEST(many_small_files_arrive_in_order, LINK_KINDS)
{
	open_link(_i);
	static struct told files[200];
	for (int i = 0; i < 200; i++) {
		send_range(&files[i], (uint64_t)i, 0, FERRY_TO_END);
		send_text("|");
	}

	finish_stream();

	for (uint64_t i = 0; i < 200; i++) {
		check_finished(&files[i], 0, i);
		expect_range(0, i);
		expect_text("|");
	}
	expect_end();
	ck_assert_uint_eq(stats_of(sender.transport).files_sent, 200);
	close_link();
}

enum { JOINED_LENGTH = 6 + SMALL + 7 };

TEST_CASE("a small file leaves with its header");

/* _i: link, whether each write is short or only the first, and the count of bytes that a short
 * write takes. */
LOOP_TEST(a_header_and_a_small_file_lose_nothing_at_any_short_count, 2 * LINK_KINDS * JOINED_LENGTH)
{
	int kind = _i / JOINED_LENGTH % LINK_KINDS;
	bool each = _i / JOINED_LENGTH / LINK_KINDS != 0;
	const int limit[] = {_i % JOINED_LENGTH + 1};
	open_link(kind);
	int fd = make_file(SMALL + 100);
	ck_assert_int_eq(lseek(fd, 100, SEEK_SET), 100);
	play_file_script(&by_write, limit, 1, each);
	if (kind == LINK_UNIX)
		ck_assert_int_eq(ferry_transport_send_fd(sender.transport, fd, FERRY_FD_DUP), 0);
	send_text("header");
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, SMALL);
	expect_text("header");
	expect_range(100, SMALL);
	expect_text("trailer");
	expect_end();
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 100 + SMALL);
	struct ferry_transport_stats stats = stats_of(sender.transport);
	ck_assert_uint_eq(stats.sendfile_calls, 0);
	ck_assert_uint_eq(stats.fds_sent, kind == LINK_UNIX);
	close(fd);
	close_link();
}

/* _i: link, and whether there is a header. */
LOOP_TEST(files_below_16_kib_are_joined_with_a_header_in_one_call_and_others_are_not,
          2 * LINK_KINDS)
{
	static const struct {
		uint64_t size;
		unsigned int writes, sendfiles;
	} cases[] = {{1, 1, 0}, {16383, 1, 0}, {16384, 1, 1}};
	for (int i = 0; i < 3; i++) {
		bool header = _i / LINK_KINDS == 0;
		struct told told = {0};
		open_link(_i % LINK_KINDS);
		send_text(header ? "header" : "");
		send_range(&told, cases[i].size, 0, FERRY_TO_END);
		pump_until_count(&told.finished, 1);
		struct ferry_transport_stats stats = stats_of(sender.transport);
		ck_assert_uint_eq(stats.send_calls, header ? cases[i].writes : 0);
		ck_assert_uint_eq(stats.sendfile_calls, header ? cases[i].sendfiles : 1);
		start_collecting();
		finish_stream();
		expect_text(header ? "header" : "");
		expect_range(0, cases[i].size);
		expect_end();
		close_link();
	}
}

LOOP_TEST(the_header_of_a_paused_small_file_leaves_at_once, LINK_KINDS)
{
	open_link(_i);
	send_text("header");
	send_range(&file, 100, 0, FERRY_TO_END);
	ferry_file_producer_pause(file.producer);
	start_collecting();
	pump_turns(3);
	collect_some(1000);
	expect_text("header");
	ck_assert_uint_eq(arrived_length, compared);

	ferry_file_producer_resume(file.producer);
	finish_stream();

	expect_range(0, 100);
	expect_end();
	check_finished(&file, 0, 100);
	close_link();
}

LOOP_TEST(a_small_file_that_was_truncated_before_its_turn_finishes_with_eio, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(1000);
	send_text("header");
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 0, FERRY_TO_END), 0);
	send_text("trailer");
	ck_assert_int_eq(ftruncate(fd, 10), 0);

	finish_stream();

	check_finished(&file, -EIO, 10);
	expect_text("header");
	expect_range(0, 10);
	expect_text("trailer");
	expect_end();
	close(fd);
	close_link();
}

LOOP_TEST(many_headers_and_small_files_take_one_call_each, LINK_KINDS)
{
	open_link(_i);
	static struct told files[50];
	for (int i = 0; i < 50; i++) {
		send_text("header");
		send_range(&files[i], 100, 0, FERRY_TO_END);
	}
	pump_until_count(&files[49].finished, 1);
	ck_assert_uint_eq(stats_of(sender.transport).send_calls, 50);

	start_collecting();
	finish_stream();
	for (int i = 0; i < 50; i++) {
		expect_text("header");
		expect_range(0, 100);
	}
	expect_end();
	close_link();
}

TEST_CASE("a slow reader");

LOOP_TEST(short_counts_and_a_full_socket_lose_nothing, LINK_KINDS)
{
	open_link(_i);
	if (_i != LINK_PIPES)
		wire_shrink(bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport)));
	send_text("header");
	send_range(&file, 600000, 0, FERRY_TO_END);
	send_text("trailer");
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	start_collecting();

	while (sender.lost == 0 || arrived_end > 0) {
		pump_turns(1);
		collect_some(1 + support_random_below(3000));
	}

	ck_assert_int_eq(sender.reason, 0);
	check_finished(&file, 0, 600000);
	ck_assert_uint_gt(file.progress, 1);
	ck_assert_uint_gt(stats_of(sender.transport).send_eagain, 0);
	expect_text("header");
	expect_range(0, 600000);
	expect_text("trailer");
	expect_end();
	close_link();
}

LOOP_TEST(a_truncated_file_finishes_with_eio_and_the_exact_count, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(4 << 20);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 0, FERRY_TO_END), 0);
	send_text("trailer");
	start_collecting();
	pump_turns(3);
	ck_assert_uint_eq(file.finished, 0);
	uint64_t sent_before = stats_of(sender.transport).file_bytes_sent;
	ck_assert_uint_gt(sent_before, 0);
	ck_assert_uint_lt(sent_before, 3 << 20);

	ck_assert_int_eq(ftruncate(fd, 3 << 20), 0);
	finish_stream();

	check_finished(&file, -EIO, 3 << 20);
	expect_range(0, 3 << 20);
	expect_text("trailer");
	expect_end();
	ck_assert_uint_eq(stats_of(sender.transport).files_sent, 0);
	close(fd);
	close_link();
}

LOOP_TEST(a_file_truncated_to_less_than_was_sent_finishes_with_the_count_that_was, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(4 << 20);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 0, FERRY_TO_END), 0);
	send_text("trailer");
	start_collecting();
	pump_turns(3);
	uint64_t sent = stats_of(sender.transport).file_bytes_sent;

	ck_assert_int_eq(ftruncate(fd, 10), 0);
	finish_stream();

	check_finished(&file, -EIO, sent);
	/* The kernel may have zeroed the truncated bytes that were still queued in the socket. Their
	 * count does not change. */
	ck_assert_uint_eq(arrived_length, sent + strlen("trailer"));
	compared = (size_t)sent;
	expect_text("trailer");
	expect_end();
	close(fd);
	close_link();
}

LOOP_TEST(bytes_appended_while_sending_are_not_sent, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	int fd = make_file(1 << 20);
	bool to_end = _i / LINK_KINDS == 0;
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 0, to_end ? FERRY_TO_END : 1 << 20), 0);
	send_text("trailer");
	pump_turns(3);
	ck_assert_uint_eq(file.finished, 0);

	ck_assert_int_eq(pwrite(fd, "appended", 8, 1 << 20), 8);
	finish_stream();

	check_finished(&file, 0, 1 << 20);
	expect_range(0, 1 << 20);
	expect_text("trailer");
	expect_end();
	close(fd);
	close_link();
}
