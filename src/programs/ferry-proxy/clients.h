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
struct clients;
struct routes;
struct services;

/* All of these have to outlive it. 0 or -ENOMEM. */
int clients_new(struct clients **out, struct event_base *base, const struct conf *conf,
                const struct routes *routes, struct services *services);

/* Adds a listening socket, which stays the caller's. Nothing is accepted yet. 0 or -ENOMEM. */
int clients_listen(struct clients *clients, int fd, bool proxy_protocol);

/* Accepts on all of them. */
void clients_accept(struct clients *clients);

/* Accepts no more; the sockets are not used any more. The clients that are there go on. */
void clients_stop_accepting(struct clients *clients);

/* Leaves new clients in the backlog as long as no queue has room for them. */
void clients_set_full(struct clients *clients, bool full);

/* Answers a client whose connection no worker took: 503. Its descriptor is stolen. */
void clients_take_back(struct clients *clients, struct ferry_handoff *handoff);

/* How many there are. */
unsigned long clients_count(const struct clients *clients);

/* Drops those whose request is not whole yet. */
void clients_drop_readers(struct clients *clients);

/* Fills in what the snapshot has of clients and refusals. */
void clients_fill(const struct clients *clients, struct snapshot *snapshot);

/* Drops all clients; the loop has to run a turn after. NULL: nothing happens. */
void clients_free(struct clients *clients);

#endif
