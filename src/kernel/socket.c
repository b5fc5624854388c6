#include "kernel/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernel/optional_call.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

static int get_option(int fd, int option, void *value, socklen_t *length)
{
	return getsockopt(fd, SOL_SOCKET, option, value, length) == 0 ? 0 : -errno;
}

/* An option that this kernel may not have, or that a sandbox may forbid. */
static int optional(int status)
{
	return optional_call_is_absent(CALL_SOCKET_OPTION, -status) ? -ENOPROTOOPT : status;
}

static int get_int(int fd, int option)
{
	int value = 0;
	socklen_t length = sizeof(value);
	int status = get_option(fd, option, &value, &length);

	return status < 0 ? status : value;
}

int socket_get_type(int fd)
{
	return get_int(fd, SO_TYPE);
}

int socket_get_domain(int fd)
{
	return get_int(fd, SO_DOMAIN);
}

int socket_get_protocol(int fd)
{
	return get_int(fd, SO_PROTOCOL);
}

bool socket_is_tcp(int fd)
{
	int value;
	socklen_t length = sizeof(value);

	return getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &value, &length) == 0;
}

int socket_is_listening(int fd)
{
	int listening = get_int(fd, SO_ACCEPTCONN);

	return listening > 0 ? 1 : listening;
}

int socket_poll_now(struct pollfd *entries, nfds_t count)
{
	int ready;

	do {
		ready = poll(entries, count, 0);
	} while (ready < 0 && errno == EINTR);
	return ready;
}

bool socket_is_ready(int fd, short events)
{
	struct pollfd entry = {.fd = fd, .events = events};

	return socket_poll_now(&entry, 1) > 0;
}

int socket_get_hang_up(int fd)
{
	struct pollfd entry = {.fd = fd};

	return socket_poll_now(&entry, 1) > 0 ? entry.revents & (POLLHUP | POLLERR) : 0;
}

bool socket_has_ended(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLRDHUP};
	int unread = 0;

	return socket_poll_now(&entry, 1) > 0 && (entry.revents & POLLRDHUP) != 0 &&
	       ioctl(fd, FIONREAD, &unread) == 0 && unread == 0;
}

int socket_get_error(int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);
	int status = get_option(fd, SO_ERROR, &error, &length);

	return status < 0 ? status : -error;
}

enum socket_prospect socket_look(int fd, int *error)
{
	char byte;
	ssize_t length;

	do {
		length = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	} while (length < 0 && errno == EINTR);
	*error = length < 0 ? -errno : 0;
	/* EIO: TLS of the kernel's, whose next record is no data: a close_notify, a ticket. */
	if (length > 0 || (length < 0 && errno == EIO)) {
		*error = 0;
		return SOCKET_INPUT;
	}
	return length < 0 && errno == EAGAIN ? SOCKET_QUIET : SOCKET_ENDED;
}

int socket_get_cookie(int fd, uint64_t *cookie)
{
	socklen_t length = sizeof(*cookie);

	return optional(get_option(fd, SO_COOKIE, cookie, &length));
}

int socket_get_peer(int fd, struct ucred *peer)
{
	socklen_t length = sizeof(*peer);

	return get_option(fd, SO_PEERCRED, peer, &length);
}

int socket_check_peer_user(int fd)
{
	struct ucred peer;
	const int status = socket_get_peer(fd, &peer);

	if (status != 0)
		return status;
	return peer.uid == geteuid() || peer.uid == 0 ? 0 : -EACCES;
}

int socket_get_peer_groups(int fd, gid_t *groups, socklen_t *size)
{
	return optional(get_option(fd, SO_PEERGROUPS, groups, size));
}

int socket_get_peer_pidfd(int fd)
{
	return optional(get_int(fd, SO_PEERPIDFD));
}

int socket_set_pass_rights(int fd, bool pass)
{
	int value = pass;

	const int result = setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, sizeof(value));
	return result == 0 ? 0 : optional(-errno);
}
