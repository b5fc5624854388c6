#ifndef FERRY_RELAY_FIELDS_H
#define FERRY_RELAY_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "ferry/relay.h"
#include "ferry/transport.h"

/*
 * A relay is two ends. Each end is the protocol of its transport, and at the same time the push producer of the other
 * end's transport: when that one's queue is full, this end reads no more.
 *
 *   splice   bytes from socket to socket, past the transports
 *   ending   the end of one side passed on to the other, the end of the relay
 *   flow     bytes and descriptors from one end to the other, and the pauses: the protocol
 *   timer    the timeouts, and work that must run from the loop
 *   relay    the public functions
 *
 * A callback of the user may free the relay. Its memory lives until the loop has finalised its event; a function
 * that has called the user checks `freed`. The transports of a relay that is freed call it no more.
 */

/* The reasons for which an end does not read. */
enum relay_pause {
	RELAY_PAUSE_NO_SERVER = 1, /* there is nobody to read for */
	RELAY_PAUSE_FULL = 2       /* the other end's queue is full */
};

struct relay_end {
	struct ferry_relay *relay;
	struct relay_end *other;
	struct ferry_transport *transport; /* NULL: not set yet */
	enum ferry_relay_side side;
	unsigned int pauses;         /* of enum relay_pause */
	bool muted;                  /* the other end takes no more, and the peer can send no more */
	bool half_ended;             /* the peer sends no more */
	bool closed;                 /* and reads no more */
	bool end_passed;             /* the other end knows that */
	bool ending;                 /* the relay ends the connection */
	bool lost;                   /* connection_lost has run */
	int reason;                  /* its argument */
	bool resetting;              /* all is sent; the connection is aborted once the peer has it */
	int queue;                   /* send_queue_length() at the last look, */
	int64_t queue_since;         /* and since when */
	size_t last_read;            /* the bytes of the last one */
	struct relay_splice *splice; /* from here to the other end; NULL: the bytes are copied */
	bool cannot_splice;          /* a sandbox denies it */
	struct ferry_relay_flow flow;
};

struct ferry_relay {
	struct event *timer;
	const struct ferry_relay_callbacks *callbacks;
	void *context;
	struct relay_end ends[2];
	struct evbuffer *filtered; /* for filter_bytes; NULL without one */
	struct relay_end
	    *filtering; /* the end from which a filter looks at something; NULL: none runs */
	struct relay_end *
	    close_behind; /* the owner has closed it in that filter: the bytes of this read pass first */
	bool freed;
	bool closing;  /* the owner ends it */
	bool notified; /* relay_ended has run */

	bool has_reason; /* one side has ended: */
	enum ferry_relay_side side;
	int reason;

	int64_t idle_timeout, close_timeout; /* in microseconds; 0: none */
	int64_t idle_since;                  /* the last movement that was seen */
	uint64_t movement;                   /* a value that changes with each */
	int64_t closing_since;               /* 0: not yet */
};

#endif
