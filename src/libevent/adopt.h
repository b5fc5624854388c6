#ifndef FERRY_LIBEVENT_ADOPT_H
#define FERRY_LIBEVENT_ADOPT_H

#include <stddef.h>

#include <event2/listener.h>

struct bufferevent;
struct event_base;

/*
 * Sockets that came from elsewhere become libevent's objects. What they are has been looked at
 * before. On success the descriptor is the object's, and non-blocking; on failure it is the
 * caller's, as it was.
 */

/*
 * A bufferevent with `length` bytes, which were read from the socket already, in its input.
 * -ENOMEM: or BEV_OPT_THREADSAFE without libevent's locks. With bytes also the errors of
 * rearm_offer_input().
 */
int adopt_bufferevent(struct bufferevent **out, int fd, struct event_base *base, int options,
                      const void *bytes, size_t length);

/* A listener. The socket's backlog stays what it is. -ENOMEM. */
int adopt_listener(struct evconnlistener **out, int fd, struct event_base *base,
                   evconnlistener_cb callback, void *context, unsigned int flags);

#endif
