/* The report as metrics for Prometheus. All samples of one name follow its HELP and TYPE lines. */

#include "programs/ferry-proxy/report_text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* The counters of the dispatcher, for a service and for each of its workers. */
static const struct {
	const char *name;
	const char *type;
	const char *help;
	size_t offset;
	bool of_worker;
} counters[] = {
    {"handoffs_accepted_total", "counter", "Handoffs given to the dispatcher.",
     offsetof(struct ferry_dispatcher_stats, accepted), false},
    {"handoffs_sent_total", "counter", "Attempts: handoffs written to a worker's channel.",
     offsetof(struct ferry_dispatcher_stats, sent), true},
    {"handoffs_claimed_total", "counter", "Handoffs that a worker claimed.",
     offsetof(struct ferry_dispatcher_stats, claimed), true},
    {"handoffs_done_total", "counter", "Handoffs served to their end.",
     offsetof(struct ferry_dispatcher_stats, done), true},
    {"handoffs_returned_total", "counter", "Handoffs that a worker returned between two requests.",
     offsetof(struct ferry_dispatcher_stats, returned), true},
    {"handoffs_rejected_total", "counter", "Handoffs that a worker refused.",
     offsetof(struct ferry_dispatcher_stats, rejected), true},
    {"handoffs_expired_total", "counter", "Handoffs that no worker claimed in time.",
     offsetof(struct ferry_dispatcher_stats, expired), true},
    {"handoffs_kept_total", "counter", "Handoffs claimed by a worker whose channel ended.",
     offsetof(struct ferry_dispatcher_stats, kept), true},
    {"handoffs_lost_total", "counter", "Failed attempts: the descriptor did not arrive.",
     offsetof(struct ferry_dispatcher_stats, lost), true},
    {"handoffs_fenced_total", "counter", "Failed attempts: the channel ended before the claim.",
     offsetof(struct ferry_dispatcher_stats, fenced), true},
    {"handoffs_retried_total", "counter", "Attempts after the first one of a handoff.",
     offsetof(struct ferry_dispatcher_stats, retried), true},
    {"answers_stale_total", "counter", "Answers about a handoff that is not with that worker.",
     offsetof(struct ferry_dispatcher_stats, stale), true},
    {"messages_malformed_total", "counter", "Messages in a wrong format.",
     offsetof(struct ferry_dispatcher_stats, malformed), true},
    {"channels_lost_total", "counter", "Channels to workers that have ended.",
     offsetof(struct ferry_dispatcher_stats, workers_lost), true},
    {"queue_length", "gauge", "Handoffs that wait for a worker.",
     offsetof(struct ferry_dispatcher_stats, queued), false},
    {"queue_length_max", "gauge", "The most handoffs that have waited at once.",
     offsetof(struct ferry_dispatcher_stats, queued_max), false},
    {"handoffs_outstanding", "gauge", "Handoffs with a worker, without their outcome.",
     offsetof(struct ferry_dispatcher_stats, outstanding), true},
    {"handoffs_unclaimed", "gauge", "Outstanding handoffs that no worker has claimed.",
     offsetof(struct ferry_dispatcher_stats, unclaimed), true},
    {"credits", "gauge", "The number of handoffs that a worker takes at once.",
     offsetof(struct ferry_dispatcher_stats, credits), true},
    {"workers", "gauge", "Workers with a channel.",
     offsetof(struct ferry_dispatcher_stats, workers), false},
};

static void begin_metric(struct text *text, const char *part, const char *name, const char *type,
                         const char *help)
{
	text_add(text, "# HELP ferry_%s_%s %s\n# TYPE ferry_%s_%s %s\n", part, name, help, part, name,
	         type);
}

static void add_label(struct text *text, const char *name, const char *value)
{
	text_add(text, "%s=\"", name);
	for (size_t start = 0; value[start] != '\0';) {
		size_t plain = strcspn(value + start, "\\\"\n");
		text_add_bytes(text, value + start, plain);
		start += plain;
		if (value[start] == '\0')
			break;
		text_add(text, "\\%c", value[start] == '\n' ? 'n' : value[start]);
		start++;
	}
	text_add(text, "\"");
}

static void add_service_sample(struct text *text, const char *name,
                               const struct service_snapshot *service, uint64_t value)
{
	text_add(text, "ferry_service_%s{", name);
	add_label(text, "service", service->name);
	text_add(text, "} %" PRIu64 "\n", value);
}

static void begin_worker_sample(struct text *text, const char *name,
                                const struct service_snapshot *service,
                                const struct worker_snapshot *worker)
{
	text_add(text, "ferry_worker_%s{", name);
	add_label(text, "service", service->name);
	text_add(text, ",");
	add_label(text, "worker", worker->name);
}

static void add_single(struct text *text, const char *name, const char *type, const char *help,
                       uint64_t value)
{
	begin_metric(text, "proxy", name, type, help);
	text_add(text, "ferry_proxy_%s %" PRIu64 "\n", name, value);
}

