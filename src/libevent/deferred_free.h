#ifndef FERRY_LIBEVENT_DEFERRED_FREE_H
#define FERRY_LIBEVENT_DEFERRED_FREE_H

#include <event2/event.h>

/*
 * A user may free an object inside any of its callbacks, while code on the stack still reads the object.
 * The object's memory is therefore released only when the loop has finalised one of its events.
 */

/* Frees `event` now. Its argument is the object, which the loop or event_base_free() releases later: by
 * `release`, or by free(3) if that is NULL. */
void deferred_free(struct event *event, event_finalize_callback_fn release);

#endif
