/* The report as metrics for Prometheus. All samples of one name follow its HELP and TYPE lines. */

#include "programs/ferry-proxy/report_text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A metric whose value is a number in a structure. */
struct metric {
	const char *name;
	const char *type;
	const char *help;
	size_t offset;
	bool of_worker; /* of a service: each of its workers has it, too */
};

#define PROXY(name, type, member, help)                            \
	{                                                              \
		name, type, help, offsetof(struct snapshot, member), false \
	}

static const struct metric proxy_metrics[] = {
    PROXY("upgrades_total", "counter", upgrades, "Proxies that have taken over before this one."),
    PROXY("clients", "gauge", clients, "Clients that are not handed over yet."),
    PROXY("clients_max", "gauge", clients_max, "The limit of these."),
    PROXY("clients_accepted_total", "counter", clients_accepted, "Clients that have connected."),
    PROXY("clients_gone_total", "counter", clients_gone,
          "Clients that ended before their head did."),
    PROXY("idle", "gauge", idle, "Clients between two requests, that no worker has."),
    PROXY("idle_woken_total", "counter", idle_woken, "Idle clients that sent their next request."),
    PROXY("idle_ended_total", "counter", idle_ended, "Idle clients that ended."),
    PROXY("idle_expired_total", "counter", idle_expired,
          "Idle clients closed after their timeout."),
    PROXY("idle_evicted_total", "counter", idle_evicted, "Idle clients closed in a shortage."),
    PROXY("waiting", "gauge", waiting,
          "Clients with their next request that wait for room in a queue."),
};

#define STATS(name, type, member, of_worker, help)                                   \
	{                                                                                \
		name, type, help, offsetof(struct ferry_dispatcher_stats, member), of_worker \
	}

/* The counters of a service's dispatcher. */
static const struct metric stats_metrics[] = {
    STATS("handoffs_accepted_total", "counter", accepted, false,
          "Handoffs given to the dispatcher."),
    STATS("handoffs_sent_total", "counter", sent, true,
          "Attempts: handoffs written to a worker's channel."),
    STATS("handoffs_claimed_total", "counter", claimed, true, "Handoffs that a worker claimed."),
    STATS("handoffs_done_total", "counter", done, true, "Handoffs served to their end."),
    STATS("handoffs_returned_total", "counter", returned, true,
          "Handoffs that a worker returned between two requests."),
    STATS("handoffs_rejected_total", "counter", rejected, true, "Handoffs that a worker refused."),
    STATS("handoffs_expired_total", "counter", expired, true,
          "Handoffs that no worker claimed in time."),
    STATS("handoffs_kept_total", "counter", kept, true,
          "Handoffs claimed by a worker whose channel ended."),
    STATS("handoffs_lost_total", "counter", lost, true,
          "Failed attempts: the descriptor did not arrive."),
    STATS("handoffs_fenced_total", "counter", fenced, true,
          "Failed attempts: the channel ended before the claim."),
    STATS("handoffs_retried_total", "counter", retried, true,
          "Attempts after the first one of a handoff."),
    STATS("answers_stale_total", "counter", stale, true,
          "Answers about a handoff that is not with that worker."),
    STATS("messages_malformed_total", "counter", malformed, true, "Messages in a wrong format."),
    STATS("channels_lost_total", "counter", workers_lost, true,
          "Channels to workers that have ended."),
    STATS("queue_length", "gauge", queued, false, "Handoffs that wait for a worker."),
    STATS("queue_length_max", "gauge", queued_max, false,
          "The most handoffs that have waited at once."),
    STATS("handoffs_outstanding", "gauge", outstanding, true,
          "Handoffs with a worker, without their outcome."),
    STATS("handoffs_unclaimed", "gauge", unclaimed, true,
          "Outstanding handoffs that no worker has claimed."),
    STATS("credits", "gauge", credits, true, "The number of handoffs that a worker takes at once."),
    STATS("workers", "gauge", workers, false, "Workers with a channel."),
};

enum {
	PROXY_METRICS = sizeof(proxy_metrics) / sizeof(proxy_metrics[0]),
	STATS_METRICS = sizeof(stats_metrics) / sizeof(stats_metrics[0])
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
	begin_metric(text, "proxy", "serving", "gauge", "Whether it takes clients.");
	text_add(text, "ferry_proxy_serving %d\n", snapshot->not_serving == NULL);
	for (size_t i = 0; i < PROXY_METRICS; i++) {
		const struct metric *metric = &proxy_metrics[i];
		begin_metric(text, "proxy", metric->name, metric->type, metric->help);
		text_add(text, "ferry_proxy_%s %" PRIu64 "\n", metric->name,
		         report_number_at(snapshot, metric->offset));
	}
	begin_metric(text, "proxy", "refusals_total", "counter",
	             "Clients that the proxy answered itself.");
	for (size_t i = 0; i < REFUSAL_REASONS; i++)
		text_add(text, "ferry_proxy_refusals_total{reason=\"%s\"} %" PRIu64 "\n",
		         refusal_reasons[i].name,
		         report_number_at(&snapshot->refusals, refusal_reasons[i].offset));
}

