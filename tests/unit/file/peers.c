/* The source of a file is a pipe, a socket or a terminal, and its other end writes while ferry sends. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file_link.h"
#include "source_link.h"
#include "test.h"
#include "wire.h"

enum { CASES = SOURCE_KINDS * 2 * LINK_KINDS };

/* _i of a loop test: link, kind of source, whether it is to be copied. */
static void arrange(int i)
{
	open_link(i % LINK_KINDS);
	open_source(i / LINK_KINDS % SOURCE_KINDS);
	copy = i / LINK_KINDS / SOURCE_KINDS != 0 ? SEND_COPIED : 0;
}

static void check_method(void)
{
	bool copied = copy != 0 || link_kind == FROM_TTY;
	ck_assert_int_eq(method, copied ? FERRY_FILE_BY_COPY : FERRY_FILE_BY_SPLICE);
}

static bool is_fed_and_finished(void *argument)
{
	(void)argument;
	feed_some();
	stream_has_ended(NULL);
	return file.finished > 0;
}

static void feed_until_finished(uint64_t length, bool close_at_end)
{
	to_feed += length;
	closes_at_end = close_at_end;
	if (arrived == NULL)
		start_collecting();
	pump_until(is_fed_and_finished, NULL);
}

/* The next bytes have arrived, and none after them. A terminal's line takes its time. */
static void expect_now(uint64_t offset, uint64_t length)
{
	size_t end = compared + (size_t)length;
	pump_turns(5);
	pump_until(has_arrived, &end);
	pump_turns(5);
	stream_has_ended(NULL);
	expect_range(offset, length);
	ck_assert_uint_eq(arrived_length, compared);
}

LOOP_TEST(a_source_is_sent_to_its_end_between_the_bytes_before_and_after, CASES)
{
	arrange(_i);
	send_text("header");
	send_source(FERRY_TO_END);
	send_text("trailer");
	start_collecting();
	pump_turns(3);
	stream_has_ended(NULL);
	expect_text("header"); /* leaves before the source has any bytes */

	feed_until_finished(300000, true);
	finish_stream();

	check_finished(&file, 0, 300000);
	check_method();
	ck_assert_uint_eq(file.total, FERRY_TO_END);
	expect_range(0, 300000);
	expect_text("trailer");
	expect_end();
	ck_assert_uint_eq(stats_of(sender.transport).files_sent, 1);
	ck_assert_uint_eq(stats_of(sender.transport).file_bytes_sent, 300000);
	close_all();
}

LOOP_TEST(a_length_is_sent_and_the_rest_stays_in_the_source, CASES)
{
	enum { LENGTH = 100000, MORE = 500 };
	unsigned char rest[MORE];
	arrange(_i);
	send_text("header");
	send_source(LENGTH);
	send_text("trailer");

	feed_until_finished(LENGTH + MORE, false);
	feed_some();
	ck_assert_uint_eq(fed, LENGTH + MORE);
	finish_stream();

	check_finished(&file, 0, LENGTH);
	check_method();
	expect_text("header");
	expect_range(0, LENGTH);
	expect_text("trailer");
	expect_end();
	for (ssize_t got = 0, n; got < MORE; got += n) {
		n = read(source, rest + got, (size_t)(MORE - got));
		ck_assert_int_gt(n, 0);
	}
	for (unsigned int i = 0; i < MORE; i++)
		ck_assert_uint_eq(rest[i], support_byte(LENGTH + i));
	close_all();
}

LOOP_TEST(a_source_that_ends_before_its_length_finishes_with_eio_and_the_exact_count, CASES)
{
	arrange(_i);
	send_source(10000);
	send_text("trailer");

	feed_until_finished(3000, true);
	finish_stream();

	check_finished(&file, -EIO, 3000);
	expect_range(0, 3000);
	expect_text("trailer");
	expect_end();
	ck_assert_uint_eq(stats_of(sender.transport).files_sent, 0);
	close_all();
}

static bool time_is_up;

static void time_up(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	time_is_up = true;
}

/* Lets the loop run for much longer than the write timeout of a millisecond. */
static void pump_past_the_timeout(void)
{
	time_is_up = false;
	event_base_once(base, -1, EV_TIMEOUT, time_up, NULL, &(struct timeval){.tv_usec = 10000});
	pump_until_set(&time_is_up);
}

