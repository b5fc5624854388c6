/* Files that are not in memory. The system calls that check for a part of a file in memory, and
 * those that read it in, go to a disk of the test's own, which the test can stop. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cold_disk.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static bool was_read(void *steps)
{
	return pread_calls >= *(unsigned int *)steps;
}

/* A file on a disk, or -1. */
static int make_cold_file(void)
{
	const char *directory = getenv("TMPDIR");
	char name[4096];
	static unsigned char block[SIZE];
	struct iovec vector = {block, 1};

	snprintf(name, sizeof(name), "%s/ferry-test-XXXXXX",
	         directory != NULL ? directory : "/var/tmp");
	int fd = mkostemp(name, O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	unlink(name);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = support_byte(i);
	ck_assert_int_eq(write(fd, block, sizeof(block)), sizeof(block));
	ck_assert_int_eq(fsync(fd), 0);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (__real_preadv2(fd, &vector, 1, MIB, RWF_NOWAIT) >= 0 || errno != EAGAIN) {
		close(fd);
		return -1;
	}
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* drop the pages that preadv2() read */
	return fd;
}

/* By cachestat(2), without it, and where it is refused. */
static const int first_probes[] = {REAL, MISSING, REFUSED};

enum { PROBES = sizeof(first_probes) / sizeof(first_probes[0]) };

TEST_CASE("the page cache");

LOOP_TEST(a_file_on_the_disk_is_waited_for_and_arrives_whole_and_in_order, 2 * PROBES)
{
	open_cold_link(_i / PROBES);
	cachestat_says = first_probes[_i % PROBES];
	int fd = make_cold_file();
	if (fd < 0) {
		skip("%s: files cannot be dropped from memory here", __func__);
	} else {
		send_cold_fd(&one, fd, FERRY_FD_TAKE);
		check_whole(&one);
		ck_assert_uint_gt(waits(&one), 0);
		ck_assert_uint_gt(readahead_calls, 0);
	}
	close_cold_link();
}

LOOP_TEST(a_file_in_memory_never_waits, 2 * PROBES)
{
	open_cold_link(_i / PROBES);
	cachestat_says = first_probes[_i % PROBES];
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_eq(waits(&one), 0);
	expect_threads(0);
	close_cold_link();
}

LOOP_TEST(without_cachestat_it_is_asked_for_only_once_and_where_refused_each_time, 2)
{
	open_cold_link(0);
	cachestat_says = _i == 0 ? MISSING : REFUSED;
	send_new_file(&one);
	check_whole(&one);
	if (_i == 0)
		ck_assert_uint_eq(cachestat_calls, 1);
	else
		ck_assert_uint_gt(cachestat_calls, 1);
	ck_assert_uint_gt(nowait_calls, 2);
	close_cold_link();
}

TEST(pages_on_their_way_from_the_disk_are_waited_for)
{
	open_cold_link(0);
	nowait_says = COLD; /* but cachestat counts them */
	send_new_file(&one);
	pump_until(was_read, &(unsigned int){1});
	nowait_says = REAL;
	check_whole(&one);
	ck_assert_uint_gt(waits(&one), 0);
	close_cold_link();
}

TEST_CASE("doing without");

LOOP_TEST(without_both_system_calls_a_file_is_waited_for_only_to_learn_its_file_system, 2)
{
	open_cold_link(_i);
	cachestat_says = MISSING;
	nowait_says = MISSING;
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_le(waits(&one), 2);
	ck_assert_int_eq(method_of_one, FERRY_FILE_BY_SENDFILE);
	close_cold_link();
}

LOOP_TEST(without_a_thread_it_is_sent, 2)
{
	open_cold_link(_i);
	cachestat_says = COLD;
	no_threads = true;
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_eq(readahead_calls, 0);
	close_cold_link();
}

LOOP_TEST(a_file_of_which_cachestat_sees_nothing_is_asked_about_in_the_other_way, 2)
{
	open_cold_link(_i);
	cachestat_says = COLD;
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_le(cachestat_calls, 10);
	ck_assert_int_eq(method_of_one, FERRY_FILE_BY_SENDFILE);
	close_cold_link();
}

/* As of FUSE with direct I/O: the loop would wait for every byte. */
LOOP_TEST(a_file_that_is_never_in_memory_is_read_by_threads_to_its_end, 4)
{
	open_cold_link(_i % 2);
	cachestat_says = _i / 2 == 0 ? COLD : MISSING;
	nowait_says = COLD;
	loop_may_read = false;
	send_new_file(&one);
	check_whole(&one);
	ck_assert_int_eq(method_of_one, FERRY_FILE_BY_COPY);
	close_cold_link();
}

LOOP_TEST(an_error_of_the_disk_ends_the_file_and_not_the_connection, 2)
{
	open_cold_link(_i);
	cachestat_says = COLD;
	read_step_error = EIO;
	send_new_file(&one);
	pump_until_count(&one.finished, 1);
	ck_assert_int_eq(one.status, -EIO);
	ck_assert_uint_eq(one.sent, 0);
	ck_assert_uint_eq(one.sender.lost, 0);
	close_cold_link();
}

LOOP_TEST(a_disk_that_does_not_answer_is_waited_for_and_the_loop_goes_on, 2)
{
	open_cold_link(_i);
	send_stuck_file(&one);
	pump_turns(200);
	ck_assert_uint_eq(stats_of(one.sender.transport).file_bytes_sent, 0);
	ck_assert_uint_eq(waits(&one), 1);
	warm_when_read = true;
	hold_disk(false);
	check_whole(&one);
	close_cold_link();
}

/* Three pieces of each, and more of them than threads are at work when none hangs. */
LOOP_TEST(reads_that_hang_delay_nobody_elses_file, 2)
{
	enum { HUNG = 12 };
	static struct cold_link hung[HUNG];
	int count = _i == 0 ? 1 : HUNG;
	int fd = make_file(SIZE);

	open_cold_link(0);
	cachestat_says = COLD;
	hold_disk_of(fd);
	for (int i = 0; i < count; i++) {
		open_cold_link_at(&hung[i], i % 2);
		send_cold_fd(&hung[i], fd, FERRY_FD_DUP);
		pump_until(is_waiting, &hung[i]);
	}
	send_new_file(&one);
	check_whole(&one);
	for (int i = 0; i < count; i++) {
		ck_assert_uint_eq(stats_of(hung[i].sender.transport).file_bytes_sent, 0);
		recorder_free_transport(&hung[i].sender);
		pump_until_count(&hung[i].finished, 1);
	}
	ck_assert_uint_gt(disk_waiting, 0);
	hold_disk(false);
	for (int i = 0; i < count; i++)
		close_cold_link_of(&hung[i]);
	close(fd);
	close_cold_link();
}

/* The pieces behind the first are requested before it has been read. */
TEST(several_pieces_are_on_their_way_at_a_time)
{
	open_cold_link(0);
	send_stuck_file(&one);
	while (disk_waiting < 2)
		pump_turns(1);
	warm_when_read = true;
	hold_disk(false);
	check_whole(&one);
	close_cold_link();
}

TEST(with_no_descriptor_to_spare_it_is_asked_for_later)
{
	open_cold_link(0);
	int fd = make_file(SIZE);
	cachestat_says = COLD;
	limit_descriptors(0);
	send_cold_fd(&one, fd, FERRY_FD_TAKE);
	while (waits(&one) < 2)
		pump_turns(1);
	unlimit_descriptors();
	ck_assert_uint_eq(readahead_calls, 0);
	warm_when_read = true;
	check_whole(&one);
	ck_assert_uint_gt(readahead_calls, 0);
	close_cold_link();
}

static unsigned int kept;

static struct ferry_file_producer *many[100];

static void count_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                           void *context)
{
	(void)producer, (void)context;
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(sent, 20000);
	kept++;
}

