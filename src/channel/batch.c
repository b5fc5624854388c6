#include "channel/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "message/kept.h"

enum { BLOCK_SIZE = 16 * 1024 };

/* Lines and small pieces lie one behind the other in a block, without an allocation for each. */
struct batch_block {
	SLIST_ENTRY(batch_block) link;
	size_t size, used;
	char bytes[];
};

/* A large piece has a buffer of its own: evbuffer_add() may move bytes that are in the buffer already. */
struct batch_piece {
	SLIST_ENTRY(batch_piece) link;
	struct evbuffer *bytes;
};

void channel_item_free(struct channel_item *item)
{
	if (item->fd >= 0)
		close(item->fd);
	message_free_kept(item->message);
	free(item);
}

void channel_items_clear(struct channel_items *items)
{
	struct channel_item *item;

	while ((item = STAILQ_FIRST(items)) != NULL) {
		STAILQ_REMOVE_HEAD(items, link);
		channel_item_free(item);
	}
}

void batch_init(struct batch *batch)
{
	SLIST_INIT(&batch->blocks);
	SLIST_INIT(&batch->pieces);
	STAILQ_INIT(&batch->items);
}

static void free_pieces(struct batch *batch)
{
	struct batch_piece *piece;

	while ((piece = SLIST_FIRST(&batch->pieces)) != NULL) {
		SLIST_REMOVE_HEAD(&batch->pieces, link);
		evbuffer_free(piece->bytes);
		free(piece);
	}
}

/* Frees all blocks but one of the usual size. */
static void free_blocks(struct batch *batch)
{
	struct batch_block *block, *spare = NULL;

	while ((block = SLIST_FIRST(&batch->blocks)) != NULL) {
		SLIST_REMOVE_HEAD(&batch->blocks, link);
		if (spare == NULL && block->size == BLOCK_SIZE)
			spare = block;
		else
			free(block);
	}
	if (spare != NULL) {
		spare->used = 0;
		SLIST_INSERT_HEAD(&batch->blocks, spare, link);
	}
}

void batch_clear(struct batch *batch)
{
	free_pieces(batch);
	channel_items_clear(&batch->items);
	free_blocks(batch);
}

void batch_destroy(struct batch *batch)
{
	batch_clear(batch);
	free(SLIST_FIRST(&batch->blocks));
	SLIST_INIT(&batch->blocks);
}

/* Reserves room in the newest block, or in a new one. NULL: no memory. */
static char *reserve_room(struct batch *batch, size_t length)
{
	struct batch_block *block = SLIST_FIRST(&batch->blocks);

	if (block == NULL || block->size - block->used < length) {
		size_t size = length > BLOCK_SIZE ? length : BLOCK_SIZE;
		block = malloc(sizeof(*block) + size);
		if (block == NULL)
			return NULL;
		block->size = size;
		block->used = 0;
		SLIST_INSERT_HEAD(&batch->blocks, block, link);
	}
	char *room = block->bytes + block->used;
	block->used += length;
	return room;
}

const char *batch_copy(struct batch *batch, struct evbuffer *buffer, size_t length)
{
	if (length == 0)
		return "";
	char *room = reserve_room(batch, length);
	if (room != NULL)
		evbuffer_copyout(buffer, room, length);
	return room;
}

const char *batch_move(struct batch *batch, struct evbuffer *buffer, size_t length)
{
	struct batch_piece *piece = malloc(sizeof(*piece));
	if (piece == NULL)
		return NULL;
	piece->bytes = evbuffer_new();
	if (piece->bytes == NULL ||
	    evbuffer_remove_buffer(buffer, piece->bytes, length) != (int)length) {
		if (piece->bytes != NULL) {
			evbuffer_prepend_buffer(buffer, piece->bytes);
			evbuffer_free(piece->bytes);
		}
		free(piece);
		return NULL;
	}
	SLIST_INSERT_HEAD(&batch->pieces, piece, link);
	return (const char *)evbuffer_pullup(piece->bytes, -1);
}

void batch_add_item(struct batch *batch, struct channel_item *item)
{
	STAILQ_INSERT_TAIL(&batch->items, item, link);
}

int batch_steal_fd(struct batch *batch, int fd)
{
	struct channel_item *item = STAILQ_FIRST(&batch->items);

	while (item != NULL && item->fd != fd)
		item = STAILQ_NEXT(item, link);
	if (item == NULL)
		return -ENOENT;
	item->fd = -1;
	return 0;
}
