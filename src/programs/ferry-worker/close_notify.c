#include "programs/ferry-worker/close_notify.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

/* Of <linux/tls.h>. */
enum { TLS_LEVEL = 282, SET_RECORD_TYPE = 1 };

enum { RECORD_ALERT = 21, ALERT_WARNING = 1, CLOSE_NOTIFY = 0 };

union record_type {
	struct cmsghdr align;
	unsigned char bytes[CMSG_SPACE(1)];
};

static int send_alert(int fd)
{
	unsigned char alert[2] = {ALERT_WARNING, CLOSE_NOTIFY};
	union record_type type;
	struct iovec vector = {alert, sizeof(alert)};
	struct msghdr message = {
	    .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &type, .msg_controllen = sizeof(type)};
	memset(&type, 0, sizeof(type));
	type.align.cmsg_level = TLS_LEVEL;
	type.align.cmsg_type = SET_RECORD_TYPE;
	type.align.cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(&type.align) = RECORD_ALERT;
	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static bool is_writable(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLOUT};
	return poll(&entry, 1, 0) > 0;
}

/* A send passes on what the kernel keeps, as far as TCP has room: so there must be room before, and some left behind. */
int close_notify_send(int fd)
{
	if (!is_writable(fd))
		return -EAGAIN;
	int status = send_alert(fd);
	return status == 0 && !is_writable(fd) ? -EAGAIN : status;
}
