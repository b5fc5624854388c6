#include "programs/ferry-proxy/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <event2/buffer.h>

/* A text that grows, or has failed to: then it stays failed. */
struct text {
	struct evbuffer *out;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	if (!text->failed && evbuffer_add_vprintf(text->out, format, arguments) < 0)
		text->failed = true;
	va_end(arguments);
}

static void add_bytes(struct text *text, const char *bytes, size_t length)
{
	if (!text->failed && evbuffer_add(text->out, bytes, length) < 0)
		text->failed = true;
}

static const char *const state_names[WORKER_STATES] = {
    [WORKER_STARTING] = "starting",
    [WORKER_READY] = "ready",
    [WORKER_DRAINING] = "draining",
    [WORKER_WAITING] = "waiting",
};

const char *worker_state_name(enum worker_state state)
{
	return state_names[state];
}

static const struct {
	const char *name; /* as a label */
	const char *says;
	size_t offset;
} refusals[] = {
    {"bad_request", "Malformed request heads", offsetof(struct refusals, bad_request)},
    {"no_route", "No service for the request", offsetof(struct refusals, no_route)},
    {"too_slow", "Heads that did not come in time", offsetof(struct refusals, too_slow)},
    {"queue_full", "Full queue", offsetof(struct refusals, queue_full)},
    {"expired", "No worker in time", offsetof(struct refusals, expired)},
    {"bad_proxy_header", "Bad PROXY headers", offsetof(struct refusals, bad_proxy_header)},
    {"failed", "Out of memory or descriptors", offsetof(struct refusals, failed)},
};

enum { REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };

static uint64_t number_at(const void *structure, size_t offset)
{
	uint64_t number;
	memcpy(&number, (const char *)structure + offset, sizeof(number));
	return number;
}

/* The metrics: all samples of one name stand together, after what it is. */

/* What of the dispatcher's counters is told, of a service and of each of its workers. */
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
    {"handoffs_claimed_total", "counter", "Handoffs that a worker took.",
     offsetof(struct ferry_dispatcher_stats, claimed), true},
    {"handoffs_done_total", "counter", "Handoffs served to their end.",
     offsetof(struct ferry_dispatcher_stats, done), true},
    {"handoffs_rejected_total", "counter", "Handoffs that a worker refused.",
     offsetof(struct ferry_dispatcher_stats, rejected), true},
    {"handoffs_expired_total", "counter", "Handoffs that no worker took in time.",
     offsetof(struct ferry_dispatcher_stats, expired), true},
    {"handoffs_kept_total", "counter", "Handoffs taken by a worker whose channel ended.",
     offsetof(struct ferry_dispatcher_stats, kept), true},
    {"handoffs_lost_total", "counter", "Attempts that failed, the descriptor did not arrive.",
     offsetof(struct ferry_dispatcher_stats, lost), true},
    {"handoffs_fenced_total", "counter",
     "Attempts that failed, the channel ended before the claim.",
     offsetof(struct ferry_dispatcher_stats, fenced), true},
    {"handoffs_retried_total", "counter", "Attempts but the first of a handoff.",
     offsetof(struct ferry_dispatcher_stats, retried), true},
    {"answers_stale_total", "counter", "Answers about a handoff that is not with that worker.",
     offsetof(struct ferry_dispatcher_stats, stale), true},
    {"messages_malformed_total", "counter", "Messages that were no answer.",
     offsetof(struct ferry_dispatcher_stats, malformed), true},
    {"channels_lost_total", "counter", "Channels to workers that have ended.",
     offsetof(struct ferry_dispatcher_stats, workers_lost), true},
    {"queue_length", "gauge", "Handoffs that wait for a worker.",
     offsetof(struct ferry_dispatcher_stats, queued), false},
    {"queue_length_max", "gauge", "The most handoffs that have waited at once.",
     offsetof(struct ferry_dispatcher_stats, queued_max), false},
    {"handoffs_outstanding", "gauge", "Handoffs with a worker, without their outcome.",
     offsetof(struct ferry_dispatcher_stats, outstanding), true},
    {"handoffs_unclaimed", "gauge", "Of those outstanding, not yet taken.",
     offsetof(struct ferry_dispatcher_stats, unclaimed), true},
    {"credits", "gauge", "How many handoffs are taken at once.",
     offsetof(struct ferry_dispatcher_stats, credits), true},
    {"workers", "gauge", "Workers with a channel.",
     offsetof(struct ferry_dispatcher_stats, workers), false},
};

