/* Behaviour of the kernel that ferry relies on, the same on Linux 5.10, 6.1, 6.12 and 6.18 unless a test says which
 * versions differ. A failure here means that the kernel has changed: then review the code of ferry that depends on
 * the fact. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "test.h"
#include "wire.h"

static int ends[2];
static char buffer[65536];
static struct wire_read got;

static void open_pair(void)
{
	make_pair(PAIR_UNIX, ends);
}

static void close_pair(void)
{
	close(ends[0]);
	close(ends[1]);
}

/* Sends `count` copies of one descriptor with the bytes. */
static ssize_t send_copies(const char *bytes, size_t length, int fd, size_t count)
{
	int fds[WIRE_MAX_FDS + 1];
	for (size_t i = 0; i < count; i++)
		fds[i] = fd;
	return wire_send(ends[0], bytes, length, fds, count);
}

static void receive(size_t size)
{
	wire_receive(ends[1], buffer, size, &got);
}

TEST_CASE("descriptors on unix sockets");

TEST(a_descriptor_sent_with_no_byte_is_silently_gone)
{
	open_pair();
	int fd = make_marked_fd(1);

	ck_assert_int_eq(send_copies("", 0, fd, 1), 0);

	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, -EAGAIN);
	ck_assert_int_eq(wire_send(ends[0], "x", 1, NULL, 0), 1);
	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, 1);
	ck_assert_uint_eq(got.fd_count, 0);
	close(fd);
	close_pair();
}

TEST(a_short_send_has_sent_its_descriptors)
{
	open_pair();
	wire_shrink(ends[0]);
	static char large[1 << 20];
	int fd = make_marked_fd(2);

	ssize_t n = send_copies(large, sizeof(large), fd, 1);

	ck_assert_int_gt(n, 0);
	ck_assert_int_lt(n, (ssize_t)sizeof(large));
	receive(1);
	ck_assert_uint_eq(got.fd_count, 1);
	ck_assert_uint_eq(marked_number(got.fds[0]), 2);
	wire_close_fds(&got);
	close(fd);
	close_pair();
}

TEST(a_refused_send_has_sent_no_descriptor)
{
	open_pair();
	size_t filled = wire_fill(ends[0]);
	int fd = make_marked_fd(3);

	ck_assert_int_eq(send_copies("x", 1, fd, 1), -EAGAIN);

	size_t drained = 0;
	for (receive(sizeof(buffer)); got.bytes > 0; receive(sizeof(buffer))) {
		drained += (size_t)got.bytes;
		ck_assert_uint_eq(got.fd_count, 0);
	}
	ck_assert_uint_eq(drained, filled);
	close(fd);
	close_pair();
}

TEST(plain_bytes_before_a_descriptor_come_glued_to_its_read)
{
	open_pair();
	int fd = make_marked_fd(4);
	ck_assert_int_eq(wire_send(ends[0], "AAAA", 4, NULL, 0), 4);
	ck_assert_int_eq(send_copies("BBBB", 4, fd, 1), 4);
	ck_assert_int_eq(wire_send(ends[0], "CCCC", 4, NULL, 0), 4);

	receive(sizeof(buffer));

	ck_assert_int_eq(got.bytes, 8);
	ck_assert_mem_eq(buffer, "AAAABBBB", 8);
	ck_assert_uint_eq(got.fd_count, 1);
	wire_close_fds(&got);
	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, 4);
	ck_assert_uint_eq(got.fd_count, 0);
	close(fd);
	close_pair();
}

TEST(one_read_never_brings_the_descriptors_of_two_sends)
{
	open_pair();
	int first = make_marked_fd(5), second = make_marked_fd(6);
	ck_assert_int_eq(send_copies("A", 1, first, 1), 1);
	ck_assert_int_eq(send_copies("B", 1, second, 1), 1);

	for (uint32_t number = 5; number <= 6; number++) {
		receive(sizeof(buffer));
		ck_assert_int_eq(got.bytes, 1);
		ck_assert_uint_eq(got.fd_count, 1);
		ck_assert_uint_eq(marked_number(got.fds[0]), number);
		wire_close_fds(&got);
	}
	close(first);
	close(second);
	close_pair();
}

