#ifndef FERRY_TRANSPORT_DELIVER_H
#define FERRY_TRANSPORT_DELIVER_H

#include <sys/types.h>

#include "kernel/ancillary.h"
#include "transport/core.h"

/*
 * The callbacks for data, descriptors, and the start and end of a connection. Each may free the transport.
 * transport_trigger_read() is in transport/interface.h.
 */

/* Runs connection_made if it is due. */
void transport_deliver_made(struct ferry_transport *transport);

/* Runs connection_lost; before it connection_made, if the connection ended before the loop had run that. */
void transport_deliver_lost(struct ferry_transport *transport);

/* Offers bytes that were read before: by an earlier protocol, or by the process that handed the connection
 * over. */
void transport_offer_input(struct ferry_transport *transport);

/* From the loop: runs the read callback for the bytes with which the transport was made. A protocol is offered them when
 * it is set. */
void transport_run_first_offer(struct ferry_transport *transport);

/* From the loop: runs the read callback that transport_trigger_read_later() has asked for. */
void transport_run_triggered(struct ferry_transport *transport);

/* The user has resumed reading: offers, from the loop, all that the pause has deferred, the descriptors
 * first. */
void transport_offer_deferred(struct ferry_transport *transport);

/* Nothing follows: runs data_received for input that was not offered, because it was under the low-water mark when
 * it came. Without a protocol the user's event callback finds it in the input, as libevent does it. */
void transport_deliver_rest(struct ferry_transport *transport);

/* Runs data_received if there is input. */
void transport_deliver_input(struct ferry_transport *transport);

/* Hands over, or keeps pending, the descriptors that a read of `length` bytes brought, and their loss. */
void transport_deliver_fds(struct ferry_transport *transport, const struct ancillary *ancillary,
                           ssize_t length);

/* Hands over the descriptors that are pending because of a pause, unless reading is paused. */
void transport_deliver_all_pending(struct ferry_transport *transport);

static inline void transport_deliver_pending(struct ferry_transport *transport)
{
	const struct transport_in *in = &transport->in;

	if (in->pending_fds != NULL || in->loss_pending || in->offer_due)
		transport_deliver_all_pending(transport);
}

/* Deferred input of a peer that has ended was delivered. Goes on with the close that waits for that, unless
 * the user has paused again. */
void transport_settle_eof(struct ferry_transport *transport);

#endif
