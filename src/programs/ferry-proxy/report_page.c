/* The report as a page. A word accompanies each colour; tables have captions and headers for screen
 * readers, and scroll by themselves on a narrow screen. */

#include "programs/ferry-proxy/page.h"
#include "programs/ferry-proxy/report_graphs.h"

#include <errno.h>
#include <string.h>
#include <time.h>

PAGE_PIECE(figures);
PAGE_PIECE(refusals);
PAGE_PIECE(service);
PAGE_PIECE(status);
PAGE_PIECE(worker);

#define NUMBER(structure, member)              \
	{                                          \
#member, .number = (structure)->member \
	}

/* The numbers that services and workers have. */
/* NOLINTNEXTLINE(bugprone-macro-parentheses): these are initialisers */
#define STATS(stats)                                                         \
	NUMBER(stats, outstanding), NUMBER(stats, claimed), NUMBER(stats, done), \
	    NUMBER(stats, returned), NUMBER(stats, lost), NUMBER(stats, fenced), \
	    NUMBER(stats, retried)

static void add_summary(struct text *text, const struct snapshot *snapshot)
{
	char running[PAGE_DURATION], now[32] = "", shown[32] = "";
	struct tm utc;
	if (gmtime_r(&snapshot->now.tv_sec, &utc) != NULL) {
		(void)strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", &utc);
		(void)strftime(shown, sizeof(shown), "%Y-%m-%d %H:%M:%S UTC", &utc);
	}
	const struct template_value values[] = {
	    {"serving", .number = snapshot->not_serving == NULL},
	    {"not_serving", .number = snapshot->not_serving != NULL},
	    {"why", .text = snapshot->not_serving},
	    {"now", .text = now},
	    {"now_shown", .text = shown},
	    {"version", .text = snapshot->version},
	    {"pid", .number = (uint64_t)snapshot->pid},
	    {"running", .text = page_format_duration(running, snapshot->started, snapshot->now)},
	    NUMBER(snapshot, upgrades),
	    NUMBER(snapshot, clients),
	    NUMBER(snapshot, clients_max),
	    NUMBER(snapshot, clients_accepted),
	    NUMBER(snapshot, tls_clients),
	    NUMBER(snapshot, clients_gone),
	    NUMBER(snapshot, idle),
	};
	PAGE_ADD(text, status, values);
}

static void add_worker(struct text *text, const struct worker_snapshot *worker, struct timeval now)
{
	char running[PAGE_DURATION] = "not running";
	if (worker->started.tv_sec > 0)
		page_format_duration(running, worker->started, now);
	const struct template_value values[] = {
	    {"name", .text = worker->name},
	    {"state", .text = worker_state_name(worker->state)},
	    {"pid", .text = worker->pid > 0 ? NULL : "none", .number = (uint64_t)worker->pid},
	    {"own", .number = worker->is_own},
	    {"generation", .number = worker->restarts + 1},
	    {"running", .text = running},
	    STATS(&worker->stats),
	};
	PAGE_ADD(text, worker, values);
}

/* The figures are those of the workers before, too. */
static void add_service(struct text *text, const struct service_snapshot *service,
                        struct timeval now)
{
	const struct ferry_dispatcher_stats *stats = &service->stats;
	uint64_t restarts = 0;
	const uint64_t *tls = service->answers.tls;
	for (size_t i = 0; i < service->worker_count; i++)
		restarts += service->workers[i].restarts;
	const struct template_value values[] = {
	    {"name", .text = service->name},
	    {"root", .text = service->root},
	    {"others", .number = service->root == NULL},
	    {"choice", .text = service->choice},
	    {"workers", .number = service->worker_count},
	    {"workerless", .number = service->worker_count == 0},
	    {"full", .number = service->is_full},
	    NUMBER(service, queue_limit),
	    NUMBER(service, has_answers),
	    {"answers", .number = answer_sums_count(&service->answers, 0, 999)},
	    {"answers_4xx", .number = answer_sums_count(&service->answers, 400, 499)},
	    {"tls",
	     .number = tls[ANSWER_TLS_KERNEL] + tls[ANSWER_TLS_OPENSSL] + tls[ANSWER_TLS_FAILED]},
	    {"tls_kernel", .number = tls[ANSWER_TLS_KERNEL]},
	    {"tls_openssl", .number = tls[ANSWER_TLS_OPENSSL]},
	    {"tls_failed", .number = tls[ANSWER_TLS_FAILED]},
	    {"tls_truncated", .number = tls[ANSWER_TLS_TRUNCATED]},
	    {"answers_5xx", .number = answer_sums_count(&service->answers, 500, 599)},
	    STATS(stats),
	    NUMBER(stats, queued),
	    NUMBER(stats, queued_max),
	    NUMBER(stats, accepted),
	    NUMBER(stats, expired),
	    NUMBER(stats, rejected),
	    NUMBER(stats, kept),
	    NUMBER(stats, workers_lost),
	    {"restarts", .number = restarts},
	};
	PAGE_ADD(text, service, values);
	for (size_t i = 0; i < service->worker_count; i++)
		add_worker(text, &service->workers[i], now);
	PAGE_ADD(text, figures, values);
}

static void add_refusals(struct text *text, const struct snapshot *snapshot)
{
	struct template_value values[REFUSAL_REASONS];
	for (size_t i = 0; i < REFUSAL_REASONS; i++)
		values[i] = (struct template_value){
		    .name = refusal_reasons[i].name,
		    .number = report_number_at(&snapshot->refusals, refusal_reasons[i].offset)};
	PAGE_ADD(text, refusals, values);
}

int report_add_page(struct evbuffer *out, const struct snapshot *snapshot)
{
	struct text text = {.out = out};
	page_begin(&text, "Status of ferry-proxy", false);
	add_summary(&text, snapshot);
	if (snapshot->history != NULL)
		report_add_graphs(&text, snapshot->history);
	for (size_t i = 0; i < snapshot->service_count; i++)
		add_service(&text, &snapshot->services[i], snapshot->now);
	add_refusals(&text, snapshot);
	page_end(&text);
	return text.failed ? -ENOMEM : 0;
}
