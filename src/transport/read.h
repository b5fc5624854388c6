#ifndef FERRY_TRANSPORT_READ_H
#define FERRY_TRANSPORT_READ_H

#include "transport/core.h"

/* The read step. */

/* The callback of the read event. */
void transport_on_read(evutil_socket_t fd, short what, void *argument);

/* Nothing can be sent any more. A reader that has suspended reading until something is sent waits no longer. */
void transport_start_rest(struct ferry_transport *transport);

/* If nothing can be sent any more: ends the connection, once all that the peer has sent is delivered. The read step
 * delivers that, in portions that limits and pauses of the user bound, and calls this again. */
void transport_settle_broken(struct ferry_transport *transport);

#endif
