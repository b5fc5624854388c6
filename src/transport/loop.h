#ifndef FERRY_TRANSPORT_LOOP_H
#define FERRY_TRANSPORT_LOOP_H

#include <event2/event.h>

/* The callback of the loop's event, which transport_want_loop() makes active. */
void transport_on_loop(evutil_socket_t fd, short what, void *argument);

#endif
