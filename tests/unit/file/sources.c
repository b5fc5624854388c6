/* Files that are none, and files that the kernel will not move by itself: pipes, sockets, terminals,
 * /proc, devices. What arrives, by which way it went, and whose error is whose. Linked with the library's
 * objects so that a test can decide what the kernel refuses. */

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include "file_link.h"
#include "test.h"
#include "wire.h"

/* ---- the kernel in the test's hand ---- */

/* What the next calls of a function do, in turn: 0: the real thing; or a negative errno. */
struct script {
	const int *steps;
	size_t count, next;
	unsigned int calls;
};
static struct script by_sendfile, by_splice, by_pread;
static bool direct_is_strict; /* what is not aligned is refused */
static size_t sendfile_max;   /* 0: no limit */

static bool is_scripted_to_fail(struct script *script)
{
	script->calls++;
	int step = script->next < script->count ? script->steps[script->next++] : 0;
	errno = -step;
	return step != 0;
}

static bool is_refused_as_unaligned(int fd, uintptr_t address, int64_t offset, size_t length)
{
	if (!direct_is_strict || (fcntl(fd, F_GETFL) & O_DIRECT) == 0)
		return false;
	errno = EINVAL;
	return (address | (uintptr_t)offset | length) % 4096 != 0;
}

ssize_t __real_sendfile(int out, int in, off_t *offset, size_t length);
ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length);
ssize_t __real_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length,
                      unsigned int flags);
ssize_t __wrap_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length,
                      unsigned int flags);
ssize_t __real_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length)
{
	if (is_scripted_to_fail(&by_sendfile))
		return -1;
	off_t from = offset != NULL ? *offset : lseek(in, 0, SEEK_CUR);
	if (is_refused_as_unaligned(in, 0, from, length))
		return -1;
	if (sendfile_max != 0 && length > sendfile_max)
		length = sendfile_max;
	return __real_sendfile(out, in, offset, length);
}

ssize_t __wrap_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length,
                      unsigned int flags)
{
	ck_assert_uint_gt(length, 0);
	ck_assert_uint_ne(flags & SPLICE_F_NONBLOCK, 0);
	if (is_scripted_to_fail(&by_splice))
		return -1;
	return __real_splice(in, in_offset, out, out_offset, length, flags);
}

ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset)
{
	if (is_scripted_to_fail(&by_pread) ||
	    is_refused_as_unaligned(fd, (uintptr_t)buffer, offset, length))
		return -1;
	return __real_pread(fd, buffer, length, offset);
}

static void play(struct script *script, const int *steps, size_t count)
{
	*script = (struct script){.steps = steps, .count = count};
}

/* ---- sources with somebody at the other end ---- */

enum { FROM_PIPE, FROM_FIFO, FROM_UNIX, FROM_TCP, FROM_TTY, SOURCE_KINDS };
enum { CASES = SOURCE_KINDS * 2 * LINK_KINDS };

/* The source under test, which is blocking; and its other end, which is not. */
static int source = -1, writer = -1;
static int kind;
static unsigned int copy; /* SEND_COPIED or 0 */
static struct told file;
static enum ferry_file_method method; /* when it was finished */

static void open_fifo(void)
{
	char directory[] = "/tmp/ferry-test-XXXXXX", path[64];
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/fifo", directory);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	source = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	writer = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	unlink(path);
	rmdir(directory);
}

static void open_tty(void)
{
	struct termios raw;
	ck_assert_int_eq(openpty(&writer, &source, NULL, NULL, NULL), 0);
	ck_assert_int_eq(tcgetattr(source, &raw), 0);
	cfmakeraw(&raw);
	ck_assert_int_eq(tcsetattr(source, TCSANOW, &raw), 0);
	evutil_make_socket_nonblocking(writer);
}

static void open_source(int of_kind)
{
	int fds[2] = {-1, -1};
	kind = of_kind;
	if (kind == FROM_PIPE)
		make_pipe(fds);
	else if (kind == FROM_UNIX || kind == FROM_TCP)
		make_pair(kind == FROM_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
	if (kind == FROM_TCP) { /* left alone its buffers grow to megabytes */
		setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int));
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int));
	}
	source = fds[0];
	writer = fds[1];
	if (kind == FROM_FIFO)
		open_fifo();
	else if (kind == FROM_TTY)
		open_tty();
	ck_assert_int_ge(source, 0);
	ck_assert_int_ge(writer, 0);
	ck_assert_int_eq(fcntl(source, F_SETFL, fcntl(source, F_GETFL) & ~O_NONBLOCK), 0);
}

