#include "bare_handoff.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench.h"

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);

	bench_need(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0, "cookie");
	return cookie;
}

void bare_send(int channel, struct bare_frame *frame, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)),
	                    .cmsg_level = SOL_SOCKET,
	                    .cmsg_type = SCM_RIGHTS}};
	struct iovec vector = {frame, offsetof(struct bare_frame, head) + frame->length};
	struct msghdr message = {.msg_iov = &vector,
	                         .msg_iovlen = 1,
	                         .msg_control = room.bytes,
	                         .msg_controllen = sizeof(room.bytes)};

	frame->cookie = cookie_of(fd);
	memcpy(CMSG_DATA(&room.align), &fd, sizeof(fd));
	while (sendmsg(channel, &message, MSG_NOSIGNAL) < 0) {
		bench_need(errno == EAGAIN, "sendmsg");
		bench_poll(channel, POLLOUT);
	}
}

bool bare_receive(int channel, struct bare_frame *frame, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room;
	struct iovec vector = {frame, sizeof(*frame) - 1};
	struct msghdr message = {.msg_iov = &vector,
	                         .msg_iovlen = 1,
	                         .msg_control = room.bytes,
	                         .msg_controllen = sizeof(room.bytes)};
	ssize_t length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);

	if (length < 0 && errno == EAGAIN)
		return false;
	if (length <= 0)
		exit(0); /* the dispatcher has gone */
	bench_need(CMSG_FIRSTHDR(&message) != NULL, "a descriptor");
	memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(*fd));
	bench_need(cookie_of(*fd) == frame->cookie, "the socket of the frame");
	frame->head[frame->length] = '\0';
	return true;
}

void bare_claim(int channel, const struct bare_frame *frame)
{
	bench_need(send(channel, &frame->id, sizeof(frame->id), MSG_NOSIGNAL) == sizeof(frame->id),
	           "claim");
}

unsigned int bare_take_claims(int channel, uint64_t *ids, unsigned int max)
{
	ssize_t length = recv(channel, ids, max * sizeof(*ids), 0);

	return length > 0 ? (unsigned int)length / sizeof(*ids) : 0;
}
