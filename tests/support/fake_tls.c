#include "fake_tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

enum { HEADER = 3, SOCKETS = 2, RECORD_MAX = 1 << 14 };

static struct fake_tls sockets[SOCKETS];
static unsigned int questions, corks;

void fake_tls_clear(void)
{
	memset(sockets, 0, sizeof(sockets));
	for (int i = 0; i < SOCKETS; i++)
		sockets[i].fd = -1;
	questions = 0;
	corks = 0;
}

static struct fake_tls *find(int fd)
{
	for (int i = 0; i < SOCKETS; i++)
		if (sockets[i].fd == fd && fd >= 0 &&
		    (sockets[i].sending != FAKE_NO_TLS || sockets[i].receiving != FAKE_NO_TLS))
			return &sockets[i];
	return NULL;
}

struct fake_tls *fake_tls_set(int fd, enum fake_tls_keys sending, enum fake_tls_keys receiving)
{
	struct fake_tls *fake = find(fd);

	for (int i = 0; i < SOCKETS && fake == NULL; i++)
		if (sockets[i].fd < 0)
			fake = &sockets[i];
	ck_assert_ptr_nonnull(fake);
	*fake = (struct fake_tls){.fd = fd, .sending = sending, .receiving = receiving};
	return fake;
}

void fake_tls_put(int far, unsigned char type, const void *bytes, size_t length)
{
	unsigned char record[HEADER + RECORD_MAX] = {type, (unsigned char)(length >> 8),
	                                             (unsigned char)length};

	ck_assert_uint_le(length, RECORD_MAX);
	if (length > 0)
		memcpy(record + HEADER, bytes, length);
	ck_assert_int_eq(send(far, record, HEADER + length, MSG_NOSIGNAL), (ssize_t)(HEADER + length));
}

void fake_tls_put_alert(int far, unsigned char level, unsigned char description)
{
	const unsigned char alert[] = {level, description};

	fake_tls_put(far, FAKE_ALERT, alert, sizeof(alert));
}

void fake_tls_put_close_notify(int far)
{
	fake_tls_put_alert(far, 1, 0);
}

unsigned int fake_tls_questions(void)
{
	return questions;
}

unsigned int fake_tls_corks(void)
{
	return corks;
}

/* ---- options ---- */

int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length);

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	const uint16_t keys[] = {0x0304, 51};
	const struct fake_tls *fake = find(fd);

	questions += level == SOL_TLS;
	if (level != SOL_TLS || fake == NULL)
		return __real_getsockopt(fd, level, option, value, length);
	ck_assert_uint_eq(*length, sizeof(keys)); /* with more room, the kernel returns the key */
	if ((option == 1 ? fake->sending : fake->receiving) != FAKE_KEYS) {
		errno = EBUSY;
		return -1;
	}
	memcpy(value, keys, sizeof(keys));
	return 0;
}

int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length);

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	struct fake_tls *fake = find(fd);

	corks += level == IPPROTO_TCP && option == TCP_CORK;
	if (fake != NULL && level == SOL_SOCKET && option == SO_LINGER)
		fake->linger++;
	return __real_setsockopt(fd, level, option, value, length);
}

int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	if (find(fd) == NULL)
		return __real_connect(fd, address, length);
	errno = EOPNOTSUPP;
	return -1;
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

/* The kernel counts no bytes that it has decrypted. */
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	int *value = va_arg(list, int *);
	va_end(list);
	if (find(fd) == NULL || request != FIONREAD)
		return __real_ioctl(fd, request, value);
	*value = 0;
	return 0;
}

/* ---- receiving ---- */

/* Whether the next record is there whole. 0: the end. -1: an error, in errno. */
static int next_record(int fd, unsigned char header[HEADER])
{
	int unread = 0;
	ssize_t length = recv(fd, header, HEADER, MSG_PEEK | MSG_DONTWAIT);

	if (length <= 0)
		return (int)length;
	ck_assert_int_eq(__real_ioctl(fd, FIONREAD, &unread), 0);
	if (length == HEADER && unread >= HEADER + (header[1] << 8 | header[2]))
		return 1;
	errno = EAGAIN;
	return -1;
}

static int begin_record(struct fake_tls *fake)
{
	unsigned char header[HEADER];
	int found = fake->begun ? 1 : next_record(fake->fd, header);

	if (found <= 0 || fake->begun)
		return found;
	ck_assert_int_eq(recv(fake->fd, header, HEADER, 0), HEADER);
	fake->begun = true;
	fake->type = header[0];
	fake->left = (size_t)(header[1] << 8 | header[2]);
	return 1;
}

