/* Files that are not in memory: the stream waits for them, and the loop does not. Linked with the
 * library's objects, so that a test can say what the page cache has, and hold the disk back. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

/* ---- the kernel in the test's hand ---- */

enum answer { REAL, WARM, COLD, MISSING, REFUSED };

/* Atomic: the thread that reads ahead, and threads of the tests, are here too. */
static _Atomic int cachestat_says, nowait_says;
static _Atomic unsigned int cachestat_calls, nowait_calls, readahead_calls, pread_calls;
static _Atomic bool no_threads, warm_when_read;
static _Atomic int read_step_error;

/* The disk: while it is held, reads of the thread do not come back. */
static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t disk_changed = PTHREAD_COND_INITIALIZER;
static bool disk_held;
static _Atomic unsigned int disk_waiting;

static pthread_t loop_thread;

static void hold_disk(bool hold)
{
	pthread_mutex_lock(&disk_lock);
	disk_held = hold;
	pthread_cond_broadcast(&disk_changed);
	pthread_mutex_unlock(&disk_lock);
}

static void wait_for_disk(void)
{
	pthread_mutex_lock(&disk_lock);
	disk_waiting++;
	while (disk_held)
		pthread_cond_wait(&disk_changed, &disk_lock);
	disk_waiting--;
	pthread_mutex_unlock(&disk_lock);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
ssize_t __real_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);
ssize_t __real_readahead(int fd, off_t offset, size_t length);
ssize_t __wrap_readahead(int fd, off_t offset, size_t length);
ssize_t __real_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);

/* cachestat(2): its range and result, as linux/mman.h has them. */
long __wrap_syscall(long number, ...)
{
	va_list arguments;
	va_start(arguments, number);
	int fd = va_arg(arguments, int);
	uint64_t *range = va_arg(arguments, uint64_t *);
	uint64_t *result = va_arg(arguments, uint64_t *);
	unsigned int flags = va_arg(arguments, unsigned int);
	va_end(arguments);

	ck_assert_int_eq(number, 451);
	ck_assert_uint_eq(flags, 0);
	ck_assert_uint_gt(range[1], 0);
	cachestat_calls++;
	switch (atomic_load(&cachestat_says)) {
	case WARM:
		result[0] = (range[0] + range[1] - 1) / 4096 - range[0] / 4096 + 1;
		return 0;
	case COLD:
		result[0] = (range[0] + range[1] - 1) / 4096 - range[0] / 4096; /* one is missing */
		return 0;
	case MISSING:
		errno = ENOSYS;
		return -1;
	case REFUSED:
		errno = EPERM;
		return -1;
	default:
		return __real_syscall(number, fd, range, result, flags);
	}
}

ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags)
{
	ck_assert_int_eq(flags, RWF_NOWAIT);
	nowait_calls++;
	switch (atomic_load(&nowait_says)) {
	case WARM:
		return 1;
	case COLD:
		errno = EAGAIN;
		return -1;
	case MISSING:
	case REFUSED:
		errno = EOPNOTSUPP;
		return -1;
	default:
		return __real_preadv2(fd, vectors, count, offset, flags);
	}
}

ssize_t __wrap_readahead(int fd, off_t offset, size_t length)
{
	ck_assert(!pthread_equal(pthread_self(), loop_thread));
	readahead_calls++;
	wait_for_disk();
	return __real_readahead(fd, offset, length);
}

/* Of the thread that reads ahead; and of a file that is copied. */
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset)
{
	if (pthread_equal(pthread_self(), loop_thread))
		return __real_pread(fd, buffer, size, offset);
	pread_calls++;
	wait_for_disk();
	if (warm_when_read)
		cachestat_says = WARM;
	if (read_step_error != 0) {
		errno = read_step_error;
		return -1;
	}
	return __real_pread(fd, buffer, size, offset);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
	return no_threads ? EAGAIN : __real_pthread_create(thread, attributes, function, argument);
}

