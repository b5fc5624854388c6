#ifndef FERRY_TRANSPORT_WATCH_H
#define FERRY_TRANSPORT_WATCH_H

#include "transport/core.h"

/* The callback of the watch's event: reads and drops while the connection closes, and checks its deadlines. */
void transport_on_watch(evutil_socket_t fd, short what, void *argument);

#endif
