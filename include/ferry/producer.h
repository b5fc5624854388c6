#ifndef FERRY_PRODUCER_H
#define FERRY_PRODUCER_H

/**
 * @file producer.h
 * @brief A producer fills a transport, and is paused while the peer is slower.
 *
 * A push producer writes on its own; the transport pauses and resumes it. A pull producer writes one
 * chunk each time the transport asks, which is each time the stream is empty. A transport has one
 * producer at a time: see ferry_transport_register_producer().
 *
 * @code
 * static void next_chunk(void *context)
 * {
 *     struct source *source = context;
 *     if (!write_one_chunk(source))            // nothing left
 *         ferry_transport_unregister_producer(source->transport);
 * }
 * static const struct ferry_producer_callbacks pull = {.resume_producing = next_chunk};
 *
 * ferry_transport_register_producer(transport, &pull, source, FERRY_PRODUCER_PULL);
 * ferry_transport_lose_connection(transport);   // waits for the producer to unregister
 * @endcode
 */

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** The side that starts the writing. Since 0.1. */
enum ferry_producer_mode {
	FERRY_PRODUCER_PUSH = 1, /**< the producer writes on its own until it is paused */
	FERRY_PRODUCER_PULL = 2  /**< the transport asks, each time its stream is empty */
};

/**
 * A producer's callbacks. ferry keeps the pointer: the table must outlive the registration. Each may
 * call any ferry function, ferry_transport_free() included. Since 0.1.
 */
struct ferry_producer_callbacks {
	/** Push: write again. Pull: write one chunk. Runs from the loop. Required. */
	void (*resume_producing)(void *context);

	/** Push: write no more until resumed. Runs inside the call that crossed the mark. Required for
	 *  push, ignored for pull. */
	void (*pause_producing)(void *context);

	/** Write no more: the connection has ended; or the peer is gone and only what it had sent is still to be
	 *  delivered; or it has ended its half and the protocol has no read_connection_lost; or it has
	 *  closed, and a half-close waited for the producer. The producer is already unregistered. Runs from the loop, before
	 *  connection_lost; or inside ferry_transport_free(). May be NULL: if the peer is gone while the producer
	 *  waits, resume_producing runs once more instead, from the loop, and a write in it returns -EPIPE. */
	void (*stop_producing)(void *context);

	/** Reserved for later versions; leave NULL. */
	void (*reserved[2])(void);
};

FERRY_END_DECLS

#endif
