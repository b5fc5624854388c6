#ifndef FERRY_ENDPOINT_SOCKET_FILE_H
#define FERRY_ENDPOINT_SOCKET_FILE_H

/* The file that a bound unix socket has in the file system: its mode, its identity, its removal. */

#include <stdbool.h>
#include <sys/types.h>

#include "endpoint/address.h"

struct socket_file {
	int directory; /* O_PATH; -1: there is no file */
	bool bound;    /* it is ours to remove */
	dev_t device;  /* device and inode: which file is ours */
	ino_t inode;
	char name[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* in the directory */
};

#define SOCKET_FILE_NONE ((struct socket_file){.directory = -1})

/* Binds `fd` to the path of `address`; the file has exactly `mode` from the first moment. On
 * failure there is no file; but one that cannot be looked at is left, as it may be another's. */
int socket_file_bind(struct socket_file *file, int fd, const struct address *address, mode_t mode);

/* Finds the file of a socket that is bound already, by the path that it says it has. -ENOENT: it has none,
 * or there is nothing. -EADDRINUSE: there is something that is no socket. */
int socket_file_find(struct socket_file *file, int fd);

/* Removes the file if it is ours and still the one that was bound. To be called while the socket is open. */
void socket_file_remove(struct socket_file *file);

#endif
