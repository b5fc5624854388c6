#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static const uint32_t mark = 0xfe44f11e;

int make_marked_fd(uint32_t number)
{
	int fd = memfd_create("ferry-test", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	const uint32_t content[2] = {mark, number};
	ck_assert_int_eq(pwrite(fd, content, sizeof(content), 0), sizeof(content));
	return fd;
}

uint32_t marked_number(int fd)
{
	uint32_t content[2] = {0, 0};
	ck_assert_int_eq(pread(fd, content, sizeof(content), 0), sizeof(content));
	ck_assert_uint_eq(content[0], mark);
	return content[1];
}

static void collect_fds(struct msghdr *message, struct wire_read *result)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		ck_assert_uint_le(result->fd_count + count, WIRE_MAX_FDS);
		memcpy(result->fds + result->fd_count, CMSG_DATA(c), count * sizeof(int));
		result->fd_count += count;
	}
}

void wire_receive(int socket, void *buffer, size_t size, struct wire_read *result)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int)) + 256];
	} control;
	struct iovec iov = {.iov_base = buffer, .iov_len = size};
	struct msghdr message = {.msg_iov = &iov,
	                         .msg_iovlen = 1,
	                         .msg_control = &control,
	                         .msg_controllen = sizeof(control)};
	result->fd_count = 0;
	result->truncated = false;
	result->bytes = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (result->bytes < 0) {
		result->bytes = -errno;
		return;
	}
	result->truncated = (message.msg_flags & MSG_CTRUNC) != 0;
	collect_fds(&message, result);
}

void wire_close_fds(struct wire_read *result)
{
	for (size_t i = 0; i < result->fd_count; i++)
		ck_assert_int_eq(close(result->fds[i]), 0);
	result->fd_count = 0;
}

ssize_t wire_send(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE((WIRE_MAX_FDS + 1) * sizeof(int))];
	} control;
	memset(&control, 0, sizeof(control));
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd_count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	ssize_t n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

size_t wire_fill(int fd)
{
	size_t total = 0;
	unsigned char block[4096];
	for (size_t size = sizeof(block); size > 0;) {
		for (size_t i = 0; i < size; i++)
			block[i] = support_byte(total + i);
		ssize_t n = write(fd, block, size);
		if (n > 0) {
			total += (size_t)n;
		} else {
			ck_assert_int_eq(errno, EAGAIN);
			size /= 2; /* to the last byte that fits */
		}
	}
	return total;
}

size_t wire_drain(int socket)
{
	static unsigned char buffer[65536];
	size_t total = 0;
	struct wire_read result;
	do {
		wire_receive(socket, buffer, sizeof(buffer), &result);
		wire_close_fds(&result);
		if (result.bytes > 0)
			total += (size_t)result.bytes;
	} while (result.bytes > 0);
	return total;
}

void wire_put(int fd, uint64_t position, size_t length)
{
	unsigned char block[4096];
	while (length > 0) {
		size_t size = length < sizeof(block) ? length : sizeof(block);
		for (size_t i = 0; i < size; i++)
			block[i] = support_byte(position + i);
		ck_assert_int_eq(write(fd, block, size), (ssize_t)size);
		position += size;
		length -= size;
	}
}

ssize_t wire_expect(int fd, uint64_t position, size_t size)
{
	static unsigned char buffer[65536];
	ssize_t n = read(fd, buffer, size < sizeof(buffer) ? size : sizeof(buffer));
	if (n < 0)
		return -errno;
	for (ssize_t i = 0; i < n; i++) {
		uint64_t at = position + (uint64_t)i;
		if (buffer[i] != support_byte(at))
			ck_abort_msg("another byte at position %llu", (unsigned long long)at);
	}
	return n;
}

void wire_shrink(int socket)
{
	int one = 1;
	ck_assert_int_eq(setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &one, sizeof(one)), 0);
	ck_assert_int_eq(setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &one, sizeof(one)), 0);
}

/* The limit is set by a child, because valgrind only pretends when a process limits itself; and by one
 * that lives all the time, because fork() under valgrind wants descriptors. */
static pid_t limiter = -1;
static int limiter_socket = -1;
static rlim_t limit_before;

static bool serve_limit(pid_t target, int socket)
{
	struct rlimit limit;
	rlim_t soft;
	if (read(socket, &soft, sizeof(soft)) != sizeof(soft) ||
	    prlimit(target, RLIMIT_NOFILE, NULL, &limit) != 0)
		return false;
	rlim_t before = limit.rlim_cur;
	limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
	return prlimit(target, RLIMIT_NOFILE, &limit, NULL) == 0 &&
	       write(socket, &before, sizeof(before)) == sizeof(before);
}

static void start_limiter(void)
{
	int sockets[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	pid_t self = getpid();
	limiter = fork();
	ck_assert_int_ge(limiter, 0);
	if (limiter == 0) {
		close(sockets[0]);
		while (serve_limit(self, sockets[1]))
			continue;
		raise(SIGKILL); /* valgrind would look for the parent's leaks at an exit */
	}
	close(sockets[1]);
	limiter_socket = sockets[0];
}

static rlim_t set_descriptor_limit(rlim_t soft)
{
	rlim_t before = 0;
	ck_assert_int_eq(write(limiter_socket, &soft, sizeof(soft)), sizeof(soft));
	ck_assert_int_eq(read(limiter_socket, &before, sizeof(before)), sizeof(before));
	return before;
}

void limit_descriptors(unsigned int free_numbers)
{
	int numbers[64];
	ck_assert_uint_lt(free_numbers, 64);
	start_limiter();
	for (unsigned int i = 0; i <= free_numbers; i++) {
		numbers[i] = dup(STDERR_FILENO);
		ck_assert_int_ge(numbers[i], 0);
	}
	for (unsigned int i = 0; i <= free_numbers; i++)
		close(numbers[i]);
	limit_before = set_descriptor_limit((rlim_t)numbers[free_numbers]);
}

void unlimit_descriptors(void)
{
	set_descriptor_limit(limit_before);
	close(limiter_socket);
	ck_assert_int_eq(waitpid(limiter, NULL, 0), limiter);
}

void raise_descriptor_limit(void)
{
	struct rlimit limit;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < 8192) {
		limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	}
}
