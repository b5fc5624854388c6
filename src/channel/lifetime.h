#ifndef FERRY_CHANNEL_LIFETIME_H
#define FERRY_CHANNEL_LIFETIME_H

#include "channel/state.h"

/* Frees the poller and its event_base. No channel of it is left. */
void poller_destroy(struct ferry_poller *poller);

/* Ends each call that may have run user code, which may have freed the poller: frees it now if it can. */
void poller_settle(struct ferry_poller *poller);

/* The same for pollers that were freed in a callback of a call that does not know them, by this thread. */
void poller_settle_abandoned(void);

#endif
