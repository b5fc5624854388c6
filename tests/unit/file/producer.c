/* Files in the stream: what of them is sent, in what order, who is told, and who closes them. Linked
 * with the library's objects so that a test can decide what sendfile(2) does. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file_link.h"
#include "test.h"
#include "wire.h"

/* ---- the kernel in the test's hand ---- */

/* What the next calls of one function do, in turn: a negative errno, or at most so many bytes. Then the
 * last of them for ever, or the real thing. */
struct script {
	const int *steps;
	size_t count, next;
	bool repeat;
};
static struct script by_sendfile, by_write;

static void play(struct script *script, const int *steps, size_t count, bool repeat)
{
	*script = (struct script){steps, count, 0, repeat};
}

/* How much of `length` the next call may take, or a negative errno. */
static ssize_t next_step(struct script *script, size_t length)
{
	if (script->next == script->count)
		return (ssize_t)length;
	int step = script->steps[script->next++];
	if (script->next == script->count && script->repeat)
		script->next = 0;
	if (step < 0)
		errno = -step;
	return step < 0 || length > (size_t)step ? step : (ssize_t)length;
}

ssize_t __real_sendfile(int out, int in, off_t *offset, size_t length);
ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __real_writev(int fd, const struct iovec *vectors, int count);
ssize_t __wrap_writev(int fd, const struct iovec *vectors, int count);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length)
{
	ck_assert_uint_gt(length, 0);
	ck_assert_uint_le(length, 0x7ffff000);
	ssize_t max = next_step(&by_sendfile, length);
	return max < 0 ? -1 : __real_sendfile(out, in, offset, (size_t)max);
}

enum { VECTORS_MAX = 80 };

/* Copies the vectors, cut to what the next write may take. How many are left, or -1. */
static int cut(const struct iovec *vectors, size_t count, struct iovec *cut_vectors)
{
	size_t length = 0;
	int used = 0;
	ck_assert_uint_le(count, VECTORS_MAX);
	for (size_t i = 0; i < count; i++)
		length += vectors[i].iov_len;
	ck_assert_uint_gt(length, 0);
	ssize_t left = next_step(&by_write, length);
	if (left < 0)
		return -1;
	for (; left > 0; used++) {
		cut_vectors[used] = vectors[used];
		if (cut_vectors[used].iov_len > (size_t)left)
			cut_vectors[used].iov_len = (size_t)left;
		left -= (ssize_t)cut_vectors[used].iov_len;
	}
	return used;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct iovec vectors[VECTORS_MAX];
	struct msghdr less = *message;
	int count = cut(message->msg_iov, message->msg_iovlen, vectors);
	if (count < 0)
		return -1;
	less.msg_iov = vectors;
	less.msg_iovlen = (size_t)count;
	return __real_sendmsg(fd, &less, flags);
}

ssize_t __wrap_writev(int fd, const struct iovec *vectors, int count)
{
	struct iovec less[VECTORS_MAX];
	count = cut(vectors, (size_t)count, less);
	return count < 0 ? -1 : __real_writev(fd, less, count);
}

enum { SMALL = 24 };

static struct told file; /* the one that most cases need */

/* ---- ranges ---- */

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
LOOP_TEST(a_range_is_sent_between_what_was_written_before_and_after, 2 * LINK_KINDS * RANGE_COUNT)
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

LOOP_TEST(from_the_files_position_it_moves_by_what_is_sent, 2 * LINK_KINDS)
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

LOOP_TEST(the_position_moves_by_exactly_what_was_sent_when_the_connection_goes, LINK_KINDS)
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

/* ---- a small file leaves with its header ---- */

enum { JOINED_LENGTH = 6 + SMALL + 7 };

TEST_CASE("a small file leaves with its header");