static void begin_metric(struct text *text, const char *part, const char *name, const char *type,
                         const char *help)
{
	add(text, "# HELP ferry_%s_%s %s\n# TYPE ferry_%s_%s %s\n", part, name, help, part, name, type);
}

static void add_label(struct text *text, const char *name, const char *value)
{
	add(text, "%s=\"", name);
	for (size_t start = 0; value[start] != '\0';) {
		size_t plain = strcspn(value + start, "\\\"\n");
		add_bytes(text, value + start, plain);
		start += plain;
		if (value[start] == '\0')
			break;
		add(text, "\\%c", value[start] == '\n' ? 'n' : value[start]);
		start++;
	}
	add(text, "\"");
}

static void add_service_sample(struct text *text, const char *name,
                               const struct service_snapshot *service, uint64_t value)
{
	add(text, "ferry_service_%s{", name);
	add_label(text, "service", service->name);
	add(text, "} %" PRIu64 "\n", value);
}

static void begin_worker_sample(struct text *text, const char *name,
                                const struct service_snapshot *service,
                                const struct worker_snapshot *worker)
{
	add(text, "ferry_worker_%s{", name);
	add_label(text, "service", service->name);
	add(text, ",");
	add_label(text, "worker", worker->name);
}

static void add_single(struct text *text, const char *name, const char *type, const char *help,
                       uint64_t value)
{
	begin_metric(text, "proxy", name, type, help);
	add(text, "ferry_proxy_%s %" PRIu64 "\n", name, value);
}

static void add_proxy_metrics(struct text *text, const struct snapshot *snapshot)
{
	begin_metric(text, "proxy", "info", "gauge", "The version that runs.");
	add(text, "ferry_proxy_info{");
	add_label(text, "version", snapshot->version);
	add(text, "} 1\n");
	begin_metric(text, "proxy", "start_time_seconds", "gauge",
	             "When the proxy started, since 1970.");
	add(text, "ferry_proxy_start_time_seconds %lld.%06ld\n", (long long)snapshot->started.tv_sec,
	    (long)snapshot->started.tv_usec);
	add_single(text, "serving", "gauge", "Whether it takes clients.",
	           snapshot->not_serving == NULL ? 1 : 0);
	add_single(text, "upgrades_total", "counter", "Proxies that have taken over before this one.",
	           snapshot->upgrades);
	add_single(text, "clients", "gauge", "Clients that are not handed over yet.",
	           snapshot->clients);
	add_single(text, "clients_max", "gauge", "The bound of these.", snapshot->clients_max);
	add_single(text, "clients_accepted_total", "counter", "Clients that have connected.",
	           snapshot->clients_accepted);
	add_single(text, "clients_gone_total", "counter", "Clients that ended before their head did.",
	           snapshot->clients_gone);
	begin_metric(text, "proxy", "refusals_total", "counter",
	             "Clients that the proxy answered itself.");
	for (size_t i = 0; i < REFUSALS; i++)
		add(text, "ferry_proxy_refusals_total{reason=\"%s\"} %" PRIu64 "\n", refusals[i].name,
		    number_at(&snapshot->refusals, refusals[i].offset));
}

static void add_service_metrics(struct text *text, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		begin_metric(text, "service", counters[i].name, counters[i].type, counters[i].help);
		for (size_t j = 0; j < snapshot->service_count; j++)
			add_service_sample(text, counters[i].name, &snapshot->services[j],
			                   number_at(&snapshot->services[j].stats, counters[i].offset));
	}
	begin_metric(text, "service", "queue_limit", "gauge", "How many handoffs may wait.");
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
	add(text, "} %" PRIu64 "\n", worker->restarts);
}