/* _i of a loop test: link, kind of source, whether it is to be copied. */
static void arrange(int i)
{
	open_link(i % LINK_KINDS);
	open_source(i / LINK_KINDS % SOURCE_KINDS);
	copy = i / LINK_KINDS / SOURCE_KINDS != 0 ? SEND_COPIED : 0;
}

static void note_method(struct told *told)
{
	method = (enum ferry_file_method)ferry_file_producer_get_method(told->producer);
}

static void send_source(int64_t length)
{
	file.on_finished = note_method;
	ck_assert_int_eq(try_send(&file, source, FERRY_FD_DUP | copy, 0, length), 0);
}

static void check_method(void)
{
	bool copied = copy != 0 || kind == FROM_TTY;
	ck_assert_int_eq(method, copied ? FERRY_FILE_BY_COPY : FERRY_FILE_BY_SPLICE);
}

static void close_writer(void)
{
	if (writer >= 0)
		close(writer);
	writer = -1;
}

static void close_all(void)
{
	close_writer();
	close(source);
	close_link();
}

/* How much the writer is to write, how much it has, and whether it then goes. */
static uint64_t to_feed, fed;
static bool closes_at_end;

static void feed_some(void)
{
	unsigned char block[4096];
	while (writer >= 0 && fed < to_feed) {
		size_t length = to_feed - fed < sizeof(block) ? (size_t)(to_feed - fed) : sizeof(block);
		for (size_t i = 0; i < length; i++)
			block[i] = support_byte(fed + i);
		ssize_t n = write(writer, block, length);
		if (n <= 0)
			return;
		fed += (uint64_t)n;
	}
	/* What a terminal has not read when its line goes is lost. */
	if (closes_at_end && (kind != FROM_TTY || file.sent >= fed))
		close_writer();
}

