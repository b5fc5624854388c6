#ifndef FERRY_ENDPOINT_ACCEPTOR_H
#define FERRY_ENDPOINT_ACCEPTOR_H

/* Accepts the connections of a listening socket, decides which of them may stay, and gives each to the user's
 * callback as a transport. It does not own the socket. */

#include <stdbool.h>

#include "endpoint/admission.h"
#include "endpoint/refusals.h"
#include "endpoint/roster.h"
#include "ferry/listener.h"

/* See the picture in acceptor.c. */
enum acceptor_state { ACCEPTOR_STOPPED, ACCEPTOR_ACCEPTING, ACCEPTOR_PAUSED };

/* SO_PASSRIGHTS of accepted sockets. */
enum acceptor_rights { ACCEPTOR_RIGHTS_INHERITED, ACCEPTOR_RIGHTS_PASSED, ACCEPTOR_RIGHTS_REFUSED };

struct acceptor {
	struct ferry_listener *listener; /* for the callback */
	struct event_base *base;
	int fd;
	enum acceptor_state state;
	bool in_shortage; /* since a line about it was logged */
	enum acceptor_rights rights;
	struct event *readable;   /* NULL until acceptor_start() */
	struct event *pause_over; /* NULL until acceptor_start() */
	struct admission admission;
	struct roster roster;
	struct ferry_listener_stats stats;
	struct refusals refusals;
	bool *freed; /* a variable of the accept loop on the stack, set by acceptor_clear(); or NULL */
	ferry_listener_accepted_cb accepted; /* NULL: the acceptor never starts */
	void *context;
};

/* Starts or continues to accept on `fd`. -ENOMEM. */
int acceptor_start(struct acceptor *acceptor, int fd);

/* Stops accepting: connections wait in the backlog. */
void acceptor_stop(struct acceptor *acceptor);

/* Frees the events and the rules. To be called before the socket is closed: epoll would keep the registration
 * of a closed descriptor as long as another process has the socket open. */
void acceptor_clear(struct acceptor *acceptor);

#endif
