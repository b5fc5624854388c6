/* Faults of the file part that a review found, each by the scenario that shows it. The program is
 * linked with the library's objects, and a test can set the results of its system calls. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_struct.h>
#include <event2/event.h>

#include "file_link.h"
#include "test.h"
#include "wire.h"

/* ---- the kernel in the test's hand ---- */

static int sendfile_error; /* of the next call; 0: the real thing */
static bool holds_short;   /* as before Linux 6.5: a short count leaves its end waiting for more */
static bool held_back;     /* it does now */
static int pread_error;    /* of the loop's */
static bool nothing_to_read; /* by poll(2) */
static bool is_cold;
static _Atomic unsigned int read_ahead;
static pthread_t loop_thread;

ssize_t __real_sendfile(int out, int in, off_t *offset, size_t length);
ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length);
int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
ssize_t __real_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __real_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);
int __real_poll(struct pollfd *queries, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *queries, nfds_t count, int timeout);
long __wrap_syscall(long number, ...);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length)
{
	if (sendfile_error != 0) {
		errno = -sendfile_error;
		sendfile_error = 0;
		return -1;
	}
	ssize_t sent = __real_sendfile(out, in, offset, length);
	held_back |= holds_short && sent > 0 && (size_t)sent < length;
	return sent;
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	if (level == IPPROTO_TCP && option == TCP_CORK && *(const int *)value == 0)
		held_back = false;
	return __real_setsockopt(fd, level, option, value, length);
}

ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset)
{
	if (!pthread_equal(pthread_self(), loop_thread)) {
		read_ahead++;
		return __real_pread(fd, buffer, size, offset);
	}
	if (pread_error == 0)
		return __real_pread(fd, buffer, size, offset);
	errno = -pread_error;
	return -1;
}

ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags)
{
	if (offset < 0 || !is_cold)
		return __real_preadv2(fd, vectors, count, offset, flags);
	errno = EAGAIN;
	return -1;
}

int __wrap_poll(struct pollfd *queries, nfds_t count, int timeout)
{
	return nothing_to_read ? 0 : __real_poll(queries, count, timeout);
}

/* cachestat(2). */
long __wrap_syscall(long number, ...)
{
	(void)number;
	errno = ENOSYS;
	return -1;
}

/* ---- arrangement ---- */

static struct told file, second;

static void open_the_link(int kind)
{
	loop_thread = pthread_self();
	open_link(kind);
}

static struct bufferevent *bufferevent_of_sender(void)
{
	return ferry_transport_get_bufferevent(sender.transport);
}

static uint64_t bytes_sent(void)
{
	return stats_of(sender.transport).bytes_sent;
}

static bool timer_has_run;

static void note_timer(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	timer_has_run = true;
}

/* Later than a timeout of a few milliseconds that began before. */
static void pump_for_a_while(void)
{
	timer_has_run = false;
	event_base_once(base, -1, EV_TIMEOUT, note_timer, NULL, &(struct timeval){.tv_usec = 50000});
	pump_until_set(&timer_has_run);
}

/* ---- budgets ---- */

TEST_CASE("budgets");

/* Fault: the bytes of a small file were not taken off the turn's budget for the message behind
 * it. */
LOOP_TEST(one_turn_sends_its_budget_and_no_more_when_bytes_and_small_files_alternate, LINK_KINDS)
{
	static const char zeros[7990];
	open_the_link(_i);
	bufferevent_set_max_single_write(bufferevent_of_sender(), 8000);
	send_text("0123456789");
	send_range(&file, 5000, 0, FERRY_TO_END);
	ck_assert_int_eq(ferry_transport_write(sender.transport, zeros, sizeof(zeros)), 0);
	send_range(&second, 10000, 0, FERRY_TO_END);

	event_base_loop(base, EVLOOP_ONCE);

	ck_assert_uint_gt(bytes_sent(), 0);
	ck_assert_uint_le(bytes_sent(), 8000);
	finish_stream();
	check_finished(&file, 0, 5000);
	check_finished(&second, 0, 10000);
	close_link();
	free(arrived);
}

/* Fault: bytes that waited in the pipe between a source socket and the stream left at once, even if
 * the budget had become smaller meanwhile. */
