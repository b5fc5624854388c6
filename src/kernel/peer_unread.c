#include "kernel/peer_unread.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

enum { REPLY_MAX = 1024 };

struct question {
	struct nlmsghdr header;
	struct unix_diag_req body;
};

/* Each question may have the kernel look for a module that it does not have. */
static atomic_bool absent;

/* Copies the attribute of a reply. */
static int find_attribute(const unsigned char *reply, size_t length, unsigned short type, void *out,
                          size_t size)
{
	size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct unix_diag_msg));
	struct rtattr attribute;

	while (at + sizeof(attribute) <= length) {
		memcpy(&attribute, reply + at, sizeof(attribute));
		if (attribute.rta_len < sizeof(attribute) || at + attribute.rta_len > length)
			break;
		if (attribute.rta_type == type && attribute.rta_len >= RTA_LENGTH(size)) {
			memcpy(out, reply + at + RTA_LENGTH(0), size);
			return 0;
		}
		at += RTA_ALIGN(attribute.rta_len);
	}
	return -ENODATA;
}

static int read_reply(int netlink, unsigned short type, void *out, size_t size)
{
	unsigned char reply[REPLY_MAX];
	struct nlmsghdr header;
	struct nlmsgerr error;

	const ssize_t length = recv(netlink, reply, sizeof(reply), MSG_DONTWAIT);
	if (length < 0)
		return -errno;
	if ((size_t)length < sizeof(header) + sizeof(error))
		return -EPROTO;
	memcpy(&header, reply, sizeof(header));
	memcpy(&error, reply + NLMSG_HDRLEN, sizeof(error));
	if (header.nlmsg_type == NLMSG_ERROR)
		return error.error < 0 ? error.error : -EPROTO;
	return find_attribute(reply, (size_t)length, type, out, size);
}

/* Asks for an attribute of the socket with this inode. */
static int ask(int netlink, uint32_t inode, uint32_t show, unsigned short type, void *out,
               size_t size)
{
	const struct question question = {
	    .header = {.nlmsg_len = sizeof(question),
	               .nlmsg_type = SOCK_DIAG_BY_FAMILY,
	               .nlmsg_flags = NLM_F_REQUEST},
	    .body = {.sdiag_family = AF_UNIX,
	             .udiag_states = UINT32_MAX,
	             .udiag_ino = inode,
	             .udiag_show = show,
	             .udiag_cookie = {UINT32_MAX, UINT32_MAX}},
	};

	if (send(netlink, &question, sizeof(question), MSG_NOSIGNAL) < 0)
		return -errno;
	return read_reply(netlink, type, out, size);
}

static int count_unread(int netlink, uint32_t inode)
{
	struct unix_diag_rqlen lengths = {0};
	uint32_t peer = 0;

	int status = ask(netlink, inode, UDIAG_SHOW_PEER, UNIX_DIAG_PEER, &peer, sizeof(peer));
	if (status == -ENOENT)
		atomic_store(&absent, true);
	if (status == 0)
		status = ask(netlink, peer, UDIAG_SHOW_RQLEN, UNIX_DIAG_RQLEN, &lengths, sizeof(lengths));
	if (status < 0)
		return status;
	return lengths.udiag_rqueue <= INT_MAX ? (int)lengths.udiag_rqueue : -EOVERFLOW;
}

int peer_unread_count(int fd)
{
	struct stat file;

	if (atomic_load(&absent))
		return -EOPNOTSUPP;
	if (fstat(fd, &file) < 0)
		return -errno;
	const int netlink = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (netlink < 0) {
		const int error = errno;
		if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
			atomic_store(&absent, true);
		return -error;
	}
	const int result = count_unread(netlink, (uint32_t)file.st_ino);
	close(netlink);
	return result;
}
