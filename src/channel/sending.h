#ifndef FERRY_CHANNEL_SENDING_H
#define FERRY_CHANNEL_SENDING_H

#include "channel/state.h"

/*
 * The output of channels. A write sends at once as much as the kernel takes: the program may run for a while
 * without a poll. The rest leaves when the loop runs, in polls and flushes.
 */

/* Makes FERRY_CHANNEL_WRITABLE pending for each channel that has refused a write and has room again. */
void sending_offer_room(struct ferry_poller *poller);

/* Closes the channel once its queue is sent. Whether something is in the queue: then the channel is draining. */
bool sending_start_draining(struct ferry_channel *channel);

/* Whether the channel still drains. `status` becomes -EPIPE if the connection has failed before its queue was
 * sent. */
bool sending_is_draining(struct ferry_channel *channel, int *status);

#endif
