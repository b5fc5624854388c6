/* The report as a page. A word accompanies each colour; tables have captions and headers for screen
 * readers, and scroll by themselves on a narrow screen. */

#include "programs/ferry-proxy/report_text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

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
		text_add_bytes(text, value + start, plain);
		start += plain;
		if (value[start] == '\0')
			return;
		text_add(text, "&#%d;", value[start]);
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
		text_add(text, "%lld d %lld h", seconds / 86400, seconds % 86400 / 3600);
	else if (seconds >= 3600)
		text_add(text, "%lld h %lld min", seconds / 3600, seconds % 3600 / 60);
	else if (seconds >= 60)
		text_add(text, "%lld min %lld s", seconds / 60, seconds % 60);
	else
		text_add(text, "%lld s", seconds);
}

static void add_moment(struct text *text, struct timeval when)
{
	struct tm utc;
	char out[32] = "";
	if (gmtime_r(&when.tv_sec, &utc) != NULL &&
	    strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &utc) > 0)
		text_add(text, "<time datetime=\"%s\">%.10s %.8s UTC</time>", out, out, out + 11);
}

static void add_figure(struct text *text, const char *name, uint64_t value)
{
	text_add(text, "<div><dt>%s</dt><dd>%" PRIu64 "</dd></div>\n", name, value);
}

static void add_summary(struct text *text, const struct snapshot *snapshot)
{
	text_add(text, "<p>");
	if (snapshot->not_serving == NULL) {
		text_add(text, "<strong class=\"ready\">Serving</strong>");
	} else {
		text_add(text, "<strong class=\"bad\">Not serving</strong>: ");
		add_escaped(text, snapshot->not_serving);
	}
	text_add(text, "</p>\n<dl>\n<div><dt>Version</dt><dd>");
	add_escaped(text, snapshot->version);
	text_add(text,
	         "</dd></div>\n<div><dt>Process</dt><dd>%ld</dd></div>\n<div><dt>Running for</dt><dd>",
	         (long)snapshot->pid);
	add_duration(text, snapshot->started, snapshot->now);
	text_add(text, "</dd></div>\n<div><dt>As of</dt><dd>");
	add_moment(text, snapshot->now);
	text_add(text, "</dd></div>\n");
	add_figure(text, "Upgrades before", snapshot->upgrades);
	text_add(text, "<div><dt>Clients</dt><dd>%" PRIu64 " of %" PRIu64 "</dd></div>\n",
	         snapshot->clients, snapshot->clients_max);
	add_figure(text, "Accepted", snapshot->clients_accepted);
	add_figure(text, "Gone early", snapshot->clients_gone);
	add_figure(text, "Idle", snapshot->idle);
	text_add(text, "</dl>\n");
}

static void begin_table(struct text *text, const char *name, const char *caption)
{
	text_add(text, "<div class=\"table\" role=\"region\" tabindex=\"0\" aria-label=\"");
	add_escaped(text, caption);
	if (name != NULL) {
		text_add(text, " ");
		add_escaped(text, name);
	}
	text_add(text, "\">\n<table>\n<caption>");
	add_escaped(text, caption);
	if (name != NULL) {
		text_add(text, " ");
		add_escaped(text, name);
	}
	text_add(text, "</caption>\n");
}

static void add_stats_cells(struct text *text, const struct ferry_dispatcher_stats *stats,
                            uint64_t restarts)
{
	const uint64_t cells[] = {stats->outstanding, stats->claimed, stats->done, stats->lost,
	                          stats->fenced,      stats->retried, restarts};
	for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
		text_add(text, "<td>%" PRIu64 "</td>", cells[i]);
	text_add(text, "</tr>\n");
}

static void add_worker_row(struct text *text, const struct worker_snapshot *worker,
                           struct timeval now)
{
	const char *state = worker_state_name(worker->state);
	text_add(text, "<tr><th scope=\"row\">");
	add_escaped(text, worker->name);
	if (worker->pid > 0)
		text_add(text, "</th><td>%ld</td>", (long)worker->pid);
	else
		text_add(text, "</th><td>none</td>");
	text_add(text, "<td class=\"word %s\">%s</td><td>", state, state);
	if (worker->started.tv_sec > 0)
		add_duration(text, worker->started, now);
	else
		text_add(text, "not running");
	text_add(text, "</td>");
	add_stats_cells(text, &worker->stats, worker->restarts);
}

