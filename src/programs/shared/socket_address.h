#ifndef FERRY_PROGRAMS_SHARED_SOCKET_ADDRESS_H
#define FERRY_PROGRAMS_SHARED_SOCKET_ADDRESS_H

/* Addresses of stream sockets and their text: "127.0.0.1:8080", "[::1]:8080", "unix:/run/www.sock",
 * "unix:@name" (Linux's abstract names). Hosts are numeric: a look-up of a name may give several
 * addresses, and another one tomorrow. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct socket_address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage storage;
	};
	socklen_t length; /* 0: no address; an unnamed unix socket: the length of the family alone */
};

enum {
	/* Bytes of the longest text with its zero: "unix:", and a path of escapes. */
	SOCKET_ADDRESS_TEXT_SIZE = 4 * sizeof(((struct sockaddr_un *)NULL)->sun_path) + 8
};

/* Reads an address to listen on. Port 0 stands for a free port. 0, or -EINVAL: the text is not an address;
 * -ENAMETOOLONG: the path does not fit into the address of a unix socket. */
int socket_address_parse(struct socket_address *address, const char *text);

/* Copies an address from accept(2), getsockname(2) and the like. 0, or -EINVAL: it is longer than an
 * address can be; -EAFNOSUPPORT: it is neither IPv4, IPv6 nor unix. */
int socket_address_set(struct socket_address *address, const struct sockaddr *from,
                       socklen_t length);

/* Makes an address from its parts: `host` in network order, the port in host order. The path of a unix
 * socket is without its terminating zero; it starts with a zero for an abstract name, and is empty for a
 * socket without a name. 0, or -EINVAL: the path contains a zero; -ENAMETOOLONG. */
void socket_address_set_inet(struct socket_address *address, const void *host, uint16_t port);
void socket_address_set_inet6(struct socket_address *address, const void *host, uint16_t port);
int socket_address_set_unix(struct socket_address *address, const void *path, size_t length);

/* The path of a unix address in that form. The address owns the bytes. */
const char *socket_address_unix_path(const struct socket_address *address, size_t *length);

/* Writes the text to `out`, and returns `out`. Bytes of a unix path that are not printable ASCII are
 * escaped, "\x0a". "unix:" is a socket without a name, "unknown" is no address. A text that does not fit
 * is cut. */
const char *socket_address_format(const struct socket_address *address, char *out, size_t size);

/* The same without the port, for logs and hash keys. */
const char *socket_address_format_host(const struct socket_address *address, char *out,
                                       size_t size);

/* Whether only processes of this machine reach it by TCP: 127.0.0.0/8 or ::1. */
bool socket_address_is_loopback(const struct socket_address *address);

/* Whether both addresses are the same, with the port. */
bool socket_address_equal(const struct socket_address *a, const struct socket_address *b);

/*
 * Makes a listening socket. It is non-blocking and close-on-exec. A socket of IPv6 takes IPv6 only:
 * "0.0.0.0:80" and "[::]:80" can be listened on at the same time. The file of a unix path has mode 0600
 * from the first moment, and the caller removes it; if the file exists already, the result is
 * -EADDRINUSE. The descriptor, or the errno of socket(2), bind(2) or listen(2).
 */
int socket_address_listen(const struct socket_address *address);

#endif
