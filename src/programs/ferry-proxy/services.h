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
struct services;

struct services_callbacks {
	/* No worker took the connection. Its descriptor is there, and is to be stolen to tell the client;
	 * `handoff` is gone when this returns. */
	void (*returned)(struct ferry_handoff *handoff, void *context);

	/* The queues of all services are full; or are not any more. */
	void (*full_changed)(bool full, void *context);

	/* Each service whose workers are started here has one that is ready: once. */
	void (*ready)(void *context);
};

struct services_options {
	const char *worker;       /* the program to start */
	char *const *worker_argv; /* more arguments for it, ending with NULL */
	int outcome_log;          /* a line for each outcome, or -1; stays the caller's */
};

/* `conf` and the options' texts have to outlive it. No worker is started yet. 0 or -ENOMEM. */
int services_new(struct services **out, struct event_base *base, const struct conf *conf,
                 const struct services_options *options, const struct services_callbacks *callbacks,
                 void *context);

/* Starts the workers. */
void services_start(struct services *services);

/* Takes workers of a service that others start, on a listening socket, which stays the caller's. 0, or a
 * negative errno. */
int services_listen(struct services *services, unsigned int service, int fd);

/* Takes no more workers on such sockets. */
void services_stop_listening(struct services *services);

/* Hands a connection of `client` to a worker of the service. 0: the handoff is not the caller's any more.
 * -ENOBUFS: its queue is full; -ENOMEM. */
int services_hand_off(struct services *services, unsigned int service,
                      struct ferry_handoff *handoff, const struct socket_address *client);

/* Whether the queues of all services are full. */
bool services_are_full(const struct services *services);

/* Connections that are still open in this process, because no worker has claimed them yet. */
uint64_t services_unclaimed(const struct services *services);

/* Replaces the worker processes, one after the other. */
void services_replace_workers(struct services *services);

/* Lets all workers go: those that were started here end when they have served what they have, the
 * others go to another proxy. */
void services_retire(struct services *services);

/* The same, with SIGTERM for the processes, and SIGKILL after a while. */
void services_terminate(struct services *services);

/* Gives up waiting for workers: connections that none has claimed come back at once, and every worker is
 * let go. Nothing can be handed off any more. */
void services_give_up(struct services *services);

/* Whether there is no worker any more. */
bool services_are_empty(const struct services *services);

/* Fills in `services` and `service_count`. */
void services_fill(struct services *services, struct snapshot *snapshot);

/* Kills the processes. Handoffs have their outcomes, but nothing is called back. The loop has to run a
 * turn after. NULL: nothing happens. */
void services_free(struct services *services);

#endif
