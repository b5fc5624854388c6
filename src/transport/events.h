#ifndef FERRY_TRANSPORT_EVENTS_H
#define FERRY_TRANSPORT_EVENTS_H

#include <event2/bufferevent.h>

struct ferry_transport;

/* The bufferevent's callbacks of a transport with a protocol. `argument` is the transport. */
void transport_on_readable(struct bufferevent *bev, void *argument);
void transport_on_event(struct bufferevent *bev, short what, void *argument);

/* What the first of them does with the bufferevent locked. */
void transport_readable(struct ferry_transport *transport);

#endif
