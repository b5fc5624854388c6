#ifndef FERRY_KERNEL_PEER_UNREAD_H
#define FERRY_KERNEL_PEER_UNREAD_H

/*
 * The bytes that the other end of a unix socket has yet to read. The send queue of the socket becomes shorter by whole
 * buffers of the kernel alone, up to about 70 kB. The kernel's diagnosis of sockets (sock_diag(7)) has the bytes. It
 * costs five system calls, and a descriptor slot meanwhile.
 */

/* A negative errno: the kernel does not have the diagnosis, a sandbox forbids it, or an end is in another network
 * namespace. */
int peer_unread_count(int fd);

#endif