static void add_start_time(struct text *text, const struct service_snapshot *service,
                           const struct worker_snapshot *worker)
{
	if (worker->started.tv_sec == 0)
		return;
	begin_worker_sample(text, "start_time_seconds", service, worker);
	add(text, "} %lld.%06ld\n", (long long)worker->started.tv_sec, (long)worker->started.tv_usec);
}

static void add_states(struct text *text, const struct service_snapshot *service,
                       const struct worker_snapshot *worker)
{
	for (unsigned int state = 0; state < WORKER_STATES; state++) {
		begin_worker_sample(text, "state", service, worker);
		add(text, ",state=\"%s\"} %d\n", state_names[state], worker->state == state ? 1 : 0);
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
				add(text, "} %" PRIu64 "\n",
				    number_at(&service->workers[k].stats, counters[i].offset));
			}
		}
	}
	begin_metric(text, "worker", "restarts_total", "counter", "Processes started after the first.");
	for_each_worker(text, snapshot, add_restarts);
	begin_metric(text, "worker", "start_time_seconds", "gauge",
	             "When its process started, since 1970.");
	for_each_worker(text, snapshot, add_start_time);
	begin_metric(text, "worker", "state", "gauge", "1 for the state that it is in.");
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

/* The page. Colours say nothing that a word does not; tables have captions and headers for those who
 * listen to them, and scroll by themselves on a narrow screen. */

static const char page_start[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>ferry-proxy</title>\n<style>\n"
    ":root{color-scheme:light dark;--line:#8885;--quiet:#8881;--good:#18794e;--bad:#c62a2f;"
    "--wait:#946800}\n"
    "@media(prefers-color-scheme:dark){:root{--good:#63c174;--bad:#ff8589;--wait:#f1a10d}}\n"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:0 auto;padding:1.5rem}\n"
    "h1,h2{line-height:1.2;margin:2rem 0 .5rem}h1{margin-top:0}\n"
    ".table{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;padding:.5rem .75rem;font-weight:600}\n"
    "th,td{padding:.4rem .75rem;text-align:right;white-space:nowrap;"
    "border-top:1px solid var(--line)}\n"
    "th{font-weight:600}thead th{background:var(--quiet)}\n"
    "th:first-child,.word{text-align:left}\n"
    "dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:1rem 0}\n"
    "dl div{min-width:6rem}dt{font-size:.875rem}dd{margin:0;font-weight:600;"
    "font-variant-numeric:tabular-nums}\n"
    ".ready{color:var(--good)}.bad,.waiting{color:var(--bad)}.starting,.draining{color:var(--wait)}"
    "\n"
    "details{margin:2rem 0}summary{cursor:pointer}\n"
    "</style>\n</head>\n<body>\n<main>\n<h1>ferry-proxy</h1>\n";

static const char page_end[] =
    "<details>\n<summary>What the words mean</summary>\n<dl>\n"
    "<div><dt>Outstanding</dt><dd>with a worker, and not ended</dd></div>\n"
    "<div><dt>Handed over</dt><dd>taken by a worker</dd></div>\n"
    "<div><dt>Lost</dt><dd>attempts whose descriptor did not arrive</dd></div>\n"
    "<div><dt>Fenced</dt><dd>attempts that ended with the worker's channel, untaken</dd></div>\n"
    "<div><dt>Retried</dt><dd>attempts after the first, with another worker</dd></div>\n"
    "<div><dt>Kept</dt><dd>taken by a worker whose channel ended since</dd></div>\n"
    "</dl>\n</details>\n</main>\n</body>\n</html>\n";

static void add_escaped(struct text *text, const char *value)
{
	for (size_t start = 0; value[start] != '\0';) {
		size_t plain = strcspn(value + start, "&<>\"'");
		add_bytes(text, value + start, plain);
		start += plain;
		if (value[start] == '\0')
			return;
		add(text, "&#%d;", value[start]);
		start++;
	}
}

