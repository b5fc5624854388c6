/* Calls that can take or return fewer bytes than were asked for. */

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faulty.h"

FAULTY_COUNT(CALL_SENDFILE, sendfile, (int out, int in, off_t *at, size_t size),
             (out, in, at, size))
FAULTY_COUNT(CALL_SPLICE, splice,
             (int in, off64_t *in_at, int out, off64_t *out_at, size_t size, unsigned int flags),
             (in, in_at, out, out_at, size, flags))
FAULTY_COUNT(CALL_READ, read, (int fd, void *b, size_t size), (fd, b, size))
FAULTY_COUNT(CALL_PWRITE, pwrite, (int fd, const void *b, size_t size, off_t at), (fd, b, size, at))

/* A peek returns all that is there. */
ssize_t __real_recv(int fd, void *bytes, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t size, int flags)
{
	int fault = next_fault(CALL_RECV);
	if (fault > 0)
		return -1;
	if (fault == SHORT_COUNT && size > 1 && (flags & MSG_PEEK) == 0)
		size = 1;
	return __real_recv(fd, bytes, size, flags);
}

/* One byte of the first vector that is not empty; false if there is none. */
static bool first_byte(const struct iovec *vectors, size_t count, struct iovec *one)
{
	for (size_t i = 0; i < count; i++)
		if (vectors[i].iov_len > 0) {
			*one = (struct iovec){vectors[i].iov_base, 1};
			return true;
		}
	return false;
}

#define FAULTY_VECTORS(CALL, name)                                  \
	ssize_t __real_##name(int fd, const struct iovec *v, int n);    \
	ssize_t __wrap_##name(int fd, const struct iovec *v, int n);    \
	ssize_t __wrap_##name(int fd, const struct iovec *v, int n)     \
	{                                                               \
		struct iovec one;                                           \
		int fault = next_fault(CALL);                               \
		if (fault > 0)                                              \
			return -1;                                              \
		if (fault == SHORT_COUNT && first_byte(v, (size_t)n, &one)) \
			return __real_##name(fd, &one, 1);                      \
		return __real_##name(fd, v, n);                             \
	}

FAULTY_VECTORS(CALL_WRITEV, writev)
FAULTY_VECTORS(CALL_READV, readv)

/* A datagram is never sent in part. */
int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
static bool is_stream(int fd)
{
	int type = 0, error = errno;
	socklen_t length = sizeof(type);
	bool is =
	    __real_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
	errno = error;
	return is;
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct iovec one;
	struct msghdr shorter = *message;
	int fault = next_fault(CALL_SENDMSG);

	if (fault > 0)
		return -1;
	if (fault == SHORT_COUNT && is_stream(fd) &&
	    first_byte(message->msg_iov, message->msg_iovlen, &one)) {
		shorter.msg_iov = &one;
		shorter.msg_iovlen = 1;
	}
	return __real_sendmsg(fd, &shorter, flags);
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);

/* Without room for control messages the kernel closes the descriptors, and sets MSG_CTRUNC itself. */
static ssize_t receive_without_control(int fd, struct msghdr *message, int flags)
{
	struct msghdr bare = *message;
	bare.msg_control = NULL;
	bare.msg_controllen = 0;
	ssize_t length = __real_recvmsg(fd, &bare, flags);
	message->msg_controllen = 0;
	message->msg_namelen = bare.msg_namelen;
	message->msg_flags = bare.msg_flags;
	return length;
}

static ssize_t receive_one_byte(int fd, struct msghdr *message, struct iovec *one, int flags)
{
	struct msghdr shorter = *message;
	shorter.msg_iov = one;
	shorter.msg_iovlen = 1;
	ssize_t length = __real_recvmsg(fd, &shorter, flags);
	message->msg_controllen = shorter.msg_controllen;
	message->msg_namelen = shorter.msg_namelen;
	message->msg_flags = shorter.msg_flags;
	return length;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct iovec one;
	int fault = next_fault(CALL_RECVMSG);

	if (fault > 0)
		return -1;
	if (fault == CONTROL_TRUNCATED)
		return receive_without_control(fd, message, flags);
	if (fault == SHORT_COUNT && is_stream(fd) &&
	    first_byte(message->msg_iov, message->msg_iovlen, &one))
		return receive_one_byte(fd, message, &one, flags);
	return __real_recvmsg(fd, message, flags);
}
