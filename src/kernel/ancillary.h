#ifndef FERRY_KERNEL_ANCILLARY_H
#define FERRY_KERNEL_ANCILLARY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * Control messages of sendmsg(2) and recvmsg(2): descriptors are attached to a message (SCM_RIGHTS) and taken
 * from one.
 */

/* The most descriptors that Linux sends in one message (SCM_MAX_FD). */
enum { ANCILLARY_MAX_FDS = 253 };

/* Room for the control data of one message to send. */
union ancillary_output {
	struct cmsghdr align;
	unsigned char bytes[CMSG_SPACE(ANCILLARY_MAX_FDS * sizeof(int))];
};

/* Room for the control data of one message to receive: 253 descriptors, and the other control messages that the
 * user may have switched on (SO_PASSCRED, SO_PASSPIDFD, SO_PASSSEC, SO_TIMESTAMP). If there is less room than the
 * kernel needs, it drops descriptors. */
union ancillary_input {
	struct cmsghdr align;
	unsigned char bytes[CMSG_SPACE(ANCILLARY_MAX_FDS * sizeof(int)) + 1024];
};

/* The control data that one recvmsg(2) returned. */
struct ancillary {
	unsigned int count;
	unsigned int ignored;           /* control messages of other types */
	bool truncated;                 /* the kernel had more descriptors than it could install */
	int fds[ANCILLARY_MAX_FDS + 1]; /* on LP64 the padding has room for one more */
};

static inline void ancillary_clear(struct ancillary *ancillary)
{
	/* Not `fds`: it is a kilobyte, and nothing reads it beyond `count`. */
	ancillary->count = 0;
	ancillary->ignored = 0;
	ancillary->truncated = false;
}

/* Makes `message` carry `count` descriptors, 1 to ANCILLARY_MAX_FDS. */
void ancillary_attach(struct msghdr *message, union ancillary_output *room, const int *fds,
                      size_t count);

/* Moves the descriptors of a received message into `ancillary`. Closes the pidfd of an SCM_PIDFD message, because
 * no callback could take it. Every descriptor that the kernel has installed is then in `ancillary` or closed. */
void ancillary_take(struct msghdr *message, struct ancillary *ancillary);

#endif
