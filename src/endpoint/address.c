#include "endpoint/address.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* A unix address holds 108 bytes. A path needs one of them for its terminating zero: the kernel
 * takes a path of 108 without it, but then getsockname(2) gives 109, which few programs have
 * room for. An abstract name starts with a zero byte, where the string has its `@`, and ends
 * where the length says: every byte after the first counts, also zeros, so the length must not
 * include any padding. */

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
