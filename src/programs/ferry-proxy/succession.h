#ifndef FERRY_PROGRAMS_FERRY_PROXY_SUCCESSION_H
#define FERRY_PROGRAMS_FERRY_PROXY_SUCCESSION_H

/* The connections that no worker has, on their way from a proxy to the one that has taken over. They are ordinary
 * handoffs: the old proxy is the dispatcher, and the new one the worker. The new proxy has taken over a listening
 * socket for them, to which the old one connects. The blob of each is that of idle_client_describe(). */

#include <stdbool.h>
#include <stdint.h>

struct client_address;
struct event_base;
struct ferry_handoff;

/* The proxy that has taken over, as the old one sees it. */
struct successor;

/* Connects to the new proxy. `listener` is the socket that it has taken over, which stays the caller's. If the new
 * proxy ends, those that it has not taken go to the next one on that socket. 0, or a negative errno. */
int successor_new(struct successor **out, struct event_base *base, int listener);

/* Gives a connection away, which has been idle for `idle_msec`. 0, and the callee owns the handoff; or a negative errno. If nobody takes it, it is
 * closed. NULL for `successor`: -ENOTCONN. */
int successor_give(struct successor *successor, struct ferry_handoff *handoff,
                   const struct client_address *address, uint64_t idle_msec);

/* Whether the new proxy has all that was given, or there is none. True for NULL. */
bool successor_is_settled(const struct successor *successor);

/* NULL: does nothing. */
void successor_free(struct successor *successor);

/* The proxies that this one has taken over from. */
struct predecessors;

struct predecessors_callbacks {
	/* A connection without a request under way. The callee owns the handoff. */
	void (*idle)(struct ferry_handoff *handoff, const struct client_address *address,
	             uint64_t idle_msec, void *context);
};

/* Accepts the proxies that have been taken over, on a listening socket that stays the caller's. 0, or a negative
 * errno. */
int predecessors_new(struct predecessors **out, struct event_base *base, int listener,
                     const struct predecessors_callbacks *callbacks, void *context);

/* Accepts no more of them, because another proxy does. Those that are there may still give connections. NULL: does
 * nothing. */
void predecessors_stop_accepting(struct predecessors *predecessors);

/* Whether none is there. True for NULL. */
bool predecessors_are_gone(const struct predecessors *predecessors);

/* Takes no more. The connections that were given and not taken are closed. NULL: does nothing. */
void predecessors_free(struct predecessors *predecessors);

#endif
