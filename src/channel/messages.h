#ifndef FERRY_CHANNEL_MESSAGES_H
#define FERRY_CHANNEL_MESSAGES_H

#include "channel/state.h"

/* Puts messages on a transport that nobody owns, with the limits of the channel's settings, and gives it to the channel.
 * Nothing is read before the channel is registered. -ENOMEM, -ENOTCONN: nothing has changed. */
int channel_use_messages(struct ferry_channel *channel, struct ferry_transport *transport);

#endif
