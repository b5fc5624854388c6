#ifndef FERRY_ENDPOINT_SOCKET_FILE_H
#define FERRY_ENDPOINT_SOCKET_FILE_H

/* The file that a bound unix socket has in the file system: its permissions, its identity, its removal; and
 * the lock of its path. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "endpoint/address.h"

/* Permission bits, owner and group of the file. */
struct socket_file_access {
	mode_t mode;
	uid_t owner; /* (uid_t)-1: not changed, as in chown(2) */
	gid_t group; /* (gid_t)-1: not changed */
};

struct socket_file {
	int directory; /* O_PATH; -1: there is no file */
	int lock;      /* a descriptor of lock_file.h; -1: none */
	bool bound;    /* this object removes the file, and the lock's file */
	dev_t device;  /* device and inode identify the file */
	ino_t inode;
	char name[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* in the directory */
};

#define SOCKET_FILE_NONE ((struct socket_file){.directory = -1, .lock = -1})

/* Forgets the file without removing it: ownership has moved elsewhere. */
void socket_file_forget(struct socket_file *file);

/* Binds `fd` to a path of any length. The file never gives more permissions than `access`. With `locked` it
 * first acquires the lock of the path and removes a stale socket file. On failure no file is left, except one
 * that fstatat(2) fails for: that may belong to somebody else. */
int socket_file_bind(struct socket_file *file, int fd, const char *path,
                     const struct socket_file_access *access, bool locked);

/* Finds the file of a socket that is bound already, by its address. -ENOENT: the socket has no path, there is no
 * file, or the path is that of a descriptor. -EADDRINUSE: the file is not a socket. */
int socket_file_find(struct socket_file *file, int fd);

/* Makes this object the one that removes the file. */
void socket_file_own(struct socket_file *file);

/* Removes the file if this object owns it and it is still the one that was bound, then the lock. To be called
 * while the socket is open. */
void socket_file_remove(struct socket_file *file);

#endif
