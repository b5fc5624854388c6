#ifndef FERRY_MESSAGE_CORE_H
#define FERRY_MESSAGE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/message.h"

#include "libevent/fields.h"
#include "message/arrivals.h"

/*
 * The layout of a stream of messages, for the five files that share it. Each calls those below it alone:
 *
 *     stream.c     new, free, settings; the protocol that the transport calls
 *     receive.c    from the transport's reads to message_received
 *     receipts.c   the callbacks that wait until the kernel has a message
 *     send.c       from a message to the transport's output
 *     message.c    the getters of a received message
 *
 * All of it runs with the bufferevent locked. The memory of the stream and of its message lives until the
 * loop has finalised the timer, as the transport's does: a function that has called user code may read it
 * to learn whether the stream was freed.
 */

struct ferry_message {
	struct ferry_message_stream *stream; /* NULL: it is kept (message/kept.h) */
	int *const *fds;                     /* those of the stream's arrivals, or its own */
	const unsigned char *payload;
	size_t length;
	unsigned int fd_count; /* declared by the header */
	unsigned int arrived;  /* the first so many of the descriptors are this message's */
	uint16_t type;
};

struct message_receipts;

struct ferry_message_stream {
	struct ferry_transport *transport;
	struct bufferevent *bev; /* the transport's */
	const struct ferry_message_callbacks *callbacks;
	void *context;
	void (*sent)(void *argument); /* message_stream_set_sent_cb() */
	void *sent_argument;
	struct message_receipts *receipts; /* NULL: none was asked for */
	struct event *timer;               /* tries a read again, after one that was not admitted */

	/* The limits of ferry_message_stream_set_limits() and _set_fd_reserve(). */
	size_t max_payload;
	unsigned int max_fds;
	unsigned int fd_reserve;

	/* Receiving; written by receive.c. */
	struct arrivals arrivals;
	struct evbuffer *partial;     /* the received part of an unfinished frame; precedes the input */
	size_t stashed;               /* its length */
	struct ferry_message message; /* of the frame at `position`, once its header is parsed */
	uint64_t position;            /* of the next undelivered frame in the incoming stream */
	size_t
	    delivered; /* bytes before it, at the front of the input, that the loop has yet to drain */
	bool header_parsed;
	bool delivering;  /* message_received is on the stack */
	bool deferred;    /* the frame is to be delivered once more */
	bool slot_needed; /* each read that brings descriptors needs a free slot */
	bool lacks_slot;  /* reading is suspended until one is free */
	bool backlogged;  /* reading is suspended until what has arrived is delivered */
	bool peer_ended;
	bool end_reported; /* to read_connection_lost */

	bool freed;
};

static inline struct evbuffer *message_stream_input(const struct ferry_message_stream *stream)
{
	return fields_input(stream->bev);
}

#endif
