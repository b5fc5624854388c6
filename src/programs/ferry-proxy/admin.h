#ifndef FERRY_PROGRAMS_FERRY_PROXY_ADMIN_H
#define FERRY_PROGRAMS_FERRY_PROXY_ADMIN_H

/* The state of ferry-proxy for its operator, served by HTTP on an address of its own:
 *
 *     /-/metrics   Prometheus text format 0.0.4
 *     /-/status    a page for people
 *     /-/healthz   200 while a request would be served, else 503 with the reason: health.h; /-/healthz/SERVICE for
 *                  one service
 *
 * and the files of these pages (page.h), and the pages of the demo (demo.h) if there is one. Other paths are 404, other methods than GET and HEAD 405. There is no password: only operators should be
 * able to reach the address. */

#include "programs/ferry-proxy/report.h"

struct event_base;
struct admin;
struct demo;

/* Fills in the snapshot for a request, in the loop. The callee owns all that the snapshot points to, and
 * leaves it unchanged until the loop runs again. */
typedef void (*admin_fill_cb)(struct snapshot *snapshot, void *context);

/* Serves on a listening, non-blocking socket (ferry_address_listen()), which the admin owns and closes on
 * success. 0, or -EINVAL: the socket does not listen; -ENOMEM. */
int admin_new(struct admin **out, struct event_base *base, int fd, admin_fill_cb fill,
              void *context);

/* Serves the pages of the demo, too. The admin owns the demo. */
void admin_set_demo(struct admin *admin, struct demo *demo);

/* The listening socket, for a handoff to the proxy that takes over; it stays the admin's. -1: the admin
 * accepts no more connections. */
int admin_get_fd(const struct admin *admin);

/* Accepts no more connections, and serves those that are open. */
void admin_stop_accepting(struct admin *admin);

/* Drops all connections. The caller runs the loop for one more turn. NULL: does nothing. */
void admin_free(struct admin *admin);

#endif
