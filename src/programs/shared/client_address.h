#ifndef FERRY_PROGRAMS_SHARED_CLIENT_ADDRESS_H
#define FERRY_PROGRAMS_SHARED_CLIENT_ADDRESS_H

/* What ferry-proxy tells its workers of a client, in the handoff's blob: who connected, and where to.
 * A worker could ask the kernel (getpeername(2)), but behind a load balancer that names the balancer.
 *
 *     offset  size
 *          0     4  magic, "fCli"
 *          4     1  version, 1
 *          5     1  flags: 1, the addresses come from a load balancer's PROXY header
 *          6        the client's address
 *                   the server's address, the one that the client connected to
 *
 * An address is a byte for its family and what that family has: 0 nothing; 4 a port of two bytes and
 * four of address; 6 a port and sixteen; 1 (unix) one byte of length and as many of path, which starts
 * with a zero for an abstract name. Numbers are in network order. A scope of IPv6 does not travel: it is
 * another one on another machine. */

#include "programs/shared/socket_address.h"

#include <stdbool.h>
#include <stddef.h>

enum { CLIENT_ADDRESS_MAX = 6 + 2 * (2 + sizeof(((struct sockaddr_un *)NULL)->sun_path)) };

struct client_address {
	struct socket_address client;
	struct socket_address server;
	bool proxied; /* as said in a PROXY header */
};

/* Fills in what the kernel knows of a connected socket. 0, or what getpeername(2) or getsockname(2)
 * said. */
int client_address_of_socket(struct client_address *address, int fd);

/* Writes it into `out`, which has room for CLIENT_ADDRESS_MAX bytes, and returns how many it took;
 * -EAFNOSUPPORT: an address of another family. */
int client_address_put(const struct client_address *address, unsigned char *out);

/* 0, or -EPROTO: these bytes are not such an encoding, the whole of one and nothing more;
 * -EPROTONOSUPPORT: they are one of another version. `address` is written on success only. */
int client_address_get(struct client_address *address, const void *blob, size_t length);

#endif
