#ifndef FERRY_CHANNEL_CHANNEL_H
#define FERRY_CHANNEL_CHANNEL_H

#include "channel/state.h"

/*
 * A channel on a transport. The transport's protocol puts bytes into the channel's input, and descriptors into
 * a queue beside it, with the position at which they came. Polls take both out in that order: a descriptor
 * before the line that its byte belongs to.
 *
 * The channel reads ahead of the polls up to its limits, pauses there, and resumes when half of that is taken
 * out.
 */

/* A channel without a transport. NULL: no memory. */
struct ferry_channel *channel_new(struct ferry_poller *poller);

/* Gives it the transport. -ENOTCONN: the connection is over, and nothing has changed. */
int channel_attach(struct ferry_channel *channel, struct ferry_transport *transport);

/* Adds an item, which the next polls return, and pauses reading if there is too much. */
void channel_add_item(struct ferry_channel *channel, struct channel_item *item);

/* The transport's callbacks, for messages too: the peer has ended its half; the connection is over. */
void channel_peer_ended(struct ferry_channel *channel);
void channel_lost(struct ferry_channel *channel, int reason);

/* Closes this side if the peer has ended its half, unless the user wants to go on sending. */
void channel_settle_end(struct ferry_channel *channel);

/* The length of the queue in bytes, at least 1 for each file in it. */
size_t channel_queued(const struct ferry_channel *channel);

#endif
