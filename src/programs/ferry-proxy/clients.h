#ifndef FERRY_PROGRAMS_FERRY_PROXY_CLIENTS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CLIENTS_H

/* The clients of the proxy, from the accept to the hand-off: for each, one request head is read on a
 * stock bufferevent, behind a PROXY header where the listener says so; then its connection goes to a
 * worker of the service that the head is for, with all that was read. A client that sends no proper
 * head in time is answered here, and so is one that no worker took. */

#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/report.h"

#include <stdbool.h>

struct event_base;
struct ferry_handoff;
struct proxy_clients;
struct proxy_routes;
struct proxy_services;

/* All of these have to outlive it. 0 or -ENOMEM. */
int proxy_clients_new(struct proxy_clients **out, struct event_base *base,
                      const struct proxy_conf *conf, const struct proxy_routes *routes,
                      struct proxy_services *services);

/* Adds a listening socket, which stays the caller's. Nothing is accepted yet. 0 or -ENOMEM. */
int proxy_clients_listen(struct proxy_clients *clients, int fd, bool proxy_protocol);

/* Accepts on all of them. */
void proxy_clients_accept(struct proxy_clients *clients);

/* Accepts no more; the sockets are not used any more. The clients that are there go on. */
void proxy_clients_stop_accepting(struct proxy_clients *clients);

/* Leaves new clients in the backlog as long as no queue has room for them. */
void proxy_clients_set_full(struct proxy_clients *clients, bool full);

/* Answers a client whose connection no worker took: 503. Its descriptor is stolen. */
void proxy_clients_take_back(struct proxy_clients *clients, struct ferry_handoff *handoff);

/* How many there are. */
unsigned long proxy_clients_count(const struct proxy_clients *clients);

/* Drops those whose request is not whole yet. */
void proxy_clients_drop_readers(struct proxy_clients *clients);

/* Fills in what the snapshot has of clients and refusals. */
void proxy_clients_fill(const struct proxy_clients *clients, struct proxy_snapshot *snapshot);

/* Drops all clients; the loop has to run a turn after. NULL: nothing happens. */
void proxy_clients_free(struct proxy_clients *clients);

#endif
