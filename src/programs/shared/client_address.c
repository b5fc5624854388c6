#include "programs/shared/client_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

enum { VERSION = 1, HEADER_SIZE = 6, PROXIED = 1, ROUTES_EACH = 2 };
enum { NOTHING = 0, UNIX = 1, INET = 4, INET6 = 6 };

static const unsigned char magic[4] = {'f', 'C', 'l', 'i'};

int client_address_of_socket(struct client_address *address, int fd)
{
	struct sockaddr_storage name;
	struct client_address found = {.proxied = false};
	socklen_t length = sizeof(name);
	if (getpeername(fd, (struct sockaddr *)&name, &length) < 0)
		return -errno;
	int status = socket_address_set(&found.client, (struct sockaddr *)&name, length);
	if (status < 0)
		return status;
	length = sizeof(name);
	if (getsockname(fd, (struct sockaddr *)&name, &length) < 0)
		return -errno;
	status = socket_address_set(&found.server, (struct sockaddr *)&name, length);
	if (status == 0)
		*address = found;
	return status;
}

/* The port of a socket's address is in network order already. */
static int encode_address(const struct socket_address *address, unsigned char *out)
{
	size_t length;
	const char *path;
	if (address->length == 0) {
		out[0] = NOTHING;
		return 1;
	}
	switch (address->any.sa_family) {
	case AF_INET:
		out[0] = INET;
		memcpy(out + 1, &address->in.sin_port, 2);
		memcpy(out + 3, &address->in.sin_addr, 4);
		return 7;
	case AF_INET6:
		out[0] = INET6;
		memcpy(out + 1, &address->in6.sin6_port, 2);
		memcpy(out + 3, &address->in6.sin6_addr, 16);
		return 19;
	case AF_UNIX:
		path = socket_address_unix_path(address, &length);
		out[0] = UNIX;
		out[1] = (unsigned char)length;
		memcpy(out + 2, path, length);
		return (int)length + 2;
	default:
		return -EAFNOSUPPORT;
	}
}

int client_address_put(const struct client_address *address, unsigned char *out)
{
	memcpy(out, magic, sizeof(magic));
	out[4] = VERSION;
	out[5] = (unsigned char)((address->proxied ? PROXIED : 0) |
	                         (address->routes_each ? ROUTES_EACH : 0));
	int client = encode_address(&address->client, out + HEADER_SIZE);
	if (client < 0)
		return client;
	int server = encode_address(&address->server, out + HEADER_SIZE + client);
	return server < 0 ? server : HEADER_SIZE + client + server;
}

/* The number of bytes that were decoded, or -EPROTO. */
static int decode_address(struct socket_address *address, const unsigned char *bytes, size_t length)
{
	if (length == 0)
		return -EPROTO;
	switch (bytes[0]) {
	case NOTHING:
		return 1;
	case INET:
		if (length < 7)
			return -EPROTO;
		socket_address_set_inet(address, bytes + 3, (uint16_t)(bytes[1] << 8 | bytes[2]));
		return 7;
	case INET6:
		if (length < 19)
			return -EPROTO;
		socket_address_set_inet6(address, bytes + 3, (uint16_t)(bytes[1] << 8 | bytes[2]));
		return 19;
	case UNIX:
		if (length < 2 || length - 2 < bytes[1] ||
		    socket_address_set_unix(address, bytes + 2, bytes[1]) < 0)
			return -EPROTO;
		return 2 + bytes[1];
	default:
		return -EPROTO;
	}
}

int client_address_get(struct client_address *address, const void *blob, size_t length)
{
	const unsigned char *bytes = blob;
	struct client_address found = {.proxied = false};
	if (length < HEADER_SIZE || memcmp(bytes, magic, sizeof(magic)) != 0)
		return -EPROTO;
	if (bytes[4] != VERSION)
		return -EPROTONOSUPPORT;
	if ((bytes[5] & ~(PROXIED | ROUTES_EACH)) != 0)
		return -EPROTO;
	found.proxied = (bytes[5] & PROXIED) != 0;
	found.routes_each = (bytes[5] & ROUTES_EACH) != 0;
	int client = decode_address(&found.client, bytes + HEADER_SIZE, length - HEADER_SIZE);
	if (client < 0)
		return -EPROTO;
	size_t at = HEADER_SIZE + (size_t)client;
	int server = decode_address(&found.server, bytes + at, length - at);
	if (server < 0 || at + (size_t)server != length)
		return -EPROTO;
	*address = found;
	return 0;
}
