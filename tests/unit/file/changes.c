/* Files change while ferry sends them, and sendfile(2), splice(2) and pread(2) fail. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "file_link.h"
#include "source_link.h"
#include "test.h"

static void play_source_script(struct script *script, const int *steps, size_t count)
{
	*script = (struct script){.steps = steps, .count = count};
}

TEST_CASE("files that change");

LOOP_TEST(a_copied_file_may_shrink_grow_and_end, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	enum { SIZE = 4 << 20 };
	bool shrinks = _i / LINK_KINDS != 0;
	int fd = make_file(SIZE);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP | SEND_COPIED, 0, FERRY_TO_END), 0);
	send_text("trailer");
	start_collecting();
	pump_turns(3);
	ck_assert_uint_eq(file.finished, 0);
	ck_assert_int_eq(ftruncate(fd, shrinks ? 3 << 20 : SIZE + 1000), 0);
	finish_stream();

	check_finished(&file, shrinks ? -EIO : 0, shrinks ? 3 << 20 : SIZE);
	expect_range(0, shrinks ? 3 << 20 : SIZE);
	expect_text("trailer");
	expect_end();
	close(fd);
	close_link();
}

/* _i: link, and whether it is copied. */
LOOP_TEST(bytes_appended_to_an_empty_file_are_not_sent, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	copy = _i / LINK_KINDS != 0 ? SEND_COPIED : 0;
	int fd = make_file(0);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP | copy, 0, FERRY_TO_END), 0);
	ck_assert_int_eq(pwrite(fd, "appended", 8, 0), 8);
	finish_stream();

	check_finished(&file, 0, 0);
	expect_end();
	close(fd);
	close_link();
}

LOOP_TEST(a_file_that_grows_to_its_length_before_its_end_is_reached_is_sent_whole, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(4 << 20);
	int whole = make_file((4 << 20) + 100000);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 0, (4 << 20) + 100000), 0);
	start_collecting();
	pump_turns(3);
	ck_assert_uint_eq(file.finished, 0);
	off_t from = 4 << 20;
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), from);
	ck_assert_int_eq(__real_sendfile(fd, whole, &from, 100000), 100000);
	finish_stream();

	check_finished(&file, 0, (4 << 20) + 100000);
	expect_range(0, (4 << 20) + 100000);
	expect_end();
	close(whole);
	close(fd);
	close_link();
}

enum { BY_SENDFILE, BY_COPY, REFUSED_LATER, FILE_WAYS };
enum { ALL_SENT, STOPPED, FAILED, LOST, FREED, ENDS };

static const int refused_later[] = {0, -EINVAL};
static const int stale_later[] = {0, 0, -ESTALE};

