#ifndef FERRY_UTIL_HEAP_H
#define FERRY_UTIL_HEAP_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A binary heap: finds the first of its items in one step, and follows each change in log n. The items belong to the
 * caller; each has a node for each heap that it may be in. Room is reserved before, so that no other call can fail.
 */

struct heap_node {
	size_t place; /* from 1; 0: in no heap */
};

struct heap {
	struct heap_node *
	    *nodes; /* nodes[place - 1]; none comes before its parent nodes[place / 2 - 1] */
	size_t count, room;
	/* Whether the first comes before the second. Set before the first item is added. */
	bool (*before)(const struct heap_node *first, const struct heap_node *second);
};

/* Makes room for `count` items. -ENOMEM. */
int heap_reserve(struct heap *heap, size_t count);

/* Adds an item that is in no heap. There is room for it. */
void heap_add(struct heap *heap, struct heap_node *node);

/* Moves an item to its place after it has changed. */
void heap_update(struct heap *heap, struct heap_node *node);

/* Removes an item. One that is in no heap: nothing happens. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* Orders all items anew, after `before` compares in another way. */
void heap_reorder(struct heap *heap);

/* Frees the memory. */
void heap_clear(struct heap *heap);

/* The item that comes before all others, or NULL. */
static inline struct heap_node *heap_first(const struct heap *heap)
{
	return heap->count > 0 ? heap->nodes[0] : NULL;
}

#endif