static const struct ferry_file_callbacks counting = {.finished = count_finished};

TEST(a_hundred_cold_files_all_arrive)
{
	struct recorder senders[100];
	int fds[100][2];

	open_cold_link(0);
	cachestat_says = COLD;
	warm_when_read = true;
	hold_disk(true);
	int before = count_open_fds();
	for (int i = 0; i < 100; i++) {
		make_pair(PAIR_UNIX, fds[i]);
		recorder_open(&senders[i], fds[i][0], &recorder_protocol);
		ck_assert_int_eq(ferry_transport_send_file(&many[i], senders[i].transport, make_file(20000),
		                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, &counting,
		                                           NULL),
		                 0);
	}
	pump_turns(3);
	/* Each has its socket pair, its file, a duplicate and the descriptor of an event. */
	ck_assert_int_eq(count_open_fds() - before, 100 * 5);
	hold_disk(false);
	pump_until_count(&kept, 100);
	for (int i = 0; i < 100; i++) {
		recorder_close(&senders[i]);
		close(fds[i][1]);
	}
	close_cold_link();
}

TEST(a_sparse_file_without_blocks_is_sent)
{
	open_cold_link(0);
	int fd = memfd_create("sparse", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fd, 64 * MIB), 0);
	send_cold_fd(&one, fd, FERRY_FD_TAKE);
	while (one.finished == 0) {
		pump_turns(1);
		wire_drain(one.far);
	}
	ck_assert_int_eq(one.status, 0);
	ck_assert_uint_eq(one.sent, 64 * MIB);
	ck_assert_uint_le(waits(&one), 10);
	close_cold_link();
}

