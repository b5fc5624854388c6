#include "util/heap.h"

#include <errno.h>
#include <stdlib.h>

enum { ROOM_MIN = 16 };

int heap_reserve(struct heap *heap, size_t count)
{
	size_t room = heap->room < ROOM_MIN ? ROOM_MIN : heap->room;

	if (count <= heap->room)
		return 0;
	while (room < count)
		room *= 2;
	struct heap_node **nodes = realloc(heap->nodes, room * sizeof(struct heap_node *));
	if (nodes == NULL)
		return -ENOMEM;
	heap->nodes = nodes;
	heap->room = room;
	return 0;
}

static void put(struct heap *heap, size_t place, struct heap_node *node)
{
	heap->nodes[place - 1] = node;
	node->place = place;
}

static void move_up(struct heap *heap, struct heap_node *node)
{
	size_t place = node->place;

	while (place > 1 && heap->before(node, heap->nodes[place / 2 - 1])) {
		put(heap, place, heap->nodes[place / 2 - 1]);
		place /= 2;
	}
	put(heap, place, node);
}

static void move_down(struct heap *heap, struct heap_node *node)
{
	size_t place = node->place, child;

	while ((child = place * 2) <= heap->count) {
		if (child < heap->count && heap->before(heap->nodes[child], heap->nodes[child - 1]))
			child++;
		if (!heap->before(heap->nodes[child - 1], node))
			break;
		put(heap, place, heap->nodes[child - 1]);
		place = child;
	}
	put(heap, place, node);
}

void heap_add(struct heap *heap, struct heap_node *node)
{
	heap->count++;
	put(heap, heap->count, node);
	move_up(heap, node);
}

void heap_update(struct heap *heap, struct heap_node *node)
{
	size_t place = node->place;

	move_up(heap, node);
	if (node->place == place)
		move_down(heap, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
	if (node->place == 0)
		return;
	struct heap_node *last = heap->nodes[heap->count - 1];
	heap->count--;
	if (last != node) {
		put(heap, node->place, last);
		heap_update(heap, last);
	}
	node->place = 0;
}

void heap_reorder(struct heap *heap)
{
	for (size_t place = heap->count / 2; place > 0; place--)
		move_down(heap, heap->nodes[place - 1]);
}

void heap_clear(struct heap *heap)
{
	free(heap->nodes);
	*heap = (struct heap){0};
}
