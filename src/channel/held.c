#include "channel/held.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK_SIZE = 16 * 1024 };

/* Lines and small pieces, one behind the other: what a poll tells costs no allocation of its own. */
struct held_block {
	SLIST_ENTRY(held_block) link;
	size_t size, used;
	char bytes[];
};

/* A buffer of its own for each: what is in a buffer may move when more is added to it. */
struct held_piece {
	SLIST_ENTRY(held_piece) link;
	struct evbuffer *bytes;
};

void arrival_free(struct arrival *arrival)
{
	if (arrival->fd >= 0)
		close(arrival->fd);
	free(arrival);
}

void held_init(struct held *held)
{
	SLIST_INIT(&held->blocks);
	SLIST_INIT(&held->pieces);
	STAILQ_INIT(&held->arrivals);
}

static void release_pieces(struct held *held)
{
	struct held_piece *piece;

	while ((piece = SLIST_FIRST(&held->pieces)) != NULL) {
		SLIST_REMOVE_HEAD(&held->pieces, link);
		evbuffer_free(piece->bytes);
		free(piece);
	}
}

static void release_arrivals(struct held *held)
{
	struct arrival *arrival;

	while ((arrival = STAILQ_FIRST(&held->arrivals)) != NULL) {
		STAILQ_REMOVE_HEAD(&held->arrivals, link);
		arrival_free(arrival);
	}
}

/* All but one of the usual size. */
void held_release(struct held *held)
{
	struct held_block *block, *kept = NULL;

	release_pieces(held);
	release_arrivals(held);
	while ((block = SLIST_FIRST(&held->blocks)) != NULL) {
		SLIST_REMOVE_HEAD(&held->blocks, link);
		if (kept == NULL && block->size == BLOCK_SIZE)
			kept = block;
		else
			free(block);
	}
	if (kept != NULL) {
		kept->used = 0;
		SLIST_INSERT_HEAD(&held->blocks, kept, link);
	}
}

void held_destroy(struct held *held)
{
	held_release(held);
	free(SLIST_FIRST(&held->blocks));
	SLIST_INIT(&held->blocks);
}

/* Room in the newest block, or in a new one. */
static char *take_room(struct held *held, size_t length)
{
	struct held_block *block = SLIST_FIRST(&held->blocks);

	if (block == NULL || block->size - block->used < length) {
		size_t size = length > BLOCK_SIZE ? length : BLOCK_SIZE;
		block = malloc(sizeof(*block) + size);
		if (block == NULL)
			return NULL;
		block->size = size;
		block->used = 0;
		SLIST_INSERT_HEAD(&held->blocks, block, link);
	}
	char *room = block->bytes + block->used;
	block->used += length;
	return room;
}

const char *held_copy(struct held *held, struct evbuffer *buffer, size_t length)
{
	if (length == 0)
		return "";
	char *room = take_room(held, length);
	if (room != NULL)
		evbuffer_copyout(buffer, room, length);
	return room;
}

const char *held_move(struct held *held, struct evbuffer *buffer, size_t length)
{
	struct held_piece *piece = malloc(sizeof(*piece));
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
	SLIST_INSERT_HEAD(&held->pieces, piece, link);
	return (const char *)evbuffer_pullup(piece->bytes, -1);
}

void held_keep(struct held *held, struct arrival *arrival)
{
	STAILQ_INSERT_TAIL(&held->arrivals, arrival, link);
}

int held_steal(struct held *held, int fd)
{
	struct arrival *arrival = STAILQ_FIRST(&held->arrivals);

	while (arrival != NULL && arrival->fd != fd)
		arrival = STAILQ_NEXT(arrival, link);
	if (arrival == NULL)
		return -ENOENT;
	arrival->fd = -1;
	return 0;
}
