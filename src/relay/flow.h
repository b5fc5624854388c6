#ifndef FERRY_RELAY_FLOW_H
#define FERRY_RELAY_FLOW_H

#include "relay/fields.h"

/* Makes the transport one end of the relay. Both ends are set. On failure its protocol is as it was. The errors are
 * those of ferry_relay_new(). */
int relay_prepare(struct relay_end *end, struct ferry_transport *transport);

/* The second half of it: the transport calls the relay from now on. -ENOTCONN, -ENOMEM. */
int relay_start(struct relay_end *end);

/* Takes the transport back out. It calls nobody any more. */
void relay_undo(struct relay_end *end);

#endif