/* _i: link, whether each write is short or only the first, and how many bytes that takes. */
LOOP_TEST(a_header_and_a_small_file_lose_nothing_at_any_short_count, 2 * LINK_KINDS * JOINED_LENGTH)
{
	int kind = _i / JOINED_LENGTH % LINK_KINDS;
	bool each = _i / JOINED_LENGTH / LINK_KINDS != 0;
	const int limit[] = {_i % JOINED_LENGTH + 1};
	open_link(kind);
	int fd = make_file(SMALL + 100);
	ck_assert_int_eq(lseek(fd, 100, SEEK_SET), 100);
	play(&by_write, limit, 1, each);
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

LOOP_TEST(a_paused_small_file_does_not_hold_its_header_back, LINK_KINDS)
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

/* ---- a slow reader ---- */

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
	/* What the kernel had queued of it may have been cut to zeros; the length stands. */
	ck_assert_uint_eq(arrived_length, sent + strlen("trailer"));
	compared = (size_t)sent;
	expect_text("trailer");
	expect_end();
	close(fd);
	close_link();
}

LOOP_TEST(what_is_appended_while_sending_is_not_sent, 2 * LINK_KINDS)
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

/* ---- pause, resume, stop ---- */

/* One byte a wake-up. */
static const int byte_by_byte[] = {1, -EAGAIN};

/* The ways a file can leave, each byte by byte. */
enum { BY_SENDFILE, JOINED, COPIED, WAYS };

static void send_byte_by_byte(int way)
{
	play(way == BY_SENDFILE ? &by_sendfile : &by_write, byte_by_byte, 2, true);
	if (way == JOINED)
		send_text("<");
	unsigned int copy = way == COPIED ? SEND_COPIED : 0;
	ck_assert_int_eq(try_send(&file, make_file(SMALL), FERRY_FD_TAKE | copy, 0, FERRY_TO_END), 0);
	send_text(">");
}

static void expect_byte_by_byte(int way, uint64_t sent)
{
	if (way == JOINED)
		expect_text("<");
	expect_range(0, sent);
	expect_text(">");
	expect_end();
	/* Paused before its first byte, a small file is not joined. */
	if (way != JOINED)
		ck_assert_int_eq(stats_of(sender.transport).sendfile_calls > 0,
		                 way == BY_SENDFILE && sent > 0);
}

static uint64_t act_at;
static bool acted;

static void pump_to_byte(uint64_t sent)
{
	/* One round of the loop; without EVLOOP_ONCE it goes on as long as anything is ready. */
	while (stats_of(sender.transport).file_bytes_sent < sent)
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	ck_assert_uint_eq(stats_of(sender.transport).file_bytes_sent, sent);
}

TEST_CASE("pause, resume, stop");

/* _i: the way, and after how many bytes. */
LOOP_TEST(a_file_can_be_paused_and_resumed_at_every_byte, WAYS *(SMALL + 1))
{
	open_link(LINK_UNIX);
	int way = _i / (SMALL + 1), at = _i % (SMALL + 1);
	send_byte_by_byte(way);
	pump_to_byte((uint64_t)at);
	if (at == SMALL && file.finished > 0)
		file.producer = NULL; /* it was valid until then */

	for (int round = 0; round < 3; round++) {
		ferry_file_producer_pause(file.producer);
		ferry_file_producer_pause(file.producer);
		pump_turns(10);
		if (at < SMALL) {
			ck_assert_uint_eq(stats_of(sender.transport).file_bytes_sent, (uint64_t)at);
			ck_assert_uint_eq(file.finished, 0);
			ck_assert_uint_eq(stats_of(sender.transport).bytes_queued, 1);
		}
	}
	ferry_file_producer_resume(file.producer);
	if (file.finished == 0)
		ferry_file_producer_resume(file.producer);

	finish_stream();
	check_finished(&file, 0, SMALL);
	expect_byte_by_byte(way, SMALL);
	close_link();
}

LOOP_TEST(a_file_can_be_stopped_at_every_byte, WAYS *SMALL)
{
	open_link(LINK_UNIX);
	int way = _i / SMALL, at = _i % SMALL;
	send_byte_by_byte(way);
	pump_to_byte((uint64_t)at);
	ck_assert_uint_eq(file.finished, 0);

	file.quiet = true;
	ferry_file_producer_stop(file.producer);
	ferry_file_producer_stop(file.producer);
	file.quiet = false;

	finish_stream();
	check_finished(&file, -ECANCELED, (uint64_t)at);
	expect_byte_by_byte(way, (uint64_t)at);
	close_link();
}

