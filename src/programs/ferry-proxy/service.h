#ifndef FERRY_PROGRAMS_FERRY_PROXY_SERVICE_H
#define FERRY_PROGRAMS_FERRY_PROXY_SERVICE_H

/* One service from inside: its dispatcher, its workers, and the supervisor of those that the proxy
 * starts. For service.c, service_workers.c and service_report.c alone. */

#include "programs/ferry-proxy/services.h"

#include <ferry/supervisor.h>

/* A worker: a process that the proxy has started, or a guest that has connected. */
struct member {
	struct service *service;
	struct member *next;
	struct member **link;                    /* the pointer to this member */
	struct ferry_supervisor_worker *process; /* NULL: a guest */
	struct ferry_dispatcher_worker *guest;   /* NULL: a process, or its channel has ended */
	pid_t pid;
	struct timeval started;
	bool ready;
	bool reopens; /* its logs, once it is ready */
	char name[CONF_NAME_MAX + 32];
};

/* The proxy's record of a connection that was handed off, until its outcome or its return. */
struct ticket {
	struct service *service;
	struct client_address client;
};

struct service {
	struct services *services;
	const struct conf_service *conf;
	struct ferry_dispatcher *dispatcher; /* NULL after services_give_up() */
	struct ferry_supervisor *supervisor; /* NULL: the proxy starts no workers for it */
	struct ferry_listener *listener;     /* for guests; NULL: none */
	struct member *members;
	bool full;
	struct answer_counters *answers; /* of the processes; NULL: none */
	unsigned long guests;            /* the number of guests so far */
	struct worker_snapshot *snapshots;
};

struct services {
	struct event_base *base;
	const struct conf *conf;
	struct services_options options;
	const struct services_callbacks *callbacks;
	void *context;
	unsigned int count;
	bool full;
	bool ready;
	bool terminated;
	bool freed;
	struct service_snapshot *snapshots;
	struct service all[];
};

/* ---- service.c ---- */

/* For the dispatcher. */
void service_handoff_returned(struct ferry_dispatcher *dispatcher,
                              struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
                              void *context);

/* ---- service_workers.c ---- */

/* Makes the dispatcher, and the supervisor if the proxy starts workers for the service. 0, or a negative
 * errno; the caller frees the service in both cases. */
int service_init(struct service *service);
void service_free(struct service *service);

/* Accepts guests on a listening socket, which stays the caller's. 0, or a negative errno. */
int service_listen(struct service *service, int fd);

/* Workers that are started from now on have the numbers of the configuration. */
void service_use_numbers(struct service *service);

/* Lets the processes of the proxy open their logs anew. */
void service_reopen_logs(struct service *service);

/* Lets the guests go when they have served their clients. */
void service_drain_guests(struct service *service);

/* Disconnects the guests. */
void service_dismiss_guests(struct service *service);

/* Frees the dispatcher. Its handoffs have their outcomes; processes stay. */
void service_give_up(struct service *service);

/* The worker of a member. NULL: its channel has ended. */
struct ferry_dispatcher_worker *member_worker(const struct member *member);

#endif