TEST(descriptors_ride_on_the_first_piece_of_a_large_send)
{
	open_pair();
	static char large[150000];
	int fd = make_marked_fd(7);
	ssize_t n = send_copies(large, sizeof(large), fd, 1);
	ck_assert_int_gt(n, 65536);

	receive(1);
	ck_assert_int_eq(got.bytes, 1);
	ck_assert_uint_eq(got.fd_count, 1);
	wire_close_fds(&got);

	for (ssize_t left = n - 1; left > 0; left -= got.bytes) {
		receive(sizeof(buffer));
		ck_assert_int_gt(got.bytes, 0);
		ck_assert_uint_eq(got.fd_count, 0);
	}
	close(fd);
	close_pair();
}

TEST(a_plain_read_throws_descriptors_away)
{
	open_pair();
	int pipe_ends[2];
	make_pipe(pipe_ends);
	ck_assert_int_eq(send_copies("x", 1, pipe_ends[1], 1), 1);
	close(pipe_ends[1]);

	ck_assert_int_eq(read(ends[1], buffer, 1), 1);

	/* The read closed the last copy of the write end. */
	ck_assert_int_eq(read(pipe_ends[0], buffer, 1), 0);
	close(pipe_ends[0]);
	close_pair();
}

TEST(peeking_installs_new_copies_each_time)
{
	open_pair();
	int fd = make_marked_fd(8);
	ck_assert_int_eq(send_copies("x", 1, fd, 1), 1);
	int open_before = count_open_fds();
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;

	for (int i = 1; i <= 2; i++) {
		struct iovec iov = {buffer, 1};
		struct msghdr message = {.msg_iov = &iov,
		                         .msg_iovlen = 1,
		                         .msg_control = &control,
		                         .msg_controllen = sizeof(control)};
		ck_assert_int_eq(recvmsg(ends[1], &message, MSG_PEEK | MSG_CMSG_CLOEXEC), 1);
		ck_assert_int_eq(count_open_fds(), open_before + i);
		int copy;
		memcpy(&copy, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(copy));
		got.fds[i] = copy;
	}
	close(got.fds[1]);
	close(got.fds[2]);
	close(fd);
	close_pair();
}

TEST(a_small_control_buffer_truncates_and_its_padding_lets_one_more_in)
{
	open_pair();
	int fd = make_marked_fd(9);
	ck_assert_int_eq(send_copies("x", 1, fd, 5), 1);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {buffer, 1};
	struct msghdr message = {.msg_iov = &iov,
	                         .msg_iovlen = 1,
	                         .msg_control = &control,
	                         .msg_controllen = sizeof(control)};

	ck_assert_int_eq(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC), 1);

	ck_assert_int_ne(message.msg_flags & MSG_CTRUNC, 0);
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	size_t arrived = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	ck_assert_uint_eq(arrived, (CMSG_SPACE(sizeof(int)) - CMSG_LEN(0)) / sizeof(int));
	for (size_t i = 0; i < arrived; i++) {
		int copy;
		memcpy(&copy, CMSG_DATA(c) + i * sizeof(int), sizeof(copy));
		ck_assert_int_eq(close(copy), 0);
	}
	close(fd);
	close_pair();
}

TEST(credentials_take_control_space_from_descriptors)
{
	open_pair();
	int one = 1;
	ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	int fd = make_marked_fd(10);
	ck_assert_int_eq(send_copies("x", 1, fd, 1), 1);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {buffer, 1};
	struct msghdr message = {.msg_iov = &iov,
	                         .msg_iovlen = 1,
	                         .msg_control = &control,
	                         .msg_controllen = sizeof(control)};

	ck_assert_int_eq(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC), 1);

	ck_assert_int_ne(message.msg_flags & MSG_CTRUNC, 0);
	ck_assert_int_eq(CMSG_FIRSTHDR(&message)->cmsg_type, SCM_CREDENTIALS);
	close(fd);
	close_pair();
}

