#ifndef FERRY_PROGRAMS_FERRY_PROXY_HEALTH_H
#define FERRY_PROGRAMS_FERRY_PROXY_HEALTH_H

/* Whether a request would be served, for load balancers. A service is healthy while it has a worker that is ready and
 * its queue has room. The proxy is while it serves, and at least one service is: a balancer that has clients for
 * several services asks about each. */

#include "programs/ferry-proxy/report.h"

/* Adds the text of the answer. `rest` is the path behind "/-/healthz": "" for the proxy, "/NAME" for a service. The
 * status, 200 or 503; or -ENOENT: there is no such service; -ENOMEM. */
int health_add(struct evbuffer *out, const char *rest, const struct snapshot *snapshot);

#endif
