/* The report as a page. A word accompanies each colour; tables have captions and headers for screen
 * readers, and scroll by themselves on a narrow screen. */

#include "programs/ferry-proxy/page.h"
#include "programs/ferry-proxy/report_graphs.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char words[] =
    "<details>\n<summary>What the words mean</summary>\n<dl class=\"words\">\n"
    "<dt>Outstanding</dt><dd>with a worker, and not ended</dd>\n"
    "<dt>Handed over</dt><dd>claimed by a worker</dd>\n"
    "<dt>Done</dt><dd>served to the end of the connection</dd>\n"
    "<dt>Returned</dt><dd>given back by a worker between two requests</dd>\n"
    "<dt>Lost</dt><dd>attempts whose descriptor did not arrive</dd>\n"
    "<dt>Fenced</dt><dd>attempts that ended with the worker's channel, unclaimed</dd>\n"
    "<dt>Retried</dt><dd>attempts after the first, with another worker</dd>\n"
    "<dt>Kept</dt><dd>claimed by a worker whose channel ended since</dd>\n"
    "<dt>Generation</dt><dd>the number of the process in this place, from 1</dd>\n"
    "</dl>\n</details>\n";

static void add_moment(struct text *text, struct timeval when)
{
	struct tm utc;
	char out[32] = "";
	if (gmtime_r(&when.tv_sec, &utc) != NULL &&
	    strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &utc) > 0)
		text_add(text, "<time datetime=\"%s\">%.10s %.8s UTC</time>", out, out, out + 11);
}

static void add_summary(struct text *text, const struct snapshot *snapshot)
{
	text_add(text, "<h1>Status</h1>\n<p>");
	if (snapshot->not_serving == NULL) {
		text_add(text, "<strong class=\"pill ready\">Serving</strong>");
	} else {
		text_add(text, "<strong class=\"pill bad\">Not serving</strong>: ");
		page_add_text(text, snapshot->not_serving);
	}
	text_add(text, " <small>as of ");
	add_moment(text, snapshot->now);
	text_add(text, "</small></p>\n<dl class=\"figures card\">\n<div><dt>Version</dt><dd>");
	page_add_text(text, snapshot->version);
	text_add(text,
	         "</dd></div>\n<div><dt>Process</dt><dd>%ld</dd></div>\n<div><dt>Running for</dt><dd>",
	         (long)snapshot->pid);
	page_add_duration(text, snapshot->started, snapshot->now);
	text_add(text, "</dd></div>\n");
	page_add_figure(text, "Upgrades before", snapshot->upgrades);
	text_add(text, "<div><dt>Clients</dt><dd>%" PRIu64 " of %" PRIu64 "</dd></div>\n",
	         snapshot->clients, snapshot->clients_max);
	page_add_figure(text, "Accepted", snapshot->clients_accepted);
	page_add_figure(text, "Gone early", snapshot->clients_gone);
	page_add_figure(text, "Idle", snapshot->idle);
	text_add(text, "</dl>\n");
}

static void add_worker_card(struct text *text, const struct worker_snapshot *worker,
                            struct timeval now)
{
	const char *state = worker_state_name(worker->state);
	text_add(text, "<li class=\"card\">\n<h3>");
	page_add_text(text, worker->name);
	text_add(text, " <span class=\"pill %s\">%s</span></h3>\n<dl class=\"figures\">\n", state,
	         state);
	if (worker->pid > 0)
		text_add(text, "<div><dt>Process</dt><dd>%ld</dd></div>\n", (long)worker->pid);
	else
		text_add(text, "<div><dt>Process</dt><dd>none</dd></div>\n");
	if (worker->is_own)
		page_add_figure(text, "Generation", worker->restarts + 1);
	text_add(text, "<div><dt>Running for</dt><dd>");
	if (worker->started.tv_sec > 0)
		page_add_duration(text, worker->started, now);
	else
		text_add(text, "not running");
	text_add(text, "</dd></div>\n");
	page_add_figure(text, "Outstanding", worker->stats.outstanding);
	page_add_figure(text, "Handed over", worker->stats.claimed);
	page_add_figure(text, "Done", worker->stats.done);
	page_add_figure(text, "Returned", worker->stats.returned);
	page_add_figure(text, "Lost", worker->stats.lost);
	page_add_figure(text, "Fenced", worker->stats.fenced);
	page_add_figure(text, "Retried", worker->stats.retried);
	text_add(text, "</dl>\n</li>\n");
}