TEST(a_file_that_shrinks_while_it_is_waited_for_finishes_with_the_count)
{
	open_cold_link(0);
	int fd = make_file(SIZE);
	cachestat_says = COLD;
	hold_disk(true);
	send_cold_fd(&one, fd, FERRY_FD_DUP);
	pump_until(is_waiting, &one);
	ck_assert_int_eq(ftruncate(fd, 1000), 0);
	hold_disk(false);
	pump_until_count(&one.finished, 1);
	ck_assert_int_eq(one.status, -EIO);
	ck_assert_uint_eq(one.sent, 1000);
	close(fd);
	close_cold_link();
}

TEST_CASE("while it waits");

LOOP_TEST(the_bytes_before_it_leave_and_those_after_it_wait, 2)
{
	open_cold_link(_i);
	ck_assert_int_eq(ferry_transport_write(one.sender.transport, "head", 4), 0);
	send_stuck_file(&one);
	ck_assert_int_eq(ferry_transport_write(one.sender.transport, "tail", 4), 0);
	char text[8] = "";
	pump_turns(5);
	ck_assert_int_eq(recv(one.far, text, sizeof(text), 0), 4);
	ck_assert_mem_eq(text, "head", 4);
	warm_when_read = true;
	hold_disk(false);
	while (one.arrived < SIZE) {
		pump_turns(1);
		uint64_t left = SIZE - one.arrived;
		ssize_t length = wire_expect(one.far, one.arrived, left < 65536 ? (size_t)left : 65536);
		if (length > 0)
			one.arrived += (uint64_t)length;
	}
	pump_until_count(&one.finished, 1);
	pump_turns(3);
	ck_assert_int_eq(recv(one.far, text, sizeof(text), 0), 4);
	ck_assert_mem_eq(text, "tail", 4);
	close_cold_link();
}

/* Each write runs the write step; the wait must not begin again each time. */
TEST(writing_all_the_while_does_not_put_it_off)
{
	open_cold_link(0);
	send_stuck_file(&one);
	warm_when_read = true;
	hold_disk(false);
	uint64_t written = 0;
	while (stats_of(one.sender.transport).file_bytes_sent == 0) {
		ck_assert_int_eq(ferry_transport_write(one.sender.transport, "x", 1), 0);
		pump_turns(1);
		written++;
	}
	ck_assert_uint_gt(written, 0);
	close_cold_link();
}

TEST(it_does_not_run_into_the_write_timeout)
{
	open_cold_link(0);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(one.sender.transport), NULL,
	                         &(struct timeval){.tv_usec = 1});
	send_stuck_file(&one);
	uint64_t before = waits(&one);
	pump_turns(20);
	ck_assert_uint_eq(one.sender.lost, 0);
	ck_assert_uint_eq(waits(&one), before);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(one.sender.transport), NULL, NULL);
	warm_when_read = true;
	hold_disk(false);
	check_whole(&one);
	close_cold_link();
}

TEST(nothing_is_read_for_a_paused_file)
{
	open_cold_link(0);
	cachestat_says = COLD;
	hold_disk(true);
	send_new_file(&one);
	ferry_file_producer_pause(one.producer);
	pump_turns(5);
	expect_threads(0);
	ck_assert_uint_eq(readahead_calls, 0);
	hold_disk(false);
	warm_when_read = true;
	ferry_file_producer_resume(one.producer);
	check_whole(&one);
	close_cold_link();
}