static void add_service_metrics(struct text *text, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < STATS_METRICS; i++) {
		const struct metric *metric = &stats_metrics[i];
		begin_metric(text, "service", metric->name, metric->type, metric->help);
		for (size_t j = 0; j < snapshot->service_count; j++)
			add_service_sample(text, metric->name, &snapshot->services[j],
			                   report_number_at(&snapshot->services[j].stats, metric->offset));
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

static void begin_service_sample(struct text *text, const char *name,
                                 const struct service_snapshot *service)
{
	text_add(text, "ferry_service_%s{", name);
	add_label(text, "service", service->name);
}

/* Buckets count up; the last one has all answers. */
static void add_durations(struct text *text, const struct service_snapshot *service)
{
	uint64_t count = 0;
	for (unsigned int i = 0; i < ANSWER_BUCKETS; i++) {
		count += service->answers.buckets[i];
		begin_service_sample(text, "answer_duration_seconds_bucket", service);
		if (i < ANSWER_BUCKETS - 1)
			text_add(text, ",le=\"%g\"} %" PRIu64 "\n", answer_bounds[i] / 1e6, count);
		else
			text_add(text, ",le=\"+Inf\"} %" PRIu64 "\n", count);
	}
	begin_service_sample(text, "answer_duration_seconds_sum", service);
	text_add(text, "} %" PRIu64 ".%06" PRIu64 "\n", service->answers.microseconds / 1000000,
	         service->answers.microseconds % 1000000);
	begin_service_sample(text, "answer_duration_seconds_count", service);
	text_add(text, "} %" PRIu64 "\n", count);
}

static void add_statuses(struct text *text, const struct service_snapshot *service)
{
	for (unsigned int i = 0; i < ANSWER_STATUSES; i++) {
		if (service->answers.statuses[i] == 0)
			continue;
		begin_service_sample(text, "answers_total", service);
		if (answer_statuses[i] != 0)
			text_add(text, ",code=\"%u\"", answer_statuses[i]);
		else
			text_add(text, ",code=\"other\"");
		text_add(text, "} %" PRIu64 "\n", service->answers.statuses[i]);
	}
}

static void add_bytes(struct text *text, const struct service_snapshot *service)
{
	add_service_sample(text, "answer_bytes_total", service, service->answers.bytes);
}

/* The answers of the workers that the proxy starts. */
static void add_answer_metrics(struct text *text, const struct snapshot *snapshot)
{
	static const struct {
		const char *name;
		const char *type;
		const char *help;
		void (*add)(struct text *text, const struct service_snapshot *service);
	} metrics[] = {
	    {"answers_total", "counter", "Answers of workers, by their status.", add_statuses},
	    {"answer_bytes_total", "counter", "Bytes of answers, heads included.", add_bytes},
	    {"answer_duration_seconds", "histogram",
	     "From the complete head of a request to the last byte of its answer in the kernel.",
	     add_durations},
	};
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		begin_metric(text, "service", metrics[i].name, metrics[i].type, metrics[i].help);
		for (size_t j = 0; j < snapshot->service_count; j++)
			if (snapshot->services[j].has_answers)
				metrics[i].add(text, &snapshot->services[j]);
	}
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

static void add_worker_metric(struct text *text, const struct snapshot *snapshot,
                              const struct metric *metric)
{
	begin_metric(text, "worker", metric->name, metric->type, metric->help);
	for (size_t i = 0; i < snapshot->service_count; i++) {
		const struct service_snapshot *service = &snapshot->services[i];
		for (size_t j = 0; j < service->worker_count; j++) {
			begin_worker_sample(text, metric->name, service, &service->workers[j]);
			text_add(text, "} %" PRIu64 "\n",
			         report_number_at(&service->workers[j].stats, metric->offset));
		}
	}
}

static void add_worker_metrics(struct text *text, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < STATS_METRICS; i++)
		if (stats_metrics[i].of_worker)
			add_worker_metric(text, snapshot, &stats_metrics[i]);
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
	add_answer_metrics(&text, snapshot);
	add_worker_metrics(&text, snapshot);
	return text.failed ? -ENOMEM : 0;
}