static void feed(uint64_t length)
{
	to_feed += length;
	feed_some();
	ck_assert_uint_eq(fed, to_feed);
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

static bool has_arrived(void *length)
{
	stream_has_ended(NULL);
	return arrived_length >= *(const size_t *)length;
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

TEST_CASE("sources with somebody at the other end");

LOOP_TEST(a_source_is_sent_to_its_end_between_what_was_written_before_and_after, CASES)
{
	arrange(_i);
	send_text("header");
	send_source(FERRY_TO_END);
	send_text("trailer");
	start_collecting();
	pump_turns(3);
	stream_has_ended(NULL);
	expect_text("header"); /* is not held back */

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

LOOP_TEST(a_length_is_sent_and_what_comes_after_stays_in_the_source, CASES)
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

/* _i: as arrange(), and what is done to the file while its source is dry. */
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
	/* All is full now, up to the writer. */
	uint64_t waits = stats_of(sender.transport).file_waits;
	uint64_t eagain = stats_of(sender.transport).send_eagain;
	ck_assert_uint_lt(fed, to_feed);
	pump_turns(20);
	ck_assert_uint_eq(stats_of(sender.transport).file_waits, waits);
	ck_assert_uint_eq(stats_of(sender.transport).send_eagain, eagain);
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

/* ---- files of another kind ---- */

/* Sends all of a file, and compares with what read(2) gives. */
static void check_content(const char *path)
{
	static unsigned char content[1 << 20];
	size_t length = 0;
	ssize_t n;
	source = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(source, 0);
	while ((n = pread(source, content + length, sizeof(content) - length, (off_t)length)) > 0)
		length += (size_t)n;
	ck_assert_uint_gt(length, 0);

	send_text("header");
	send_source(FERRY_TO_END);
	send_text("trailer");
	finish_stream();

	check_finished(&file, 0, length);
	expect_text("header");
	ck_assert_uint_ge(arrived_length, compared + length);
	ck_assert_mem_eq(arrived + compared, content, length);
	compared += length;
	expect_text("trailer");
	expect_end();
	close_all();
}

TEST_CASE("files of another kind");

LOOP_TEST(files_of_proc_which_say_that_they_are_empty_are_sent_whole, 3 * LINK_KINDS)
{
	static const char *const paths[] = {"/proc/self/limits", "/proc/version", "/proc/filesystems"};
	open_link(_i % LINK_KINDS);
	check_content(paths[_i / LINK_KINDS]);
}

LOOP_TEST(proc_self_status_which_sendfile_refuses_is_copied, LINK_KINDS)
{
	open_link(_i);
	source = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	send_text("header");
	send_source(FERRY_TO_END);
	send_text("trailer");
	finish_stream();

	/* It changes all the time. */
	ck_assert_int_eq(file.status, 0);
	ck_assert_int_eq(method, FERRY_FILE_BY_COPY);
	expect_text("headerName:\t");
	compared = strlen("header") + (size_t)file.sent;
	expect_text("trailer");
	expect_end();
	close_all();
}

LOOP_TEST(a_file_of_sys_which_is_shorter_than_it_says_is_not_truncated, LINK_KINDS)
{
	const char *path = "/sys/devices/system/cpu/online";
	if (access(path, R_OK) < 0) {
		puts("SKIPPED: no /sys here");
		return;
	}
	open_link(_i);
	check_content(path);
}

LOOP_TEST(devices_are_sent_as_long_as_was_asked_for, LINK_KINDS)
{
	open_link(_i);
	struct told null = {0}, null_to_end = {0};
	ck_assert_int_eq(
	    try_send(&file, open("/dev/zero", O_RDONLY | O_CLOEXEC), FERRY_FD_TAKE, 0, 100000), 0);
	ck_assert_int_eq(
	    try_send(&null, open("/dev/null", O_RDONLY | O_CLOEXEC), FERRY_FD_TAKE, 0, 100), 0);
	ck_assert_int_eq(try_send(&null_to_end, open("/dev/null", O_RDONLY | O_CLOEXEC), FERRY_FD_TAKE,
	                          0, FERRY_TO_END),
	                 0);
	finish_stream();

	check_finished(&file, 0, 100000);
	check_finished(&null, -EIO, 0);
	check_finished(&null_to_end, 0, 0);
	ck_assert_uint_eq(arrived_length, 100000);
	for (size_t i = 0; i < arrived_length; i++)
		if (arrived[i] != 0)
			ck_abort_msg("not zero");
	free(arrived);
	close_link();
}

LOOP_TEST(a_file_without_end_takes_its_share_of_each_turn_and_can_be_stopped, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	copy = _i / LINK_KINDS != 0 ? SEND_COPIED : 0;
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	file.on_finished = note_method;
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE | copy, 0, FERRY_TO_END), 0);
	send_text("trailer");
	uint64_t before = 0;
	for (int i = 0; i < 50; i++) {
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		uint64_t sent = stats_of(sender.transport).file_bytes_sent;
		ck_assert_uint_le(sent - before, _i % LINK_KINDS == LINK_TCP ? 1 << 20 : 256 << 10);
		before = sent;
		wire_drain(far);
	}
	ck_assert_uint_gt(before, 0);
	ck_assert_uint_eq(file.finished, 0);

	ferry_file_producer_stop(file.producer);
	start_collecting();
	finish_stream();

	ck_assert_int_eq(file.status, -ECANCELED);
	ck_assert_uint_ge(file.sent, before);
	ck_assert_int_eq(method, copy != 0 ? FERRY_FILE_BY_COPY : FERRY_FILE_BY_SENDFILE);
	compared = arrived_length - strlen("trailer");
	expect_text("trailer");
	expect_end();
	close_link();
}

LOOP_TEST(an_eventfd_is_waited_for_and_its_counter_sent, LINK_KINDS)
{
	open_link(_i);
	int fd = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, 16), 0);
	start_collecting();
	for (uint64_t value = 5; value < 7; value++) {
		pump_turns(5);
		stream_has_ended(NULL);
		ck_assert_uint_eq(arrived_length, compared);
		ck_assert_int_eq(eventfd_write(fd, value), 0);
		pump_turns(5);
		stream_has_ended(NULL);
		ck_assert_uint_eq(arrived_length, compared + sizeof(value));
		ck_assert_mem_eq(arrived + compared, &value, sizeof(value));
		compared += sizeof(value);
	}
	finish_stream();

	check_finished(&file, 0, 16);
	expect_end();
	close(fd);
	close_link();
}

static int reopen(int fd, int flags)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int other = open(path, flags | O_CLOEXEC);
	close(fd);
	return other;
}