static void add_proxy_metrics(struct text *text, const struct snapshot *snapshot)
{
	begin_metric(text, "proxy", "info", "gauge", "The version that runs.");
	text_add(text, "ferry_proxy_info{");
	add_label(text, "version", snapshot->version);
	text_add(text, "} 1\n");
	begin_metric(text, "proxy", "start_time_seconds", "gauge",
	             "When the proxy started, since 1970.");
	text_add(text, "ferry_proxy_start_time_seconds %lld.%06ld\n",
	         (long long)snapshot->started.tv_sec, (long)snapshot->started.tv_usec);
	add_single(text, "serving", "gauge", "Whether it takes clients.",
	           snapshot->not_serving == NULL ? 1 : 0);
	add_single(text, "upgrades_total", "counter", "Proxies that have taken over before this one.",
	           snapshot->upgrades);
	add_single(text, "clients", "gauge", "Clients that are not handed over yet.",
	           snapshot->clients);
	add_single(text, "clients_max", "gauge", "The limit of these.", snapshot->clients_max);
	add_single(text, "clients_accepted_total", "counter", "Clients that have connected.",
	           snapshot->clients_accepted);
	add_single(text, "clients_gone_total", "counter", "Clients that ended before their head did.",
	           snapshot->clients_gone);
	add_single(text, "idle", "gauge", "Clients between two requests, that no worker has.",
	           snapshot->idle);
	add_single(text, "idle_woken_total", "counter", "Idle clients that sent their next request.",
	           snapshot->idle_woken);
	add_single(text, "idle_ended_total", "counter", "Idle clients that ended.",
	           snapshot->idle_ended);
	add_single(text, "idle_expired_total", "counter", "Idle clients closed after their timeout.",
	           snapshot->idle_expired);
	add_single(text, "idle_evicted_total", "counter", "Idle clients closed in a shortage.",
	           snapshot->idle_evicted);
	add_single(text, "waiting", "gauge",
	           "Clients with their next request that wait for room in a queue.", snapshot->waiting);
	begin_metric(text, "proxy", "refusals_total", "counter",
	             "Clients that the proxy answered itself.");
	for (size_t i = 0; i < REFUSAL_REASONS; i++)
		text_add(text, "ferry_proxy_refusals_total{reason=\"%s\"} %" PRIu64 "\n",
		         refusal_reasons[i].name,
		         report_number_at(&snapshot->refusals, refusal_reasons[i].offset));
}

static void add_service_metrics(struct text *text, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		begin_metric(text, "service", counters[i].name, counters[i].type, counters[i].help);
		for (size_t j = 0; j < snapshot->service_count; j++)
			add_service_sample(text, counters[i].name, &snapshot->services[j],
			                   report_number_at(&snapshot->services[j].stats, counters[i].offset));
	}
	begin_metric(text, "service", "queue_limit", "gauge", "The number of handoffs that may wait.");
	for (size_t j = 0; j < snapshot->service_count; j++)
		add_service_sample(text, "queue_limit", &snapshot->services[j],
		                   snapshot->services[j].queue_limit);
	begin_metric(text, "service", "queue_full", "gauge", "Whether new requests are refused.");
	for (size_t j = 0; j < snapshot->service_count; j++)
		add_service_sample(text, "queue_full", &snapshot->services[j],
		                   snapshot->services[j].is_full ? 1 : 0);
}

typedef void (*worker_fn)(struct text *text, const struct service_snapshot *service,
                          const struct worker_snapshot *worker);

static void for_each_worker(struct text *text, const struct snapshot *snapshot,
                            worker_fn add_samples)
{
	for (size_t i = 0; i < snapshot->service_count; i++)
		for (size_t j = 0; j < snapshot->services[i].worker_count; j++)
			add_samples(text, &snapshot->services[i], &snapshot->services[i].workers[j]);
}

static void add_restarts(struct text *text, const struct service_snapshot *service,
                         const struct worker_snapshot *worker)
{
	begin_worker_sample(text, "restarts_total", service, worker);
	text_add(text, "} %" PRIu64 "\n", worker->restarts);
}

static void add_start_time(struct text *text, const struct service_snapshot *service,
                           const struct worker_snapshot *worker)
{
	if (worker->started.tv_sec == 0)
		return;
	begin_worker_sample(text, "start_time_seconds", service, worker);
	text_add(text, "} %lld.%06ld\n", (long long)worker->started.tv_sec,
	         (long)worker->started.tv_usec);
}

static void add_states(struct text *text, const struct service_snapshot *service,
                       const struct worker_snapshot *worker)
{
	for (unsigned int state = 0; state < WORKER_STATES; state++) {
		begin_worker_sample(text, "state", service, worker);
		text_add(text, ",state=\"%s\"} %d\n", worker_state_name(state),
		         worker->state == state ? 1 : 0);
	}
}

static void add_worker_metrics(struct text *text, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		if (!counters[i].of_worker)
			continue;
		begin_metric(text, "worker", counters[i].name, counters[i].type, counters[i].help);
		for (size_t j = 0; j < snapshot->service_count; j++) {
			const struct service_snapshot *service = &snapshot->services[j];
			for (size_t k = 0; k < service->worker_count; k++) {
				begin_worker_sample(text, counters[i].name, service, &service->workers[k]);
				text_add(text, "} %" PRIu64 "\n",
				         report_number_at(&service->workers[k].stats, counters[i].offset));
			}
		}
	}
	begin_metric(text, "worker", "restarts_total", "counter", "Processes started after the first.");
	for_each_worker(text, snapshot, add_restarts);
	begin_metric(text, "worker", "start_time_seconds", "gauge",
	             "When its process started, since 1970.");
	for_each_worker(text, snapshot, add_start_time);
	begin_metric(text, "worker", "state", "gauge", "1 for the present state of the worker.");
	for_each_worker(text, snapshot, add_states);
}

int report_add_metrics(struct evbuffer *out, const struct snapshot *snapshot)
{
	struct text text = {.out = out};
	add_proxy_metrics(&text, snapshot);
	add_service_metrics(&text, snapshot);
	add_worker_metrics(&text, snapshot);
	return text.failed ? -ENOMEM : 0;
}
