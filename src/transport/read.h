#ifndef FERRY_TRANSPORT_READ_H
#define FERRY_TRANSPORT_READ_H

#include "transport/core.h"

/* The read step. */

/* The callback of the read event. */
void transport_on_read(evutil_socket_t fd, short what, void *argument);

/* Nothing can be sent any more: delivers what the peer has sent, and ends the connection. If the reader does
 * not admit all of it, the read step comes here again. */
void transport_end_broken(struct ferry_transport *transport);

#endif
