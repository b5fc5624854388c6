#include "programs/shared/socket_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_AT = offsetof(struct sockaddr_un, sun_path) };

void socket_address_set_inet(struct socket_address *address, const void *host, uint16_t port)
{
	memset(address, 0, sizeof(*address));
	address->in.sin_family = AF_INET;
	address->in.sin_port = htons(port);
	memcpy(&address->in.sin_addr, host, sizeof(address->in.sin_addr));
	address->length = sizeof(address->in);
}

void socket_address_set_inet6(struct socket_address *address, const void *host, uint16_t port)
{
	memset(address, 0, sizeof(*address));
	address->in6.sin6_family = AF_INET6;
	address->in6.sin6_port = htons(port);
	memcpy(&address->in6.sin6_addr, host, sizeof(address->in6.sin6_addr));
	address->length = sizeof(address->in6);
}

/* The kernel may return a path of 108 bytes, which leaves no room for its zero in sun_path. The zero is
 * then in the storage behind it. */
int socket_address_set_unix(struct socket_address *address, const void *path, size_t length)
{
	const char *text = path;
	if (length > sizeof(address->un.sun_path))
		return -ENAMETOOLONG;
	bool is_file = length > 0 && text[0] != '\0';
	if (is_file && memchr(text, '\0', length) != NULL)
		return -EINVAL;
	memset(address, 0, sizeof(*address));
	address->un.sun_family = AF_UNIX;
	if (length > 0)
		memcpy(address->un.sun_path, text, length);
	address->length = (socklen_t)(PATH_AT + length + (is_file ? 1 : 0));
	return 0;
}

const char *socket_address_unix_path(const struct socket_address *address, size_t *length)
{
	const char *path = address->un.sun_path;
	*length = address->length - PATH_AT;
	if (*length > 0 && path[0] != '\0')
		*length -= 1;
	return path;
}

static bool parse_port(const char *text, uint16_t *port)
{
	unsigned int number = 0;
	size_t digits = strspn(text, "0123456789");
	if (digits == 0 || digits > 5 || text[digits] != '\0')
		return false;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (unsigned int)(text[i] - '0');
	*port = (uint16_t)number;
	return number <= UINT16_MAX;
}

static int parse_unix(struct socket_address *address, const char *path)
{
	char abstract[sizeof(address->un.sun_path)];
	size_t length = strlen(path);
	if (path[0] != '@') {
		if (length == 0)
			return -EINVAL;
		if (length >= sizeof(address->un.sun_path)) /* bind(2) needs room for the zero */
			return -ENAMETOOLONG;
		return socket_address_set_unix(address, path, length);
	}
	if (length == 1)
		return -EINVAL;
	if (length > sizeof(abstract))
		return -ENAMETOOLONG;
	memcpy(abstract, path, length);
	abstract[0] = '\0';
	return socket_address_set_unix(address, abstract, length);
}

int socket_address_parse(struct socket_address *address, const char *text)
{
	char host[INET6_ADDRSTRLEN];
	unsigned char bytes[16];
	uint16_t port;
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(address, text + 5);

	const char *colon = strrchr(text, ':');
	bool bracketed = text[0] == '[';
	if (colon == NULL || !parse_port(colon + 1, &port) ||
	    (bracketed && (colon < text + 2 || colon[-1] != ']')))
		return -EINVAL;
	const char *start = bracketed ? text + 1 : text;
	size_t length = (size_t)(colon - start) - (bracketed ? 1 : 0);
	if (length >= sizeof(host))
		return -EINVAL;
	memcpy(host, start, length);
	host[length] = '\0';
	if (inet_pton(bracketed ? AF_INET6 : AF_INET, host, bytes) != 1)
		return -EINVAL;
	if (bracketed)
		socket_address_set_inet6(address, bytes, port);
	else
		socket_address_set_inet(address, bytes, port);
	return 0;
}

/* The kernel includes the zero of a path in the length; other programs may not. */
static int set_from_unix(struct socket_address *address, const struct sockaddr *from,
                         socklen_t length)
{
	const char *path = (const char *)from + PATH_AT;
	size_t path_length = length > PATH_AT ? length - PATH_AT : 0;
	if (path_length > 0 && path[0] != '\0')
		path_length = strnlen(path, path_length);
	return socket_address_set_unix(address, path, path_length) == 0 ? 0 : -EINVAL;
}

