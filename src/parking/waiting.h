#ifndef FERRY_PARKING_WAITING_H
#define FERRY_PARKING_WAITING_H

#include "parking/place.h"

/* The callback of the event `look`. */
void waiting_on_look(evutil_socket_t fd, short what, void *argument);

/* Looks at the peers of waiting connections soon. -ENOMEM: there is no memory for the timer. */
int waiting_watch(struct ferry_parking *parking);

#endif
