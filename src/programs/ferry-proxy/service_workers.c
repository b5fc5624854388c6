/* The workers of one service: those that the supervisor starts, and guests that connect to its socket. */

#include "programs/ferry-proxy/service.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <ferry/ferry.h>

enum { COUNTERS_FD = 4 }; /* in a worker */

/* The time over which a worker that is to leave spreads the return of its idle connections. */
static const struct timeval recall_spread = {.tv_usec = 200000};

/* ---- members ---- */

/* NULL: there was no memory for it. */
static struct member *find_member(const struct service *service,
                                  const struct ferry_dispatcher_worker *worker)
{
	struct member *member = service->members;
	struct ferry_supervisor_worker *process =
	    ferry_supervisor_find_worker(service->supervisor, worker);
	if (process != NULL)
		return ferry_supervisor_worker_get_context(process);
	while (member != NULL && member->guest != worker)
		member = member->next;
	return member;
}

struct ferry_dispatcher_worker *member_worker(const struct member *member)
{
	struct ferry_supervisor_worker_info info;
	if (ferry_supervisor_worker_get_info(member->process, &info) == 0)
		return info.dispatcher_worker;
	return member->guest;
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

/* The guest keeps the connections that it has claimed; the others go to other workers. */
static void dismiss_guest(struct member *member)
{
	ferry_dispatcher_worker_remove(member->guest);
	free_member(member);
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
		(void)ferry_supervisor_worker_signal(member->process, SIGUSR1);
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
	if (member == NULL)
		return;
	member->ready = true;
	program_log("worker %s (pid %ld) is %s", member->name, (long)member->pid,
	            member->process != NULL ? "ready" : "connected");
	if (member->reopens)
		reopen_logs_of(member);
	notify_ready(service->services);
}

/* The worker has served all its clients. It ends when it sees the end of its channel. */
static void worker_drained(struct ferry_dispatcher *dispatcher,
                           struct ferry_dispatcher_worker *worker, void *context)
{
	(void)dispatcher;
	struct member *member = find_member(context, worker);
	if (member == NULL || member->process != NULL)
		return;
	program_log("worker %s (pid %ld) has been drained", member->name, (long)member->pid);
	dismiss_guest(member);
}

static void worker_lost(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
                        int reason, void *context)
{
	(void)dispatcher;
	struct member *member = find_member(context, worker);
	if (member == NULL)
		return;
	program_log("worker %s (pid %ld) is disconnected%s%s", member->name, (long)member->pid,
	            reason != 0 ? ": " : "", reason != 0 ? strerror(-reason) : "");
	if (member->process == NULL)
		free_member(member);
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

/* ---- processes of the proxy ---- */

static void note_started(struct member *member, struct ferry_dispatcher_worker *worker)
{
	/* The context of the worker is its pid and not its member, because an outcome may come after the member was
	 * freed. */
	ferry_dispatcher_worker_set_context(worker, (void *)(intptr_t)member->pid);
	evutil_gettimeofday(&member->started, NULL);
}

static void process_started(struct ferry_supervisor *supervisor,
                            struct ferry_supervisor_worker *process, void *context)
{
	(void)supervisor;
	struct service *service = context;
	struct ferry_supervisor_worker_info info;
	struct member *member = add_member(service);
	if (member == NULL) {
		ferry_supervisor_worker_stop(process, FERRY_SUPERVISOR_KILL);
		return;
	}
	ferry_supervisor_worker_get_info(process, &info);
	ferry_supervisor_worker_set_context(process, member);
	member->process = process;
	member->pid = info.pid;
	snprintf(member->name, sizeof(member->name), "%s-%u", service->conf->name, info.place + 1);
	note_started(member, info.dispatcher_worker);
}

static void process_ended(struct ferry_supervisor *supervisor,
                          struct ferry_supervisor_worker *process, int status, void *context)
{
	(void)supervisor, (void)context;
	struct ferry_supervisor_worker_info info;
	struct member *member = ferry_supervisor_worker_get_context(process);
	ferry_supervisor_worker_get_info(process, &info);
	if (member == NULL)
		return;
	if (info.asked && status == 0) /* ferry logs the others */
		program_log("worker %s (pid %ld) has ended", member->name, (long)member->pid);
	free_member(member);
}

static void processes_replaced(struct ferry_supervisor *supervisor, int status, void *context)
{
	(void)supervisor;
	const struct service *service = context;
	if (status == 0)
		program_log("the workers of %s are replaced", service->conf->name);
	else if (status != -ECANCELED)
		program_log("the workers of %s are not replaced: %s", service->conf->name,
		            status == -ECHILD ? "the new one was not ready" : strerror(-status));
}

/* The worker returns the connections that idle, each of the others once it idles, and gets no more. */
static void drain_guest(struct member *member)
{
	ferry_dispatcher_worker_recall(member->guest, &recall_spread);
	if (!member->ready || ferry_dispatcher_worker_drain(member->guest) < 0)
		dismiss_guest(member);
}

/* ---- guests ---- */

static void guest_came(struct ferry_listener *listener, struct ferry_transport *transport,
                       void *context)
{
	(void)listener;
	struct service *service = context;
	struct ferry_peer_credentials who = {0};
	struct member *member = add_member(service);
	if (member == NULL) {
		ferry_transport_free(transport);
		return;
	}
	ferry_transport_get_peer_credentials(transport, &who);
	member->pid = who.pid;
	snprintf(member->name, sizeof(member->name), "%s/%lu", service->conf->name, ++service->guests);
	int status =
	    ferry_dispatcher_add_worker(&member->guest, service->dispatcher, transport, member->name);
	if (status == 0) {
		note_started(member, member->guest);
	} else {
		ferry_transport_free(transport);
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
		if (member->process == NULL)
			drain_guest(member);
	}
}

void service_dismiss_guests(struct service *service)
{
	struct member *next;
	for (struct member *member = service->members; member != NULL; member = next) {
		next = member->next;
		if (member->process == NULL)
			dismiss_guest(member);
	}
}

void service_give_up(struct service *service)
{
	struct ferry_dispatcher *dispatcher = service->dispatcher;
	service_dismiss_guests(service);
	service->dispatcher = NULL;
	ferry_dispatcher_free(dispatcher);
}

/* ---- made and freed ---- */

/* Without the memory the workers do not count their answers. Returns its descriptor, or -1. */
static int make_counters(struct service *service)
{
	int fd;
	int status = answer_counters_new(&service->answers, &fd);
	if (status == 0)
		return fd;
	program_log("the answers of %s are not counted: %s", service->conf->name, strerror(-status));
	return -1;
}

/* The new count. */
static size_t add_tls(const char **argv, size_t count, const struct conf_service *conf)
{
	if (conf->tls_certificate == NULL)
		return count;
	argv[count++] = "--tls-certificate";
	argv[count++] = conf->tls_certificate;
	argv[count++] = "--tls-key";
	argv[count++] = conf->tls_key;
	return count;
}

static const char **make_worker_argv(const struct service *service, char numbers[4][16])
{
	const struct services_options *options = &service->services->options;
	size_t extra = 0, count = 0;
	while (options->worker_argv[extra] != NULL)
		extra++;
	snprintf(numbers[0], 16, "%u", service->services->conf->keep);
	snprintf(numbers[1], 16, "%u", service->services->conf->head_size);
	snprintf(numbers[2], 16, "%u", service->services->conf->head_fields);
	snprintf(numbers[3], 16, "%d", COUNTERS_FD);
	const char **argv = calloc(extra + 18, sizeof(*argv));
	if (argv == NULL)
		return NULL;
	argv[count++] = options->worker;
	argv[count++] = "--root";
	argv[count++] = service->conf->root;
	argv[count++] = "--keep";
	argv[count++] = numbers[0];
	argv[count++] = "--head-size";
	argv[count++] = numbers[1];
	argv[count++] = "--head-fields";
	argv[count++] = numbers[2];
	if (service->answers != NULL) {
		argv[count++] = "--counters";
		argv[count++] = numbers[3];
	}
	if (service->services->conf->access_log != NULL) {
		argv[count++] = "--access-log";
		argv[count++] = service->services->conf->access_log;
	}
	count = add_tls(argv, count, service->conf);
	memcpy(argv + count, options->worker_argv, extra * sizeof(*argv));
	return argv;
}

void service_use_numbers(struct service *service)
{
	char numbers[4][16];
	if (service->supervisor == NULL)
		return;
	const char **argv = make_worker_argv(service, numbers);
	int status = argv != NULL ? ferry_supervisor_set_argv(service->supervisor, argv) : -ENOMEM;
	free(argv);
	if (status < 0)
		program_log("the workers of %s keep their numbers: %s", service->conf->name,
		            strerror(-status));
}

/* The loop starts the workers after services_start(). */
static int init_service_supervisor(struct service *service)
{
	static const struct ferry_supervisor_callbacks callbacks = {
	    .worker_started = process_started,
	    .worker_ended = process_ended,
	    .replaced = processes_replaced,
	};
	struct ferry_supervisor_options options = FERRY_SUPERVISOR_OPTIONS_INIT;
	const struct ferry_supervisor_fd counters = {.number = COUNTERS_FD,
	                                             .fd = make_counters(service)};
	char numbers[4][16];
	const char **argv = make_worker_argv(service, numbers);
	int status = -ENOMEM;
	options.name = service->conf->name;
	options.argv = argv;
	options.workers = 0;
	options.dispatcher = service->dispatcher;
	options.fds = &counters;
	options.fd_count = counters.fd >= 0 ? 1 : 0;
	options.start_timeout = service->services->conf->start_timeout;
	options.drain_timeout = service->services->conf->drain_timeout;
	options.recall_spread = recall_spread;
	options.replace_step = 1;
	if (argv != NULL)
		status = ferry_supervisor_new(&service->supervisor, service->services->base, &options,
		                              &callbacks, service);
	if (counters.fd >= 0)
		close(counters.fd); /* the supervisor has a copy */
	free(argv);
	return status;
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
	ferry_supervisor_free(service->supervisor);
	ferry_dispatcher_free(service->dispatcher); /* and its workers */
	struct member *next;
	for (struct member *member = service->members; member != NULL; member = next) {
		next = member->next;
		free(member);
	}
	answer_counters_free(service->answers);
	free(service->snapshots);
}
