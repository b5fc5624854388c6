#ifndef FERRY_PROGRAMS_FERRY_PROXY_CLIENTS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CLIENTS_H

/* The clients of the proxy, from the accept to the handoff.
 *
 * The proxy reads one request head of each client on a stock bufferevent, or its ClientHello, after a PROXY header if
 * the listener requires one. Then it hands the connection, with all bytes that were read, to a worker of the
 * service that the head is routed to. If a client sends no valid head in time, or if no worker takes it,
 * the proxy answers it. */

#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/idle_clients.h"
#include "programs/ferry-proxy/report.h"

#include <stdbool.h>

struct access_log;
struct client_address;
struct event_base;
struct ferry_handoff;
struct clients;
struct routes;
struct services;

/* The caller keeps `conf`, `routes` and `services`. 0 or -ENOMEM. */
int clients_new(struct clients **out, struct event_base *base, const struct conf *conf,
                const struct routes *routes, struct services *services);

/* The answers of the proxy itself get lines in this log, which stays the caller's. */
void clients_set_access_log(struct clients *clients, const struct access_log *log);

/* Other routes, which stay the caller's, for requests from now on. */
void clients_set_routes(struct clients *clients, const struct routes *routes);

/* Adds a listening socket, which stays the caller's. Accepts no client yet. 0 or -ENOMEM. */
int clients_listen(struct clients *clients, int fd, const struct conf_listen *conf);

/* Accepts clients on all listening sockets. */
void clients_accept(struct clients *clients);

/* Accepts the clients that have connected, on each socket as many as its backlog can have had, before the sockets are
 * closed. */
void clients_accept_backlog(struct clients *clients);

/* Accepts no more clients, and stops using the sockets. Accepted clients are served. */
void clients_stop_accepting(struct clients *clients);

/* While `full` is set, new clients stay in the backlog, because no queue has room for them. */
void clients_set_full(struct clients *clients, bool full);

/* A queue has room: hands off clients that wait for that. */
void clients_continue(struct clients *clients);

/* The number of clients that wait for room in a queue. */
unsigned long clients_waiting(const struct clients *clients);

/* Waits for the next request of a client whose connection a worker has returned, or another proxy has given that had it
 * for `idle_msec`. Owns the handoff. */
void clients_take_idle(struct clients *clients, struct ferry_handoff *handoff,
                       const struct client_address *address, uint64_t idle_msec);

/* Gives the connections of idle clients away, each with `give`, which owns the handoff. */
void clients_give_idle(struct clients *clients, idle_client_moved_cb give, void *context);

/* Closes the connections of idle clients that have sent nothing of a request, in a later turn of the loop. */
void clients_close_idle(struct clients *clients);

/* Answers a client whose connection no worker has taken: 503. Steals its descriptor. */
void clients_take_back(struct clients *clients, struct ferry_handoff *handoff);

/* The number of clients. */
unsigned long clients_count(const struct clients *clients);

/* Whether a client has sent something of a request head that is not complete, or has just connected. */
bool clients_are_reading(const struct clients *clients);

/* Lets clients that have sent something of their request head finish it for two seconds more, and those that have
 * sent nothing begin within a quarter of a second. */
void clients_hurry(struct clients *clients);

/* Drops the clients whose request head is not complete yet. */
void clients_drop_readers(struct clients *clients);

/* Fills in the clients and the refusals. */
void clients_fill(const struct clients *clients, struct snapshot *snapshot);

/* Drops all clients. The caller runs the loop for one more turn. NULL: does nothing. */
void clients_free(struct clients *clients);

#endif
