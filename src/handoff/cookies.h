#ifndef FERRY_HANDOFF_COOKIES_H
#define FERRY_HANDOFF_COOKIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The cookies of a dispatcher's channels. A channel that is sent over itself would be a cycle that only the kernel's
 * garbage collector frees, so each handoff of a socket is looked up here: a hash table that grows with the channels.
 */

struct cookie_node {
	uint64_t cookie; /* 0: it has none, and is not in the set */
	struct cookie_node *next;
};

struct cookie_set {
	struct cookie_node **buckets;
	size_t bucket_count, count;
};

/* Makes room for one more. -ENOMEM: there is none for the first. */
int cookie_set_reserve(struct cookie_set *set);

/* Adds a node, for which there is room. */
void cookie_set_add(struct cookie_set *set, struct cookie_node *node);

void cookie_set_remove(struct cookie_set *set, struct cookie_node *node);

bool cookie_set_has(const struct cookie_set *set, uint64_t cookie);

/* Frees the memory. */
void cookie_set_clear(struct cookie_set *set);

#endif
