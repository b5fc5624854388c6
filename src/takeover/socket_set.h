#ifndef FERRY_TAKEOVER_SOCKET_SET_H
#define FERRY_TAKEOVER_SOCKET_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "ferry/socket_set.h"

#include "endpoint/socket_file.h"

/*
 * A set of listening sockets. Activation and takeovers fill it, and a takeover empties it. The set
 * knows a takeover only as a callback.
 */

struct socket_set_entry {
	char *name;
	int fd;                  /* -1: the set does not own it */
	struct socket_file file; /* the set owns it if `bound` is set, and may own it later if not */
	bool offered;            /* to the new process of a takeover */
};

struct ferry_socket_set {
	struct socket_set_entry *entries;
	size_t count, room;
	void (*freed)(void *argument); /* of the takeover under way; NULL: none is */
	void *freed_argument;
};

/* Adds a socket, and makes it non-blocking. On success the set owns the descriptor and the file. The
 * errors of ferry_socket_set_add(). */
int socket_set_insert(struct ferry_socket_set *set, const char *name, int fd,
                      const struct socket_file *file);

/* Makes room for `count` more sockets. -ENOMEM. */
int socket_set_reserve(struct ferry_socket_set *set, size_t count);

/* Moves the offered sockets to another set, which has room for them, and disowns their files. */
void socket_set_move_offered(struct ferry_socket_set *set, struct ferry_socket_set *to);

/* Disowns the files of the offered sockets: the set does not remove them. */
void socket_set_disown_offered(struct ferry_socket_set *set);

/* Owns the files of all sockets that have one. */
void socket_set_own_files(struct ferry_socket_set *set);

/* Begins a takeover of the set; one at a time. `freed` runs when the set is freed before the takeover has
 * ended. */
void socket_set_attach_takeover(struct ferry_socket_set *set, void (*freed)(void *argument),
                                void *argument);

/* Ends it. */
void socket_set_detach_takeover(struct ferry_socket_set *set);

/* Whether a takeover of the set is under way. */
bool socket_set_has_takeover(const struct ferry_socket_set *set);

#endif
