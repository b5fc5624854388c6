#ifndef FERRY_PROGRAMS_FERRY_PROXY_CLIENT_LISTENER_H
#define FERRY_PROGRAMS_FERRY_PROXY_CLIENT_LISTENER_H

/* One socket that clients connect to. It accepts them, and finds both addresses of each: accept(2) returns the
 * client's, and the kernel is asked for the other only if the socket has several addresses.
 *
 * The connections inherit TCP_NODELAY: a worker's answer is one write, head and file together, and Nagle's algorithm
 * would only delay its last segment.
 *
 * A client of TCP is accepted when it has sent something, or has been silent for a second: the proxy then finds the head
 * in its first read, and needs no event, timer and bufferevent to wait for it. */

#include "programs/ferry-proxy/conf.h"

#include <stdbool.h>

struct client_address;
struct client_listener;
struct event_base;

struct client_listener_callbacks {
	/* A client has connected. The callee owns the descriptor, which is non-blocking and close-on-exec. It may disable
	 * the listener, and does not free it. */
	void (*accepted)(int fd, const struct client_address *address, const struct conf_listen *conf,
	                 void *context);

	/* accept(2) has failed, and would fail again at once. */
	void (*failed)(int error, void *context);
};

/* `fd` listens, and stays the caller's. Accepts no client yet. 0 or -ENOMEM. */
int client_listener_new(struct client_listener **out, struct event_base *base, int fd,
                        const struct conf_listen *conf,
                        const struct client_listener_callbacks *callbacks, void *context);

/* Accepts clients from the loop, or leaves them in the backlog. */
void client_listener_enable(struct client_listener *listener, bool enabled);

/* Accepts the next client of the backlog now, also while disabled. False: there is none, or accept(2) has failed. */
bool client_listener_accept(struct client_listener *listener);

void client_listener_free(struct client_listener *listener);

#endif
