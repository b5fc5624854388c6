#ifndef FERRY_UTIL_TOURNAMENT_H
#define FERRY_UTIL_TOURNAMENT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Finds the first of its items in one step, and follows each change in log n: a tree has the winner of each pair. The
 * items belong to the caller; each has a node for each tournament that it may be in. The keys are in one array: no
 * comparison reads an item, and a change writes to no other item. Room is reserved before, so that no other call can
 * fail.
 */

struct tournament_node {
	uint32_t place; /* from 1; 0: in no tournament */
};

/* Compared by `major`, then by `minor`; the smallest comes first. The greatest of all is none. */
struct tournament_key {
	uint64_t major, minor;
};

struct tournament_entry {
	struct tournament_key key;
	struct tournament_node *node; /* its place - 1 is the index */
};

struct tournament {
	struct tournament_entry *entries;
	/* Indices: winners[1] is the first of all, winners[i] that of winners[2 * i] and winners[2 * i + 1]; behind them,
	 * from `room` on, all indices. */
	uint32_t *winners;
	uint32_t count, room; /* the room is a power of 2, or 0 */
};

/* Makes room for `count` items. -ENOMEM. */
int tournament_reserve(struct tournament *tournament, size_t count);

/* Sets the key of an item, and adds the item if it is in no tournament: there is room for it. */
void tournament_put(struct tournament *tournament, struct tournament_node *node,
                    struct tournament_key key);

/* Removes an item. One that is in no tournament: nothing happens. */
void tournament_remove(struct tournament *tournament, struct tournament_node *node);

/* Frees the memory. */
void tournament_clear(struct tournament *tournament);

/* The item that comes before all others, or NULL. */
static inline struct tournament_node *tournament_first(const struct tournament *tournament)
{
	return tournament->count > 0 ? tournament->entries[tournament->winners[1]].node : NULL;
}

#endif
