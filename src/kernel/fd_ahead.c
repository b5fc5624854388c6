#include "kernel/fd_ahead.h"

#include <errno.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/ancillary.h"

enum { VECTORS_MAX = 2 };

/* The kernel cannot write to it. */
static const unsigned char read_only = 0;

/* Returns the bytes that a read would bring, or a negative errno; and whether it would bring descriptors. With
 * SO_PASSCRED and its like each read brings control messages, and MSG_CTRUNC is set for these too. */
static ssize_t peek(int fd, struct iovec *vectors, int count, bool *descriptors)
{
	struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
	ssize_t length;

	do {
		length = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
	} while (length < 0 && errno == EINTR);
	*descriptors = (message.msg_flags & MSG_CTRUNC) != 0;
	return length < 0 ? -errno : length;
}

/* Copies the vectors, up to `length` bytes in all. */
static int copy_vectors(struct iovec *out, const struct iovec *vectors, int count, size_t length)
{
	int copied = 0;

	for (int i = 0; i < count && length > 0; i++, copied++) {
		out[copied] = vectors[i];
		if (out[copied].iov_len > length)
			out[copied].iov_len = length;
		length -= out[copied].iov_len;
	}
	return copied;
}

/* A peek of `length` bytes has found descriptors. They are at the first byte of the message that has the last of
 * these bytes; or behind that byte, because the kernel looks on when no room is left. */
static void find_message(int fd, const struct iovec *vectors, int count, size_t length,
                         struct fd_ahead *ahead)
{
	struct iovec with_guard[VECTORS_MAX + 1];
	bool descriptors;

	count = copy_vectors(with_guard, vectors, count, length - 1);
	with_guard[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)&read_only, .iov_len = 1};
	ssize_t before = peek(fd, with_guard, count, &descriptors);
	if (before == -EFAULT)
		*ahead = (struct fd_ahead){.length = length, .descriptors = true};
	else if (before > 0 && (size_t)before < length)
		*ahead = (struct fd_ahead){.length = (size_t)before, .next = length - (size_t)before};
	else /* never seen; nothing can be in the middle of one byte */
		*ahead = (struct fd_ahead){.length = 1, .descriptors = true};
}

int fd_ahead_look(int fd, const struct iovec *vectors, int count, struct fd_ahead *ahead)
{
	struct iovec room[VECTORS_MAX];
	bool descriptors;

	count = copy_vectors(room, vectors, count, SIZE_MAX);
	ssize_t length = peek(fd, room, count, &descriptors);
	if (length <= 0)
		return (int)length;
	if (descriptors)
		find_message(fd, vectors, count, (size_t)length, ahead);
	else
		*ahead = (struct fd_ahead){.length = (size_t)length};
	return 1;
}

ssize_t fd_ahead_count_clear(int fd)
{
	bool descriptors = false;
	int length = 0;

	/* First the length: bytes that come between the two calls are not in it. */
	if (ioctl(fd, FIONREAD, &length) < 0)
		return -errno;
	ssize_t status = length > 0 ? peek(fd, NULL, 0, &descriptors) : 0;
	if (status < 0)
		return status;
	return descriptors ? 0 : length;
}

int fd_ahead_look_far(int fd, const struct iovec *vectors, int count, struct fd_ahead *ahead)
{
	ssize_t length = fd_ahead_count_clear(fd);

	if (length < 0)
		return (int)length;
	if (length == 0)
		return fd_ahead_look(fd, vectors, count, ahead);
	*ahead = (struct fd_ahead){.length = (size_t)length};
	return 1;
}

/* ---- the kernel ---- */

/* Two messages of one byte, of which the second has a descriptor. */
static bool send_probe(int fd)
{
	unsigned char byte = 0;
	struct iovec vector = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	union ancillary_output room;

	if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return false;
	ancillary_attach(&message, &room, &fd, 1);
	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

static enum fd_ahead_support try_looks(int fd)
{
	unsigned char bytes[2];
	struct iovec vector = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct fd_ahead ahead;
	bool descriptors;

	if (fd_ahead_look(fd, &vector, 1, &ahead) != 1 || ahead.length != 1 || ahead.descriptors)
		return FD_AHEAD_NONE;
	if (peek(fd, NULL, 0, &descriptors) < 0 || !descriptors)
		return FD_AHEAD_COPIES;
	return FD_AHEAD_FREE;
}

enum fd_ahead_support fd_ahead_probe(void)
{
	enum fd_ahead_support support = FD_AHEAD_COPIES;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return support;
	if (send_probe(ends[0]))
		support = try_looks(ends[1]);
	close(ends[0]);
	close(ends[1]);
	return support;
}
