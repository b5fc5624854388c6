#ifndef FERRY_ENDPOINT_SOCKET_FILE_H
#define FERRY_ENDPOINT_SOCKET_FILE_H

/* The file that a bound unix socket has in the file system: its mode, its identity, its removal; and the
 * lock that its owner may hold. */

#include <stdbool.h>
#include <sys/types.h>

#include "endpoint/address.h"

/* Who may connect: the file's permission bits and to whom it belongs. */
struct socket_file_access {
	mode_t mode;
	uid_t owner; /* (uid_t)-1: not changed, as in chown(2) */
	gid_t group; /* (gid_t)-1: not changed */
};

struct socket_file {
	int directory; /* O_PATH; -1: there is no file */
	int lock;      /* as lock_file.h has it; -1: none */
	bool bound;    /* it is ours to remove, and so is the lock's file */
	dev_t device;  /* device and inode: which file is ours */
	ino_t inode;
	char name[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* in the directory */
};

#define SOCKET_FILE_NONE ((struct socket_file){.directory = -1, .lock = -1})

/* It is another's now. */
void socket_file_forget(struct socket_file *file);

/* Binds `fd` to the path of `address`; the file never gives anybody more than `access` does. With `locked`,
 * the lock beside it is won first, and a socket's file that nobody listens on any more is replaced. On
 * failure there is no file; but one that cannot be looked at is left, as it may be another's. */
int socket_file_bind(struct socket_file *file, int fd, const struct address *address,
                     const struct socket_file_access *access, bool locked);

/* Finds the file of a socket that is bound already, by the path that it says it has. -ENOENT: it has
 * none, or there is nothing. -EADDRINUSE: there is something that is no socket. */
int socket_file_find(struct socket_file *file, int fd);

/* The file is ours from now on. */
void socket_file_own(struct socket_file *file);

/* Removes the file if it is ours and still the one that was bound, and after it the lock. To be called
 * while the socket is open. */
void socket_file_remove(struct socket_file *file);

#endif
