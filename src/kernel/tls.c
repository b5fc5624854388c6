#include "kernel/tls.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "kernel/socket.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* Of <linux/tls.h>, whose older versions do not have all. */
enum { OPTION_SEND = 1, OPTION_RECEIVE = 2 };
enum { SET_RECORD_TYPE = 1, GET_RECORD_TYPE = 2 };

/* Of RFC 8446 and RFC 5246. */
enum { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };
enum { ALERT_WARNING = 1, ALERT_FATAL = 2 };
enum { CLOSE_NOTIFY = 0, USER_CANCELED = 90, NO_RENEGOTIATION = 100 };
enum { NEW_SESSION_TICKET = 4, KEY_UPDATE = 24 };

/* Each costs a system call; then other connections get their turn. */
enum { IGNORED_PER_READ = 64 };

/* ---- the keys ---- */

/* Whether the kernel has keys for a direction: 1, 0, or -ENOPROTOOPT if it has no TLS for this socket at all. With
 * more room it would return the key. */
static int get_keys(int fd, int direction, struct tls_keys *keys)
{
	socklen_t length = sizeof(*keys);

	if (getsockopt(fd, SOL_TLS, direction, keys, &length) == 0)
		return keys->version != 0;
	return errno == EBUSY ? 0 : -ENOPROTOOPT;
}

int tls_examine(int fd, struct tls_keys *keys)
{
	struct tls_keys sending = {0};

	*keys = (struct tls_keys){0};
	int sends = get_keys(fd, OPTION_SEND, &sending);
	if (sends < 0)
		return 0;
	int receives = get_keys(fd, OPTION_RECEIVE, keys);
	if ((receives > 0) != (sends > 0))
		return -EPROTOTYPE;
	return sends;
}

/* ---- records that are no data ---- */

/* TLS 1.3 has no levels: there, every alert but two is fatal. TLS 1.2 sends these two as warnings. */
static int take_alert(struct tls_records *records, unsigned char level, unsigned char description)
{
	if (description == CLOSE_NOTIFY)
		records->ended = true;
	else if (level != ALERT_WARNING ||
	         (description != USER_CANCELED && description != NO_RENEGOTIATION))
		return -ECONNABORTED;
	return 0;
}

static int take_alerts(struct tls_records *records, const unsigned char *bytes, size_t length)
{
	for (size_t i = 0; i < length && !records->ended; i++) {
		int status = records->has_level ? take_alert(records, records->level, bytes[i]) : 0;
		if (status < 0)
			return status;
		records->level = bytes[i];
		records->has_level = !records->has_level;
	}
	return 0;
}

static int begin_message(struct tls_records *records)
{
	const unsigned char *header = records->header;

	records->header_length = 0;
	records->body_left = (uint32_t)header[1] << 16 | (uint32_t)header[2] << 8 | header[3];
	if (header[0] == KEY_UPDATE)
		return -EKEYEXPIRED;
	return header[0] == NEW_SESSION_TICKET ? 0 : -EPROTO;
}

/* A message may be spread over records, and a record may have several. */
static int take_handshake(struct tls_records *records, const unsigned char *bytes, size_t length)
{
	while (length > 0) {
		size_t step = records->body_left < length ? records->body_left : length;
		if (step == 0) {
			step = 1;
			records->header[records->header_length++] = *bytes;
			int status =
			    records->header_length == sizeof(records->header) ? begin_message(records) : 0;
			if (status < 0)
				return status;
		} else {
			records->body_left -= (uint32_t)step;
		}
		bytes += step;
		length -= step;
	}
	return 0;
}

int tls_take(struct tls_records *records, unsigned char type, const unsigned char *bytes,
             size_t length)
{
	int status = -EPROTO;

	if (records->error < 0 || records->ended)
		return records->error;
	if (type == RECORD_ALERT && length > 0)
		status = take_alerts(records, bytes, length);
	else if (type == RECORD_HANDSHAKE && length > 0)
		status = take_handshake(records, bytes, length);
	records->error = status;
	records->ignored += status == 0 && !records->ended;
	return status;
}

/* ---- receiving ---- */

union record_type {
	struct cmsghdr align;
	unsigned char bytes[CMSG_SPACE(1) + 64];
};

/* The type of the records that a read has met; data if the kernel does not say. */
static unsigned char get_type(struct msghdr *message)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
	     header = CMSG_NXTHDR(message, header))
		if (header->cmsg_level == SOL_TLS && header->cmsg_type == GET_RECORD_TYPE &&
		    header->cmsg_len >= CMSG_LEN(1))
			return *CMSG_DATA(header);
	return RECORD_DATA;
}