LOOP_TEST(a_dry_source_is_waited_for_without_work_and_without_the_write_timeout, CASES)
{
	arrange(_i);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL,
	                         &(struct timeval){.tv_usec = 1000});
	send_text("header");
	send_source(FERRY_TO_END);
	send_text("trailer");
	start_collecting();
	pump_turns(5);
	stream_has_ended(NULL);
	expect_text("header");

	for (uint64_t i = 0; i < 5; i++) {
		uint64_t waits = stats_of(sender.transport).file_waits;
		pump_past_the_timeout();
		ck_assert_uint_eq(stats_of(sender.transport).file_waits, waits);
		/* Writing may be over for the while; the file is not. */
		send_text("x");
		pump_turns(5);
		feed(100);
		expect_now(100 * i, 100);
	}
	ck_assert_uint_eq(stats_of(sender.transport).files_queued, 1);
	closes_at_end = true;
	feed_until_finished(0, true);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL, NULL);
	finish_stream();

	check_finished(&file, 0, 500);
	expect_text("trailerxxxxx");
	expect_end();
	close_all();
}

/* _i: as arrange(), and whether the file is stopped while it is paused, or after it has been
 * resumed. */
LOOP_TEST(a_dry_source_can_be_paused_resumed_and_stopped, 2 * CASES)
{
	arrange(_i % CASES);
	bool stops_paused = _i / CASES != 0;
	send_source(FERRY_TO_END);
	send_text("trailer");
	start_collecting();
	feed(100);
	expect_now(0, 100);

	ferry_file_producer_pause(file.producer);
	feed(100);
	expect_now(100, 0);
	if (!stops_paused) {
		ferry_file_producer_resume(file.producer);
		expect_now(100, 100);
		pump_turns(5);
	}
	ferry_file_producer_stop(file.producer);
	finish_stream();

	check_finished(&file, -ECANCELED, stops_paused ? 100 : 200);
	expect_text("trailer");
	expect_end();
	close_all();
}

/* _i: as arrange(), and the end: lost, aborted, freed. */
LOOP_TEST(the_connection_may_end_while_the_source_is_dry, 3 * CASES)
{
	arrange(_i % CASES);
	send_source(FERRY_TO_END);
	start_collecting();
	feed(100);
	expect_now(0, 100);
	expect_end();

	if (_i / CASES == 0)
		close_far();
	else if (_i / CASES == 1)
		ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
	else
		recorder_free_transport(&sender);
	if (_i / CASES == 0)
		to_feed = 1 << 20; /* pipes notice when they are written to */
	while (file.finished == 0) {
		feed_some();
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}

	ck_assert_int_lt(file.status, 0);
	if (_i / CASES != 0)
		ck_assert_uint_eq(file.sent, 100);
	close_all();
}

LOOP_TEST(a_full_output_is_not_taken_for_a_dry_source, 2 * FROM_TTY * LINK_KINDS)
{
	/* Not a terminal, whose line takes its time. */
	arrange(_i / (FROM_TTY * LINK_KINDS) * SOURCE_KINDS * LINK_KINDS +
	        _i % (FROM_TTY * LINK_KINDS));
	if (_i % LINK_KINDS != LINK_PIPES)
		wire_shrink(bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport)));
	send_source(FERRY_TO_END);
	to_feed = 4 << 20;
	uint64_t before;
	do {
		before = fed;
		feed_some();
		for (int i = 0; i < 10; i++)
			event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	} while (fed > before);
	ck_assert_uint_lt(fed, to_feed);
	/* All is full now, up to the writer. TCP may stand still for a moment, and then take more. */
	struct ferry_transport_stats full, later = stats_of(sender.transport);
	do {
		full = later;
		pump_turns(20);
		later = stats_of(sender.transport);
	} while (later.file_bytes_sent > full.file_bytes_sent);
	ck_assert_uint_eq(later.file_waits, full.file_waits);
	ck_assert_uint_eq(later.send_eagain, full.send_eagain);
	to_feed = fed;

	feed_until_finished(1000, true);
	finish_stream();

	check_finished(&file, 0, to_feed);
	expect_range(0, to_feed);
	expect_end();
	close_all();
}