/* Those that read ahead; a sanitizer has threads too. */
static unsigned int count_threads(void)
{
	unsigned int count = 0;
	DIR *directory = opendir("/proc/self/task");
	ck_assert_ptr_nonnull(directory);
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		char path[300], name[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		count += read(fd, name, sizeof(name) - 1) > 0 && strcmp(name, "ferry-readahead\n") == 0;
		close(fd);
	}
	closedir(directory);
	return count;
}

static bool threads_are(void *count)
{
	return count_threads() == *(unsigned int *)count;
}

/* A thread that was joined may still be seen for a moment. */
static void expect_threads(unsigned int count)
{
	if (count_threads() != count)
		pump_until(threads_are, &count);
}

/* ---- arrangement ---- */

enum { MIB = 1024 * 1024, SIZE = 3 * MIB + 1234 };

struct link {
	struct recorder sender;
	int far;
	uint64_t arrived;
	unsigned int finished;
	int status;
	uint64_t sent;
	struct ferry_file_producer *producer;
};

static void open_link_at(struct link *link, int kind)
{
	int fds[2];
	*link = (struct link){.far = -1};
	make_pair(kind == 0 ? PAIR_UNIX : PAIR_TCP, fds);
	link->far = fds[1];
	recorder_open(&link->sender, fds[0], &recorder_protocol);
}

static struct link one, two;

static void open_link(int kind)
{
	loop_thread = pthread_self();
	open_link_at(&one, kind);
	pump_turns(2);
}

static void close_link_of(struct link *link)
{
	recorder_close(&link->sender);
	pump_turns(3);
	if (link->far >= 0)
		close(link->far);
}

static void close_link(void)
{
	hold_disk(false);
	close_link_of(&one);
	expect_threads(0);
}

static void told_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	(void)producer;
	struct link *link = context;
	link->finished++;
	link->status = status;
	link->sent = sent;
	link->producer = NULL;
}

static const struct ferry_file_callbacks callbacks = {.finished = told_finished};

static void send_fd(struct link *link, int fd, unsigned int ownership)
{
	link->finished = 0;
	ck_assert_int_eq(ferry_transport_send_file(&link->producer, link->sender.transport, fd,
	                                           ownership, 0, FERRY_TO_END, 0, &callbacks, link),
	                 0);
}

static void send_new_file(struct link *link)
{
	send_fd(link, make_file(SIZE), FERRY_FD_TAKE);
}

/* Reads what is there and compares. */
static bool has_arrived(void *argument)
{
	struct link *link = argument;
	ssize_t length;
	do {
		length = wire_expect(link->far, link->arrived, 65536);
		if (length > 0)
			link->arrived += (uint64_t)length;
	} while (length > 0);
	return link->arrived >= SIZE && link->finished > 0;
}

static void check_whole(struct link *link)
{
	pump_until(has_arrived, link);
	ck_assert_uint_eq(link->arrived, SIZE);
	ck_assert_int_eq(link->status, 0);
	ck_assert_uint_eq(link->sent, SIZE);
}

static uint64_t waits(const struct link *link)
{
	return stats_of(link->sender.transport).file_waits;
}

static bool was_read(void *steps)
{
	return pread_calls >= *(unsigned int *)steps;
}

static bool is_waiting(void *argument)
{
	return disk_waiting > 0 && waits(argument) > 0;
}

/* A cold file that the disk does not give. */
static void send_stuck_file(struct link *link)
{
	cachestat_says = COLD;
	hold_disk(true);
	send_new_file(link);
	pump_until(is_waiting, link);
}

/* ---- the real thing ---- */

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
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* what asking has brought in */
	return fd;
}

/* By cachestat(2), without it, and where it is refused. */
static const int first_probes[] = {REAL, MISSING, REFUSED};
enum { PROBES = sizeof(first_probes) / sizeof(first_probes[0]) };

TEST_CASE("the page cache");

LOOP_TEST(a_file_on_the_disk_is_waited_for_and_arrives_whole_and_in_order, 2 * PROBES)
{
	open_link(_i / PROBES);
	cachestat_says = first_probes[_i % PROBES];
	int fd = make_cold_file();
	if (fd < 0) {
		printf("SKIPPED: %s: files cannot be dropped from memory here\n", __func__);
	} else {
		send_fd(&one, fd, FERRY_FD_TAKE);
		check_whole(&one);
		ck_assert_uint_gt(waits(&one), 0);
		ck_assert_uint_gt(readahead_calls, 0);
	}
	close_link();
}

