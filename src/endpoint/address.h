#ifndef FERRY_ENDPOINT_ADDRESS_H
#define FERRY_ENDPOINT_ADDRESS_H

/* The address of a unix socket, made from the string that users write for it. A path that is too long for an
 * address is replaced by its last component and a descriptor of its directory. */

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
	struct sockaddr_un un;
	socklen_t length; /* for bind(2) and connect(2); it marks the end of an abstract name */
	int directory; /* -1; or the O_PATH directory in which the path of `un` is a name. See below */
};

/* From a path, or `@name` for the abstract namespace, that fits. -EINVAL: NULL, empty or a lone `@`.
 * -ENAMETOOLONG: the string does not fit. */
int address_from_string(struct address *address, const char *string);

/* The directory of a path, as an O_PATH descriptor for the caller to close, and the last component, which lies in
 * `path`. -ENAMETOOLONG: the last component alone does not fit into an address, or the path is longer than the
 * kernel takes. Otherwise an error of open(2). */
int address_open_directory(const char *path, const char **name);

/* From a path and its directory, which the caller keeps open as long as it uses the address. */
int address_in_directory(struct address *address, const char *path, int directory);

/* From a path of any length or an abstract name. Opens the directory if it is needed. */
int address_open(struct address *address, const char *string);
void address_close(struct address *address);

/* bind(2) and connect(2). 0, or a negative errno; -EOPNOTSUPP: the path is too long for an address, /proc is not
 * mounted, and the sandbox forbids unshare(2). */
int address_bind(const struct address *address, int fd);
int address_connect(const struct address *address, int fd);

/* Whether the string names no file. */
bool address_is_abstract(const char *string);

#endif
