#include "programs/shared/client_address.h"

#include <errno.h>
#include <string.h>

enum { VERSION = 2, HEADER_SIZE = 6, PROXIED = 1, ROUTES_EACH = 2 };

static const unsigned char magic[4] = {'f', 'C', 'l', 'i'};

int client_address_of_socket(struct client_address *address, int fd)
{
	struct client_address found = {.proxied = false};
	int status = ferry_address_set_peer(&found.client, fd);
	if (status == 0)
		status = ferry_address_set_own(&found.server, fd);
	if (status == 0)
		*address = found;
	return status;
}

static size_t encode_address(const struct ferry_address *address, unsigned char *out)
{
	out[0] = (unsigned char)address->length;
	memcpy(out + 1, &address->name, address->length);
	return 1 + address->length;
}

size_t client_address_put(const struct client_address *address, unsigned char *out)
{
	memcpy(out, magic, sizeof(magic));
	out[4] = VERSION;
	out[5] = (unsigned char)((address->proxied ? PROXIED : 0) |
	                         (address->routes_each ? ROUTES_EACH : 0));
	size_t used = HEADER_SIZE;
	used += encode_address(&address->client, out + used);
	return used + encode_address(&address->server, out + used);
}

/* `address` is all zero. The number of bytes that were decoded, or -EPROTO: among others, the length is not that of the
 * address. */
static int decode_address(struct ferry_address *address, const unsigned char *bytes, size_t length)
{
	if (length < 1 || bytes[0] > sizeof(address->name) || length - 1 < bytes[0])
		return -EPROTO;
	memcpy(&address->name, bytes + 1, bytes[0]);
	if (bytes[0] > 0 && (ferry_address_set(address, &address->name.any, bytes[0]) < 0 ||
	                     address->length != bytes[0]))
		return -EPROTO;
	return 1 + bytes[0];
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