LOOP_TEST(a_file_in_memory_never_waits, 2 * PROBES)
{
	open_link(_i / PROBES);
	cachestat_says = first_probes[_i % PROBES];
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_eq(waits(&one), 0);
	expect_threads(0);
	close_link();
}

LOOP_TEST(without_cachestat_it_is_asked_for_only_once_and_where_refused_each_time, 2)
{
	open_link(0);
	cachestat_says = _i == 0 ? MISSING : REFUSED;
	send_new_file(&one);
	check_whole(&one);
	if (_i == 0)
		ck_assert_uint_eq(cachestat_calls, 1);
	else
		ck_assert_uint_gt(cachestat_calls, 1);
	ck_assert_uint_gt(nowait_calls, 2);
	close_link();
}

TEST(pages_on_their_way_from_the_disk_are_waited_for)
{
	open_link(0);
	nowait_says = COLD; /* but cachestat counts them */
	send_new_file(&one);
	pump_until(was_read, &(unsigned int){1});
	nowait_says = REAL;
	check_whole(&one);
	ck_assert_uint_gt(waits(&one), 0);
	close_link();
}

/* ---- what it does without ---- */

TEST_CASE("doing without");

LOOP_TEST(where_the_kernel_cannot_say_it_is_sent_without_waiting, 2)
{
	open_link(_i);
	cachestat_says = MISSING;
	nowait_says = MISSING;
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_eq(waits(&one), 0);
	expect_threads(0);
	close_link();
}

LOOP_TEST(without_a_thread_it_is_sent, 2)
{
	open_link(_i);
	cachestat_says = COLD;
	no_threads = true;
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_eq(readahead_calls, 0);
	close_link();
}

LOOP_TEST(a_file_that_reading_does_not_bring_into_memory_is_soon_no_more_asked_about, 4)
{
	open_link(_i % 2);
	cachestat_says = COLD;
	if (_i / 2 == 1)
		read_step_error = EIO;
	send_new_file(&one);
	check_whole(&one);
	ck_assert_uint_le(cachestat_calls, 10);
	close_link();
}

TEST(a_disk_that_does_not_answer_is_waited_for_so_many_times)
{
	open_link(0);
	send_stuck_file(&one);
	check_whole(&one);
	ck_assert_uint_gt(disk_waiting, 0);
	close_link();
}

TEST(with_no_descriptor_to_spare_it_is_asked_for_later)
{
	open_link(0);
	int fd = make_file(SIZE);
	cachestat_says = COLD;
	limit_descriptors(0);
	send_fd(&one, fd, FERRY_FD_TAKE);
	while (waits(&one) < 2)
		pump_turns(1);
	unlimit_descriptors();
	ck_assert_uint_eq(readahead_calls, 0);
	warm_when_read = true;
	check_whole(&one);
	ck_assert_uint_gt(readahead_calls, 0);
	close_link();
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

TEST(more_cold_files_than_the_queue_holds_all_arrive)
{
	struct recorder senders[100];
	int fds[100][2];

	open_link(0);
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
	/* Each has its socket pair and its file; 64 of them a duplicate, the rest none. */
	ck_assert_int_eq(count_open_fds() - before, 100 * 3 + 64);
	expect_threads(1);
	hold_disk(false);
	pump_until_count(&kept, 100);
	for (int i = 0; i < 100; i++) {
		recorder_close(&senders[i]);
		close(fds[i][1]);
	}
	close_link();
}

TEST(a_sparse_file_without_blocks_is_sent)
{
	open_link(0);
	int fd = memfd_create("sparse", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fd, 64 * MIB), 0);
	send_fd(&one, fd, FERRY_FD_TAKE);
	while (one.finished == 0) {
		pump_turns(1);
		wire_drain(one.far);
	}
	ck_assert_int_eq(one.status, 0);
	ck_assert_uint_eq(one.sent, 64 * MIB);
	ck_assert_uint_le(waits(&one), 10);
	close_link();
}