/* _i: link, way, end. */
LOOP_TEST(the_files_position_moves_by_exactly_the_bytes_sent, LINK_KINDS *FILE_WAYS *ENDS)
{
	enum { SIZE = 8 << 20, START = 500 };
	int way = _i / LINK_KINDS % FILE_WAYS, end = _i / LINK_KINDS / FILE_WAYS;
	open_link(_i % LINK_KINDS);
	int fd = make_file(SIZE);
	ck_assert_int_eq(lseek(fd, START, SEEK_SET), START);
	sendfile_max = 30000;
	if (way == REFUSED_LATER)
		play_source_script(&by_sendfile, refused_later, 2);
	if (end == FAILED)
		play_source_script(way == BY_SENDFILE ? &by_sendfile : &by_pread, stale_later, 3);
	unsigned int flags = FERRY_FD_DUP | (way == BY_COPY ? SEND_COPIED : 0);
	ck_assert_int_eq(try_send(&file, fd, flags, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	pump_turns(5);
	if (end != FAILED)
		ck_assert_uint_eq(file.finished, 0);

	if (end == STOPPED)
		ferry_file_producer_stop(file.producer);
	else if (end == LOST)
		close_far();
	else if (end == FREED)
		recorder_free_transport(&sender);
	if (end == ALL_SENT || end == STOPPED || end == FAILED)
		finish_stream();
	pump_until_count(&file.finished, 1);

	static const int statuses[] = {0, -ECANCELED, -ESTALE, 0, -ECANCELED};
	if (end != LOST)
		ck_assert_int_eq(file.status, statuses[end]);
	ck_assert_uint_gt(file.sent, 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), START + (off_t)file.sent);
	if (end == ALL_SENT || end == STOPPED || end == FAILED) {
		expect_range(START, file.sent);
		expect_end();
	}
	free(arrived);
	arrived = NULL;
	close(fd);
	close_link();
}

static const struct {
	int error;
	bool first, later; /* whether copying gets over it */
} refusals[] = {
    {EINVAL, true, true},   {EOPNOTSUPP, true, true}, {EIO, true, true},
    {ENOSYS, true, false},  {ESPIPE, true, false},    {EOVERFLOW, true, false},
    {EXDEV, true, false},   {ENOTSOCK, true, false},  {EBADF, false, false},
    {EACCES, false, false}, {ESTALE, false, false},   {EFBIG, false, false},
};

enum { REFUSALS = sizeof(refusals) / sizeof(refusals[0]), LENGTH = 50000 };

TEST_CASE("what the kernel refuses");

/* _i: link, error, and whether it comes first or after some progress. */
LOOP_TEST(a_file_that_sendfile_refuses_is_copied_or_fails, 2 * LINK_KINDS * REFUSALS)
{
	open_link(_i % LINK_KINDS);
	int i = _i / LINK_KINDS % REFUSALS;
	bool later = _i / LINK_KINDS / REFUSALS != 0;
	bool copied = later ? refusals[i].later : refusals[i].first;
	const int steps[] = {later ? 0 : -refusals[i].error, -refusals[i].error};
	play_source_script(&by_sendfile, steps, 2);
	sendfile_max = 1000;
	file.on_finished = note_method;
	send_text("header");
	send_range(&file, LENGTH, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	uint64_t sent = copied ? LENGTH : (later ? 1000 : 0);
	check_finished(&file, copied ? 0 : -refusals[i].error, sent);
	ck_assert_int_eq(method, copied ? FERRY_FILE_BY_COPY : FERRY_FILE_BY_SENDFILE);
	expect_text("header");
	expect_range(0, sent);
	expect_text("trailer");
	expect_end();
	close_link();
}

/* Reads as the refused splice(2) would have, up to which call it went well. A socket into a socket takes
 * two calls, in and out. */
LOOP_TEST(a_source_that_splice_refuses_is_copied_or_fails, 2 * 4 * LINK_KINDS * REFUSALS)
{
	int at = _i / LINK_KINDS / REFUSALS % 4;
	int i = _i / LINK_KINDS % REFUSALS;
	open_link(_i % LINK_KINDS);
	open_source(_i / LINK_KINDS / REFUSALS / 4 == 0 ? FROM_PIPE : FROM_UNIX);
	int steps[4] = {0};
	steps[at] = -refusals[i].error;
	play_source_script(&by_splice, steps, (size_t)at + 1);
	send_source(1000);
	send_text("trailer");
	start_collecting();
	for (int n = 0; n < 4; n++) { /* four times a piece */
		to_feed += 250;
		feed_some();
		pump_turns(5);
	}
	finish_stream();

	if (file.status == 0) {
		ck_assert_uint_eq(file.sent, 1000);
		ck_assert_int_eq(method, FERRY_FILE_BY_COPY);
		ck_assert(refusals[i].first);
	} else {
		ck_assert_int_eq(file.status, -refusals[i].error);
		ck_assert(file.sent == 0 ? !refusals[i].first : !refusals[i].later);
		ck_assert_uint_eq(file.sent % 250, 0);
	}
	expect_range(0, file.sent);
	expect_text("trailer");
	expect_end();
	close_all();
}

static const int io_error[] = {-EIO, -EIO};
static const int later_io_error[] = {0, -EIO, -EIO};

LOOP_TEST(a_true_input_error_comes_again_when_reading_and_ends_the_file, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	bool later = _i / LINK_KINDS != 0;
	play_source_script(&by_sendfile, later ? later_io_error : io_error, later ? 2 : 1);
	play_source_script(&by_pread, io_error, 1);
	sendfile_max = 1000;
	send_range(&file, LENGTH, 0, FERRY_TO_END);
	send_text("trailer");

	finish_stream();

	check_finished(&file, -EIO, later ? 1000 : 0);
	expect_range(0, later ? 1000 : 0);
	expect_text("trailer");
	expect_end();
	close_link();
}

static const int shortages[] = {-ENOMEM, 0, -ENOBUFS, -ENOBUFS};

/* _i: link, and by which function. */
LOOP_TEST(a_shortage_of_memory_is_waited_out, 3 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	int way = _i / LINK_KINDS;
	play_source_script(way == 0 ? &by_sendfile : way == 1 ? &by_splice : &by_pread, shortages, 4);
	sendfile_max = 1000;
	open_source(FROM_PIPE);
	feed(LENGTH);
	close_writer();
	if (way == 1)
		send_source(FERRY_TO_END);
	else
		ck_assert_int_eq(try_send(&file, make_file(LENGTH),
		                          FERRY_FD_TAKE | (way == 2 ? SEND_COPIED : 0), 0, FERRY_TO_END),
		                 0);
	send_text("trailer");
	finish_stream();

	check_finished(&file, 0, LENGTH);
	/* The source may be read in one piece. */
	ck_assert_uint_ge(stats_of(sender.transport).send_retries, 1);
	expect_range(0, LENGTH);
	expect_text("trailer");
	expect_end();
	close_all();
}

static const int not_now[] = {-EAGAIN, -EAGAIN, -EAGAIN};

LOOP_TEST(a_file_that_has_nothing_now_and_cannot_be_polled_is_looked_at_again, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(LENGTH);
	play_source_script(&by_pread, not_now, 3);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE | SEND_COPIED, 0, FERRY_TO_END), 0);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, LENGTH);
	ck_assert_uint_eq(stats_of(sender.transport).file_waits, 3);
	ck_assert_uint_eq(stats_of(sender.transport).send_eagain, 0);
	expect_range(0, LENGTH);
	expect_text("trailer");
	expect_end();
	close_link();
}

static const int broken[] = {-EPIPE};

LOOP_TEST(a_connection_that_breaks_during_splice_is_lost, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	open_source(_i / LINK_KINDS == 0 ? FROM_PIPE : FROM_UNIX);
	play_source_script(&by_splice, broken, 1);
	/* By way of a pipe of ours, the second call is to the connection. */
	static const int broken_second[] = {0, -EPIPE};
	if (link_kind == FROM_UNIX && _i % LINK_KINDS != LINK_PIPES)
		play_source_script(&by_splice, broken_second, 2);
	send_source(FERRY_TO_END);
	feed(100);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -EPIPE);
	check_finished(&file, -EPIPE, 0);
	close_all();
}
