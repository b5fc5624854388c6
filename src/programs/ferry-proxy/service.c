#include "programs/ferry-proxy/service.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

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
                        const char *outcome, int reason)
{
	int fd = ticket->service->services->options.outcome_log;
	char client[FERRY_ADDRESS_TEXT_SIZE], line[sizeof(client) + 128];
	if (fd < 0)
		return;
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	long pid = (long)(intptr_t)ferry_dispatcher_worker_get_context(info.worker);
	int length =
	    snprintf(line, sizeof(line), "outcome %s %ld %u %s %d\n", outcome, pid, info.attempt,
	             ferry_address_format(&ticket->client.client, client, sizeof(client)), reason);
	if (write(fd, line, (size_t)length) != length)
		program_log("the outcome log: %s", strerror(errno));
}

static void handoff_ended(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                          enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher;
	struct ticket *ticket = context;
	struct services *services = ticket->service->services;
	log_outcome(ticket, handoff, outcome_name(outcome), reason);
	free(ticket);
	if (ferry_handoff_get_fd(handoff) >= 0 && !services->freed)
		services->callbacks->returned(handoff, services->context);
}

void service_handoff_returned(struct ferry_dispatcher *dispatcher,
                              struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
                              void *context)
{
	(void)dispatcher, (void)worker, (void)context;
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	struct ticket *ticket = info.context;
	struct services *services = ticket->service->services;
	struct client_address client = ticket->client;
	log_outcome(ticket, handoff, "returned", 0);
	free(ticket);
	services->callbacks->idle(handoff, &client, services->context);
}

int services_hand_off(struct services *services, unsigned int service,
                      struct ferry_handoff *handoff, const struct client_address *client)
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

int services_listen(struct services *services, unsigned int service, int fd)
{
	return service_listen(&services->all[service], fd);
}

void services_stop_listening(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++) {
		ferry_listener_free(services->all[i].listener);
		services->all[i].listener = NULL;
	}
}

void services_start(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		ferry_supervisor_set_workers(services->all[i].supervisor, services->all[i].conf->workers);
}

void services_set_error_output(struct services *services, int fd)
{
	for (unsigned int i = 0; i < services->count; i++) {
		struct ferry_supervisor *supervisor = services->all[i].supervisor;
		int status = supervisor == NULL
		                 ? 0
		                 : ferry_supervisor_set_standard_fd(
		                       supervisor, STDERR_FILENO,
		                       fd == STDERR_FILENO ? FERRY_SUPERVISOR_FD_INHERIT : fd);
		if (status < 0)
			program_log("the standard error of the workers of %s: %s", services->all[i].conf->name,
			            strerror(-status));
	}
}

void services_set_limits(struct services *services)
{
	const struct conf *conf = services->conf;
	for (unsigned int i = 0; i < services->count; i++) {
		struct ferry_dispatcher *dispatcher = services->all[i].dispatcher;
		ferry_dispatcher_set_queue_limit(dispatcher, conf->queue);
		ferry_dispatcher_set_timeouts(dispatcher, &conf->queue_timeout, &conf->answer_timeout);
		service_use_numbers(&services->all[i]);
	}
}

void services_set_outcome_log(struct services *services, int fd)
{
	services->options.outcome_log = fd;
}

void services_reopen_logs(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		service_reopen_logs(&services->all[i]);
}

void services_replace_workers(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		ferry_supervisor_replace(services->all[i].supervisor);
}

void services_retire(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++) {
		service_drain_guests(&services->all[i]);
		ferry_supervisor_stop(services->all[i].supervisor, FERRY_SUPERVISOR_DRAIN);
	}
}

void services_dismiss_guests(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		service_dismiss_guests(&services->all[i]);
}

void services_terminate(struct services *services)
{
	services_dismiss_guests(services);
	for (unsigned int i = 0; i < services->count; i++)
		ferry_supervisor_stop(services->all[i].supervisor, services->terminated
		                                                       ? FERRY_SUPERVISOR_KILL
		                                                       : FERRY_SUPERVISOR_TERMINATE);
	services->terminated = true;
}

void services_give_up(struct services *services)
{
	for (unsigned int i = 0; i < services->count; i++)
		service_give_up(&services->all[i]);
}

bool services_are_empty(const struct services *services)
{
	struct ferry_supervisor_stats stats;
	for (unsigned int i = 0; i < services->count; i++)
		if (services->all[i].members != NULL ||
		    (ferry_supervisor_get_stats(services->all[i].supervisor, &stats) == 0 &&
		     stats.state != FERRY_SUPERVISOR_STOPPED))
			return false;
	return true;
}

/* ---- made and freed ---- */

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
			status = service_init(&services->all[i]);
	}
	if (status < 0) {
		services_free(services);
		return status;
	}
	*out = services;
	return 0;
}

void services_free(struct services *services)
{
	if (services == NULL)
		return;
	services->freed = true;
	for (unsigned int i = 0; i < services->count; i++)
		service_free(&services->all[i]);
	free(services->snapshots);
	free(services);
}
