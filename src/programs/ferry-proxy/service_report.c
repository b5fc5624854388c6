/* The snapshot of the services, for the report. */

#include "programs/ferry-proxy/service.h"

#include <stdio.h>
#include <stdlib.h>

#include <ferry/ferry.h>

static void fill_place(const struct service *service, unsigned int place,
                       struct worker_snapshot *out)
{
	struct ferry_supervisor_place_info info = {.pid = 0};
	ferry_supervisor_get_place(service->supervisor, place, &info);
	*out = (struct worker_snapshot){.state = WORKER_WAITING,
	                                .is_own = true,
	                                .restarts = info.starts > 0 ? info.starts - 1 : 0,
	                                .pid = info.pid,
	                                .started = info.started,
	                                .stats = info.stats};
	if (info.worker != NULL)
		out->state = info.state == FERRY_SUPERVISOR_READY ? WORKER_READY : WORKER_STARTING;
}

static bool has_its_place(const struct member *member)
{
	struct ferry_supervisor_worker_info info;
	return ferry_supervisor_worker_get_info(member->process, &info) == 0 && info.has_place;
}

static void fill_member(const struct member *member, struct worker_snapshot *out)
{
	struct ferry_supervisor_worker_info info;
	*out = (struct worker_snapshot){
	    .pid = member->pid, .is_own = member->process != NULL, .started = member->started};
	out->state = member->ready ? WORKER_READY : WORKER_STARTING;
	if (ferry_supervisor_worker_get_info(member->process, &info) == 0 &&
	    info.state == FERRY_SUPERVISOR_LEAVING)
		out->state = WORKER_DRAINING;
	ferry_dispatcher_worker_get_stats(member_worker(member), &out->stats);
}

/* The name of a worker. One block of memory has all workers, and then all names. */
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

/* Returns the number of places. */
static size_t fill_places(const struct service *service, struct worker_snapshot *workers,
                          struct named_snapshot *names)
{
	size_t i = 0;
	for (; service->supervisor != NULL && i < service->conf->workers; i++) {
		fill_place(service, (unsigned int)i, &workers[i]);
		snprintf(names[i].name, sizeof(names[i].name), "%s-%zu", service->conf->name, i + 1);
		workers[i].name = names[i].name;
	}
	return i;
}

static void fill_others(const struct service *service, struct worker_snapshot *workers,
                        struct named_snapshot *names)
{
	size_t i = 0;
	for (const struct member *member = service->members; member != NULL; member = member->next) {
		if (has_its_place(member))
			continue;
		fill_member(member, &workers[i]);
		/* The process that has the place now has the name without the pid. */
		snprintf(names[i].name, sizeof(names[i].name), "%s%s%.0ld", member->name,
		         member->process != NULL ? "-" : "",
		         member->process != NULL ? (long)member->pid : 0);
		workers[i].name = names[i].name;
		i++;
	}
}

static void fill_workers(struct service *service, struct service_snapshot *out)
{
	size_t count = count_workers(service);
	size_t size = count * (sizeof(*service->snapshots) + sizeof(struct named_snapshot));
	struct worker_snapshot *workers = malloc(size > 0 ? size : 1);
	free(service->snapshots);
	service->snapshots = workers;
	if (workers == NULL)
		return; /* the snapshot then has no workers */
	struct named_snapshot *names = (struct named_snapshot *)(workers + count);
	size_t places = fill_places(service, workers, names);
	fill_others(service, workers + places, names + places);
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
		    .has_answers = service->answers != NULL,
		};
		if (service->answers != NULL)
			answer_counters_read(service->answers, &out->answers);
		ferry_dispatcher_get_stats(service->dispatcher, &out->stats);
		fill_workers(service, out);
	}
	snapshot->services = services->snapshots;
	snapshot->service_count = services->count;
}
