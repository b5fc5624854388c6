#ifndef FERRY_TRANSPORT_PARTS_H
#define FERRY_TRANSPORT_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "ferry/transport.h"

/*
 * The parts of a transport that most transports never need. Each is allocated when it is needed first, and freed with
 * the transport. The streams have such parts too: struct marks and struct incoming_part.
 */

/* The watch over a peer that nobody reads from. Most connections never need it. Its event is in the same block of
 * memory. Times are those of kernel/clock.h. */
struct transport_watch {
	struct event *event;
	bool reading; /* the event waits for input too */
	bool added;   /* the event was added, and not removed since */
	unsigned int interval_usec;
	int64_t close_timeout, linger_timeout; /* TRANSPORT_NO_TIMEOUT: none */
	int64_t close_at;                      /* CLOSING: the deadline, or INT64_MAX */
	bool lingering;                        /* CLOSING: all is sent, and the peer has not ended */
	int64_t linger_at;                     /* the deadline, or INT64_MAX */
	int queue;                             /* send_queue_length() at the last look */
	uint64_t dropped;                      /* bytes of the peer, since it lingers */
};

enum { TRANSPORT_NO_TIMEOUT = -1, TRANSPORT_LINGER_USEC = 2000 * 1000 /* at first */ };

/* The callbacks of a user without a protocol. */
struct transport_fd_cbs {
	ferry_fd_cb received;
	void *received_context;
	ferry_fds_lost_cb lost;
	void *lost_context;
};

#endif
