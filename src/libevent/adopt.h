#ifndef FERRY_LIBEVENT_ADOPT_H
#define FERRY_LIBEVENT_ADOPT_H

#include <stddef.h>

#include <event2/listener.h>

struct bufferevent;
struct event_base;

/*
 * Sockets that another process has sent become libevent's objects. The caller has inspected them. On
 * success the object owns the descriptor. On failure the caller still owns it, and it is unchanged.
 */

/*
 * Makes a bufferevent with `length` bytes in its input, which were read from the socket before. The caller makes the
 * socket non-blocking.
 * No callback runs for these bytes: see rearm_offer_input().
 *   -ENOMEM  out of memory, or BEV_OPT_THREADSAFE is given and libevent has no locks
 */
int adopt_bufferevent(struct bufferevent **out, int fd, struct event_base *base, int options,
                      const void *bytes, size_t length);

/* Makes a listener. The socket becomes non-blocking; its backlog stays unchanged. -ENOMEM. */
int adopt_listener(struct evconnlistener **out, int fd, struct event_base *base,
                   evconnlistener_cb callback, void *context, unsigned int flags);

#endif
