/* The workers of one service: those that the supervisor starts, and guests that connect to its socket. */

#include "programs/ferry-proxy/child_process.h"
#include "programs/ferry-proxy/service.h"
#include "programs/shared/program.h"
#include "programs/shared/socket_transport.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* The time over which a worker that is to leave spreads the return of its idle connections. */
static const struct timeval recall_spread = {.tv_usec = 200000};

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

void service_add_stats(struct ferry_dispatcher_stats *sum,
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
	sum->returned += stats->returned;
	sum->malformed += stats->malformed;
	sum->workers_lost += stats->workers_lost;
}

/* The channel of the worker has ended, or is about to. The place keeps the counters. */
static void forget_worker(struct member *member)
{
	struct ferry_dispatcher_stats stats;
	if (member->process != NULL && ferry_dispatcher_worker_get_stats(member->worker, &stats) == 0)
		service_add_stats(&member->service->pasts[member->process->place].stats, &stats);
	member->worker = NULL;
}

/* The worker keeps the connections that it has claimed; the others go to other workers. */
static void remove_worker(struct member *member)
{
	struct ferry_dispatcher_worker *worker = member->worker;
	if (worker == NULL)
		return;
	forget_worker(member);
	ferry_dispatcher_worker_remove(worker);
}

/* ---- the dispatcher's callbacks ---- */

static void notify_ready(struct services *services)
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

/* Before it is ready, the signal would end the process. */
static void reopen_logs_of(struct member *member)
{
	member->reopens = !member->ready;
	if (member->ready && member->process != NULL)
		(void)kill(member->pid, SIGUSR1);
}

void service_reopen_logs(struct service *service)
{
	for (struct member *member = service->members; member != NULL; member = member->next)
		reopen_logs_of(member);
}

static void worker_ready(struct ferry_dispatcher *dispatcher,
                         struct ferry_dispatcher_worker *worker, void *context)
{
	(void)dispatcher;
	struct service *service = context;
	struct member *member = find_member(service, worker);
	member->ready = true;
	if (member->reopens)
		reopen_logs_of(member);
	if (member->process != NULL)
		supervisor_is_ready(member->process);
	else
		program_log("worker %s (pid %ld) is connected", member->name, (long)member->pid);
	notify_ready(service->services);
}

/* The worker has served all its clients. It ends when it sees the end of its channel. */
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
	if (stats.done + stats.returned > 0)
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
	if (all != services->full) {
		services->full = all;
		services->callbacks->full_changed(all, services->context);
	}
	if (!full && !services->freed)
		services->callbacks->has_room(services->context);
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_ready = worker_ready,
    .worker_drained = worker_drained,
    .worker_lost = worker_lost,
    .full_changed = full_changed,
    .handoff_returned = service_handoff_returned,
};

/* Owns the transport, also on failure. The context of the worker is its pid and not its member, because an
 * outcome may come after the member was freed. */
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

/* The worker returns the connections that idle, each of the others once it idles, and gets no more. */
static void drain_worker(struct member *member)
{
	if (member->worker == NULL)
		return;
	ferry_dispatcher_worker_recall(member->worker, &recall_spread);
	if (!member->ready || ferry_dispatcher_worker_drain(member->worker) < 0)
		remove_worker(member);
}

/* ---- processes of the proxy ---- */

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
	/* The name of the former process in this place, for the same share of the keys. */
	snprintf(member->name, sizeof(member->name), "%s-%u", service->conf->name, process->place + 1);
	process->owner = member;
	struct ferry_transport *transport;
	int status = socket_transport_new(&transport, service->services->base, channel);
	return status == 0 ? add_worker(member, transport) : status;
}

static void drain_process(struct worker_process *process, void *context)
{
	(void)context;
	struct member *member = process->owner;
	drain_worker(member);
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

/* ---- guests ---- */

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
		program_log("refused worker %s (pid %ld): %s", member->name, (long)member->pid,
		            strerror(-status));
		free_member(member);
	}
}

int service_listen(struct service *service, int fd)
{
	return ferry_listener_new_fd(&service->listener, service->services->base, fd, guest_came,
	                             service);
}

void service_drain_guests(struct service *service)
{
	struct member *next;
	for (struct member *member = service->members; member != NULL; member = next) {
		next = member->next;
		if (member->process != NULL)
			continue;
		drain_worker(member);
		if (member->worker == NULL)
			free_member(member);
	}
}

void service_dismiss_guests(struct service *service)
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