/* _i: the number of free slots for the five descriptors. */
LOOP_TEST(at_the_descriptor_limit_bytes_come_without_error_and_with_ctrunc, 5)
{
	open_pair();
	int fd = make_marked_fd(11);
	ck_assert_int_eq(send_copies("xyz", 3, fd, 5), 3);

	limit_descriptors((unsigned int)_i);
	receive(sizeof(buffer));
	unlimit_descriptors();

	ck_assert_int_eq(got.bytes, 3);
	ck_assert(got.truncated);
	ck_assert_uint_eq(got.fd_count, (size_t)_i);
	wire_close_fds(&got);
	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, -EAGAIN);
	close(fd);
	close_pair();
}

TEST(a_message_carries_253_descriptors_and_not_254)
{
	open_pair();
	int fd = make_marked_fd(12);

	ck_assert_int_eq(send_copies("x", 1, fd, WIRE_MAX_FDS + 1), -EINVAL);
	ck_assert_int_eq(send_copies("y", 1, fd, WIRE_MAX_FDS), 1);

	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, 1);
	ck_assert_int_eq(buffer[0], 'y');
	ck_assert_uint_eq(got.fd_count, WIRE_MAX_FDS);
	wire_close_fds(&got);
	close(fd);
	close_pair();
}

TEST(one_bad_number_refuses_the_whole_message)
{
	open_pair();
	int fds[2] = {make_marked_fd(13), make_marked_fd(14)};
	close(fds[1]);

	ck_assert_int_eq(wire_send(ends[0], "x", 1, fds, 2), -EBADF);

	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, -EAGAIN);
	close(fds[0]);
	close_pair();
}

TEST(an_o_path_descriptor_can_be_sent)
{
	open_pair();
	int fd = open("/", O_PATH | O_CLOEXEC);
	ck_assert_int_eq(send_copies("x", 1, fd, 1), 1);

	receive(1);

	ck_assert_uint_eq(got.fd_count, 1);
	ck_assert(same_file(fd, got.fds[0]));
	wire_close_fds(&got);
	close(fd);
	close_pair();
}

TEST(a_unix_socket_has_pollwrband_whenever_it_has_pollout_and_a_file_never)
{
	int tcp[2];
	make_pair(PAIR_TCP, tcp);
	open_pair();
	struct pollfd looks[] = {{.fd = ends[0]}, {.fd = make_file(1)}, {.fd = tcp[0]}};
	for (int i = 0; i < 3; i++)
		looks[i].events = POLLOUT | POLLWRBAND;

	ck_assert_int_eq(poll(looks, 3, 0), 3);
	ck_assert_int_eq(looks[0].revents, POLLOUT | POLLWRBAND);
	ck_assert_int_eq(looks[1].revents, POLLOUT);
	ck_assert_int_eq(looks[2].revents, POLLOUT);

	static char large[1 << 20];
	while (send(ends[0], large, sizeof(large), MSG_DONTWAIT) > 0)
		continue;
	ck_assert_int_eq(poll(looks, 1, 0), 0);
	close(looks[1].fd);
	close(tcp[0]);
	close(tcp[1]);
	close_pair();
}

TEST_CASE("connections");

TEST(closing_with_unread_bytes_resets_and_then_breaks_the_pipe)
{
	open_pair();
	ck_assert_int_eq(wire_send(ends[0], "never read", 10, NULL, 0), 10);
	ck_assert_int_eq(wire_send(ends[1], "answer", 6, NULL, 0), 6);

	close(ends[1]);

	/* After the error the bytes that the peer has sent can still be read. */
	wire_receive(ends[0], buffer, sizeof(buffer), &got);
	ssize_t first = got.bytes;
	ck_assert_msg(first == -ECONNRESET || first == 6, "%zd", first);
	if (first == -ECONNRESET) {
		wire_receive(ends[0], buffer, sizeof(buffer), &got);
		ck_assert_int_eq(got.bytes, 6);
	} else {
		wire_receive(ends[0], buffer, sizeof(buffer), &got);
		ck_assert_int_eq(got.bytes, -ECONNRESET);
	}
	ck_assert_int_eq(wire_send(ends[0], "x", 1, NULL, 0), -EPIPE);
	close(ends[0]);
}

