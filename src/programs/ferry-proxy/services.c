#include "programs/ferry-proxy/services.h"

#include "programs/ferry-proxy/child_process.h"
#include "programs/ferry-proxy/supervisor.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

struct service;

/* A worker: a process of ours, or one that has connected. */
struct member {
	struct service *service;
	struct member *next;
	struct member **link;                   /* what points to this one */
	struct worker_process *process;         /* NULL: not ours */
	struct ferry_dispatcher_worker *worker; /* NULL: its channel is over */
	pid_t pid;
	struct timeval started;
	bool ready;
	char name[CONF_NAME_MAX + 32];
};

/* What the former processes of a place have counted. */
struct past {
	struct ferry_dispatcher_stats stats;
};

struct service {
	struct services *services;
	const struct conf_service *conf;
	struct ferry_dispatcher *dispatcher;
	struct supervisor *supervisor;   /* NULL: it starts no workers */
	struct ferry_listener *listener; /* for workers of others; NULL: none */
	struct member *members;
	struct past *pasts;
	char **argv;
	bool full;
	unsigned long guests; /* workers of others, so far */
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
	bool freed;
	struct service_snapshot *snapshots;
	struct service all[];
};

/* One handoff, from here to its outcome. */
struct ticket {
	struct service *service;
	struct socket_address client;
};

/* ---- members ---- */

static struct member *find_member(const struct service *service,
                                  const struct ferry_dispatcher_worker *worker)
{
	struct member *member = service->members;
	while (member != NULL && member->worker != worker)
		member = member->next;
	return member;
}

static struct member *add_member(struct service *service)
{
	struct member *member = calloc(1, sizeof(*member));
	if (member == NULL)
		return NULL;
	member->service = service;
	member->next = service->members;
	member->link = &service->members;
	if (member->next != NULL)
		member->next->link = &member->next;
	service->members = member;
	return member;
}

static void free_member(struct member *member)
{
	*member->link = member->next;
	if (member->next != NULL)
		member->next->link = member->link;
	free(member);
}

static void add_stats(struct ferry_dispatcher_stats *sum,
                      const struct ferry_dispatcher_stats *stats)
{
	sum->accepted += stats->accepted;
	sum->sent += stats->sent;
	sum->claimed += stats->claimed;
	sum->done += stats->done;
	sum->rejected += stats->rejected;
	sum->expired += stats->expired;
	sum->kept += stats->kept;
	sum->lost += stats->lost;
	sum->fenced += stats->fenced;
	sum->retried += stats->retried;
	sum->stale += stats->stale;
	sum->malformed += stats->malformed;
	sum->workers_lost += stats->workers_lost;
}

/* Its channel is over or about to be: what it has counted stays with the place. */
static void forget_worker(struct member *member)
{
	struct ferry_dispatcher_stats stats;
	if (member->process != NULL && ferry_dispatcher_worker_get_stats(member->worker, &stats) == 0)
		add_stats(&member->service->pasts[member->process->place].stats, &stats);
	member->worker = NULL;
}

/* What it has claimed is its own still; the rest goes to others. */
static void remove_worker(struct member *member)
{
	struct ferry_dispatcher_worker *worker = member->worker;
	if (worker == NULL)
		return;
	forget_worker(member);
	ferry_dispatcher_worker_remove(worker);
}

/* ---- what dispatchers tell ---- */

static void tell_ready(struct services *services)
{
	if (services->ready)
		return;
	for (unsigned int i = 0; i < services->count; i++) {
		const struct service *service = &services->all[i];
		const struct member *member = service->members;
		while (member != NULL && !member->ready)
			member = member->next;
		if (service->supervisor != NULL && member == NULL)
			return;
	}
	services->ready = true;
	services->callbacks->ready(services->context);
}

static void worker_ready(struct ferry_dispatcher *dispatcher,
                         struct ferry_dispatcher_worker *worker, void *context)
{
	(void)dispatcher;
	struct service *service = context;
	struct member *member = find_member(service, worker);
	member->ready = true;
	if (member->process != NULL)
		supervisor_is_ready(member->process);
	else
		program_log("worker %s (pid %ld) is connected", member->name, (long)member->pid);
	tell_ready(service->services);
}

