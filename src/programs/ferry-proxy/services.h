#ifndef FERRY_PROGRAMS_FERRY_PROXY_SERVICES_H
#define FERRY_PROGRAMS_FERRY_PROXY_SERVICES_H

/* The services of the proxy: for each a dispatcher and its workers, be they processes that the proxy
 * starts or others that connect to the service's socket. */

#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/report.h"
#include "programs/shared/socket_address.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct ferry_handoff;
struct proxy_services;

struct proxy_services_callbacks {
	/* No worker took the connection. Its descriptor is there, and is to be stolen to tell the client;
	 * `handoff` is gone when this returns. */
	void (*returned)(struct ferry_handoff *handoff, void *context);

	/* The queues of all services are full; or are not any more. */
	void (*full_changed)(bool full, void *context);

	/* Each service whose workers are started here has one that is ready: once. */
	void (*ready)(void *context);
};

struct proxy_services_options {
	const char *worker;       /* the program to start */
	char *const *worker_argv; /* more arguments for it, ending with NULL */
	int outcome_log;          /* a line for each outcome, or -1; stays the caller's */
};

/* `conf` and the options' texts have to outlive it. No worker is started yet. 0 or -ENOMEM. */
int proxy_services_new(struct proxy_services **out, struct event_base *base,
                       const struct proxy_conf *conf, const struct proxy_services_options *options,
                       const struct proxy_services_callbacks *callbacks, void *context);

/* Starts the workers. */
void proxy_services_start(struct proxy_services *services);

/* Takes workers of a service that others start, on a listening socket, which stays the caller's. 0, or a
 * negative errno. */
int proxy_services_listen(struct proxy_services *services, unsigned int service, int fd);

/* Takes no more workers on such sockets. */
void proxy_services_stop_listening(struct proxy_services *services);

/* Hands a connection of `client` to a worker of the service. 0: the handoff is not the caller's any more.
 * -ENOBUFS: its queue is full; -ENOMEM. */
int proxy_services_hand_off(struct proxy_services *services, unsigned int service,
                            struct ferry_handoff *handoff, const struct socket_address *client);

/* Whether the queues of all services are full. */
bool proxy_services_are_full(const struct proxy_services *services);

/* Connections that are still open in this process, because no worker has claimed them yet. */
uint64_t proxy_services_unclaimed(const struct proxy_services *services);

/* Replaces the worker processes, one after the other. */
void proxy_services_replace_workers(struct proxy_services *services);

/* Lets all workers go: those that were started here end when they have served what they have, the
 * others go to another proxy. */
void proxy_services_retire(struct proxy_services *services);

/* The same, with SIGTERM for the processes, and SIGKILL after a while. */
void proxy_services_terminate(struct proxy_services *services);

/* Gives up waiting for workers: connections that none has claimed come back at once, and every worker is
 * let go. Nothing can be handed off any more. */
void proxy_services_give_up(struct proxy_services *services);

/* Whether there is no worker any more. */
bool proxy_services_are_empty(const struct proxy_services *services);

/* Fills in `services` and `service_count`. */
void proxy_services_fill(struct proxy_services *services, struct proxy_snapshot *snapshot);

/* Kills the processes. Handoffs have their outcomes, but nothing is called back. The loop has to run a
 * turn after. NULL: nothing happens. */
void proxy_services_free(struct proxy_services *services);

#endif