TEST(hang_up_is_seen_while_bytes_and_descriptors_wait)
{
	open_pair();
	int fd = make_marked_fd(15);
	ck_assert_int_eq(send_copies("last", 4, fd, 1), 4);
	close(ends[0]);

	struct pollfd poll_fd = {.fd = ends[1], .events = POLLIN};
	ck_assert_int_eq(poll(&poll_fd, 1, 0), 1);
	ck_assert_int_ne(poll_fd.revents & POLLHUP, 0);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, NULL, 0), -EPIPE);

	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, 4);
	ck_assert_uint_eq(got.fd_count, 1);
	wire_close_fds(&got);
	close(fd);
	close(ends[1]);
}

TEST(nonblocking_mode_is_shared_by_all_copies_of_a_socket)
{
	open_pair();
	int other[2];
	make_pair(PAIR_UNIX, other);
	ck_assert_int_eq(send_copies("x", 1, other[0], 1), 1);
	receive(1);

	ck_assert_int_eq(fcntl(other[0], F_SETFL, 0), 0);

	ck_assert_int_eq(fcntl(got.fds[0], F_GETFL) & O_NONBLOCK, 0);
	wire_close_fds(&got);
	close(other[0]);
	close(other[1]);
	close_pair();
}

TEST(a_closed_number_whose_file_lives_on_stays_in_epoll)
{
	open_pair();
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int copy = dup(ends[1]);
	struct epoll_event event = {.events = EPOLLIN};
	ck_assert_int_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, copy, &event), 0);
	close(copy);

	ck_assert_int_eq(wire_send(ends[0], "x", 1, NULL, 0), 1);

	ck_assert_int_eq(epoll_wait(epoll_fd, &event, 1, 0), 1);
	ck_assert_int_eq(epoll_ctl(epoll_fd, EPOLL_CTL_DEL, copy, NULL), -1);
	ck_assert_int_eq(errno, EBADF);
	close(epoll_fd);
	close_pair();
}

TEST(the_kernel_lets_a_socket_be_sent_over_itself)
{
	open_pair();

	ck_assert_int_eq(send_copies("x", 1, ends[0], 1), 1);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, &ends[0], 1), 1);

	ck_assert_uint_eq(wire_drain(ends[1]), 1);
	ck_assert_uint_eq(wire_drain(ends[0]), 1);
	close_pair();
}

TEST(the_cookie_is_the_same_on_both_copies_of_a_socket)
{
	open_pair();
	int tcp[2];
	make_pair(PAIR_TCP, tcp);
	ck_assert_int_eq(send_copies("x", 1, tcp[0], 1), 1);
	receive(1);

	ck_assert_uint_eq(cookie_of(got.fds[0]), cookie_of(tcp[0]));
	ck_assert_uint_ne(cookie_of(tcp[0]), cookie_of(tcp[1]));
	ck_assert_uint_ne(cookie_of(ends[0]), cookie_of(ends[1]));
	wire_close_fds(&got);
	close(tcp[0]);
	close(tcp[1]);
	close_pair();
}

TEST(connecting_to_a_full_unix_backlog_fails_with_eagain)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	/* Autobind: the kernel picks an abstract name. */
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(listener, 0), 0);
	socklen_t length = sizeof(address);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &length), 0);

	int clients[4];
	int status = 0;
	size_t count = 0;
	while (status == 0 && count < 4) {
		clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		status = connect(clients[count++], (struct sockaddr *)&address, length);
	}

	ck_assert_int_eq(status, -1);
	ck_assert_int_eq(errno, EAGAIN);
	while (count > 0)
		close(clients[--count]);
	close(listener);
}

TEST(a_half_closed_receiver_still_reads_pending_bytes_and_can_send)
{
	open_pair();
	ck_assert_int_eq(wire_send(ends[0], "sent", 4, NULL, 0), 4);

	ck_assert_int_eq(shutdown(ends[1], SHUT_RD), 0);

	ck_assert_int_eq(wire_send(ends[0], "x", 1, NULL, 0), -EPIPE);
	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, 4);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, NULL, 0), 1);
	close_pair();
}

TEST(disconnecting_a_tcp_socket_resets_the_connection)
{
	make_pair(PAIR_TCP, ends);

	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	ck_assert_int_eq(connect(ends[0], &nowhere, sizeof(nowhere)), 0);

	await_input(ends[1]);
	receive(sizeof(buffer));
	ck_assert_int_eq(got.bytes, -ECONNRESET);
	close_pair();
}