/* It has served all it had. The end of the channel tells it that it may go. */
static void worker_drained(struct ferry_dispatcher *dispatcher,
                           struct ferry_dispatcher_worker *worker, void *context)
{
	(void)dispatcher;
	struct member *member = find_member(context, worker);
	remove_worker(member);
	if (member->process != NULL) {
		supervisor_is_leaving(member->process);
	} else {
		program_log("worker %s (pid %ld) has been drained", member->name, (long)member->pid);
		free_member(member);
	}
}

static void worker_lost(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
                        int reason, void *context)
{
	(void)dispatcher;
	struct member *member = find_member(context, worker);
	struct ferry_dispatcher_stats stats;
	ferry_dispatcher_worker_get_stats(worker, &stats);
	program_log("worker %s (pid %ld) is disconnected%s%s", member->name, (long)member->pid,
	            reason != 0 ? ": " : "", reason != 0 ? strerror(-reason) : "");
	forget_worker(member);
	if (member->process == NULL) {
		free_member(member);
		return;
	}
	if (stats.done > 0)
		supervisor_has_served(member->process);
	supervisor_is_leaving(member->process);
}

static void full_changed(struct ferry_dispatcher *dispatcher, bool full, void *context)
{
	(void)dispatcher;
	struct service *service = context;
	struct services *services = service->services;
	service->full = full;
	bool all = true;
	for (unsigned int i = 0; i < services->count; i++)
		all = all && services->all[i].full;
	program_log("the queue of %s %s", service->conf->name, full ? "is full" : "has room again");
	if (all == services->full)
		return;
	services->full = all;
	services->callbacks->full_changed(all, services->context);
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_ready = worker_ready,
    .worker_drained = worker_drained,
    .worker_lost = worker_lost,
    .full_changed = full_changed,
};

/* The channel is the callee's, whatever happens. The worker's context is its pid and not its member:
 * outcomes may come when that is gone. */
static int add_worker(struct member *member, struct ferry_transport *transport)
{
	int status = ferry_dispatcher_add_worker(&member->worker, member->service->dispatcher,
	                                         transport, member->name);
	if (status < 0) {
		ferry_transport_free(transport);
		return status;
	}
	ferry_dispatcher_worker_set_context(member->worker, (void *)(intptr_t)member->pid);
	evutil_gettimeofday(&member->started, NULL);
	return 0;
}

/* ---- our own processes ---- */

static struct ferry_transport *make_transport(struct event_base *base, int fd)
{
	struct ferry_transport *transport;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL) {
		close(fd);
		return NULL;
	}
	if (ferry_transport_new(&transport, bev) < 0) {
		bufferevent_free(bev);
		return NULL;
	}
	return transport;
}

static int process_started(struct worker_process *process, int channel, void *context)
{
	struct service *service = context;
	struct member *member = add_member(service);
	if (member == NULL) {
		close(channel);
		return -ENOMEM;
	}
	member->process = process;
	member->pid = process->pid;
	/* The same as that of the process before: its share of the keys is, too. */
	snprintf(member->name, sizeof(member->name), "%s-%u", service->conf->name, process->place + 1);
	process->owner = member;
	struct ferry_transport *transport = make_transport(service->services->base, channel);
	return transport != NULL ? add_worker(member, transport) : -ENOMEM;
}

static void drain_process(struct worker_process *process, void *context)
{
	(void)context;
	struct member *member = process->owner;
	if (member->worker != NULL &&
	    (!member->ready || ferry_dispatcher_worker_drain(member->worker) < 0))
		remove_worker(member);
}

static void process_ended(struct worker_process *process, void *context)
{
	(void)context;
	struct member *member = process->owner;
	if (member == NULL)
		return;
	remove_worker(member);
	free_member(member);
}

/* ---- workers of others ---- */

static void guest_came(struct ferry_listener *listener, struct ferry_transport *transport,
                       void *context)
{
	(void)listener;
	struct service *service = context;
	struct ucred who = {0};
	socklen_t length = sizeof(who);
	int fd = bufferevent_getfd(ferry_transport_get_bufferevent(transport));
	struct member *member = add_member(service);
	if (member == NULL) {
		ferry_transport_free(transport);
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0)
		member->pid = who.pid;
	snprintf(member->name, sizeof(member->name), "%s/%lu", service->conf->name, ++service->guests);
	int status = add_worker(member, transport);
	if (status < 0) {
		program_log("worker %s (pid %ld) is refused: %s", member->name, (long)member->pid,
		            strerror(-status));
		free_member(member);
	}
}

