#ifndef FERRY_HANDOFF_LISTENERS_H
#define FERRY_HANDOFF_LISTENERS_H

/* A set of listening sockets, as those who fill it and take from it see it. */

#include <stdbool.h>
#include <stddef.h>

#include "endpoint/socket_file.h"
#include "ferry/listeners.h"

struct listeners_entry {
	char *name;
	int fd;                  /* -1: not the set's after all */
	struct socket_file file; /* with `bound`: the set owns it. Without: it may become the set's */
	bool offered;            /* to the new process of a takeover */
};

struct ferry_listeners {
	struct listeners_entry *entries;
	size_t count, room;
	struct ferry_takeover *takeover; /* the one under way */
};

/* Adds a socket, and makes it non-blocking; the descriptor and the file are the set's on success. The
 * errors of ferry_listeners_add(). */
int listeners_insert(struct ferry_listeners *set, const char *name, int fd,
                     const struct socket_file *file);

/* Makes room for `count` more. -ENOMEM. */
int listeners_reserve(struct ferry_listeners *set, size_t count);

/* Moves what is offered to another set, which has room for it, and gives up its files. */
void listeners_move_offered(struct ferry_listeners *set, struct ferry_listeners *to);

/* Gives up the files of what is offered, or takes those of all that have one. */
void listeners_disown_offered(struct ferry_listeners *set);
void listeners_own_files(struct ferry_listeners *set);

#endif
