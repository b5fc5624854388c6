#ifndef FERRY_ENDPOINT_ADDRESS_H
#define FERRY_ENDPOINT_ADDRESS_H

/* The address of a unix socket, made from the string that users write for it. */

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
	struct sockaddr_un un;
	socklen_t length; /* for bind(2) and connect(2); it marks the end of an abstract name */
};

/* From a path, or `@name` for the abstract namespace. -EINVAL: NULL, empty or a lone `@`. -ENAMETOOLONG: the
 * string does not fit. */
int address_from_string(struct address *address, const char *string);

/* Whether the address names no file. */
bool address_is_abstract(const struct address *address);

#endif