TEST(bytes_that_wait_in_the_pipe_keep_to_the_budget_too)
{
	int source[2];
	open_the_link(LINK_UNIX);
	make_pair(PAIR_UNIX, source);
	wire_shrink(bufferevent_getfd(bufferevent_of_sender()));
	size_t there = wire_fill(source[1]);
	ck_assert_int_eq(try_send(&file, source[0], FERRY_FD_TAKE, 0, FERRY_TO_END), 0);
	pump_turns(50);
	close(source[1]);
	bufferevent_set_max_single_write(bufferevent_of_sender(), 1000);
	start_collecting();
	stream_has_ended(NULL);
	uint64_t before = bytes_sent();

	event_base_loop(base, EVLOOP_ONCE);

	ck_assert_uint_le(bytes_sent() - before, 1000);
	bufferevent_set_max_single_write(bufferevent_of_sender(), 0);
	finish_stream();
	check_finished(&file, 0, there);
	close_link();
	free(arrived);
}

/* ---- waking up ---- */

TEST_CASE("waking up");

/* Fault: when the file was stopped, ferry did not check for a close that waited only for it. */
LOOP_TEST(a_close_that_waited_for_a_file_happens_when_that_is_stopped_with_writing_disabled,
          LINK_KINDS)
{
	open_the_link(_i);
	bufferevent_disable(bufferevent_of_sender(), EV_WRITE);
	send_range(&file, 100000, 0, FERRY_TO_END);
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	pump_turns(3);
	ck_assert_uint_eq(sender.lost, 0);

	ferry_file_producer_stop(file.producer);

	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, 0);
	check_finished(&file, -ECANCELED, 0);
	close_link();
}

/* libevent adds the write event, timeout and all, when writing is enabled or a rate limit ends. */
LOOP_TEST(a_paused_file_does_not_run_into_the_write_timeout_when_writing_is_enabled_again,
          2 * LINK_KINDS)
{
	int source[2] = {-1, -1};
	bool dry = _i / LINK_KINDS == 1;
	open_the_link(_i % LINK_KINDS);
	bufferevent_set_timeouts(bufferevent_of_sender(), NULL, &(struct timeval){.tv_usec = 5000});
	if (dry) {
		make_pipe(source);
		ck_assert_int_eq(try_send(&file, source[0], FERRY_FD_TAKE, 0, FERRY_TO_END), 0);
		pump_turns(3);
	} else {
		send_range(&file, 4 << 20, 0, FERRY_TO_END);
		ferry_file_producer_pause(file.producer);
	}
	int fd = event_get_fd(&bufferevent_of_sender()->ev_write);
	wire_fill(fd);

	bufferevent_disable(bufferevent_of_sender(), EV_WRITE);
	bufferevent_enable(bufferevent_of_sender(), EV_WRITE);
	pump_for_a_while();

	ck_assert_uint_eq(sender.lost, 0);
	ck_assert_uint_eq(file.finished, 0);
	close_link();
	check_finished(&file, -ECANCELED, 0);
	if (dry)
		close(source[1]);
}

/* It was taken for a regular file, which never makes a reader wait. */
LOOP_TEST(a_file_of_proc_that_has_nothing_now_is_waited_for, LINK_KINDS)
{
	open_the_link(_i);
	nothing_to_read = true; /* as /proc/kmsg, whose reader would wait, whatever the loop */
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, 0, FERRY_TO_END), 0);
	pump_turns(5);
	ck_assert_uint_eq(bytes_sent(), 0);
	ck_assert_uint_gt(stats_of(sender.transport).file_waits, 0);

	nothing_to_read = false;
	finish_stream();
	ck_assert_int_eq(file.status, 0);
	ck_assert_uint_gt(file.sent, 100);
	close_link();
	free(arrived);
}

/* ---- whose error ---- */

static const int of_either[] = {-ENOTCONN, -ETIMEDOUT, -EHOSTDOWN, -ECONNRESET, -ECONNABORTED};
enum { OF_EITHER = sizeof(of_either) / sizeof(of_either[0]) };

TEST_CASE("both ends");

/* Reads fail with ENOTCONN on FUSE without its daemon, and with ETIMEDOUT on NFS. Fault: the
 * transport took them for errors of the connection, and ended it. */