LOOP_TEST(a_paused_file_can_be_stopped_and_what_follows_goes_on, LINK_KINDS)
{
	open_link(_i);
	send_text("<");
	send_range(&file, 100000, 0, FERRY_TO_END);
	send_text(">");
	ferry_file_producer_pause(file.producer);
	pump_turns(3);

	ferry_file_producer_stop(file.producer);
	ferry_file_producer_resume(file.producer);
	ferry_file_producer_pause(file.producer);

	finish_stream();
	check_finished(&file, -ECANCELED, 0);
	expect_text("<");
	expect_text(">");
	expect_end();
	close_link();
}

LOOP_TEST(a_file_behind_another_can_be_paused_and_stopped, LINK_KINDS)
{
	open_link(_i);
	struct told second = {0}, third = {0};
	send_range(&file, 50000, 0, FERRY_TO_END);
	send_range(&second, 50000, 0, FERRY_TO_END);
	send_range(&third, 50000, 0, 100);
	ferry_file_producer_pause(second.producer);
	start_collecting();
	for (int i = 0; i < 20; i++) {
		pump_turns(1);
		collect_some(65536);
	}
	check_finished(&file, 0, 50000);
	ck_assert_uint_eq(second.progress, 0);
	ck_assert_uint_eq(third.progress, 0);

	ferry_file_producer_stop(second.producer);
	finish_stream();

	check_finished(&second, -ECANCELED, 0);
	check_finished(&third, 0, 100);
	expect_range(0, 50000);
	expect_range(0, 100);
	expect_end();
	close_link();
}

static void pause_once(struct told *told)
{
	if (told->sent >= act_at && !acted) {
		acted = true;
		ferry_file_producer_pause(told->producer);
		ferry_file_producer_pause(told->producer);
	}
}

LOOP_TEST(a_file_can_be_paused_in_its_progress_callback, WAYS *(SMALL - 1))
{
	open_link(LINK_UNIX);
	int way = _i / (SMALL - 1);
	file.on_progress = pause_once;
	act_at = (uint64_t)(_i % (SMALL - 1) + 1);
	send_byte_by_byte(way);
	while (!acted)
		pump_turns(1);
	pump_turns(10);
	ck_assert_uint_eq(file.sent, act_at);
	ck_assert_uint_eq(file.finished, 0);

	ferry_file_producer_resume(file.producer);
	finish_stream();

	check_finished(&file, 0, SMALL);
	expect_byte_by_byte(way, SMALL);
	close_link();
}

static void flicker(struct told *told)
{
	ferry_file_producer_pause(told->producer);
	ferry_file_producer_resume(told->producer);
}

LOOP_TEST(pausing_and_resuming_in_every_progress_callback_changes_nothing, LINK_KINDS)
{
	open_link(_i);
	file.on_progress = flicker;
	send_range(&file, 1 << 20, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, 1 << 20);
	expect_range(0, 1 << 20);
	expect_text("trailer");
	expect_end();
	close_link();
}

static void stop_at(struct told *told)
{
	if (told->sent >= act_at) {
		ferry_file_producer_stop(told->producer);
		ferry_file_producer_stop(told->producer);
		ferry_file_producer_pause(told->producer);
		ferry_file_producer_resume(told->producer);
	}
}

LOOP_TEST(a_file_can_be_stopped_in_its_progress_callback, WAYS *(SMALL - 1))
{
	open_link(LINK_UNIX);
	int way = _i / (SMALL - 1);
	file.on_progress = stop_at;
	act_at = (uint64_t)(_i % (SMALL - 1) + 1);
	send_byte_by_byte(way);

	finish_stream();

	check_finished(&file, -ECANCELED, act_at);
	expect_byte_by_byte(way, act_at);
	close_link();
}