int socket_address_set(struct socket_address *address, const struct sockaddr *from,
                       socklen_t length)
{
	if (length < sizeof(from->sa_family) || length > sizeof(address->storage))
		return -EINVAL;
	switch (from->sa_family) {
	case AF_INET:
		if (length < sizeof(address->in))
			return -EINVAL;
		memset(address, 0, sizeof(*address));
		memcpy(&address->in, from, sizeof(address->in));
		address->length = sizeof(address->in);
		return 0;
	case AF_INET6:
		if (length < sizeof(address->in6))
			return -EINVAL;
		memset(address, 0, sizeof(*address));
		memcpy(&address->in6, from, sizeof(address->in6));
		address->length = sizeof(address->in6);
		return 0;
	case AF_UNIX:
		return set_from_unix(address, from, length);
	default:
		return -EAFNOSUPPORT;
	}
}

static void escape_path(const char *path, size_t length, char *out, size_t size)
{
	size_t used = 0;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)path[i];
		bool plain = (c > 0x20 && c < 0x7f && c != '\\') || (i == 0 && c == '\0');
		size_t needed = plain ? 1 : 4;
		if (used + needed >= size)
			break;
		if (c == '\0' && plain)
			out[used] = '@';
		else if (plain)
			out[used] = path[i];
		else
			(void)snprintf(out + used, size - used, "\\x%02x", c);
		used += needed;
	}
	out[used] = '\0';
}

static void format_unix(const struct socket_address *address, char *out, size_t size)
{
	size_t length;
	const char *path = socket_address_unix_path(address, &length);
	(void)snprintf(out, size, "unix:");
	if (size > 5)
		escape_path(path, length, out + 5, size - 5);
}

static const char *format_address(const struct socket_address *address, bool with_port, char *out,
                                  size_t size)
{
	char host[INET6_ADDRSTRLEN];
	int family = address->length > 0 ? address->any.sa_family : AF_UNSPEC;
	if (size == 0)
		return out;
	if (family == AF_UNIX) {
		format_unix(address, out, size);
	} else if (family == AF_INET && inet_ntop(family, &address->in.sin_addr, host, sizeof(host))) {
		(void)snprintf(out, size, with_port ? "%s:%u" : "%s", host,
		               (unsigned int)ntohs(address->in.sin_port));
	} else if (family == AF_INET6 &&
	           inet_ntop(family, &address->in6.sin6_addr, host, sizeof(host))) {
		(void)snprintf(out, size, with_port ? "[%s]:%u" : "%s", host,
		               (unsigned int)ntohs(address->in6.sin6_port));
	} else {
		(void)snprintf(out, size, "unknown");
	}
	return out;
}

const char *socket_address_format(const struct socket_address *address, char *out, size_t size)
{
	return format_address(address, true, out, size);
}

const char *socket_address_format_host(const struct socket_address *address, char *out, size_t size)
{
	return format_address(address, false, out, size);
}

bool socket_address_is_loopback(const struct socket_address *address)
{
	if (address->length == 0)
		return false;
	if (address->any.sa_family == AF_INET)
		return (ntohl(address->in.sin_addr.s_addr) >> 24) == 127;
	return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr);
}

bool socket_address_equal(const struct socket_address *a, const struct socket_address *b)
{
	if (a->length != b->length)
		return false;
	if (a->length == 0)
		return true;
	if (a->any.sa_family != b->any.sa_family)
		return false;
	switch (a->any.sa_family) {
	case AF_INET:
		return a->in.sin_port == b->in.sin_port && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	case AF_INET6:
		return a->in6.sin6_port == b->in6.sin6_port &&
		       a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
		       memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
	default:
		return memcmp(&a->un, &b->un, a->length) == 0;
	}
}

static int set_socket_options(int fd, int family)
{
	int yes = 1;
	if (family == AF_UNIX) /* bind(2) gives the file the mode of the socket */
		return fchmod(fd, 0600);
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) < 0)
		return -1;
	return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

int socket_address_listen(const struct socket_address *address)
{
	int family = address->any.sa_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (set_socket_options(fd, family) < 0 || bind(fd, &address->any, address->length) < 0 ||
	    listen(fd, SOMAXCONN) < 0) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}
