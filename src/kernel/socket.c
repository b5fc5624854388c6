#include "kernel/socket.h"

#include <errno.h>

static int get_option(int fd, int option, void *value, socklen_t length)
{
	return getsockopt(fd, SOL_SOCKET, option, value, &length) == 0 ? 0 : -errno;
}

static int get_int(int fd, int option)
{
	int value = 0;
	int status = get_option(fd, option, &value, sizeof(value));

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

int socket_is_listening(int fd)
{
	int listening = get_int(fd, SO_ACCEPTCONN);

	return listening > 0 ? 1 : listening;
}

int socket_get_cookie(int fd, uint64_t *cookie)
{
	return get_option(fd, SO_COOKIE, cookie, sizeof(*cookie));
}

int socket_get_peer(int fd, struct ucred *peer)
{
	return get_option(fd, SO_PEERCRED, peer, sizeof(*peer));
}