/* "3 d 4 h", "5 min 6 s": the two largest units. */
static void add_duration(struct text *text, struct timeval from, struct timeval to)
{
	long long seconds = (long long)to.tv_sec - (long long)from.tv_sec;
	if (seconds < 0) /* the clock was set back */
		seconds = 0;
	if (seconds >= 86400)
		add(text, "%lld d %lld h", seconds / 86400, seconds % 86400 / 3600);
	else if (seconds >= 3600)
		add(text, "%lld h %lld min", seconds / 3600, seconds % 3600 / 60);
	else if (seconds >= 60)
		add(text, "%lld min %lld s", seconds / 60, seconds % 60);
	else
		add(text, "%lld s", seconds);
}

static void add_moment(struct text *text, struct timeval when)
{
	struct tm utc;
	char out[32] = "";
	if (gmtime_r(&when.tv_sec, &utc) != NULL &&
	    strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &utc) > 0)
		add(text, "<time datetime=\"%s\">%.10s %.8s UTC</time>", out, out, out + 11);
}

static void add_figure(struct text *text, const char *name, uint64_t value)
{
	add(text, "<div><dt>%s</dt><dd>%" PRIu64 "</dd></div>\n", name, value);
}

static void add_summary(struct text *text, const struct snapshot *snapshot)
{
	add(text, "<p>");
	if (snapshot->not_serving == NULL) {
		add(text, "<strong class=\"ready\">Serving</strong>");
	} else {
		add(text, "<strong class=\"bad\">Not serving</strong>: ");
		add_escaped(text, snapshot->not_serving);
	}
	add(text, "</p>\n<dl>\n<div><dt>Version</dt><dd>");
	add_escaped(text, snapshot->version);
	add(text, "</dd></div>\n<div><dt>Process</dt><dd>%ld</dd></div>\n<div><dt>Running for</dt><dd>",
	    (long)snapshot->pid);
	add_duration(text, snapshot->started, snapshot->now);
	add(text, "</dd></div>\n<div><dt>As of</dt><dd>");
	add_moment(text, snapshot->now);
	add(text, "</dd></div>\n");
	add_figure(text, "Upgrades before", snapshot->upgrades);
	add(text, "<div><dt>Clients</dt><dd>%" PRIu64 " of %" PRIu64 "</dd></div>\n", snapshot->clients,
	    snapshot->clients_max);
	add_figure(text, "Accepted", snapshot->clients_accepted);
	add_figure(text, "Gone early", snapshot->clients_gone);
	add(text, "</dl>\n");
}

static void begin_table(struct text *text, const char *name, const char *caption)
{
	add(text, "<div class=\"table\" role=\"region\" tabindex=\"0\" aria-label=\"");
	add_escaped(text, caption);
	if (name != NULL) {
		add(text, " ");
		add_escaped(text, name);
	}
	add(text, "\">\n<table>\n<caption>");
	add_escaped(text, caption);
	if (name != NULL) {
		add(text, " ");
		add_escaped(text, name);
	}
	add(text, "</caption>\n");
}

static void add_stats_cells(struct text *text, const struct ferry_dispatcher_stats *stats,
                            uint64_t restarts)
{
	const uint64_t cells[] = {stats->outstanding, stats->claimed, stats->done, stats->lost,
	                          stats->fenced,      stats->retried, restarts};
	for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
		add(text, "<td>%" PRIu64 "</td>", cells[i]);
	add(text, "</tr>\n");
}

static void add_worker_row(struct text *text, const struct worker_snapshot *worker,
                           struct timeval now)
{
	const char *state = state_names[worker->state];
	add(text, "<tr><th scope=\"row\">");
	add_escaped(text, worker->name);
	if (worker->pid > 0)
		add(text, "</th><td>%ld</td>", (long)worker->pid);
	else
		add(text, "</th><td>none</td>");
	add(text, "<td class=\"word %s\">%s</td><td>", state, state);
	if (worker->started.tv_sec > 0)
		add_duration(text, worker->started, now);
	else
		add(text, "not running");
	add(text, "</td>");
	add_stats_cells(text, &worker->stats, worker->restarts);
}

