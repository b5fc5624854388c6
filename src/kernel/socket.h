#ifndef FERRY_KERNEL_SOCKET_H
#define FERRY_KERNEL_SOCKET_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/*
 * Options of a socket. Each function returns a negative errno value if the descriptor is not open (-EBADF) or
 * is not a socket (-ENOTSOCK). An option that a sandbox forbids is like one that the kernel does not have.
 */

/* SO_TYPE: SOCK_STREAM and its like. */
int socket_get_type(int fd);

/* SO_DOMAIN: AF_UNIX and its like. */
int socket_get_domain(int fd);

/* SO_PROTOCOL: IPPROTO_TCP and its like; 0 for a unix socket. */
int socket_get_protocol(int fd);

/* Whether it is a stream of TCP, by an option that no other socket has; false also for what is no socket. SO_PROTOCOL is
 * IPPROTO_TCP for a raw socket too. */
bool socket_is_tcp(int fd);

/* SO_ACCEPTCONN: 1 if the socket listens, else 0. */
int socket_is_listening(int fd);

/* poll(2) without waiting, also for what is no socket. A signal interrupts even that: it is made again. -1 with errno
 * EINVAL if the process may open fewer descriptors than `count`, or ENOMEM. */
int socket_poll_now(struct pollfd *entries, nfds_t count);

/* poll(2): whether one of these events, POLLHUP or POLLERR is set. False also for a negative descriptor. */
bool socket_is_ready(int fd, short events);

/* poll(2): POLLHUP and POLLERR, as far as they are set. 0 also for a negative descriptor. */
int socket_get_hang_up(int fd);

/* Whether the other end sends no more, and nothing of it is unread: the next read finds the end or an error. False also
 * for a negative descriptor. */
bool socket_has_ended(int fd);

/* SO_ERROR: 0, or the error of the socket as a negative errno value, which the kernel forgets. */
int socket_get_error(int fd);

/* The next thing that a read of a connection would find. */
enum socket_prospect {
	SOCKET_QUIET, /* nothing yet */
	SOCKET_INPUT,
	SOCKET_ENDED /* the end or an error */
};

/* Looks without taking anything. `error`: for SOCKET_ENDED, 0 or a negative errno value. */
enum socket_prospect socket_look(int fd, int *error);

/* SO_COOKIE: the socket's number in this kernel, the same for every copy of the descriptor. -ENOPROTOOPT
 * before Linux 4.6. */
int socket_get_cookie(int fd, uint64_t *cookie);

/* SO_PEERCRED: the process at the other end of a unix socket, as it was at connect(2) or listen(2). */
int socket_get_peer(int fd, struct ucred *peer);

/* Whether that process runs as the effective user of this one, or as root: 0, or -EACCES. */
int socket_check_peer_user(int fd);

/* SO_PEERGROUPS: the supplementary groups of that process. `size` is that of `groups` in bytes, and becomes the
 * size of the answer. -ERANGE: `groups` is too small, and `size` is what the answer needs. -ENOPROTOOPT before
 * Linux 4.13. */
int socket_get_peer_groups(int fd, gid_t *groups, socklen_t *size);

/* SO_PEERPIDFD: a new descriptor, close-on-exec, for that process. -ENOPROTOOPT before Linux 6.5. */
int socket_get_peer_pidfd(int fd);

/* SO_PASSRIGHTS: whether the other end of a unix socket may send descriptors. A listening socket passes its
 * setting on to each connection at connect(2). -ENOPROTOOPT before Linux 6.16, where it always may. */
int socket_set_pass_rights(int fd, bool pass);

#endif
