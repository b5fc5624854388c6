#ifndef FERRY_KERNEL_ANCILLARY_H
#define FERRY_KERNEL_ANCILLARY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * Control messages: SCM_RIGHTS built for sending and taken apart when received.
 */

/* The most descriptors that Linux puts into one message (SCM_MAX_FD). */
enum { ANCILLARY_MAX_FDS = 253 };

/* Room for one message's control data when sending. */
union ancillary_output {
	struct cmsghdr align;
	unsigned char bytes[CMSG_SPACE(ANCILLARY_MAX_FDS * sizeof(int))];
};

/* Room when receiving: 253 descriptors, and what the user may have switched on beside them
 * (SO_PASSCRED, SO_PASSPIDFD, SO_PASSSEC, SO_TIMESTAMP). With less the kernel would cut descriptors
 * off to fit, and they would be gone. */
union ancillary_input {
	struct cmsghdr align;
	unsigned char bytes[CMSG_SPACE(ANCILLARY_MAX_FDS * sizeof(int)) + 1024];
};

/* What one recvmsg(2) brought beside its bytes. */
struct ancillary {
	unsigned int count;
	unsigned int ignored;           /* control messages of other types */
	bool truncated;                 /* the kernel had more than it could install */
	int fds[ANCILLARY_MAX_FDS + 1]; /* padding lets one extra descriptor in on LP64 */
};

static inline void ancillary_clear(struct ancillary *ancillary)
{
	/* Not the numbers: a kilobyte that nobody reads beyond count. */
	ancillary->count = 0;
	ancillary->ignored = 0;
	ancillary->truncated = false;
}

/* Makes `message` carry `count` descriptors, 1 to ANCILLARY_MAX_FDS. */
void ancillary_attach(struct msghdr *message, union ancillary_output *room, const int *fds,
                      size_t count);

/* Takes the descriptors out of a received message. All that the kernel installed are in
 * `ancillary` afterwards, or closed: the pidfd of SCM_PIDFD, which nobody could claim. */
void ancillary_take(struct msghdr *message, struct ancillary *ancillary);

#endif