static void act_on_finished_file(struct told *told)
{
	/* Valid until `finished` returns. */
	ferry_file_producer_pause(told->producer);
	ferry_file_producer_resume(told->producer);
	ferry_file_producer_stop(told->producer);
}

LOOP_TEST(pausing_and_stopping_in_the_finished_callback_does_nothing, LINK_KINDS)
{
	open_link(_i);
	file.on_finished = act_on_finished_file;
	send_range(&file, 1000, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, 1000);
	expect_range(0, 1000);
	expect_text("trailer");
	expect_end();
	close_link();
}

static bool time_is_up;

static void time_up(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	time_is_up = true;
}

static void set_write_timeout(int milliseconds)
{
	struct timeval timeout = {.tv_usec = milliseconds * 1000};
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL, &timeout);
}

/* Lets the loop run for much longer than the write timeout. */
static void pump_past_the_timeout(void)
{
	time_is_up = false;
	event_base_once(base, -1, EV_TIMEOUT, time_up, NULL, &(struct timeval){.tv_usec = 60000});
	pump_until_set(&time_is_up);
}

LOOP_TEST(a_paused_file_does_not_run_into_the_write_timeout, 2 * LINK_KINDS)
{
	/* Set where no timer runs yet, or is taken back before the loop can look at it. */
	bool under_way = _i / LINK_KINDS == 1;
	open_link(_i % LINK_KINDS);
	if (!under_way)
		set_write_timeout(5);
	send_text("<");
	send_range(&file, 4 << 20, 0, FERRY_TO_END);
	send_text(">");
	if (under_way) {
		pump_turns(5);
		ck_assert_uint_gt(stats_of(sender.transport).file_bytes_sent, 0);
		set_write_timeout(5);
	}
	ferry_file_producer_pause(file.producer);

	pump_past_the_timeout();

	ck_assert_uint_eq(sender.lost, 0);
	ck_assert_uint_eq(file.finished, 0);
	ck_assert_uint_gt(stats_of(sender.transport).bytes_queued, 0);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL, NULL);
	ferry_file_producer_resume(file.producer);
	finish_stream();
	check_finished(&file, 0, 4 << 20);
	expect_text("<");
	expect_range(0, 4 << 20);
	expect_text(">");
	expect_end();
	close_link();
}

LOOP_TEST(bytes_before_a_paused_file_do_run_into_the_write_timeout, LINK_KINDS)
{
	open_link(_i);
	static char block[1 << 20];
	set_write_timeout(5);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(sender.transport, block, sizeof(block)), 0);
	send_range(&file, 1000, 0, FERRY_TO_END);
	ferry_file_producer_pause(file.producer);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -ETIMEDOUT);
	check_finished(&file, -ETIMEDOUT, 0);
	close_link();
}

/* ---- the end of the connection ---- */

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

/* ---- ownership and arguments ---- */

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

static void check_refused(int expected, int fd, int64_t offset, int64_t length)
{
	struct ferry_transport_stats before = stats_of(sender.transport);
	struct ferry_file_producer *untouched = (struct ferry_file_producer *)&before;
	for (int ownership = FERRY_FD_DUP; ownership <= FERRY_FD_TAKE; ownership++) {
		struct told told = {.producer = untouched};
		bool was_open = fd_is_open(fd);
		int status = try_send(&told, fd, (unsigned int)ownership, offset, length);
		ck_assert_msg(status == expected, "%d for offset %lld, length %lld", status,
		              (long long)offset, (long long)length);
		ck_assert_ptr_eq(told.producer, untouched);
		ck_assert(fd_is_open(fd) == was_open);
	}
	struct ferry_transport_stats after = stats_of(sender.transport);
	ck_assert_mem_eq(&before, &after, sizeof(before));
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

LOOP_TEST(what_cannot_be_read_is_refused_at_the_call, LINK_KINDS)
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
	                                           FERRY_FILE_COPY << 1, NULL, NULL),
	                 -EINVAL);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE | 0x20, 0, 10), -EINVAL);
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

