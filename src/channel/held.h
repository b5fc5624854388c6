#ifndef FERRY_CHANNEL_HELD_H
#define FERRY_CHANNEL_HELD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/buffer.h>

/*
 * What the events of one poll point to, until the next one: bytes that have left their channel's input, and
 * descriptors that the caller may steal.
 */

/* A descriptor that has arrived, or the news that others are lost: first in its channel's queue, then
 * here. */
struct arrival {
	STAILQ_ENTRY(arrival) link;
	uint64_t position; /* in the stream: before the byte with this number */
	int fd;            /* -1: lost */
};
STAILQ_HEAD(arrival_list, arrival);

/* Closes the descriptor, if there is one. */
void arrival_free(struct arrival *arrival);

struct held_block;
struct held_piece;

struct held {
	SLIST_HEAD(held_blocks, held_block) blocks;
	SLIST_HEAD(held_pieces, held_piece) pieces;
	struct arrival_list arrivals;
};

void held_init(struct held *held);

/* Lets go of everything; it can be used again. Some memory is kept for that. */
void held_release(struct held *held);

/* The same without keeping any. */
void held_destroy(struct held *held);

/* The first `length` bytes of the buffer in one piece, as text of the held ones; they stay in the buffer.
 * NULL: no memory. */
const char *held_copy(struct held *held, struct evbuffer *buffer, size_t length);

/* Takes `length` bytes, which lie in one piece, from the front of the buffer: without copying them if nothing
 * follows in that piece. NULL: no memory, and they are still there. */
const char *held_move(struct held *held, struct evbuffer *buffer, size_t length);

/* Takes an arrival, which is in no list. */
void held_keep(struct held *held, struct arrival *arrival);

/* Gives a held descriptor away: 0, or -ENOENT. */
int held_steal(struct held *held, int fd);

#endif
