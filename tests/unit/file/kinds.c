/* ferry sends files of every kind: from /proc and /sys, files without an end, files open for direct I/O, and
 * files larger than 4 GiB. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file_link.h"
#include "source_link.h"
#include "test.h"
#include "wire.h"

/* Sends all of a file, and compares it with the bytes that read(2) returns. */
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

LOOP_TEST(files_of_proc_with_a_size_of_0_are_sent_whole, 3 * LINK_KINDS)
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

LOOP_TEST(a_file_of_sys_that_is_shorter_than_its_size_is_not_truncated, LINK_KINDS)
{
	const char *path = "/sys/devices/system/cpu/online";
	if (access(path, R_OK) < 0) {
		skip("no /sys here");
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

/* Not before Linux 6.5. */
static bool sendfile_reads_zeros(void)
{
	int fds[2], zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	off_t offset = 0;

	make_pair(PAIR_UNIX, fds);
	bool reads = sendfile(fds[0], zeros, &offset, 1) == 1;
	close(zeros);
	close(fds[0]);
	close(fds[1]);
	return reads;
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
	bool copied = copy != 0 || !sendfile_reads_zeros();
	ck_assert_int_eq(method, copied ? FERRY_FILE_BY_COPY : FERRY_FILE_BY_SENDFILE);
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

/* _i: link, range, and whether the kernel refuses reads that are not aligned, as most file systems
 * do. */
LOOP_TEST(a_file_open_for_direct_io_is_sent_aligned_or_not, 2 * LINK_KINDS * DIRECT_RANGES)
{
	int fd = reopen(make_file(300123), O_RDONLY | O_DIRECT);
	if (fd < 0) {
		skip("no O_DIRECT on the file system of /tmp");
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
