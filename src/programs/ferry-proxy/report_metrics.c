/* The report as metrics for Prometheus. All samples of one name follow its HELP and TYPE lines. */

#include "programs/ferry-proxy/report_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum part { PROXY, SERVICE, WORKER, PARTS };

struct sample;

/* A metric: a number at an offset of a structure, or samples that a function adds. */
struct metric {
	const char *name; /* ends in "_total" if it is a counter */
	const char *help;
	size_t
	    at[PARTS];  /* the number, in struct snapshot, service_snapshot, worker_snapshot; 0: none */
	enum part part; /* of the function */
	void (*add)(const struct sample *sample);
};

/* What the samples of a metric are about. */
struct sample {
	struct text *text;
	const struct metric *metric;
	enum part part;
	const struct snapshot *snapshot;
	const struct service_snapshot *service; /* NULL for the proxy */
	const struct worker_snapshot *worker;   /* NULL for the proxy and a service */
};

/* ---- samples ---- */

static void add_label(struct text *text, bool first, const char *name, const char *value)
{
	text_add(text, "%s%s=\"", first ? "{" : ",", name);
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

static void add_name(struct text *text, enum part part, const char *name)
{
	static const char *const parts[PARTS] = {"proxy", "service", "worker"};
	text_add(text, "ferry_%s_%s", parts[part], name);
}

/* All before the number. `suffix` follows the name; `label` and its value, if they are not NULL,
 * follow the labels of the subject. */
static void begin_sample(const struct sample *sample, const char *suffix, const char *label,
                         const char *value)
{
	struct text *text = sample->text;
	add_name(text, sample->part, sample->metric->name);
	text_add(text, "%s", suffix);
	if (sample->service != NULL)
		add_label(text, true, "service", sample->service->name);
	if (sample->worker != NULL)
		add_label(text, false, "worker", sample->worker->name);
	if (label != NULL && value != NULL)
		add_label(text, sample->service == NULL, label, value);
	text_add(text, sample->service != NULL || value != NULL ? "} " : " ");
}

static void add_number(const struct sample *sample, const char *suffix, const char *label,
                       const char *value, uint64_t number)
{
	begin_sample(sample, suffix, label, value);
	text_add(sample->text, "%" PRIu64 "\n", number);
}

static void add_seconds(const struct sample *sample, const char *suffix, uint64_t seconds,
                        uint64_t usec)
{
	begin_sample(sample, suffix, NULL, NULL);
	text_add(sample->text, "%" PRIu64 ".%06" PRIu64 "\n", seconds, usec);
}

static void add_version(const struct sample *sample)
{
	add_number(sample, "", "version", sample->snapshot->version, 1);
}

static void add_start_time(const struct sample *sample)
{
	const struct timeval *started =
	    sample->worker != NULL ? &sample->worker->started : &sample->snapshot->started;
	if (sample->worker == NULL || started->tv_sec != 0)
		add_seconds(sample, "", (uint64_t)started->tv_sec, (uint64_t)started->tv_usec);
}

static void add_serving(const struct sample *sample)
{
	add_number(sample, "", NULL, NULL, sample->snapshot->not_serving == NULL);
}

static void add_refusals(const struct sample *sample)
{
	for (size_t i = 0; i < REFUSAL_REASONS; i++)
		add_number(sample, "", "reason", refusal_reasons[i].name,
		           report_number_at(&sample->snapshot->refusals, refusal_reasons[i].offset));
}

static void add_full(const struct sample *sample)
{
	add_number(sample, "", NULL, NULL, sample->service->is_full);
}

static void add_statuses(const struct sample *sample)
{
	const struct answer_sums *answers = &sample->service->answers;
	for (unsigned int i = 0; i < ANSWER_STATUSES; i++) {
		char code[16];
		snprintf(code, sizeof(code), "%u", answer_statuses[i]);
		if (answers->statuses[i] != 0)
			add_number(sample, "", "code", answer_statuses[i] != 0 ? code : "other",
			           answers->statuses[i]);
	}
}

static void add_tls(const struct sample *sample)
{
	const uint64_t *tls = sample->service->answers.tls;
	if (!sample->service->has_answers)
		return;
	add_number(sample, "", "by", "kernel", tls[ANSWER_TLS_KERNEL]);
	add_number(sample, "", "by", "openssl", tls[ANSWER_TLS_OPENSSL]);
}

static void add_tls_failed(const struct sample *sample)
{
	if (sample->service->has_answers)
		add_number(sample, "", NULL, NULL, sample->service->answers.tls[ANSWER_TLS_FAILED]);
}

static void add_tls_truncated(const struct sample *sample)
{
	if (sample->service->has_answers)
		add_number(sample, "", NULL, NULL, sample->service->answers.tls[ANSWER_TLS_TRUNCATED]);
}

static void add_bytes(const struct sample *sample)
{
	if (sample->service->has_answers)
		add_number(sample, "", NULL, NULL, sample->service->answers.bytes);
}

/* Buckets count up; the last one has all answers. */
static void add_durations(const struct sample *sample)
{
	const struct answer_sums *answers = &sample->service->answers;
	uint64_t count = 0;
	if (!sample->service->has_answers)
		return;
	for (unsigned int i = 0; i < ANSWER_BUCKETS; i++) {
		char bound[32] = "+Inf";
		if (i < ANSWER_BUCKETS - 1)
			snprintf(bound, sizeof(bound), "%g", answer_bounds[i] / 1e6);
		count += answers->buckets[i];
		add_number(sample, "_bucket", "le", bound, count);
	}
	add_seconds(sample, "_sum", answers->microseconds / 1000000, answers->microseconds % 1000000);
	add_number(sample, "_count", NULL, NULL, count);
}

static void add_states(const struct sample *sample)
{
	for (unsigned int state = 0; state < WORKER_STATES; state++)
		add_number(sample, "", "state", worker_state_name(state), sample->worker->state == state);
}

/* ---- the table ---- */

/* NOLINTBEGIN(bugprone-macro-parentheses): these are initialisers */
#define OF_PROXY(member) .at[PROXY] = offsetof(struct snapshot, member)
#define OF_SERVICE(member) .at[SERVICE] = offsetof(struct service_snapshot, member)
#define OF_WORKER(member) .at[WORKER] = offsetof(struct worker_snapshot, member)
#define OF_BOTH(member) OF_SERVICE(stats.member), OF_WORKER(stats.member)
#define BY(of, function) .part = of, .add = function
/* NOLINTEND(bugprone-macro-parentheses) */

static const struct metric metrics[] = {
    {"info", "The version that runs.", BY(PROXY, add_version)},
    {"start_time_seconds", "When the proxy started, since 1970.", BY(PROXY, add_start_time)},
    {"serving", "Whether it takes clients.", BY(PROXY, add_serving)},
    {"upgrades_total", "Proxies that have taken over before this one.", OF_PROXY(upgrades)},
    {"clients", "Clients that are not handed over yet.", OF_PROXY(clients)},
    {"clients_max", "The limit of these.", OF_PROXY(clients_max)},
    {"clients_accepted_total", "Clients that have connected.", OF_PROXY(clients_accepted)},
    {"tls_clients_total", "Clients whose ClientHello named a service.", OF_PROXY(tls_clients)},
    {"clients_gone_total", "Clients that ended before their head did.", OF_PROXY(clients_gone)},
    {"idle", "Clients between two requests, that no worker has.", OF_PROXY(idle)},
    {"idle_woken_total", "Idle clients that sent their next request.", OF_PROXY(idle_woken)},
    {"idle_ended_total", "Idle clients that ended.", OF_PROXY(idle_ended)},
    {"idle_expired_total", "Idle clients closed after their timeout.", OF_PROXY(idle_expired)},
    {"idle_evicted_total", "Idle clients closed in a shortage.", OF_PROXY(idle_evicted)},
    {"waiting", "Clients with their next request that wait for room in a queue.",
     OF_PROXY(waiting)},
    {"refusals_total", "Clients that the proxy answered itself.", BY(PROXY, add_refusals)},

    {"handoffs_accepted_total", "Handoffs given to the dispatcher.", OF_SERVICE(stats.accepted)},
    {"handoffs_sent_total", "Attempts: handoffs written to a worker's channel.", OF_BOTH(sent)},
    {"handoffs_claimed_total", "Handoffs that a worker claimed.", OF_BOTH(claimed)},
    {"handoffs_done_total", "Handoffs served to their end.", OF_BOTH(done)},
    {"handoffs_returned_total", "Handoffs that a worker returned between two requests.",
     OF_BOTH(returned)},
    {"handoffs_rejected_total", "Handoffs that a worker refused.", OF_BOTH(rejected)},
    {"handoffs_expired_total", "Handoffs that no worker claimed in time.", OF_BOTH(expired)},
    {"handoffs_kept_total", "Handoffs claimed by a worker whose channel ended.", OF_BOTH(kept)},
    {"handoffs_lost_total", "Failed attempts: the descriptor did not arrive.", OF_BOTH(lost)},
    {"handoffs_fenced_total", "Failed attempts: the channel ended before the claim.",
     OF_BOTH(fenced)},
    {"handoffs_retried_total", "Attempts after the first one of a handoff.", OF_BOTH(retried)},
    {"answers_stale_total", "Answers about a handoff that is not with that worker.",
     OF_BOTH(stale)},
    {"messages_malformed_total", "Messages in a wrong format.", OF_BOTH(malformed)},
    {"channels_lost_total", "Channels to workers that have ended.", OF_BOTH(workers_lost)},
    {"queue_length", "Handoffs that wait for a worker.", OF_SERVICE(stats.queued)},
    {"queue_length_max", "The most handoffs that have waited at once.",
     OF_SERVICE(stats.queued_max)},
    {"handoffs_outstanding", "Handoffs with a worker, without their outcome.",
     OF_BOTH(outstanding)},
    {"handoffs_unclaimed", "Outstanding handoffs that no worker has claimed.", OF_BOTH(unclaimed)},
    {"credits", "The number of handoffs that a worker takes at once.", OF_BOTH(credits)},
    {"workers", "Workers with a channel.", OF_SERVICE(stats.workers)},
    {"queue_limit", "The number of handoffs that may wait.", OF_SERVICE(queue_limit)},
    {"queue_full", "Whether new requests are refused.", BY(SERVICE, add_full)},

    /* The answers of the workers that the proxy starts. */
    {"answers_total", "Answers of workers, by their status.", BY(SERVICE, add_statuses)},
    {"answer_bytes_total", "Bytes of answers, heads included.", BY(SERVICE, add_bytes)},
    {"tls_connections_total", "TLS handshakes, by what encrypts the answers.",
     BY(SERVICE, add_tls)},
    {"tls_failed_total", "TLS handshakes that failed.", BY(SERVICE, add_tls_failed)},
    {"tls_truncated_total", "TLS clients that ended without a close_notify.",
     BY(SERVICE, add_tls_truncated)},
    {"answer_duration_seconds",
     "From the complete head of a request to the last byte of its answer in the kernel.",
     BY(SERVICE, add_durations)},

    {"restarts_total", "Processes started after the first.", OF_WORKER(restarts)},
    {"start_time_seconds", "When its process started, since 1970.", BY(WORKER, add_start_time)},
    {"state", "1 for the present state of the worker.", BY(WORKER, add_states)},
};

/* ---- the report ---- */

static void add_sample(const struct sample *sample)
{
	const void *const structures[PARTS] = {sample->snapshot, sample->service, sample->worker};
	if (sample->metric->add != NULL)
		sample->metric->add(sample);
	else
		add_number(sample, "", NULL, NULL,
		           report_number_at(structures[sample->part], sample->metric->at[sample->part]));
}

/* The samples of all services, or of all their workers. */
static void add_samples(struct sample sample)
{
	for (size_t i = 0; i < sample.snapshot->service_count; i++) {
		sample.service = &sample.snapshot->services[i];
		if (sample.part == SERVICE)
			add_sample(&sample);
		for (size_t j = 0; sample.part == WORKER && j < sample.service->worker_count; j++) {
			sample.worker = &sample.service->workers[j];
			add_sample(&sample);
		}
	}
}

static const char *type_of(const struct metric *metric)
{
	const char *end = strrchr(metric->name, '_');
	if (metric->add == add_durations)
		return "histogram";
	return end != NULL && strcmp(end, "_total") == 0 ? "counter" : "gauge";
}

static void add_metric(struct text *text, const struct snapshot *snapshot,
                       const struct metric *metric, enum part part)
{
	struct sample sample = {text, metric, part, snapshot, NULL, NULL};
	text_add(text, "# HELP ");
	add_name(text, part, metric->name);
	text_add(text, " %s\n# TYPE ", metric->help);
	add_name(text, part, metric->name);
	text_add(text, " %s\n", type_of(metric));
	if (part == PROXY)
		add_sample(&sample);
	else
		add_samples(sample);
}

int report_add_metrics(struct evbuffer *out, const struct snapshot *snapshot)
{
	struct text text = {.out = out};
	for (enum part part = PROXY; part < PARTS; part++)
		for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
			if (metrics[i].add != NULL ? metrics[i].part == part : metrics[i].at[part] != 0)
				add_metric(&text, snapshot, &metrics[i], part);
	return text.failed ? -ENOMEM : 0;
}
