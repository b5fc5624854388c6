#ifndef FERRY_KERNEL_SOCKET_H
#define FERRY_KERNEL_SOCKET_H

#include <stdint.h>
#include <sys/socket.h>

/*
 * Questions that the kernel answers about a socket. Each function returns a negative errno value if the
 * descriptor is not open (-EBADF) or is not a socket (-ENOTSOCK).
 */

/* SO_TYPE: SOCK_STREAM and its like. */
int socket_get_type(int fd);

/* SO_DOMAIN: AF_UNIX and its like. */
int socket_get_domain(int fd);

/* SO_ACCEPTCONN: 1 if the socket listens, else 0. */
int socket_is_listening(int fd);

/* SO_COOKIE: the socket's number in this kernel, the same for every copy of the descriptor. -ENOPROTOOPT
 * before Linux 4.6. */
int socket_get_cookie(int fd, uint64_t *cookie);

/* SO_PEERCRED: the process at the other end of a unix socket, as it was at connect(2) or listen(2). */
int socket_get_peer(int fd, struct ucred *peer);

#endif
