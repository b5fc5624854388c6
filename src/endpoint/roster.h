#ifndef FERRY_ENDPOINT_ROSTER_H
#define FERRY_ENDPOINT_ROSTER_H

/* The transports that a listener has accepted, until they are freed or given to another owner of their socket. The
 * transports outlive the listener. */

#include <stdbool.h>
#include <stddef.h>

#include "util/queue.h"

struct ferry_transport;
struct quota_share;
struct roster_entry;
struct roster_walk;

struct roster {
	TAILQ_HEAD(roster_entries, roster_entry) entries; /* the oldest first */
	size_t count;
	struct roster_walk *walks; /* those on the stack, the innermost first */
};

/* A walk lives on the stack of its caller. Whatever is freed between two steps, the roster included, the next step is
 * right. */
struct roster_walk {
	struct roster *roster; /* NULL: it is gone */
	struct roster_entry *next;
	struct roster_walk *outer;
};

void roster_init(struct roster *roster);

/* Lists the transport until it is freed, and then returns `share`, which may be NULL, to its quota. -ENOMEM: nothing has
 * changed. */
int roster_add(struct roster *roster, struct ferry_transport *transport, struct quota_share *share);

/* The listener is freed: forgets all transports. */
void roster_clear(struct roster *roster);

void roster_walk_begin(struct roster_walk *walk, struct roster *roster);

/* The next transport; NULL: there is none, and the walk is over. Each walk goes on to its end, and no further. */
struct ferry_transport *roster_walk_next(struct roster_walk *walk);

#endif
