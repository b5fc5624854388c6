#ifndef FERRY_UPGRADE_CANDIDATES_H
#define FERRY_UPGRADE_CANDIDATES_H

/*
 * The processes that have connected to the control socket, until they begin a takeover. Only one successor can be under
 * way: a process that connects and sends nothing must not be it. Candidates are of this process's user or root, and
 * send the first message of a takeover as soon as they are connected. A candidate that sends anything else, or nothing
 * until the deadline, is closed. If there are too many, the one that has waited longest is closed for the new one.
 */

#include <sys/time.h>

struct event_base;
struct ferry_transport;

struct candidates;

/* The candidate begins a takeover. The callee owns the transport. Must not free the object. */
typedef void (*candidates_begun_cb)(struct ferry_transport *transport, void *context);

/* 0 or -ENOMEM. `timeout` is copied. */
int candidates_new(struct candidates **out, struct event_base *base, const struct timeval *timeout,
                   candidates_begun_cb begun, void *context);

/* Takes a connection. On failure it is the caller's: -EACCES: the process is another user's; -ENOMEM. */
int candidates_add(struct candidates *candidates, struct ferry_transport *transport);

/* Closes the connections. NULL: does nothing. */
void candidates_free(struct candidates *candidates);

#endif
