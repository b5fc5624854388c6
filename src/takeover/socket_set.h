#ifndef FERRY_TAKEOVER_SOCKET_SET_H
#define FERRY_TAKEOVER_SOCKET_SET_H

/* A set of listening sockets, as those who fill it and take from it see it. */

#include <stdbool.h>
#include <stddef.h>

#include "endpoint/socket_file.h"
#include "ferry/socket_set.h"

struct socket_set_entry {
	char *name;
	int fd;                  /* -1: not the set's after all */
	struct socket_file file; /* with `bound`: the set owns it. Without: it may become the set's */
	bool offered;            /* to the new process of a takeover */
};

struct ferry_socket_set {
	struct socket_set_entry *entries;
	size_t count, room;
	struct ferry_takeover *takeover; /* the one under way */
};

/* Adds a socket, and makes it non-blocking; the descriptor and the file are the set's on success. The
 * errors of ferry_socket_set_add(). */
int socket_set_insert(struct ferry_socket_set *set, const char *name, int fd,
                      const struct socket_file *file);

/* Makes room for `count` more. -ENOMEM. */
int socket_set_reserve(struct ferry_socket_set *set, size_t count);

/* Moves what is offered to another set, which has room for it, and gives up its files. */
void socket_set_move_offered(struct ferry_socket_set *set, struct ferry_socket_set *to);

/* Gives up the files of what is offered, or takes those of all that have one. */
void socket_set_disown_offered(struct ferry_socket_set *set);
void socket_set_own_files(struct ferry_socket_set *set);

#endif
