#include "endpoint/address.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* A unix address holds 108 bytes. A path needs one of them for its terminating zero: the kernel accepts a path
 * of 108 bytes without it, but getsockname(2) then returns a length of 109, and few programs have room for
 * that. An abstract name starts with a zero byte, in the place of the string's `@`, and ends at the given
 * length: zeros after the first byte are part of the name, and therefore the length includes no padding. */

int address_from_string(struct address *address, const char *string)
{
	if (string == NULL || string[0] == '\0' || strcmp(string, "@") == 0)
		return -EINVAL;

	const bool abstract = string[0] == '@';
	const size_t length = strlen(string);
	if (length + (abstract ? 0 : 1) > sizeof(address->un.sun_path))
		return -ENAMETOOLONG;

	*address = (struct address){.un.sun_family = AF_UNIX};
	memcpy(address->un.sun_path, string, length);
	if (abstract)
		address->un.sun_path[0] = '\0';
	address->length =
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
	return 0;
}

bool address_is_abstract(const struct address *address)
{
	return address->un.sun_path[0] == '\0';
}
