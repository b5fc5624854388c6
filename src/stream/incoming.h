#ifndef FERRY_STREAM_INCOMING_H
#define FERRY_STREAM_INCOMING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <event2/buffer.h>

#include "kernel/ancillary.h"
#include "kernel/fd_ahead.h"
#include "kernel/tls.h"

/*
 * The incoming stream: one read moves bytes to the input buffer, and returns the descriptors that came with
 * them and whether the kernel has dropped others.
 *
 * With exact positions a read has descriptors at its first byte or not at all (kernel/fd_ahead.h). No read costs
 * less than a look, because no other call returns without consuming it whether the next message has descriptors.
 * A look covers all bytes that are in the socket, if the stream brings more than a few: `clear` counts those that
 * are still to be read.
 *
 * On a socket with TLS in the kernel, the records that are no data never reach the buffer.
 */
enum incoming_way {
	INCOMING_PLAIN = 0,
	INCOMING_EXACT, /* positions are found */
	INCOMING_TLS
};

struct incoming_positions {
	enum fd_ahead_support support;
	size_t clear; /* bytes in the socket without descriptors behind the first of them */
	size_t next;  /* the same for the bytes behind these, which begin with descriptors */
	/* Whether a read that may bring descriptors is wanted now. NULL: always. */
	bool (*admits_fds)(void *argument);
	void *argument;
};

/* What a way other than the plain one needs. */
struct incoming_part {
	struct incoming_positions positions;
	struct tls_keys keys;
	struct tls_records records;
};

struct incoming {
	struct incoming_part *part; /* NULL: incoming_need_part() was not called yet */
	unsigned int space;         /* room for the next read; grows and shrinks with what arrives */
	bool is_socket;             /* recvmsg(2), not readv(2) */
	unsigned char way;          /* an enum incoming_way */
	/* A read ends at descriptors, and more may be behind them. Whether another read is worth a try is learnt from
	 * the last one: alone, a message with descriptors would cost a call that finds nothing. */
	bool tries_behind_fds; /* the last try found something */
	bool trying;
	unsigned char untried; /* number of reads since then without a try */
	bool undelivered;      /* bytes have been read that the user was not offered */
	bool offered;          /* without a protocol: the read callback was run for all of them */
};

void incoming_init(struct incoming *incoming, bool is_socket);
void incoming_release(struct incoming *incoming);

/* Before another way than the plain one is set. -ENOMEM. */
int incoming_need_part(struct incoming *incoming);

/* Sets how bytes are read from now on. Also for another socket: what is known of the socket is forgotten. */
void incoming_set_way(struct incoming *incoming, enum incoming_way way);

/* The user was offered all bytes; or is about to be. */
static inline void incoming_set_undelivered(struct incoming *incoming, bool undelivered)
{
	incoming->undelivered = undelivered;
}

/*
 * Reads once from `fd` into `input`, at most `max` bytes (more than 0).
 *   > 0  bytes read; `maybe_more`: another read is worth a try
 *   0    end of file, or close_notify of TLS
 *   < 0  negative errno, those of tls_receive() too; -EBUSY: the next byte may have descriptors, and bytes before it are
 *        undelivered; -ENOBUFS: it may have, and `admits_fds` has returned false
 * In each case the descriptors in `ancillary` are the caller's.
 */
ssize_t incoming_read(struct incoming *incoming, int fd, struct evbuffer *input, size_t max,
                      struct ancillary *ancillary, bool *maybe_more);

#endif