static size_t room_of(const struct msghdr *message)
{
	size_t room = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		room += message->msg_iov[i].iov_len;
	return room;
}

static void scatter(const struct msghdr *message, const unsigned char *bytes, size_t length)
{
	for (size_t i = 0; length > 0; i++) {
		size_t part = message->msg_iov[i].iov_len < length ? message->msg_iov[i].iov_len : length;
		memcpy(message->msg_iov[i].iov_base, bytes, part);
		bytes += part;
		length -= part;
	}
}

/* Without room, a record of data is read, and another one is an error. */
static bool put_type(struct msghdr *message, unsigned char type)
{
	struct cmsghdr *header = message->msg_control;

	if (header == NULL || message->msg_controllen < CMSG_SPACE(1)) {
		message->msg_controllen = 0;
		errno = EIO;
		return type == FAKE_DATA;
	}
	header->cmsg_level = SOL_TLS;
	header->cmsg_type = 2;
	header->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(header) = type;
	message->msg_controllen = CMSG_SPACE(1);
	return true;
}

/* Bytes of one record, without a type. */
static size_t take_bytes(struct fake_tls *fake, unsigned char *bytes, size_t room, int flags)
{
	size_t part = fake->left < room ? fake->left : room;

	if (part > 0)
		ck_assert_int_eq(recv(fake->fd, bytes, part, flags & MSG_PEEK), (ssize_t)part);
	if ((flags & MSG_PEEK) != 0)
		return part;
	fake->left -= part;
	fake->begun = fake->left > 0;
	return part;
}

static ssize_t receive(struct fake_tls *fake, struct msghdr *message, int flags)
{
	static unsigned char bytes[1 << 19];
	size_t room = room_of(message) < sizeof(bytes) ? room_of(message) : sizeof(bytes);
	int found = begin_record(fake);

	if (found <= 0) {
		message->msg_controllen = 0;
		return found;
	}
	unsigned char type = fake->type;
	if (!put_type(message, type))
		return -1;
	size_t length = take_bytes(fake, bytes, room, flags);
	while (type == FAKE_DATA && length > 0 && length < room && (flags & MSG_PEEK) == 0 &&
	       begin_record(fake) > 0 && fake->type == FAKE_DATA)
		length += take_bytes(fake, bytes + length, room - length, flags);
	scatter(message, bytes, length);
	return (ssize_t)length;
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct fake_tls *fake = find(fd);

	return fake != NULL && fake->receiving == FAKE_KEYS ? receive(fake, message, flags)
	                                                    : __real_recvmsg(fd, message, flags);
}

/* ---- sending ---- */

static ssize_t send_control(struct fake_tls *fake, const struct msghdr *message)
{
	const struct cmsghdr *header = CMSG_FIRSTHDR(message);
	size_t length = room_of(message);
	struct pollfd entry = {.fd = fake->fd, .events = POLLOUT};

	ck_assert_int_eq(header->cmsg_level, SOL_TLS);
	ck_assert_int_eq(header->cmsg_type, 1);
	if (poll(&entry, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	fake->open_record = false;
	if (*CMSG_DATA(header) == FAKE_DATA) {
		ck_assert_uint_eq(length, 0);
		fake->pushes++;
	} else {
		ck_assert_uint_eq(*CMSG_DATA(header), FAKE_ALERT);
		ck_assert_uint_eq(length, 2);
		ck_assert_mem_eq(message->msg_iov->iov_base, "\1", 2);
		fake->close_notifies++;
		fake->sent_before_close = fake->sent;
	}
	return (ssize_t)length;
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct fake_tls *fake = find(fd);

	if (fake != NULL && message->msg_controllen > 0)
		return send_control(fake, message);
	ssize_t sent = __real_sendmsg(fd, message, flags);
	if (fake != NULL && sent > 0) {
		fake->sent += (uint64_t)sent;
		fake->open_record = (flags & MSG_MORE) != 0;
	}
	return sent;
}

ssize_t __real_sendfile(int fd, int file, off_t *offset, size_t count);
ssize_t __wrap_sendfile(int fd, int file, off_t *offset, size_t count);

/* Linux before 6.5: bytes that were asked for and did not come keep the record open. */
ssize_t __wrap_sendfile(int fd, int file, off_t *offset, size_t count)
{
	struct fake_tls *fake = find(fd);
	ssize_t sent = __real_sendfile(fd, file, offset, count);

	if (fake != NULL && sent > 0) {
		fake->sent += (uint64_t)sent;
		fake->open_record = (size_t)sent < count;
	}
	return sent;
}
