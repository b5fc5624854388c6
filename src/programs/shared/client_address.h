#ifndef FERRY_PROGRAMS_SHARED_CLIENT_ADDRESS_H
#define FERRY_PROGRAMS_SHARED_CLIENT_ADDRESS_H

/* The addresses of a client, as ferry-proxy passes them to a worker in the blob of the handoff: the
 * client's address, and the one that it connected to. The worker could ask the kernel (getpeername(2)),
 * but behind a load balancer the kernel returns the address of the balancer.
 *
 *     offset  size
 *          0     4  magic, "fCli"
 *          4     1  version, 2
 *          5     1  flags: 1, the addresses come from the PROXY header of a load balancer; 2, each request has a
 *                   route of its own
 *          6        the client's address
 *                   the server's address, the one that the client connected to
 *
 * An address is a byte with its length, 0 for none, and as many bytes: as the kernel has it, because both processes are
 * on one machine. */

#include <stdbool.h>
#include <stddef.h>

#include <ferry/address.h>

enum { CLIENT_ADDRESS_MAX = 6 + 2 * (1 + sizeof(struct sockaddr_un) + 1) };

struct client_address {
	struct ferry_address client;
	struct ferry_address server;
	bool proxied; /* from a PROXY header */
	/* The next request of the connection may belong to another service: a worker returns the connection before it
	 * serves one. */
	bool routes_each;
};

/* Sets the addresses of a connected socket. 0, or the errno of getpeername(2) or getsockname(2). */
int client_address_of_socket(struct client_address *address, int fd);

/* Encodes the addresses into `out`, which has room for CLIENT_ADDRESS_MAX bytes. The number of bytes. */
size_t client_address_put(const struct client_address *address, unsigned char *out);

/* Decodes. 0, or -EPROTO: the bytes are malformed, or there are too many; -EPROTONOSUPPORT: they have
 * another version. `address` is written on success only. */
int client_address_get(struct client_address *address, const void *blob, size_t length);

#endif