/* ---- sendfile ---- */

/* A source for sendfile(2), with the result of the call with an offset and without. */
struct source {
	const char *name;
	int (*open)(void);
	int with_offset; /* 0, or negative errno */
	int without_offset;
	bool may_refuse; /* before Linux 6.5, by EINVAL: ferry copies then */
};

static int spare_fd = -1; /* the other end of a source, closed after it */

static int open_regular(void)
{
	return make_file(100);
}

static int open_memfd(void)
{
	return make_marked_fd(1);
}

static int open_zero(void)
{
	return open("/dev/zero", O_RDONLY | O_CLOEXEC);
}

static int open_directory(void)
{
	return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_null(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int open_proc_status(void)
{
	return open("/proc/self/status", O_RDONLY | O_CLOEXEC);
}

static int open_write_only(void)
{
	int file = make_file(100);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	close(file);
	return fd;
}

static int open_path(void)
{
	return open("/", O_PATH | O_CLOEXEC);
}

static int open_pipe(void)
{
	int fds[2];
	make_pipe(fds);
	spare_fd = fds[1];
	ck_assert_int_eq(write(spare_fd, "x", 1), 1);
	return fds[0];
}

static int open_socket(void)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	spare_fd = fds[1];
	ck_assert_int_eq(write(spare_fd, "x", 1), 1);
	return fds[0];
}

static int open_eventfd(void)
{
	return eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
}

static const struct source sources[] = {
    {"regular file", open_regular, 0, 0, false},
    {"memfd", open_memfd, 0, 0, false},
    {"/dev/zero", open_zero, 0, 0, true},
    {"directory", open_directory, -EINVAL, -EINVAL, false},
    {"/dev/null", open_null, -EINVAL, -EINVAL, false},
    {"/proc/self/status", open_proc_status, -EINVAL, -EINVAL, false},
    {"write-only file", open_write_only, -EBADF, -EBADF, false},
    {"O_PATH", open_path, -EBADF, -EBADF, false},
    {"pipe", open_pipe, -ESPIPE, -EINVAL, false},
    {"socket", open_socket, -ESPIPE, -EINVAL, false},
    {"eventfd", open_eventfd, -ESPIPE, -EINVAL, false},
};
enum { SOURCE_COUNT = sizeof(sources) / sizeof(sources[0]) };

static int sendfile_status(int out, int in, off_t *offset)
{
	ssize_t n = sendfile(out, in, offset, 4);
	return n < 0 ? -errno : 0;
}

static void expect_status(const struct source *source, int with_offset, int without_offset)
{
	ck_assert_msg(with_offset == source->with_offset, "%s with an offset: %d", source->name,
	              with_offset);
	ck_assert_msg(without_offset == source->without_offset, "%s without an offset: %d",
	              source->name, without_offset);
}

TEST_CASE("sendfile");

/* _i: the source, once for unix and once for TCP. */
LOOP_TEST(sendfile_refuses_files_that_it_cannot_read, 2 * SOURCE_COUNT)
{
	const struct source *source = &sources[_i % SOURCE_COUNT];
	make_pair(_i < SOURCE_COUNT ? PAIR_UNIX : PAIR_TCP, ends);
	int in = source->open();
	ck_assert_int_ge(in, 0);

	off_t offset = 0;
	int with_offset = sendfile_status(ends[0], in, &offset);
	int without_offset = sendfile_status(ends[0], in, NULL);

	if (source->may_refuse && with_offset == -EINVAL)
		ck_assert_int_eq(without_offset, -EINVAL);
	else
		expect_status(source, with_offset, without_offset);
	close(in);
	if (spare_fd >= 0)
		close(spare_fd);
	close_pair();
}

TEST(sendfile_does_not_read_proc_self_mem)
{
	open_pair();
	int in = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	off_t offset = 0;
	int status = sendfile_status(ends[0], in, &offset);
	ck_assert_msg(status == -EOVERFLOW || status == -EINVAL || status == -EIO, "%d", status);
	close(in);
	close_pair();
}

/* _i: at the end, and beyond it. */
LOOP_TEST(sendfile_returns_0_at_the_end, 2)
{
	open_pair();
	int in = make_file(100);
	off_t offset = 100 + _i * 1000;
	ck_assert_int_eq(sendfile(ends[0], in, &offset, 4), 0);
	ck_assert_int_eq(offset, 100 + _i * 1000);
	close(in);
	close_pair();
}

TEST(sendfile_sends_the_bytes_there_are_and_leaves_the_position_alone)
{
	open_pair();
	int in = make_file(100);
	off_t offset = 60;

	ck_assert_int_eq(sendfile(ends[0], in, &offset, 0x7ffff000), 40);

	ck_assert_int_eq(offset, 100);
	ck_assert_int_eq(lseek(in, 0, SEEK_CUR), 0);
	ck_assert_int_eq(sendfile(ends[0], in, NULL, 30), 30);
	ck_assert_int_eq(lseek(in, 0, SEEK_CUR), 30);
	close(in);
	close_pair();
}

/* A 64-bit kernel takes a 32-bit process's SIZE_MAX for what it is, 4 GiB. */
TEST(sendfile_of_size_max_is_refused)
{
	if (SIZE_MAX == UINT32_MAX)
		return;
	open_pair();
	int in = make_file(100);
	off_t offset = 0;
	ck_assert_int_eq(sendfile(ends[0], in, &offset, SIZE_MAX), -1);
	ck_assert_int_eq(errno, EINVAL);
	close(in);
	close_pair();
}

TEST(sendfile_to_a_file_opened_for_appending_is_refused)
{
	int in = make_file(100), out = make_file(0);
	ck_assert_int_eq(fcntl(out, F_SETFL, O_APPEND), 0);
	off_t offset = 0;
	ck_assert_int_eq(sendfile(out, in, &offset, 10), -1);
	ck_assert_int_eq(errno, EINVAL);
	close(in);
	close(out);
}

/* Before Linux 6.5 a unix socket that is full for sendmsg(2) takes some pages more from sendfile(2). */
enum { TAKEN_BEYOND_FULL_MAX = 1 << 20 };

LOOP_TEST(sendfile_to_a_full_socket_fails_with_eagain, 2)
{
	make_pair(_i == 0 ? PAIR_UNIX : PAIR_TCP, ends);
	int in = make_file(2 * TAKEN_BEYOND_FULL_MAX);
	off_t offset = 0;
	ssize_t n;
	/* TCP takes a little more as the peer's window opens. */
	for (int i = 0; i < 1000; i++)
		wire_fill(ends[0]);

	do
		n = sendfile(ends[0], in, &offset, 65536);
	while (n > 0 && _i == 0 && offset < TAKEN_BEYOND_FULL_MAX);

	ck_assert_int_eq(n, -1);
	ck_assert_int_eq(errno, EAGAIN);
	const off_t taken = offset;
	ck_assert_int_eq(sendfile(ends[0], in, &offset, 65536), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(offset, taken);
	close(in);
	close_pair();
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

TEST(sendfile_to_a_closed_peer_raises_sigpipe)
{
	open_pair();
	struct sigaction action = {.sa_handler = count_signal};
	sigaction(SIGPIPE, &action, NULL);
	close(ends[1]);
	int in = make_file(100);
	off_t offset = 0;

	ck_assert_int_eq(sendfile(ends[0], in, &offset, 100), -1);
	ck_assert_int_eq(errno, EPIPE);

	ck_assert_int_eq(signals, 1);
	close(in);
	close(ends[0]);
}

TEST(a_sigpipe_goes_to_the_thread_that_caused_it_and_can_be_taken_back)
{
	open_pair();
	close(ends[1]);
	sigset_t pipe_set, before, pending;
	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &pipe_set, &before);

	ck_assert_int_eq(send(ends[0], "x", 1, 0), -1);

	sigpending(&pending);
	ck_assert(sigismember(&pending, SIGPIPE));
	ck_assert_int_eq(sigtimedwait(&pipe_set, NULL, &(struct timespec){0, 0}), SIGPIPE);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[0]);
}
