#ifndef FERRY_CHANNEL_BATCH_H
#define FERRY_CHANNEL_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>

#include "util/queue.h"

/*
 * The memory that the events of one poll point to. The next poll frees it. A batch has bytes that have left
 * their channel's input, and descriptors that the user may steal.
 */

struct ferry_message;

/* A message, a descriptor, or the news that the kernel could not install some. An item is first in its channel's queue,
 * then in the batch. */
struct channel_item {
	STAILQ_ENTRY(channel_item) link;
	uint64_t position; /* in the stream: the item came before the byte with this number */
	int fd;            /* -1: descriptors were lost; or it is a message */
	struct ferry_message *message; /* kept; or NULL */
};
STAILQ_HEAD(channel_items, channel_item);

/* Frees the item, and closes its descriptors. */
void channel_item_free(struct channel_item *item);

/* Frees all items of the list. */
void channel_items_clear(struct channel_items *items);

struct batch_block;
struct batch_piece;

struct batch {
	SLIST_HEAD(batch_blocks, batch_block) blocks;
	SLIST_HEAD(batch_pieces, batch_piece) pieces;
	struct channel_items items;
};

void batch_init(struct batch *batch);

/* Empties the batch. One block of memory stays allocated for the next poll. */
void batch_clear(struct batch *batch);

/* Empties the batch, and frees that block too. */
void batch_destroy(struct batch *batch);

/* Copies the first `length` bytes of the buffer into one piece of the batch. The bytes stay in the buffer.
 * NULL: no memory. */
const char *batch_copy(struct batch *batch, struct evbuffer *buffer, size_t length);

/* Moves `length` bytes, which lie in one piece, from the front of the buffer into the batch. Copies nothing
 * if these are all bytes of that piece. NULL: no memory, and the bytes are still in the buffer. */
const char *batch_move(struct batch *batch, struct evbuffer *buffer, size_t length);

/* Adds an item, which is in no list. */
void batch_add_item(struct batch *batch, struct channel_item *item);

/* The descriptor belongs to the user from now on. -ENOENT: the batch does not have it. */
int batch_steal_fd(struct batch *batch, int fd);

#endif
