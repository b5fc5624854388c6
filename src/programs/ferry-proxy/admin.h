#ifndef FERRY_PROGRAMS_FERRY_PROXY_ADMIN_H
#define FERRY_PROGRAMS_FERRY_PROXY_ADMIN_H

/* What an operator sees of ferry-proxy, on an address of its own:
 *
 *     /-/metrics   Prometheus text format 0.0.4
 *     /-/status    a page for people
 *     /-/healthz   200 while it serves, 503 with the reason else
 *
 * Other paths are 404, other methods than GET and HEAD 405. There is no password: the address is to be
 * one that only operators reach. */

#include "programs/ferry-proxy/report.h"

struct event_base;
struct admin;

/* Fills in what is to be shown, whenever somebody asks. Called from the loop. What the snapshot points
 * to is the callee's, and has to stay as it is until the loop runs again. */
typedef void (*admin_fill_cb)(struct snapshot *snapshot, void *context);

/* Serves on a socket that listens (socket_address_listen()), non-blocking; on success it is the admin's,
 * and is closed with it. 0, or -EINVAL: it is no listening socket; -ENOMEM. */
int admin_new(struct admin **out, struct event_base *base, int fd, admin_fill_cb fill,
              void *context);

/* The listening socket, which stays the admin's: for handing it to the proxy that takes over. -1: it takes
 * no more connections. */
int admin_get_fd(const struct admin *admin);

/* Takes no more connections, and serves those that there are; for good. */
void admin_stop_accepting(struct admin *admin);

/* Drops all its connections; the loop has to run a turn after. NULL: nothing happens. */
void admin_free(struct admin *admin);

#endif