static const struct {
	int64_t offset, length, sent;
} direct_ranges[] = {
    {0, FERRY_TO_END, 300123}, {4096, 8192, 8192}, {1, 1, 1},
    {123, 200000, 200000},     {4095, 2, 2},       {300000, FERRY_TO_END, 123},
    {0, 300123, 300123},
};
enum { DIRECT_RANGES = sizeof(direct_ranges) / sizeof(direct_ranges[0]) };

/* _i: link, range, and whether the kernel refuses what is not aligned, as most file systems do. */
LOOP_TEST(a_file_open_for_direct_io_is_sent_aligned_or_not, 2 * LINK_KINDS * DIRECT_RANGES)
{
	int fd = reopen(make_file(300123), O_RDONLY | O_DIRECT);
	if (fd < 0) {
		puts("SKIPPED: no O_DIRECT on the file system of /tmp");
		return;
	}
	int i = _i / LINK_KINDS % DIRECT_RANGES;
	open_link(_i % LINK_KINDS);
	direct_is_strict = _i / LINK_KINDS / DIRECT_RANGES != 0;
	send_text("header");
	ck_assert_int_eq(lseek(fd, direct_ranges[i].offset, SEEK_SET), direct_ranges[i].offset);
	ck_assert_int_eq(
	    try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, direct_ranges[i].length), 0);
	send_text("trailer");

	finish_stream();

	check_finished(&file, 0, (uint64_t)direct_ranges[i].sent);
	expect_text("header");
	expect_range((uint64_t)direct_ranges[i].offset, (uint64_t)direct_ranges[i].sent);
	expect_text("trailer");
	expect_end();
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), direct_ranges[i].offset + direct_ranges[i].sent);
	close(fd);
	close_link();
}

TEST(a_terminal_open_for_appending_which_sendfile_refuses_gets_the_file)
{
	size_t length = 30000;
	int back[2];
	make_pipe(back);
	far_input = back[1];
	open_tty(); /* which ends are whose is turned round here */
	far = writer;
	source = reopen(source, O_WRONLY | O_APPEND | O_NOCTTY);
	writer = -1;
	recorder_open_pipes(&sender, back[0], source, &recorder_protocol);
	pump_turns(2);
	file.on_finished = note_method;
	send_range(&file, length, 0, FERRY_TO_END);
	start_collecting();
	pump_until(has_arrived, &length);

	pump_until_count(&file.finished, 1);
	check_finished(&file, 0, length);
	ck_assert_int_eq(method, FERRY_FILE_BY_COPY);
	expect_range(0, length);
	expect_end();
	close_link();
}

/* ---- large files ---- */

/* A file of `size` bytes, most of them a hole, and a support_byte() range at `offset`. */
static int make_sparse(int64_t size, int64_t offset, size_t length)
{
	char name[] = "/tmp/ferry-test-XXXXXX";
	unsigned char content[65536];
	int fd = mkostemp(name, O_CLOEXEC);
	unlink(name);
	ck_assert_uint_le(length, sizeof(content));
	for (size_t i = 0; i < length; i++)
		content[i] = support_byte(i);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	ck_assert_int_eq(pwrite(fd, content, length, offset), (ssize_t)length);
	return fd;
}

TEST_CASE("large files");

/* _i: link, beyond 2 or 4 GiB, and whether it is copied. */
LOOP_TEST(a_range_across_two_or_four_gibibytes_is_sent, 4 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	int64_t border = _i / LINK_KINDS % 2 == 0 ? 2LL << 30 : 4LL << 30;
	copy = _i / LINK_KINDS / 2 != 0 ? SEND_COPIED : 0;
	source = make_sparse(border + 65536, border - 30000, 60000);
	ck_assert_int_eq(lseek(source, border - 30000, SEEK_SET), border - 30000);
	ck_assert_int_eq(try_send(&file, source, FERRY_FD_DUP | copy, FERRY_FILE_POSITION, 60000), 0);
	finish_stream();

	check_finished(&file, 0, 60000);
	expect_range(0, 60000);
	expect_end();
	ck_assert_int_eq(lseek(source, 0, SEEK_CUR), border + 30000);
	close_all();
}

