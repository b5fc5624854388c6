#ifndef FERRY_TESTS_MODEL_STREAM_H
#define FERRY_TESTS_MODEL_STREAM_H

/* One direction of a connection as it must be: the bytes and files that one end has put into its stream, the
 * descriptors between them, and a comparison with what arrives at the other end.
 *
 * The stream is a list of items. An item is one write, or one file, and has bytes of its own, which no other
 * item has: bytes that are lost, doubled or out of order do not match. A file that was stopped counts as long
 * as the file's owner was notified. Bytes behind it are compared after that.
 *
 *     item      0      1        2        3
 *     bytes     aaaa   bbbbbb   (empty)  cc
 *     fds            ^ 0                 ^ 1, 2     each in front of an item: its position is the item's start
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_ITEMS_MAX = 512, MODEL_FDS_MAX = 512, MODEL_GAPS_MAX = 32 };
enum { MODEL_BYTES_MAX = 400 * 1024 }; /* of one item */

struct evbuffer;

struct model_item {
	uint64_t length; /* of a file that is open: the bytes that it has so far */
	uint64_t start;  /* in the stream; known if the comparison has come to the item */
	bool open;       /* a file whose `finished` has not run */
	bool cut;        /* its length is uncertain until then */
};

struct model_fd {
	unsigned int item;      /* in front of which it was sent */
	uint64_t device, inode; /* its identity */
	bool arrived;           /* with these counts of bytes: */
	uint64_t handed_at;     /* given to the user of the other end before */
	uint64_t offered_at;    /* these, and those that were left */
	uint64_t read_at;       /* read by the other end, those of its message included */
	bool checked;
};

/* Bytes and descriptors that were on their way when both ends got other sockets. */
struct model_gap {
	uint64_t received; /* bytes that the other end had read */
	uint64_t bytes;    /* then lost */
	unsigned int fds_received, fds;
};

struct model_stream {
	struct model_item items[MODEL_ITEMS_MAX];
	unsigned int count;
	struct model_fd fds[MODEL_FDS_MAX];
	unsigned int fd_count;
	bool exact; /* the other end gets descriptors at their byte */
	bool early; /* with coalescing, descriptors may come before earlier bytes */
	struct model_gap gaps[MODEL_GAPS_MAX];
	unsigned int gap_count;

	/* The comparison: the next byte is `offset` in item `at`. */
	unsigned int at;
	uint64_t offset;
	uint64_t compared; /* bytes of the other end */
	uint64_t skipped;  /* lost ones */
	unsigned int gap;  /* the next */
	uint64_t gap_left; /* of the one before */

	struct evbuffer *arrived; /* not compared yet */
	uint64_t handed;          /* bytes given to the other end's user */
	unsigned int fds_handed;
};

void model_stream_open(struct model_stream *stream);
void model_stream_close(struct model_stream *stream);

/* Room for another item; for another descriptor. */
bool model_stream_has_room(const struct model_stream *stream);
bool model_stream_has_fd_room(const struct model_stream *stream);

/* Adds an item before the call that writes it: callbacks inside the call may write more. Returns its number. */
unsigned int model_stream_add(struct model_stream *stream, uint64_t length);
unsigned int model_stream_add_file(struct model_stream *stream, uint64_t length);

/* The call has failed: the item is taken back. Nothing was written inside the call. */
void model_stream_take_back(struct model_stream *stream, unsigned int item);

/* The bytes of an item, all that it can have. */
const unsigned char *model_bytes(unsigned int item);

/* A file in the stream: it has more bytes; its length is uncertain; it has left with this length. */
void model_stream_grow(struct model_stream *stream, unsigned int item, uint64_t length);
void model_stream_cut(struct model_stream *stream, unsigned int item);
void model_stream_finish(struct model_stream *stream, unsigned int item, uint64_t length);

/* A descriptor was queued; or the call has failed, and it is taken back. */
void model_stream_add_fd(struct model_stream *stream, int fd);
void model_stream_take_back_fd(struct model_stream *stream);

/* The user of the other end has got bytes, which are drained from `input`; or a descriptor, when `bytes_received`
 * had been read in all, and `left` of them were offered and left. */
void model_stream_got_bytes(struct model_stream *stream, struct evbuffer *input, size_t length);
void model_stream_got_fd(struct model_stream *stream, int fd, uint64_t bytes_received, size_t left);

/* Both ends are about to get other sockets. Counts of the sender and of the receiver. */
void model_stream_gap(struct model_stream *stream, uint64_t sent, unsigned int fds_sent,
                      uint64_t received, unsigned int fds_received);

/* Compares as far as it is certain. Fails the test if something else has come. */
void model_stream_compare(struct model_stream *stream);

/* The connection is over at both ends, and each file is finished: nothing is left to compare. `all`: everything
 * must have come; `sent`: this many bytes at least. */
void model_stream_check_end(struct model_stream *stream, bool all, uint64_t sent);

#endif
