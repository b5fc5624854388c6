#ifndef FERRY_ENDPOINT_STALE_SOCKET_H
#define FERRY_ENDPOINT_STALE_SOCKET_H

/* The socket file that a dead process has left. */

#include <sys/types.h>

#include "endpoint/address.h"

/* Removes the file `name` in `directory`, which is the path of `address`, if it is a socket of this user or of
 * `owner`, or of any user if this one is root, and nobody listens on it. 0: the path is free now. -EADDRINUSE: the
 * file is something else, or the socket is in use. Otherwise an error of openat(2), fstat(2), connect(2) or
 * unlinkat(2).
 *
 * The caller holds the lock of the path: no other process that uses the lock can bind there meanwhile. */
int stale_socket_remove(int directory, const char *name, const struct address *address,
                        uid_t owner);

#endif
