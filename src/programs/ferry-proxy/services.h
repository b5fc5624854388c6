#ifndef FERRY_PROGRAMS_FERRY_PROXY_SERVICES_H
#define FERRY_PROGRAMS_FERRY_PROXY_SERVICES_H

/* The services of the proxy. Each has a dispatcher and its workers: processes that the proxy starts, and
 * guests, workers that others start and that connect to the service's socket. */

#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/report.h"
#include "programs/shared/client_address.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct ferry_handoff;
struct services;

struct services_callbacks {
	/* A worker has returned the connection of a client, which has no request under way. The callee owns the
	 * handoff. */
	void (*idle)(struct ferry_handoff *handoff, const struct client_address *client, void *context);

	/* No worker has taken the connection. The callee steals its descriptor to answer the client; `handoff`
	 * is freed when the callback returns. */
	void (*returned)(struct ferry_handoff *handoff, void *context);

	/* The queues of all services are full; or at least one of them has room again. */
	void (*full_changed)(bool full, void *context);

	/* A queue that was full has room again. */
	void (*has_room)(void *context);

	/* Each service whose workers the proxy starts has a worker that is ready. Once. */
	void (*ready)(void *context);
};

struct services_options {
	const char *worker;       /* the program to start */
	char *const *worker_argv; /* more arguments for it, ending with NULL */
	int outcome_log;          /* gets a line for each outcome; -1: none. Stays the caller's */
};

/* The caller keeps `conf` and the texts of the options. Starts no worker yet. 0 or -ENOMEM. */
int services_new(struct services **out, struct event_base *base, const struct conf *conf,
                 const struct services_options *options, const struct services_callbacks *callbacks,
                 void *context);

/* Starts the workers. */
void services_start(struct services *services);

/* Accepts guests of a service on a listening socket, which stays the caller's. 0, or a negative errno. */
int services_listen(struct services *services, unsigned int service, int fd);

/* Accepts no more guests. */
void services_stop_listening(struct services *services);

/* Hands a connection of `client` to a worker of the service. 0: the services own the handoff. -ENOBUFS:
 * the queue is full; -ENOMEM: no memory. */
int services_hand_off(struct services *services, unsigned int service,
                      struct ferry_handoff *handoff, const struct client_address *client);

/* Whether the queues of all services are full. */
bool services_are_full(const struct services *services);

/* The number of connections that are still open in this process because no worker has claimed them. */
uint64_t services_unclaimed(const struct services *services);

/* Sets the limits of the queues, and those of the workers that are started from now on, to those of the configuration. */
void services_set_limits(struct services *services);

/* Lines about outcomes go to another descriptor from now on; the former one may be closed. */
void services_set_outcome_log(struct services *services, int fd);

/* Lets the worker processes of the proxy open their logs anew. */
void services_reopen_logs(struct services *services);

/* Sets the standard error of the workers that are started from now on. `fd` stays the caller's. */
void services_set_error_output(struct services *services, int fd);

/* Replaces the worker processes, one after the other. */
void services_replace_workers(struct services *services);

/* Lets all workers go, when they have served their clients: processes of the proxy end, guests connect to another
 * proxy. */
void services_retire(struct services *services);

/* Disconnects the guests. They keep the clients that they have. */
void services_dismiss_guests(struct services *services);

/* The same, with SIGTERM for the processes, and SIGKILL after a while. */
void services_terminate(struct services *services);

/* Stops waiting for workers: connections that no worker has claimed are returned at once, and every worker
 * is disconnected. Afterwards nothing can be handed off. */
void services_give_up(struct services *services);

/* Whether no worker is left. */
bool services_are_empty(const struct services *services);

/* Fills in `services` and `service_count`. */
void services_fill(struct services *services, struct snapshot *snapshot);

/* Kills the processes. Handoffs have their outcomes, but no callback runs. The caller runs the loop for one
 * more turn. NULL: does nothing. */
void services_free(struct services *services);

#endif