int services_listen(struct services *services, unsigned int service, int fd)
{
	return ferry_listener_new_fd(&services->all[service].listener, services->base, fd, guest_came,
	                             &services->all[service]);
}

void services_stop_listening(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++) {
		ferry_listener_free(services->all[i].listener);
		services->all[i].listener = NULL;
	}
}

/* ---- handoffs ---- */

static const char *outcome_name(enum ferry_handoff_outcome outcome)
{
	switch (outcome) {
	case FERRY_HANDOFF_DONE:
		return "done";
	case FERRY_HANDOFF_REJECTED:
		return "rejected";
	case FERRY_HANDOFF_EXPIRED:
		return "expired";
	default:
		return "kept";
	}
}

static void log_outcome(const struct ticket *ticket, const struct ferry_handoff *handoff,
                        enum ferry_handoff_outcome outcome, int reason)
{
	int fd = ticket->service->services->options.outcome_log;
	char client[SOCKET_ADDRESS_TEXT_SIZE], line[sizeof(client) + 128];
	if (fd < 0)
		return;
	struct ferry_dispatcher_worker *worker = ferry_handoff_get_worker(handoff);
	long pid = worker != NULL ? (long)(intptr_t)ferry_dispatcher_worker_get_context(worker) : 0;
	int length = snprintf(line, sizeof(line), "outcome %s %ld %u %s %d\n", outcome_name(outcome),
	                      pid, ferry_handoff_get_attempt(handoff),
	                      socket_address_format(&ticket->client, client, sizeof(client)), reason);
	if (write(fd, line, (size_t)length) != length)
		program_log("the outcome log: %s", strerror(errno));
}

static void handoff_ended(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                          enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher;
	struct ticket *ticket = context;
	struct services *services = ticket->service->services;
	log_outcome(ticket, handoff, outcome, reason);
	free(ticket);
	if (ferry_handoff_get_fd(handoff) >= 0 && !services->freed)
		services->callbacks->returned(handoff, services->context);
}

int services_hand_off(struct services *services, unsigned int service,
                      struct ferry_handoff *handoff, const struct socket_address *client)
{
	struct ticket *ticket = malloc(sizeof(*ticket));
	if (ticket == NULL)
		return -ENOMEM;
	*ticket = (struct ticket){.service = &services->all[service], .client = *client};
	int status =
	    ferry_dispatcher_hand_off(ticket->service->dispatcher, handoff, handoff_ended, ticket);
	if (status < 0)
		free(ticket);
	return status;
}

bool services_are_full(const struct services *services)
{
	return services->full;
}

uint64_t services_unclaimed(const struct services *services)
{
	struct ferry_dispatcher_stats stats;
	uint64_t sum = 0;
	for (unsigned int i = 0; i < services->count; i++)
		if (ferry_dispatcher_get_stats(services->all[i].dispatcher, &stats) == 0)
			sum += stats.queued + stats.unclaimed;
	return sum;
}

/* ---- all of them ---- */

void services_start(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		if (services->all[i].supervisor != NULL)
			supervisor_start(services->all[i].supervisor);
}

void services_replace_workers(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		if (services->all[i].supervisor != NULL)
			supervisor_replace(services->all[i].supervisor);
}

static void dismiss_guests(struct service *service)
{
	struct member *next;
	for (struct member *member = service->members; member != NULL; member = next) {
		next = member->next;
		if (member->process != NULL)
			continue;
		remove_worker(member);
		free_member(member);
	}
}

void services_retire(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++) {
		dismiss_guests(&services->all[i]);
		if (services->all[i].supervisor != NULL)
			supervisor_retire(services->all[i].supervisor);
	}
}

void services_terminate(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++) {
		dismiss_guests(&services->all[i]);
		if (services->all[i].supervisor != NULL)
			supervisor_terminate(services->all[i].supervisor);
	}
}

/* Without a dispatcher a service is as one without workers; its processes are still there. */
void services_give_up(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++) {
		struct service *service = &services->all[i];
		struct ferry_dispatcher *dispatcher = service->dispatcher;
		for (struct member *member = service->members; member != NULL; member = member->next)
			if (member->worker != NULL && member->process != NULL)
				forget_worker(member);
		dismiss_guests(service);
		service->dispatcher = NULL;
		ferry_dispatcher_free(dispatcher);
	}
}

