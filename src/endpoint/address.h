#ifndef FERRY_ENDPOINT_ADDRESS_H
#define FERRY_ENDPOINT_ADDRESS_H

/* The address of a unix socket, from the one string that users write for it. */

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
	struct sockaddr_un un;
	socklen_t length; /* for bind(2) and connect(2): without it, an abstract name has no end */
};

/* Takes a path, or `@name` for the abstract namespace. -EINVAL: NULL, empty or a lone `@`.
 * -ENAMETOOLONG: it does not fit. */
int address_from_string(struct address *address, const char *string);

/* Whether it names no file. */
bool address_is_abstract(const struct address *address);

#endif