LOOP_TEST(paused_while_it_waits_it_stays_paused_when_it_is_there, 2)
{
	open_cold_link(_i);
	send_stuck_file(&one);
	ferry_file_producer_pause(one.producer);
	warm_when_read = true;
	hold_disk(false);
	pump_until(was_read, &(unsigned int){4});
	pump_turns(20);
	ck_assert_uint_eq(stats_of(one.sender.transport).file_bytes_sent, 0);
	ferry_file_producer_resume(one.producer);
	check_whole(&one);
	close_cold_link();
}

LOOP_TEST(a_file_stopped_while_it_waits_finishes_and_the_stream_goes_on, 2)
{
	open_cold_link(_i);
	send_stuck_file(&one);
	ck_assert_int_eq(ferry_transport_write(one.sender.transport, "tail", 4), 0);
	ferry_file_producer_stop(one.producer);
	pump_until_count(&one.finished, 1);
	ck_assert_int_eq(one.status, -ECANCELED);
	ck_assert_uint_eq(one.sent, 0);
	char text[8];
	pump_turns(3);
	ck_assert_int_eq(recv(one.far, text, sizeof(text), 0), 4);
	close_cold_link();
}

static bool fds_are(void *count)
{
	return count_open_fds() == *(int *)count;
}

/* close(2) may hang as the read does. */
TEST(the_descriptors_of_a_file_whose_read_hangs_are_closed_when_it_ends)
{
	open_cold_link(0);
	int before = count_open_fds();
	send_stuck_file(&one);
	ferry_file_producer_stop(one.producer);
	pump_until_count(&one.finished, 1);
	ck_assert_int_gt(count_open_fds(), before);
	hold_disk(false);
	pump_until(fds_are, &before);
	close_cold_link();
}

/* _i: the number 0 is that of the file; that of the thread's copy */
LOOP_TEST(a_file_whose_read_hangs_may_have_the_number_0, 2)
{
	open_cold_link(0);
	int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	int fd = _i == 1 ? make_file(SIZE) : -1, before = count_open_fds() - 1 - _i;
	close(STDIN_FILENO);
	if (_i == 0)
		fd = make_file(SIZE);
	cachestat_says = COLD;
	hold_disk(true);
	send_cold_fd(&one, fd, FERRY_FD_TAKE);
	pump_until(is_waiting, &one);
	while (disk_waiting == 0)
		pump_turns(1);
	ck_assert(fd_is_open(STDIN_FILENO));
	poll(
	    NULL, 0,
	    60); /* by then the library takes the read for one that hangs, and leaves the file to the thread */
	ferry_file_producer_stop(one.producer);
	pump_until_count(&one.finished, 1);
	hold_disk(false);
	pump_until(fds_are, &before);
	ck_assert_int_eq(dup2(saved, STDIN_FILENO), STDIN_FILENO);
	close(saved);
	close_cold_link();
}

LOOP_TEST(the_connection_lost_while_it_waits_finishes_it, 4)
{
	open_cold_link(_i % 2);
	send_stuck_file(&one);
	if (_i / 2 == 0) {
		ck_assert_int_eq(ferry_transport_abort_connection(one.sender.transport), 0);
	} else {
		ck_assert_int_eq(close(one.far), 0);
		one.far = -1;
	}
	hold_disk(false);
	pump_until_count(&one.finished, 1);
	pump_until_lost(&one.sender);
	if (_i / 2 == 0)
		ck_assert_int_eq(one.status, -ECONNABORTED);
	close_cold_link();
}

LOOP_TEST(freed_while_it_waits_the_loop_goes_on_before_the_read_ends, 2)
{
	open_cold_link(_i % 2);
	send_stuck_file(&one);
	recorder_free_transport(&one.sender);
	pump_until_count(&one.finished, 1);
	ck_assert_int_eq(one.status, -ECANCELED);
	ck_assert_uint_gt(disk_waiting, 0);
	hold_disk(false);
	expect_threads(0);
	close_cold_link();
}

TEST(the_base_freed_before_the_loop_ran_again_does_not_wait_for_the_read_either)
{
	open_cold_link(0);
	send_stuck_file(&one);
	recorder_free_transport(&one.sender);
	event_base_free(base);
	ck_assert_uint_eq(one.finished, 1);
	ck_assert_uint_gt(disk_waiting, 0);
	hold_disk(false);
	base = event_base_new();
	expect_threads(0);
	close_cold_link();
}