bool services_are_empty(const struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		if (services->all[i].members != NULL || (services->all[i].supervisor != NULL &&
		                                         !supervisor_is_empty(services->all[i].supervisor)))
			return false;
	return true;
}

/* ---- the snapshot ---- */

static void fill_stats(const struct member *member, struct worker_snapshot *out)
{
	struct ferry_dispatcher_stats stats;
	if (member->worker == NULL || ferry_dispatcher_worker_get_stats(member->worker, &stats) < 0)
		return;
	add_stats(&out->stats, &stats);
	out->stats.outstanding = stats.outstanding;
	out->stats.unclaimed = stats.unclaimed;
	out->stats.credits = stats.credits;
	out->stats.workers = stats.workers;
}

static void fill_place(const struct service *service, unsigned int place,
                       struct worker_snapshot *out)
{
	const struct worker_process *process = supervisor_at(service->supervisor, place);
	unsigned long starts = supervisor_starts(service->supervisor, place);
	*out = (struct worker_snapshot){.state = WORKER_WAITING,
	                                .restarts = starts > 0 ? starts - 1 : 0,
	                                .stats = service->pasts[place].stats};
	if (process == NULL)
		return;
	out->pid = process->pid;
	out->started = process->started;
	out->state = process->state == WORKER_PROCESS_READY ? WORKER_READY : WORKER_STARTING;
	fill_stats(process->owner, out);
}

static void fill_member(const struct member *member, struct worker_snapshot *out)
{
	*out = (struct worker_snapshot){.pid = member->pid, .started = member->started};
	out->state = member->ready ? WORKER_READY : WORKER_STARTING;
	if (member->process != NULL && member->process->state == WORKER_PROCESS_LEAVING)
		out->state = WORKER_DRAINING;
	fill_stats(member, out);
}

static bool has_its_place(const struct member *member)
{
	return member->process != NULL &&
	       supervisor_at(member->service->supervisor, member->process->place) == member->process;
}

/* Room for so many workers and their names, as long as the snapshot is looked at. */
struct named_snapshot {
	char name[CONF_NAME_MAX + 48];
};

static size_t count_workers(const struct service *service)
{
	size_t count = service->supervisor != NULL ? service->conf->workers : 0;
	for (const struct member *member = service->members; member != NULL; member = member->next)
		count += !has_its_place(member);
	return count;
}

static void fill_workers(struct service *service, struct service_snapshot *out)
{
	size_t count = count_workers(service), i = 0;
	size_t size = count * (sizeof(*service->snapshots) + sizeof(struct named_snapshot));
	struct worker_snapshot *workers = realloc(service->snapshots, size > 0 ? size : 1);
	if (workers == NULL)
		return; /* without workers, then */
	service->snapshots = workers;
	struct named_snapshot *names = (struct named_snapshot *)(workers + count);
	for (; service->supervisor != NULL && i < service->conf->workers; i++) {
		fill_place(service, (unsigned int)i, &workers[i]);
		snprintf(names[i].name, sizeof(names[i].name), "%s-%zu", service->conf->name, i + 1);
		workers[i].name = names[i].name;
	}
	for (const struct member *member = service->members; member != NULL; member = member->next) {
		if (has_its_place(member))
			continue;
		fill_member(member, &workers[i]);
		/* Beside the process that has the place now, it needs a name of its own. */
		snprintf(names[i].name, sizeof(names[i].name), "%s%s%.0ld", member->name,
		         member->process != NULL ? "-" : "",
		         member->process != NULL ? (long)member->pid : 0);
		workers[i].name = names[i].name;
		i++;
	}
	out->workers = workers;
	out->worker_count = count;
}

void services_fill(struct services *services, struct snapshot *snapshot)
{
	for (unsigned int i = 0; i < services->count; i++) {
		struct service *service = &services->all[i];
		struct service_snapshot *out = &services->snapshots[i];
		*out = (struct service_snapshot){
		    .name = service->conf->name,
		    .root = service->conf->root,
		    .choice = conf_choice_name(service->conf->choice),
		    .queue_limit = services->conf->queue,
		    .is_full = ferry_dispatcher_is_full(service->dispatcher),
		};
		ferry_dispatcher_get_stats(service->dispatcher, &out->stats);
		fill_workers(service, out);
	}
	snapshot->services = services->snapshots;
	snapshot->service_count = services->count;
}

/* ---- made and freed ---- */

