#ifndef FERRY_PROGRAMS_SHARED_CLIENT_ADDRESS_H
#define FERRY_PROGRAMS_SHARED_CLIENT_ADDRESS_H

/* The addresses of a client, as ferry-proxy passes them to a worker in the blob of the handoff: the
 * client's address, and the one that it connected to. The worker could ask the kernel (getpeername(2)),
 * but behind a load balancer the kernel returns the address of the balancer.
 *
 *     offset  size
 *          0     4  magic, "fCli"
 *          4     1  version, 1
 *          5     1  flags: 1, the addresses come from the PROXY header of a load balancer; 2, each request has a
 *                   route of its own
 *          6        the client's address
 *                   the server's address, the one that the client connected to
 *
 * An address is a byte for its family, and the bytes of that family: 0 none; 4 two bytes of port and
 * four of address; 6 two bytes of port and sixteen of address; 1 (unix) one byte of length and as many
 * of path, which starts with a zero for an abstract name. Numbers are in network order. The scope of an
 * IPv6 address is not encoded: it has no meaning on another machine. */

#include "programs/shared/socket_address.h"

#include <stdbool.h>
#include <stddef.h>

enum { CLIENT_ADDRESS_MAX = 6 + 2 * (2 + sizeof(((struct sockaddr_un *)NULL)->sun_path)) };

struct client_address {
	struct socket_address client;
	struct socket_address server;
	bool proxied; /* from a PROXY header */
	/* The next request of the connection may belong to another service: a worker returns the connection before it
	 * serves one. */
	bool routes_each;
};

/* Sets the addresses of a connected socket. 0, or the errno of getpeername(2) or getsockname(2). */
int client_address_of_socket(struct client_address *address, int fd);

/* Encodes the addresses into `out`, which has room for CLIENT_ADDRESS_MAX bytes. The number of bytes, or
 * -EAFNOSUPPORT: an address has another family. */
int client_address_put(const struct client_address *address, unsigned char *out);

/* Decodes. 0, or -EPROTO: the bytes are malformed, or there are too many; -EPROTONOSUPPORT: they have
 * another version. `address` is written on success only. */
int client_address_get(struct client_address *address, const void *blob, size_t length);

#endif