LOOP_TEST(a_file_systems_error_that_reads_like_the_connections_is_the_files, OF_EITHER *LINK_KINDS)
{
	int error = of_either[_i % OF_EITHER];
	open_the_link(_i / OF_EITHER);
	send_range(&file, 100000, 0, FERRY_TO_END);
	send_text("on");
	sendfile_error = error;
	pread_error = error;

	finish_stream();

	check_finished(&file, error, 0);
	expect_text("on");
	expect_end();
	close_link();
}

/* ---- the socket ---- */

static int replacement;

static void replace_socket(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                           void *argument)
{
	(void)buffer, (void)argument;
	if (info->n_deleted == 0 || replacement < 0)
		return;
	int old = bufferevent_getfd(bufferevent_of_sender());
	int fd = replacement;
	replacement = -1;
	ck_assert_int_eq(ferry_transport_set_socket(sender.transport, fd), 0);
	close(old);
}

/* The flush went on with the number that it had begun with. */
LOOP_TEST(a_file_goes_to_the_socket_that_a_callback_on_the_output_has_set, LINK_PIPES)
{
	int fds[2], old_far;
	open_the_link(_i);
	make_pair(_i == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
	replacement = fds[0];
	old_far = far;
	far = fds[1];
	evbuffer_add_cb(bufferevent_get_output(bufferevent_of_sender()), replace_socket, NULL);
	send_text("<");
	send_range(&file, 50000, 0, FERRY_TO_END);
	send_text(">");

	finish_stream();

	check_finished(&file, 0, 50000);
	expect_range(0, 50000);
	expect_text(">");
	expect_end();
	close_link();
	close(old_far);
}

/* A kernel that was asked for more than came holds the last segment back for up to 200 ms. */
TEST(the_end_of_a_truncated_file_leaves_at_once)
{
	open_the_link(LINK_TCP);
	int fd = make_file(50000);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, 0, FERRY_TO_END), 0);
	ck_assert_int_eq(ftruncate(fd, 20000), 0);
	holds_short = true;
	pump_until_count(&file.finished, 1);
	check_finished(&file, -EIO, 20000);
	ck_assert(!held_back);
	close_link();
}

/* ---- cold files ---- */

static int send_in_child(void)
{
	loop_thread = pthread_self();
	event_reinit(base);
	read_ahead = 0;
	if (try_send(&second, make_file(100000), FERRY_FD_TAKE, 0, FERRY_TO_END) != 0)
		return 1;
	start_collecting();
	for (int i = 0; i < 10000 && second.finished == 0; i++) {
		event_base_loop(base, EVLOOP_ONCE);
		stream_has_ended(NULL);
	}
	if (second.finished != 1 || second.sent != 100000)
		return 2;
	return read_ahead > 0 ? 0 : 3;
}

TEST_CASE("cold files");

/* Whether all threads but this one sleep. */
static bool threads_sleep(void *unused)
{
	(void)unused;
	char path[64], text[256], state = 'S';
	DIR *tasks = opendir("/proc/self/task");
	ck_assert_ptr_nonnull(tasks);
	for (struct dirent *task; state == 'S' && (task = readdir(tasks)) != NULL;) {
		if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", task->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t length = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
		if (fd >= 0)
			close(fd);
		if (length <= 0) /* it has ended */
			continue;
		text[length] = '\0';
		const char *name_end = strrchr(text, ')');
		state = (char)(name_end != NULL ? name_end[2] : 'S');
	}
	closedir(tasks);
	return state == 'S';
}

/* The child had its parent's thread, which is none, and waited its second for each piece. The fork is made while no
 * other thread runs: the allocators of sanitizers do not unlock what such a thread has locked. */
TEST(after_a_fork_the_child_has_a_thread_of_its_own)
{
	int status;
	open_the_link(LINK_UNIX);
	is_cold = true;
	send_range(&file, 100000, 0, FERRY_TO_END);
	start_collecting();
	pump_until_count(&file.finished, 1);
	ck_assert_uint_gt(read_ahead, 0);
	for (int i = 0; i < 3; i++)
		pump_until(threads_sleep, NULL);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(send_in_child());
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	close_link();
	free(arrived);
}
