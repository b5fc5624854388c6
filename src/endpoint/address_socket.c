#include "ferry/address.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_AT = offsetof(struct sockaddr_un, sun_path) };

/* The length of the address with the zero of its path, or 0: it is not one of the family. The kernel may return a path
 * of 108 bytes, which leaves no room for its zero in sun_path; other programs may not count the zero. */
static size_t length_of_unix(const struct sockaddr *from, socklen_t length)
{
	const char *path = (const char *)from + PATH_AT;
	const size_t bytes = length > PATH_AT ? length - PATH_AT : 0;

	if (bytes == 0)
		return PATH_AT;
	const size_t used = path[0] != '\0' ? strnlen(path, bytes) : bytes;
	if (used > sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return 0;
	return PATH_AT + used + (path[0] != '\0' ? 1 : 0);
}

int ferry_address_set(struct ferry_address *out, const struct sockaddr *from, socklen_t length)
{
	struct ferry_address address = {.length = 0};
	size_t wanted;

	if (out == NULL || from == NULL || length < sizeof(from->sa_family) ||
	    length > sizeof(address.name))
		return -EINVAL;
	switch (from->sa_family) {
	case AF_INET:
		wanted = sizeof(address.name.in);
		break;
	case AF_INET6:
		wanted = sizeof(address.name.in6);
		break;
	case AF_UNIX:
		wanted = length_of_unix(from, length);
		break;
	default:
		return -EAFNOSUPPORT;
	}
	if (wanted == 0 || (from->sa_family != AF_UNIX && length < wanted))
		return -EINVAL;
	memcpy(&address.name, from, length < wanted ? length : wanted);
	address.length = (socklen_t)wanted;
	*out = address;
	return 0;
}

typedef int (*name_function)(int fd, struct sockaddr *name, socklen_t *length);

static int set_from_socket(struct ferry_address *out, int fd, name_function function)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof(name);

	if (out == NULL)
		return -EINVAL;
	if (function(fd, (struct sockaddr *)&name, &length) < 0)
		return -errno;
	return ferry_address_set(out, (const struct sockaddr *)&name, length);
}

int ferry_address_set_peer(struct ferry_address *out, int fd)
{
	return set_from_socket(out, fd, getpeername);
}

int ferry_address_set_own(struct ferry_address *out, int fd)
{
	return set_from_socket(out, fd, getsockname);
}

const char *ferry_address_get_path(const struct ferry_address *address)
{
	if (address == NULL || address->length <= PATH_AT || address->name.any.sa_family != AF_UNIX ||
	    address->name.un.sun_path[0] == '\0')
		return NULL;
	return address->name.un.sun_path;
}

bool ferry_address_is_loopback(const struct ferry_address *address)
{
	if (address == NULL || address->length == 0)
		return false;
	if (address->name.any.sa_family == AF_INET)
		return (ntohl(address->name.in.sin_addr.s_addr) >> 24) == 127;
	return address->name.any.sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&address->name.in6.sin6_addr);
}

bool ferry_address_equal(const struct ferry_address *a, const struct ferry_address *b)
{
	if (a == NULL || b == NULL || a->length != b->length)
		return false;
	if (a->length == 0)
		return true;
	if (a->name.any.sa_family != b->name.any.sa_family)
		return false;
	const struct sockaddr_in6 *left = &a->name.in6, *right = &b->name.in6;
	switch (a->name.any.sa_family) {
	case AF_INET:
		return a->name.in.sin_port == b->name.in.sin_port &&
		       a->name.in.sin_addr.s_addr == b->name.in.sin_addr.s_addr;
	case AF_INET6: /* the flow does not count */
		return left->sin6_port == right->sin6_port && left->sin6_scope_id == right->sin6_scope_id &&
		       memcmp(&left->sin6_addr, &right->sin6_addr, sizeof(left->sin6_addr)) == 0;
	default:
		return memcmp(&a->name, &b->name, a->length) == 0;
	}
}

/* ---- a socket that listens ---- */

static int set_listen_options(int fd, int family)
{
	const int yes = 1;

	if (family == AF_UNIX) /* bind(2) gives the file the mode of the socket */
		return fchmod(fd, 0600);
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) < 0)
		return -1;
	return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

int ferry_address_listen(const struct ferry_address *address, int backlog)
{
	if (address == NULL || address->length == 0 || backlog < 0)
		return -EINVAL;
	const int family = address->name.any.sa_family;
	const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (set_listen_options(fd, family) < 0 || bind(fd, &address->name.any, address->length) < 0 ||
	    listen(fd, backlog > 0 ? backlog : SOMAXCONN) < 0) {
		const int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}