/* ---- what sendfile(2) says ---- */

static const int interrupted[] = {-EINTR, 100, -EINTR, -EINTR, 200};
static const int full[] = {-EAGAIN, 100, -EAGAIN, 50};
static const int one_byte[] = {1};
static const int no_buffers[] = {-ENOBUFS, 100, -ENOBUFS, 200};
static const int no_memory[] = {-ENOMEM, -ENOMEM, 100};

static const struct {
	const int *steps;
	size_t count;
	bool repeat;
	unsigned int retries;
} recoveries[] = {
    {interrupted, 5, true, 0}, {full, 4, true, 0},       {one_byte, 1, true, 0},
    {no_buffers, 4, false, 2}, {no_memory, 3, false, 2},
};
/* Too large to be joined with its header. */
enum { LARGE = 20000 };

enum { RECOVERIES = sizeof(recoveries) / sizeof(recoveries[0]) };

TEST_CASE("what sendfile says");

LOOP_TEST(what_sendfile_gets_over_is_not_noticed, LINK_KINDS *RECOVERIES)
{
	open_link(_i / RECOVERIES);
	int i = _i % RECOVERIES;
	play(&by_sendfile, recoveries[i].steps, recoveries[i].count, recoveries[i].repeat);
	send_text("header");
	send_range(&file, LARGE, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, LARGE);
	ck_assert_uint_eq(stats_of(sender.transport).send_retries, recoveries[i].retries);
	expect_text("header");
	expect_range(0, LARGE);
	expect_text("trailer");
	expect_end();
	close_link();
}

/* Not one that copying may get over. */
static const int error_first[] = {-ESTALE};
static const int error_later[] = {100, -ESTALE};

LOOP_TEST(an_error_of_the_file_finishes_it_and_the_stream_goes_on, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	bool later = _i / LINK_KINDS == 1;
	play(&by_sendfile, later ? error_later : error_first, later ? 2 : 1, false);
	send_text("header");
	send_range(&file, LARGE, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, -ESTALE, later ? 100 : 0);
	expect_text("header");
	expect_range(0, later ? 100 : 0);
	expect_text("trailer");
	expect_end();
	close_link();
}

static const int broken[] = {100, -EPIPE};
static const int reset[] = {100, -ECONNRESET};

LOOP_TEST(an_error_of_the_connection_ends_it, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	bool pipe = _i / LINK_KINDS == 0;
	play(&by_sendfile, pipe ? broken : reset, 2, false);
	send_range(&file, 3000, 0, FERRY_TO_END);
	send_text("trailer");

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, pipe ? -EPIPE : -ECONNRESET);
	check_finished(&file, sender.reason, 100);
	close_link();
}

TEST(starved_of_memory_a_paused_file_stays_paused)
{
	open_link(LINK_UNIX);
	static const int starved[] = {-ENOMEM};
	play(&by_sendfile, starved, 1, true);
	send_range(&file, 3000, 0, FERRY_TO_END);
	send_text("trailer");
	while (stats_of(sender.transport).send_retries == 0)
		pump_turns(1);
	ferry_file_producer_pause(file.producer);
	play(&by_sendfile, NULL, 0, false);
	pump_past_the_timeout();
	ck_assert_uint_eq(stats_of(sender.transport).file_bytes_sent, 0);

	ferry_file_producer_resume(file.producer);
	finish_stream();

	check_finished(&file, 0, 3000);
	expect_range(0, 3000);
	expect_text("trailer");
	expect_end();
	close_link();
}

LOOP_TEST(starved_of_memory_the_transport_may_be_freed, LINK_KINDS)
{
	open_link(_i);
	static const int starved[] = {-ENOMEM};
	play(&by_sendfile, starved, 1, true);
	send_range(&file, 3000, 0, FERRY_TO_END);
	while (stats_of(sender.transport).send_retries == 0)
		pump_turns(1);

	recorder_free_transport(&sender);
	pump_past_the_timeout();

	check_finished(&file, -ECANCELED, 0);
	close_link();
}