void service_give_up(struct service *service)
{
	struct ferry_dispatcher *dispatcher = service->dispatcher;
	for (struct member *member = service->members; member != NULL; member = member->next)
		if (member->worker != NULL && member->process != NULL)
			forget_worker(member);
	service_dismiss_guests(service);
	service->dispatcher = NULL;
	ferry_dispatcher_free(dispatcher);
}

/* ---- made and freed ---- */

/* Without the memory the workers do not count their answers. Its descriptor is above those of a child. */
static void make_counters(struct service *service)
{
	int fd;
	int status = answer_counters_new(&service->answers, &fd);
	if (status == 0) {
		service->answers_fd = fcntl(fd, F_DUPFD_CLOEXEC, CHILD_PROCESS_MEMORY_FD + 1);
		status = service->answers_fd < 0 ? -errno : 0;
		close(fd);
	}
	if (status == 0)
		return;
	program_log("the answers of %s are not counted: %s", service->conf->name, strerror(-status));
	answer_counters_free(service->answers);
	service->answers = NULL;
}

/* The same for all services. */
static struct {
	char channel[16], counters[16], keep[16], size[16], fields[16];
} numbers;

void service_set_numbers(const struct conf *conf)
{
	snprintf(numbers.channel, sizeof(numbers.channel), "%d", CHILD_PROCESS_FD);
	snprintf(numbers.counters, sizeof(numbers.counters), "%d", CHILD_PROCESS_MEMORY_FD);
	snprintf(numbers.keep, sizeof(numbers.keep), "%u", conf->keep);
	snprintf(numbers.size, sizeof(numbers.size), "%u", conf->head_size);
	snprintf(numbers.fields, sizeof(numbers.fields), "%u", conf->head_fields);
}

static int make_worker_argv(struct service *service)
{
	const struct services_options *options = &service->services->options;
	size_t extra = 0, count = 0;
	while (options->worker_argv[extra] != NULL)
		extra++;
	service_set_numbers(service->services->conf);
	service->argv = calloc(extra + 16, sizeof(*service->argv));
	if (service->argv == NULL)
		return -ENOMEM;
	/* posix_spawn(3) does not write to the arguments, although their type is not const. */
	service->argv[count++] = (char *)(uintptr_t)options->worker;
	service->argv[count++] = (char *)(uintptr_t) "--channel";
	service->argv[count++] = numbers.channel;
	if (service->answers != NULL) {
		service->argv[count++] = (char *)(uintptr_t) "--counters";
		service->argv[count++] = numbers.counters;
	}
	service->argv[count++] = (char *)(uintptr_t) "--root";
	service->argv[count++] = service->conf->root;
	service->argv[count++] = (char *)(uintptr_t) "--keep";
	service->argv[count++] = numbers.keep;
	service->argv[count++] = (char *)(uintptr_t) "--head-size";
	service->argv[count++] = numbers.size;
	service->argv[count++] = (char *)(uintptr_t) "--head-fields";
	service->argv[count++] = numbers.fields;
	if (service->services->conf->access_log != NULL) {
		service->argv[count++] = (char *)(uintptr_t) "--access-log";
		service->argv[count++] = service->services->conf->access_log;
	}
	memcpy(service->argv + count, options->worker_argv, extra * sizeof(*service->argv));
	return 0;
}

static int init_service_supervisor(struct service *service)
{
	static const struct supervisor_callbacks callbacks = {
	    .started = process_started, .drain = drain_process, .ended = process_ended};
	make_counters(service);
	int status = make_worker_argv(service);
	if (status < 0)
		return status;
	service->pasts = calloc(service->conf->workers, sizeof(*service->pasts));
	if (service->pasts == NULL)
		return -ENOMEM;
	const struct supervisor_options options = {.name = service->conf->name,
	                                           .argv = service->argv,
	                                           .memory = service->answers_fd,
	                                           .places = service->conf->workers,
	                                           .drain_timeout =
	                                               service->services->conf->drain_timeout};
	return supervisor_new(&service->supervisor, service->services->base, &options, &callbacks,
	                      service);
}

int service_init(struct service *service)
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
		status = init_service_supervisor(service);
	return status;
}

void service_free(struct service *service)
{
	ferry_listener_free(service->listener);
	supervisor_free(service->supervisor);
	ferry_dispatcher_free(service->dispatcher); /* and its workers */
	struct member *next;
	for (struct member *member = service->members; member != NULL; member = next) {
		next = member->next;
		free(member);
	}
	free(service->pasts);
	free(service->argv);
	answer_counters_free(service->answers);
	if (service->answers_fd >= 0)
		close(service->answers_fd);
	free(service->snapshots);
}