static bool is_drained_and_finished(void *argument)
{
	static char buffer[1 << 20];
	(void)argument;
	while (recv(far, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		continue;
	return file.finished > 0;
}

TEST(a_file_of_more_than_two_gibibytes_is_sent_whole)
{
	const int64_t size = (5LL << 29) + 1;
	int fds[2];
	make_pair(PAIR_TCP, fds); /* with buffers as large as they get */
	far = fds[1];
	recorder_open(&sender, fds[0], &recorder_protocol);
	int fd = memfd_create("ferry-test", MFD_CLOEXEC); /* a hole, which takes no memory */
	ck_assert_int_eq(ftruncate(fd, size), 0);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	pump_until(is_drained_and_finished, NULL);

	check_finished(&file, 0, (uint64_t)size);
	ck_assert_uint_eq(file.total, (uint64_t)size);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), size);
	close(fd);
	close_link();
}

/* ---- files that change ---- */

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
LOOP_TEST(what_is_appended_to_an_empty_file_is_not_sent, 2 * LINK_KINDS)
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

/* ---- the file's own position ---- */

enum { BY_SENDFILE, BY_COPY, REFUSED_LATER, FILE_WAYS };
enum { ALL_SENT, STOPPED, FAILED, LOST, FREED, ENDS };

static const int refused_later[] = {0, -EINVAL};
static const int stale_later[] = {0, 0, -ESTALE};

/* _i: link, way, end. */
LOOP_TEST(the_files_position_moves_by_exactly_what_was_sent, LINK_KINDS *FILE_WAYS *ENDS)
{
	enum { SIZE = 8 << 20, START = 500 };
	int way = _i / LINK_KINDS % FILE_WAYS, end = _i / LINK_KINDS / FILE_WAYS;
	open_link(_i % LINK_KINDS);
	int fd = make_file(SIZE);
	ck_assert_int_eq(lseek(fd, START, SEEK_SET), START);
	sendfile_max = 30000;
	if (way == REFUSED_LATER)
		play(&by_sendfile, refused_later, 2);
	if (end == FAILED)
		play(way == BY_SENDFILE ? &by_sendfile : &by_pread, stale_later, 3);
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

/* ---- what the kernel refuses ---- */

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
LOOP_TEST(what_sendfile_refuses_is_copied_or_told, 2 * LINK_KINDS * REFUSALS)
{
	open_link(_i % LINK_KINDS);
	int i = _i / LINK_KINDS % REFUSALS;
	bool later = _i / LINK_KINDS / REFUSALS != 0;
	bool copied = later ? refusals[i].later : refusals[i].first;
	const int steps[] = {later ? 0 : -refusals[i].error, -refusals[i].error};
	play(&by_sendfile, steps, 2);
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
LOOP_TEST(what_splice_refuses_is_copied_or_told, 2 * 4 * LINK_KINDS * REFUSALS)
{
	int at = _i / LINK_KINDS / REFUSALS % 4;
	int i = _i / LINK_KINDS % REFUSALS;
	open_link(_i % LINK_KINDS);
	open_source(_i / LINK_KINDS / REFUSALS / 4 == 0 ? FROM_PIPE : FROM_UNIX);
	int steps[4] = {0};
	steps[at] = -refusals[i].error;
	play(&by_splice, steps, (size_t)at + 1);
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

LOOP_TEST(a_true_input_error_comes_again_when_reading_and_is_told, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	bool later = _i / LINK_KINDS != 0;
	play(&by_sendfile, later ? later_io_error : io_error, later ? 2 : 1);
	play(&by_pread, io_error, 1);
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
	play(way == 0 ? &by_sendfile : way == 1 ? &by_splice : &by_pread, shortages, 4);
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
	play(&by_pread, not_now, 3);
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

LOOP_TEST(a_broken_connection_is_told_as_such_when_splicing, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	open_source(_i / LINK_KINDS == 0 ? FROM_PIPE : FROM_UNIX);
	play(&by_splice, broken, 1);
	/* By way of a pipe of ours, the second call is to the connection. */
	static const int broken_second[] = {0, -EPIPE};
	if (kind == FROM_UNIX && _i % LINK_KINDS != LINK_PIPES)
		play(&by_splice, broken_second, 2);
	send_source(FERRY_TO_END);
	feed(100);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -EPIPE);
	check_finished(&file, -EPIPE, 0);
	close_all();
}

TEST_CASE("sources with somebody at the other end");

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
