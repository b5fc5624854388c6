#ifndef FERRY_RELAY_TIMER_H
#define FERRY_RELAY_TIMER_H

#include "relay/fields.h"

/* The callback of the relay's event: the client's end, if it came before the server, and the timeouts. */
void relay_on_timer(evutil_socket_t fd, short what, void *argument);

/* Has it run soon. */
void relay_want_timer(struct ferry_relay *relay);

/* The connections begin to move now: the idle timeout runs from now on. */
void relay_note_movement(struct ferry_relay *relay);

#endif