static void add_worker_table(struct text *text, const struct service_snapshot *service,
                             struct timeval now)
{
	uint64_t restarts = 0;
	if (service->worker_count == 0) {
		text_add(text, "<p class=\"bad\">No worker is connected.</p>\n");
		return;
	}
	begin_table(text, service->name, "Workers of");
	text_add(
	    text,
	    "<thead><tr><th scope=\"col\">Worker</th><th scope=\"col\">Process</th>"
	    "<th scope=\"col\" class=\"word\">State</th><th scope=\"col\">Running for</th>"
	    "<th scope=\"col\">Outstanding</th><th scope=\"col\">Handed over</th>"
	    "<th scope=\"col\">Done</th><th scope=\"col\">Lost</th><th scope=\"col\">Fenced</th>"
	    "<th scope=\"col\">Retried</th><th scope=\"col\">Restarts</th></tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < service->worker_count; i++) {
		add_worker_row(text, &service->workers[i], now);
		restarts += service->workers[i].restarts;
	}
	text_add(
	    text,
	    "</tbody>\n<tfoot><tr><th scope=\"row\" colspan=\"4\">All, those before included</th>");
	add_stats_cells(text, &service->stats, restarts);
	text_add(text, "</tfoot>\n</table>\n</div>\n");
}

static void add_service(struct text *text, const struct service_snapshot *service,
                        struct timeval now)
{
	text_add(text, "<section>\n<h2>");
	add_escaped(text, service->name);
	text_add(text, "</h2>\n<p>");
	if (service->root != NULL) {
		text_add(text, "Serves <code>");
		add_escaped(text, service->root);
		text_add(text, "</code>");
	} else {
		text_add(text, "Its workers are started by others");
	}
	text_add(text, "; choice of worker: ");
	add_escaped(text, service->choice);
	text_add(text,
	         ".</p>\n<dl>\n<div><dt>Queue</dt><dd%s>%" PRIu64 " of %" PRIu64 "%s</dd></div>\n",
	         service->is_full ? " class=\"bad\"" : "", service->stats.queued, service->queue_limit,
	         service->is_full ? ", full" : "");
	add_figure(text, "Most queued", service->stats.queued_max);
	add_figure(text, "Requests", service->stats.accepted);
	add_figure(text, "Returned", service->stats.returned);
	add_figure(text, "Expired", service->stats.expired);
	add_figure(text, "Rejected", service->stats.rejected);
	add_figure(text, "Kept", service->stats.kept);
	add_figure(text, "Channels lost", service->stats.workers_lost);
	text_add(text, "</dl>\n");
	add_worker_table(text, service, now);
	text_add(text, "</section>\n");
}

static void add_refusals(struct text *text, const struct snapshot *snapshot)
{
	text_add(text, "<section>\n<h2>Refused by the proxy</h2>\n");
	begin_table(text, NULL, "Clients that were refused");
	text_add(text,
	         "<thead><tr><th scope=\"col\">Why</th><th scope=\"col\">Clients</th></tr></thead>\n"
	         "<tbody>\n");
	for (size_t i = 0; i < REFUSAL_REASONS; i++)
		text_add(text, "<tr><th scope=\"row\">%s</th><td>%" PRIu64 "</td></tr>\n",
		         refusal_reasons[i].heading,
		         report_number_at(&snapshot->refusals, refusal_reasons[i].offset));
	text_add(text, "</tbody>\n</table>\n</div>\n</section>\n");
}

int report_add_page(struct evbuffer *out, const struct snapshot *snapshot)
{
	struct text text = {.out = out};
	text_add_bytes(&text, page_start, sizeof(page_start) - 1);
	add_summary(&text, snapshot);
	for (size_t i = 0; i < snapshot->service_count; i++)
		add_service(&text, &snapshot->services[i], snapshot->now);
	add_refusals(&text, snapshot);
	text_add_bytes(&text, page_end, sizeof(page_end) - 1);
	return text.failed ? -ENOMEM : 0;
}