TEST(a_file_that_shrinks_while_it_is_waited_for_finishes_with_the_count)
{
	open_link(0);
	int fd = make_file(SIZE);
	cachestat_says = COLD;
	hold_disk(true);
	send_fd(&one, fd, FERRY_FD_DUP);
	pump_until(is_waiting, &one);
	ck_assert_int_eq(ftruncate(fd, 1000), 0);
	hold_disk(false);
	pump_until_count(&one.finished, 1);
	ck_assert_int_eq(one.status, -EIO);
	ck_assert_uint_eq(one.sent, 1000);
	close(fd);
	close_link();
}

/* ---- meanwhile ---- */

TEST_CASE("while it waits");

LOOP_TEST(the_bytes_before_it_leave_and_those_after_it_wait, 2)
{
	open_link(_i);
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
		ssize_t length = wire_expect(one.far, one.arrived, left < 65536 ? left : 65536);
		if (length > 0)
			one.arrived += (uint64_t)length;
	}
	pump_until_count(&one.finished, 1);
	pump_turns(3);
	ck_assert_int_eq(recv(one.far, text, sizeof(text), 0), 4);
	ck_assert_mem_eq(text, "tail", 4);
	close_link();
}

/* Each write runs the write step; the wait must not begin again each time. */
TEST(writing_all_the_while_does_not_put_it_off)
{
	open_link(0);
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
	close_link();
}

TEST(it_does_not_run_into_the_write_timeout)
{
	open_link(0);
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
	close_link();
}

LOOP_TEST(paused_while_it_waits_it_stays_paused_when_it_is_there, 2)
{
	open_link(_i);
	send_stuck_file(&one);
	ferry_file_producer_pause(one.producer);
	warm_when_read = true;
	hold_disk(false);
	pump_until(was_read, &(unsigned int){4});
	pump_turns(20);
	ck_assert_uint_eq(stats_of(one.sender.transport).file_bytes_sent, 0);
	ferry_file_producer_resume(one.producer);
	check_whole(&one);
	close_link();
}

LOOP_TEST(stopped_while_it_waits_it_finishes_and_what_follows_goes_on, 2)
{
	open_link(_i);
	send_stuck_file(&one);
	ck_assert_int_eq(ferry_transport_write(one.sender.transport, "tail", 4), 0);
	ferry_file_producer_stop(one.producer);
	pump_until_count(&one.finished, 1);
	ck_assert_int_eq(one.status, -ECANCELED);
	ck_assert_uint_eq(one.sent, 0);
	char text[8];
	pump_turns(3);
	ck_assert_int_eq(recv(one.far, text, sizeof(text), 0), 4);
	close_link();
}

/* One piece is with the disk, the others are only queued. */
TEST(stopped_before_its_turn_its_duplicate_is_closed_at_once)
{
	open_link(0);
	send_stuck_file(&one);
	open_link_at(&two, 0);
	pump_turns(2);
	int before = count_open_fds();
	send_new_file(&two);
	while (waits(&two) == 0)
		pump_turns(1);
	ck_assert_int_eq(count_open_fds(), before + 2); /* the file and its duplicate */
	ferry_file_producer_stop(two.producer);
	ck_assert_int_eq(count_open_fds(), before);
	pump_until_count(&two.finished, 1);
	warm_when_read = true;
	hold_disk(false);
	check_whole(&one);
	close_link_of(&two);
	close_link();
}

LOOP_TEST(the_connection_lost_while_it_waits_finishes_it, 4)
{
	open_link(_i % 2);
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
	close_link();
}

static void *release_disk(void *unused)
{
	(void)unused;
	while (disk_waiting == 0)
		sched_yield();
	hold_disk(false);
	return NULL;
}