/* One recvmsg(2). All its bytes are of records of one type. `any`: it has met a record, which may be empty. */
static ssize_t receive_records(int fd, struct iovec *vectors, int count, int flags,
                               unsigned char *type, bool *any)
{
	union record_type room;
	struct msghdr message = {
	    .msg_iov = vectors,
	    .msg_iovlen = (size_t)count,
	    .msg_control = room.bytes,
	    .msg_controllen = sizeof(room.bytes),
	};
	ssize_t length;

	do {
		length = recvmsg(fd, &message, flags | MSG_DONTWAIT);
	} while (length < 0 && errno == EINTR);
	if (length < 0)
		return -errno;
	*any = length > 0 || CMSG_FIRSTHDR(&message) != NULL;
	*type = get_type(&message);
	return length;
}

int tls_end(const struct tls_records *records)
{
	if (records->ended || records->error < 0)
		return records->error;
	return records->truncation_is_end ? 0 : -EPROTO;
}

static int take_vectors(struct tls_records *records, unsigned char type,
                        const struct iovec *vectors, size_t length)
{
	int status = length == 0 ? -EPROTO : 0;

	for (; length > 0 && status == 0; vectors++) {
		size_t part = vectors->iov_len < length ? vectors->iov_len : length;
		status = part > 0 ? tls_take(records, type, vectors->iov_base, part) : 0;
		length -= part;
	}
	return status;
}

ssize_t tls_receive(int fd, struct iovec *vectors, int count, struct tls_records *records)
{
	for (unsigned int i = 0; i < IGNORED_PER_READ; i++) {
		unsigned char type = RECORD_DATA;
		bool any = false;

		if (records->ended || records->error < 0)
			return tls_end(records);
		ssize_t length = receive_records(fd, vectors, count, 0, &type, &any);
		if (length < 0)
			return length;
		if (!any)
			return tls_end(records);
		if (type == RECORD_DATA && length > 0)
			return length;
		int status = type != RECORD_DATA ? take_vectors(records, type, vectors, (size_t)length) : 0;
		if (status < 0)
			return status;
	}
	return records->ended ? 0 : -EAGAIN;
}

bool tls_has_data(int fd, struct tls_records *records)
{
	unsigned char bytes[16], type = RECORD_DATA;
	struct iovec vector = {bytes, sizeof(bytes)};
	bool any = false;

	for (unsigned int i = 0; i < IGNORED_PER_READ && !records->ended && records->error == 0; i++) {
		ssize_t length = receive_records(fd, &vector, 1, MSG_PEEK, &type, &any);
		if (length < 0 || !any)
			return false;
		if (type == RECORD_DATA)
			return true;
		length = receive_records(fd, &vector, 1, 0, &type, &any);
		if (length < 0 || take_vectors(records, type, &vector, (size_t)length) < 0)
			return false;
	}
	return !records->ended && records->error == 0; /* not known yet */
}

/* ---- sending ---- */

static int send_record(int fd, unsigned char type, const void *bytes, size_t length)
{
	union record_type room;
	struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr message = {
	    .msg_iov = &vector,
	    .msg_iovlen = length > 0,
	    .msg_control = room.bytes,
	    .msg_controllen = CMSG_SPACE(1),
	};
	ssize_t sent;

	memset(room.bytes, 0, sizeof(room.bytes));
	room.align.cmsg_level = SOL_TLS;
	room.align.cmsg_type = SET_RECORD_TYPE;
	room.align.cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(&room.align) = type;
	do {
		sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

static bool is_writable(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLOUT};

	return socket_poll_now(&entry, 1) > 0;
}

/* The kernel takes a record while TCP is full, and keeps it. shutdown(2) would then put the end of the stream before
 * it. A send passes on what is kept as far as TCP has room: so there must be room before, and some left behind. A peer
 * ignores a second close_notify. */
int tls_send_close_notify(int fd)
{
	static const unsigned char alert[2] = {ALERT_WARNING, CLOSE_NOTIFY};

	if (!is_writable(fd))
		return -EAGAIN;
	int status = send_record(fd, RECORD_ALERT, alert, sizeof(alert));
	return status == 0 && !is_writable(fd) ? -EAGAIN : status;
}

/* A control message makes the kernel send the open record first. */
int tls_push(int fd)
{
	return send_record(fd, RECORD_DATA, NULL, 0);
}
