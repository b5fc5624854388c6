#include "transport/core.h"

#include <errno.h>

#include "kernel/socket.h"

/* The kernel keeps the credentials with the socket from connect(2), listen(2) or socketpair(2) on, also when the
 * process at the other end has gone. TCP sockets have the same options, which return nothing of use. */

/* The descriptor of a unix socket, with the bufferevent locked; or a negative errno. */
static int lock_unix_socket(struct ferry_transport *transport, struct bufferevent **bev)
{
	*bev = transport_lock(transport);
	if (!transport_carries_fds(transport))
		return -EOPNOTSUPP;
	const int fd = (int)bufferevent_getfd(*bev);
	return fd < 0 ? -ENOTCONN : fd;
}

int ferry_transport_get_peer_credentials(struct ferry_transport *transport,
                                         struct ferry_peer_credentials *credentials)
{
	struct bufferevent *bev;
	struct ucred peer;

	if (transport == NULL || credentials == NULL)
		return -EINVAL;
	const int fd = lock_unix_socket(transport, &bev);
	int status = fd < 0 ? fd : socket_get_peer(fd, &peer);
	/* The answer for a socket that has not been connected. */
	if (status == 0 && peer.uid == (uid_t)-1)
		status = -ENOTCONN;
	if (status == 0)
		*credentials =
		    (struct ferry_peer_credentials){.pid = peer.pid, .uid = peer.uid, .gid = peer.gid};
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_get_peer_groups(struct ferry_transport *transport, gid_t *groups, size_t *count)
{
	struct bufferevent *bev;

	if (transport == NULL || count == NULL || (groups == NULL && *count > 0))
		return -EINVAL;
	/* NGROUPS_MAX is 65,536: more room than that is of no use. */
	socklen_t size = (socklen_t)((*count < (1U << 20) ? *count : 1U << 20) * sizeof(gid_t));
	const int fd = lock_unix_socket(transport, &bev);
	const int status = fd < 0 ? fd : socket_get_peer_groups(fd, groups, &size);
	if (status == 0 || status == -ERANGE)
		*count = size / sizeof(gid_t);
	bufferevent_unlock(bev);
	return status == -ENODATA ? -ENOTCONN : status;
}

int ferry_transport_get_peer_pidfd(struct ferry_transport *transport)
{
	struct bufferevent *bev;

	if (transport == NULL)
		return -EINVAL;
	const int fd = lock_unix_socket(transport, &bev);
	const int result = fd < 0 ? fd : socket_get_peer_pidfd(fd);
	bufferevent_unlock(bev);
	return result == -ENODATA ? -ENOTCONN : result;
}