LOOP_TEST(freed_while_it_waits_the_thread_ends_before_the_loop_goes_on, 2)
{
	open_link(_i % 2);
	send_stuck_file(&one);
	recorder_free_transport(&one.sender);
	pthread_t thread;
	ck_assert_int_eq(__real_pthread_create(&thread, NULL, release_disk, NULL), 0);
	pump_until_count(&one.finished, 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(one.status, -ECANCELED);
	expect_threads(0);
	close_link();
}

TEST(the_base_freed_before_the_loop_ran_again_ends_the_thread_too)
{
	open_link(0);
	send_stuck_file(&one);
	recorder_free_transport(&one.sender);
	hold_disk(false);
	event_base_free(base);
	ck_assert_uint_eq(one.finished, 1);
	expect_threads(0);
	base = event_base_new();
	close_link();
}

/* ---- threads ---- */

TEST_CASE("threads");

TEST(two_transports_of_a_base_share_a_thread_which_goes_with_the_last)
{
	open_link(0);
	open_link_at(&two, 1);
	cachestat_says = COLD;
	send_new_file(&one);
	send_new_file(&two);
	while (waits(&one) == 0 || waits(&two) == 0)
		pump_turns(1);
	expect_threads(1);
	pump_until(has_arrived, &one);
	pump_until(has_arrived, &two);
	recorder_close(&one.sender);
	pump_turns(3);
	expect_threads(1);
	close_link_of(&two);
	expect_threads(0);
	close(one.far);
	one.far = -1;
	/* And the next begins anew. */
	open_link_at(&one, 0);
	send_new_file(&one);
	check_whole(&one);
	close_link();
}

/* A base of its own, in a thread of its own, without check or the recorder, which are not made for it. */
struct run {
	struct event_base *base;
	struct ferry_transport *transport;
	int far;
	uint64_t arrived;
	int status;
	bool finished;
};

static void run_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                         void *context)
{
	(void)producer, (void)sent;
	struct run *run = context;
	run->status = status;
	run->finished = true;
}

static const struct ferry_file_callbacks run_callbacks = {.finished = run_finished};

static void *run_base(void *argument)
{
	struct run *run = argument;
	char buffer[65536];

	for (int round = 0; round < 3; round++) {
		int fds[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
			return NULL;
		run->base = event_base_new();
		run->finished = false;
		struct bufferevent *bev = bufferevent_socket_new(run->base, fds[0], BEV_OPT_CLOSE_ON_FREE);
		if (ferry_transport_new(&run->transport, bev) != 0 ||
		    ferry_transport_send_file(NULL, run->transport, run->far, FERRY_FD_DUP, 0, FERRY_TO_END,
		                              0, &run_callbacks, run) != 0)
			return NULL;
		while (!run->finished) {
			event_base_loop(run->base, EVLOOP_NONBLOCK);
			ssize_t length = read(fds[1], buffer, sizeof(buffer));
			if (length > 0)
				run->arrived += (uint64_t)length;
		}
		ferry_transport_free(run->transport);
		for (ssize_t length; (length = read(fds[1], buffer, sizeof(buffer))) > 0;)
			run->arrived += (uint64_t)length;
		event_base_free(run->base);
		close(fds[1]);
	}
	return NULL;
}

TEST(two_bases_in_two_threads_have_a_thread_each)
{
	struct run runs[2] = {{0}};
	pthread_t threads[2];

	cachestat_says = COLD;
	for (int i = 0; i < 2; i++) {
		runs[i].far = make_file(SIZE);
		ck_assert_int_eq(__real_pthread_create(&threads[i], NULL, run_base, &runs[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_uint_eq(runs[i].arrived, 3 * (uint64_t)SIZE);
		ck_assert_int_eq(runs[i].status, 0);
		close(runs[i].far);
	}
	ck_assert_uint_gt(readahead_calls, 0);
	expect_threads(0);
}

TEST(after_a_fork_the_child_can_free_and_the_parent_goes_on)
{
	open_link(0);
	send_stuck_file(&one);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		event_reinit(base);
		ferry_transport_free(one.sender.transport);
		event_base_loop(base, EVLOOP_NONBLOCK);
		event_base_loop(base, EVLOOP_NONBLOCK);
		_exit(one.finished == 1 ? 0 : 1);
	}
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	hold_disk(false);
	pump_turns(3);
	close_link();
}
