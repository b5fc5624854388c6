/* The snapshot of the services, for the report. */

#include "programs/ferry-proxy/service.h"

#include <stdio.h>
#include <stdlib.h>

#include <ferry/ferry.h>

static void fill_stats(const struct member *member, struct worker_snapshot *out)
{
	struct ferry_dispatcher_stats stats;
	if (member->worker == NULL || ferry_dispatcher_worker_get_stats(member->worker, &stats) < 0)
		return;
	service_add_stats(&out->stats, &stats);
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
	                                .is_own = true,
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
	*out = (struct worker_snapshot){
	    .pid = member->pid, .is_own = member->process != NULL, .started = member->started};
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

static void fill_workers(struct service *service, struct service_snapshot *out)
{
	size_t count = count_workers(service), i = 0;
	size_t size = count * (sizeof(*service->snapshots) + sizeof(struct named_snapshot));
	struct worker_snapshot *workers = realloc(service->snapshots, size > 0 ? size : 1);
	if (workers == NULL)
		return; /* the snapshot then has no workers */
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
		/* The process that has the place now has the name without the pid. */
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
