#include "kernel/ancillary.h"

#include <string.h>
#include <unistd.h>

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04 /* Linux 6.5 */
#endif

void ancillary_attach(struct msghdr *message, union ancillary_output *room, const int *fds,
                      size_t count)
{
	size_t length = count * sizeof(int);

	memset(room->bytes, 0, CMSG_SPACE(length)); /* the kernel reads the padding too */
	message->msg_control = room->bytes;
	message->msg_controllen = CMSG_SPACE(length);

	struct cmsghdr *header = &room->align; /* CMSG_FIRSTHDR(), which cannot be NULL here */
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(length);
	memcpy(CMSG_DATA(header), fds, length);
}

/* The length that cmsg_len gives, because that is how much the kernel has written: after MSG_CTRUNC it may include
 * one descriptor more than the room was meant for. The header itself is whole: CMSG_FIRSTHDR() and CMSG_NXTHDR() return
 * no other. */
static size_t payload_length(const struct msghdr *message, const struct cmsghdr *header)
{
	const unsigned char *end =
	    (const unsigned char *)message->msg_control + message->msg_controllen;
	const unsigned char *data = CMSG_DATA(header);

	if (header->cmsg_len < CMSG_LEN(0))
		return 0;
	size_t length = header->cmsg_len - CMSG_LEN(0);
	return length < (size_t)(end - data) ? length : (size_t)(end - data);
}

static void take_rights(struct ancillary *ancillary, const unsigned char *data, size_t length)
{
	for (size_t i = 0; i + sizeof(int) <= length; i += sizeof(int)) {
		int fd;
		memcpy(&fd, data + i, sizeof(fd));
		if (ancillary->count < sizeof(ancillary->fds) / sizeof(ancillary->fds[0])) {
			ancillary->fds[ancillary->count++] = fd;
		} else {
			/* Linux sends no more than ANCILLARY_MAX_FDS in one message today. */
			close(fd);
			ancillary->truncated = true;
		}
	}
}

static void close_pidfd(const unsigned char *data, size_t length)
{
	int fd = -1;
	if (length >= sizeof(fd))
		memcpy(&fd, data, sizeof(fd));
	if (fd >= 0)
		close(fd);
}

void ancillary_take(struct msghdr *message, struct ancillary *ancillary)
{
	ancillary_clear(ancillary);
	ancillary->truncated = (message->msg_flags & MSG_CTRUNC) != 0;

	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	for (; header != NULL; header = CMSG_NXTHDR(message, header)) {
		const unsigned char *data = CMSG_DATA(header);
		size_t length = payload_length(message, header);

		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
			take_rights(ancillary, data, length);
			continue;
		}
		ancillary->ignored++;
		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_PIDFD)
			close_pidfd(data, length);
	}
}