LOOP_TEST(a_descriptor_directly_before_a_source_waits_for_its_first_byte, 2 * SOURCE_KINDS)
{
	struct wire_read got;
	char buffer[1000];
	arrange(_i * LINK_KINDS + LINK_UNIX);
	ck_assert_int_eq(ferry_transport_send_fd(sender.transport, source, FERRY_FD_DUP), 0);
	send_source(FERRY_TO_END);
	send_text("trailer");
	pump_turns(5);
	wire_receive(far, buffer, sizeof(buffer), &got);
	ck_assert_int_eq(got.bytes, -EAGAIN);

	feed(300);
	while (stats_of(sender.transport).file_bytes_sent < 300)
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	wire_receive(far, buffer, sizeof(buffer), &got);
	ck_assert_int_gt(got.bytes, 0);
	start_collecting();
	memcpy(arrived, buffer, (size_t)got.bytes);
	arrived_length = (size_t)got.bytes;
	ck_assert_uint_eq(got.fd_count, 1);
	ck_assert(same_file(got.fds[0], source));
	wire_close_fds(&got);
	feed_until_finished(100000, true);
	finish_stream();

	check_finished(&file, 0, 100300);
	expect_range(0, 100300);
	expect_text("trailer");
	expect_end();
	close_all();
}

LOOP_TEST(an_error_of_the_source_is_the_files_and_the_stream_goes_on, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	open_source(FROM_TCP);
	copy = _i / LINK_KINDS != 0 ? SEND_COPIED : 0;
	send_source(FERRY_TO_END);
	send_text("trailer");
	start_collecting();
	feed(100);
	expect_now(0, 100);

	struct linger reset = {.l_onoff = 1};
	setsockopt(writer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close_writer();
	finish_stream();

	check_finished(&file, -ECONNRESET, 100);
	expect_text("trailer");
	expect_end();
	close_all();
}

LOOP_TEST(at_the_descriptor_limit_a_socket_is_copied, LINK_KINDS)
{
	open_link(_i);
	open_source(FROM_UNIX);
	send_source(FERRY_TO_END);
	feed(1000);
	limit_descriptors(0);
	start_collecting();
	expect_now(0, 1000);
	unlimit_descriptors();

	feed_until_finished(100000, true);
	finish_stream();

	check_finished(&file, 0, 101000);
	/* A pipe at the end of the connection needs none of ours. */
	ck_assert_int_eq(method, _i == LINK_PIPES ? FERRY_FILE_BY_SPLICE : FERRY_FILE_BY_COPY);
	expect_range(1000, 100000);
	expect_end();
	close_all();
}

LOOP_TEST(a_fifo_without_a_writer_yet_is_waited_for, 2 * LINK_KINDS)
{
	char directory[] = "/tmp/ferry-test-XXXXXX", path[64];
	open_link(_i % LINK_KINDS);
	copy = _i / LINK_KINDS != 0 ? SEND_COPIED : 0;
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/fifo", directory);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	source = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	send_source(FERRY_TO_END);
	pump_turns(10);
	ck_assert_uint_eq(file.finished, 0);

	writer = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	unlink(path);
	rmdir(directory);
	feed_until_finished(1000, true);
	finish_stream();

	check_finished(&file, 0, 1000);
	expect_range(0, 1000);
	expect_end();
	close_all();
}

LOOP_TEST(a_source_is_refused_where_it_has_no_position_to_start_at, CASES)
{
	arrange(_i);
	ck_assert_int_eq(try_send(&file, source, FERRY_FD_DUP, 1, 10), -ESPIPE);
	ck_assert_int_eq(try_send(&file, source, FERRY_FD_DUP, FERRY_FILE_POSITION, 10), 0);
	feed(20);
	finish_stream();
	check_finished(&file, 0, 10);
	expect_range(0, 10);
	expect_end();
	close_all();
}

static bool is_finished(void *argument)
{
	(void)argument;
	return file.finished > 0;
}

/* A sandbox lets its process open no descriptor. poll(2) fails there, and a read of a terminal would not return. */
TEST(a_source_whose_state_is_unknown_ends_the_file)
{
	struct rlimit before, sandbox;
	open_link(LINK_UNIX);
	open_source(FROM_TTY);
	send_source(100);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	sandbox = before;
	sandbox.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &sandbox), 0);

	pump_until(is_finished, NULL);

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	check_finished(&file, -EINVAL, 0);
	close_all();
}