/* A connection goes to a worker with all that its client will ask for on it. A client that keeps one for a
 * host may ask for any path of it, which may be another service's. */
static bool routes_by_path(const struct conf *conf)
{
	for (unsigned int i = 0; i < conf->route_count; i++)
		if (conf->routes[i].path != NULL && conf->service_count > 1)
			return true;
	return false;
}

static int make_argv(struct service *service)
{
	const struct services_options *options = &service->services->options;
	static char channel[16];
	size_t extra = 0, count = 0;
	while (options->worker_argv[extra] != NULL)
		extra++;
	snprintf(channel, sizeof(channel), "%d", CHILD_PROCESS_FD);
	service->argv = calloc(extra + 7, sizeof(*service->argv));
	if (service->argv == NULL)
		return -ENOMEM;
	/* posix_spawn(3) takes them as they are, but for the type. */
	service->argv[count++] = (char *)(uintptr_t)options->worker;
	service->argv[count++] = (char *)(uintptr_t) "--channel";
	service->argv[count++] = channel;
	service->argv[count++] = (char *)(uintptr_t) "--root";
	service->argv[count++] = service->conf->root;
	if (routes_by_path(service->services->conf))
		service->argv[count++] = (char *)(uintptr_t) "--close";
	memcpy(service->argv + count, options->worker_argv, extra * sizeof(*service->argv));
	return 0;
}

static int init_supervisor(struct service *service)
{
	static const struct supervisor_callbacks callbacks = {
	    .started = process_started, .drain = drain_process, .ended = process_ended};
	int status = make_argv(service);
	if (status < 0)
		return status;
	service->pasts = calloc(service->conf->workers, sizeof(*service->pasts));
	if (service->pasts == NULL)
		return -ENOMEM;
	const struct supervisor_options options = {.name = service->conf->name,
	                                           .argv = service->argv,
	                                           .places = service->conf->workers,
	                                           .drain_timeout =
	                                               service->services->conf->drain_timeout};
	return supervisor_new(&service->supervisor, service->services->base, &options, &callbacks,
	                      service);
}

static int init_service(struct service *service)
{
	const struct conf *conf = service->services->conf;
	int status = ferry_dispatcher_new(&service->dispatcher, service->services->base,
	                                  &dispatcher_callbacks, service);
	if (status == 0)
		status = ferry_dispatcher_set_choice(service->dispatcher, service->conf->choice);
	if (status == 0)
		status = ferry_dispatcher_set_queue_limit(service->dispatcher, conf->queue);
	if (status == 0)
		status = ferry_dispatcher_set_timeouts(service->dispatcher, &conf->queue_timeout,
		                                       &conf->answer_timeout);
	if (status == 0 && service->conf->root != NULL && service->conf->workers > 0)
		status = init_supervisor(service);
	return status;
}

int services_new(struct services **out, struct event_base *base, const struct conf *conf,
                 const struct services_options *options, const struct services_callbacks *callbacks,
                 void *context)
{
	struct services *services =
	    calloc(1, sizeof(*services) + conf->service_count * sizeof(services->all[0]));
	if (services == NULL)
		return -ENOMEM;
	services->base = base;
	services->conf = conf;
	services->options = *options;
	services->callbacks = callbacks;
	services->context = context;
	services->count = conf->service_count;
	services->snapshots = calloc(conf->service_count, sizeof(*services->snapshots));
	int status = services->snapshots != NULL ? 0 : -ENOMEM;
	for (unsigned int i = 0; i < services->count; i++) {
		services->all[i].services = services;
		services->all[i].conf = &conf->services[i];
		if (status == 0)
			status = init_service(&services->all[i]);
	}
	if (status < 0) {
		services_free(services);
		return status;
	}
	*out = services;
	return 0;
}

static void free_service(struct service *service)
{
	ferry_listener_free(service->listener);
	supervisor_free(service->supervisor);
	ferry_dispatcher_free(service->dispatcher); /* its workers with it */
	struct member *next;
	for (struct member *member = service->members; member != NULL; member = next) {
		next = member->next;
		free(member);
	}
	free(service->pasts);
	free(service->argv);
	free(service->snapshots);
}

void services_free(struct services *services)
{
	if (services == NULL)
		return;
	services->freed = true;
	for (unsigned int i = 0; i < services->count; i++)
		free_service(&services->all[i]);
	free(services->snapshots);
	free(services);
}
