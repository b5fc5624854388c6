#ifndef FERRY_PROGRAMS_SHARED_SOCKET_ADDRESS_H
#define FERRY_PROGRAMS_SHARED_SOCKET_ADDRESS_H

/* Addresses of stream sockets and their text: "127.0.0.1:8080", "[::1]:8080", "unix:/run/www.sock",
 * "unix:@name" (Linux's abstract names). Hosts are numeric: a name that has to be looked up may stand
 * for several addresses, or for another one tomorrow. */

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
	socklen_t length; /* 0: no address; of an unnamed unix socket: the family alone */
};

enum {
	/* Bytes of the longest text with its zero: a path of escapes, and "unix:". */
	SOCKET_ADDRESS_TEXT_SIZE = 4 * sizeof(((struct sockaddr_un *)NULL)->sun_path) + 8
};

/* Reads an address to listen on. A port may be 0, for any that is free. 0, or -EINVAL: it is none;
 * -ENAMETOOLONG: a unix path that has no room in a socket's address. */
int socket_address_parse(struct socket_address *address, const char *text);

/* Takes over what accept(2), getsockname(2) and the like gave. 0, or -EINVAL: longer than an address
 * can be; -EAFNOSUPPORT: neither IPv4, IPv6 nor unix. */
int socket_address_set(struct socket_address *address, const struct sockaddr *from,
                       socklen_t length);

/* An address of its parts: the bytes in network order, the port in the machine's. The path of a unix
 * socket has no terminating zero here, starts with a zero if it is an abstract name, and is empty for
 * a socket without a name; 0, or -EINVAL: a path with a zero in it; -ENAMETOOLONG. */
void socket_address_set_inet(struct socket_address *address, const void *host, uint16_t port);
void socket_address_set_inet6(struct socket_address *address, const void *host, uint16_t port);
int socket_address_set_unix(struct socket_address *address, const void *path, size_t length);

/* The path in that form; it is the address's. Of a unix address only. */
const char *socket_address_unix_path(const struct socket_address *address, size_t *length);

/* The text, in `out`, which is returned. Bytes of a unix path that are not printable ASCII are escaped,
 * "\x0a"; "unix:" is a socket without a name, "unknown" no address. What does not fit is cut. */
const char *socket_address_format(const struct socket_address *address, char *out, size_t size);

/* The same without the port: what logs and hash keys want of a client. */
const char *socket_address_format_host(const struct socket_address *address, char *out,
                                       size_t size);

/* Whether both are the same address, port included. */
bool socket_address_equal(const struct socket_address *a, const struct socket_address *b);

/*
 * Listens. The socket is non-blocking and close-on-exec, and of IPv6 takes IPv6 only, so that
 * "0.0.0.0:80" and "[::]:80" can be listened on beside each other. The file of a unix path has mode
 * 0600 from the first moment and is the caller's to unlink; one that is there already is -EADDRINUSE.
 * The descriptor, or what socket(2), bind(2) or listen(2) said.
 */
int socket_address_listen(const struct socket_address *address);

#endif
