#ifndef FERRY_CHANNEL_READY_H
#define FERRY_CHANNEL_READY_H

#include "channel/state.h"

/*
 * The poller's lists of channels, and with them the two states that a list stands for: a channel's place, and
 * whether its writes were refused.
 *
 *   UNREGISTERED -- register --> READY -- no event left --> IDLE
 *                <- unregister -       <----- wake --------
 */

/* Registers a channel. It is READY, so that its first turn resumes reading. */
void ready_enroll(struct ferry_channel *channel);

/* Unregisters a channel. */
void ready_remove(struct ferry_channel *channel);

/* Events of the channel may be pending now. Nothing happens if it is not registered. */
void ready_wake(struct ferry_channel *channel);

/* The channel that was woken first, which is IDLE now. NULL: none is READY. */
struct ferry_channel *ready_take(struct ferry_poller *poller);

/* Writes `out`. */
void ready_set_out(struct ferry_channel *channel, enum channel_out out);

/* Moves a channel that was closed to the list of freed ones. */
void ready_add_freed(struct ferry_channel *channel);

/* Frees the objects in that list. */
void ready_clear_freed(struct ferry_poller *poller);

#endif
