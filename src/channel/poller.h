#ifndef FERRY_CHANNEL_POLLER_H
#define FERRY_CHANNEL_POLLER_H

#include "channel/state.h"

/* Frees the poller and its event_base. No channel of it is left. */
void poller_destroy(struct ferry_poller *poller);

#endif
