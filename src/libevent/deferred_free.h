#ifndef FERRY_LIBEVENT_DEFERRED_FREE_H
#define FERRY_LIBEVENT_DEFERRED_FREE_H

#include <event2/event.h>

/*
 * Memory that a callback on the stack may still read: a user may free an object inside any of its
 * callbacks. The object's memory lives until the loop has finalised one of its events.
 */

/* Frees `event` now, and its argument, which is the object, from the loop: by `release`, or by free(3) if
 * that is NULL. event_base_free() releases the object too. */
void deferred_free(struct event *event, event_finalize_callback_fn release);

#endif