static void add_worker_table(struct text *text, const struct service_snapshot *service,
                             struct timeval now)
{
	uint64_t restarts = 0;
	if (service->worker_count == 0) {
		add(text, "<p class=\"bad\">No worker is connected.</p>\n");
		return;
	}
	begin_table(text, service->name, "Workers of");
	add(text,
	    "<thead><tr><th scope=\"col\">Worker</th><th scope=\"col\">Process</th>"
	    "<th scope=\"col\" class=\"word\">State</th><th scope=\"col\">Running for</th>"
	    "<th scope=\"col\">Outstanding</th><th scope=\"col\">Handed over</th>"
	    "<th scope=\"col\">Done</th><th scope=\"col\">Lost</th><th scope=\"col\">Fenced</th>"
	    "<th scope=\"col\">Retried</th><th scope=\"col\">Restarts</th></tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < service->worker_count; i++) {
		add_worker_row(text, &service->workers[i], now);
		restarts += service->workers[i].restarts;
	}
	add(text,
	    "</tbody>\n<tfoot><tr><th scope=\"row\" colspan=\"4\">All, those before included</th>");
	add_stats_cells(text, &service->stats, restarts);
	add(text, "</tfoot>\n</table>\n</div>\n");
}

static void add_service(struct text *text, const struct service_snapshot *service,
                        struct timeval now)
{
	add(text, "<section>\n<h2>");
	add_escaped(text, service->name);
	add(text, "</h2>\n<p>");
	if (service->root != NULL) {
		add(text, "Serves <code>");
		add_escaped(text, service->root);
		add(text, "</code>");
	} else {
		add(text, "Its workers are started by others");
	}
	add(text, "; choice of worker: ");
	add_escaped(text, service->choice);
	add(text, ".</p>\n<dl>\n<div><dt>Queue</dt><dd%s>%" PRIu64 " of %" PRIu64 "%s</dd></div>\n",
	    service->is_full ? " class=\"bad\"" : "", service->stats.queued, service->queue_limit,
	    service->is_full ? ", full" : "");
	add_figure(text, "Most queued", service->stats.queued_max);
	add_figure(text, "Requests", service->stats.accepted);
	add_figure(text, "Expired", service->stats.expired);
	add_figure(text, "Rejected", service->stats.rejected);
	add_figure(text, "Kept", service->stats.kept);
	add_figure(text, "Channels lost", service->stats.workers_lost);
	add(text, "</dl>\n");
	add_worker_table(text, service, now);
	add(text, "</section>\n");
}

static void add_refusals(struct text *text, const struct snapshot *snapshot)
{
	add(text, "<section>\n<h2>Refused by the proxy</h2>\n");
	begin_table(text, NULL, "Clients that were refused");
	add(text, "<thead><tr><th scope=\"col\">Why</th><th scope=\"col\">Clients</th></tr></thead>\n"
	          "<tbody>\n");
	for (size_t i = 0; i < REFUSALS; i++)
		add(text, "<tr><th scope=\"row\">%s</th><td>%" PRIu64 "</td></tr>\n", refusals[i].says,
		    number_at(&snapshot->refusals, refusals[i].offset));
	add(text, "</tbody>\n</table>\n</div>\n</section>\n");
}

int report_add_page(struct evbuffer *out, const struct snapshot *snapshot)
{
	struct text text = {.out = out};
	add_bytes(&text, page_start, sizeof(page_start) - 1);
	add_summary(&text, snapshot);
	for (size_t i = 0; i < snapshot->service_count; i++)
		add_service(&text, &snapshot->services[i], snapshot->now);
	add_refusals(&text, snapshot);
	add_bytes(&text, page_end, sizeof(page_end) - 1);
	return text.failed ? -ENOMEM : 0;
}