static void add_workers(struct text *text, const struct service_snapshot *service,
                        struct timeval now)
{
	if (service->worker_count == 0) {
		text_add(text, "<p class=\"bad\">No worker is connected.</p>\n");
		return;
	}
	text_add(text, "<ul class=\"cards\" aria-label=\"Workers of ");
	page_add_text(text, service->name);
	text_add(text, "\">\n");
	for (size_t i = 0; i < service->worker_count; i++)
		add_worker_card(text, &service->workers[i], now);
	text_add(text, "</ul>\n");
}

/* What the service's workers have done, those before included. */
static void add_service_figures(struct text *text, const struct service_snapshot *service)
{
	const struct ferry_dispatcher_stats *stats = &service->stats;
	uint64_t restarts = 0;
	for (size_t i = 0; i < service->worker_count; i++)
		restarts += service->workers[i].restarts;
	text_add(text,
	         "<dl class=\"figures card\">\n<div><dt>Queue</dt><dd%s>%" PRIu64 " of %" PRIu64
	         "%s</dd></div>\n",
	         service->is_full ? " class=\"bad\"" : "", stats->queued, service->queue_limit,
	         service->is_full ? ", full" : "");
	page_add_figure(text, "Most queued", stats->queued_max);
	page_add_figure(text, "Connections", stats->accepted);
	if (service->has_answers) {
		page_add_figure(text, "Answers", answer_sums_count(&service->answers, 0, 999));
		page_add_figure(text, "Answers 4xx", answer_sums_count(&service->answers, 400, 499));
		page_add_figure(text, "Answers 5xx", answer_sums_count(&service->answers, 500, 599));
	}
	page_add_figure(text, "Outstanding", stats->outstanding);
	page_add_figure(text, "Handed over", stats->claimed);
	page_add_figure(text, "Done", stats->done);
	page_add_figure(text, "Returned", stats->returned);
	page_add_figure(text, "Retried", stats->retried);
	page_add_figure(text, "Lost", stats->lost);
	page_add_figure(text, "Fenced", stats->fenced);
	page_add_figure(text, "Expired", stats->expired);
	page_add_figure(text, "Rejected", stats->rejected);
	page_add_figure(text, "Kept", stats->kept);
	page_add_figure(text, "Channels lost", stats->workers_lost);
	page_add_figure(text, "Restarts", restarts);
	text_add(text, "</dl>\n");
}

static void add_service(struct text *text, const struct service_snapshot *service,
                        struct timeval now)
{
	text_add(text, "<section>\n<h2>");
	page_add_text(text, service->name);
	text_add(text, "</h2>\n<p>");
	if (service->root != NULL) {
		text_add(text, "Serves <code>");
		page_add_text(text, service->root);
		text_add(text, "</code>");
	} else {
		text_add(text, "Its workers are started by others");
	}
	text_add(text, "; choice of worker: ");
	page_add_text(text, service->choice);
	text_add(text, ".</p>\n");
	add_workers(text, service, now);
	add_service_figures(text, service);
	text_add(text, "</section>\n");
}

static void add_refusals(struct text *text, const struct snapshot *snapshot)
{
	static const char caption[] = "Clients that the proxy answered itself, or closed";
	text_add(text,
	         "<section>\n<h2>Refused by the proxy</h2>\n<div class=\"table\" role=\"region\" "
	         "tabindex=\"0\" aria-label=\"%s\">\n<table>\n<caption>%s</caption>\n"
	         "<thead><tr><th scope=\"col\">Why</th><th scope=\"col\">Clients</th></tr></thead>\n"
	         "<tbody>\n",
	         caption, caption);
	for (size_t i = 0; i < REFUSAL_REASONS; i++)
		text_add(text, "<tr><th scope=\"row\">%s</th><td>%" PRIu64 "</td></tr>\n",
		         refusal_reasons[i].heading,
		         report_number_at(&snapshot->refusals, refusal_reasons[i].offset));
	text_add(text, "</tbody>\n</table>\n</div>\n</section>\n");
}

int report_add_page(struct evbuffer *out, const struct snapshot *snapshot)
{
	struct text text = {.out = out};
	page_begin(&text, "Status of ferry-proxy", "/-/status");
	add_summary(&text, snapshot);
	if (snapshot->history != NULL)
		report_add_graphs(&text, snapshot->history);
	for (size_t i = 0; i < snapshot->service_count; i++)
		add_service(&text, &snapshot->services[i], snapshot->now);
	add_refusals(&text, snapshot);
	text_add_bytes(&text, words, sizeof(words) - 1);
	page_end(&text);
	return text.failed ? -ENOMEM : 0;
}
