/* The state of the proxy as metrics, which a strict reader of the format parses again, and as a page for
 * people. */

#include "programs/ferry-proxy/report.h"
#include "programs/ferry-proxy/history.h"
#include "programs/ferry-proxy/page.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

/* All numbers of the snapshot differ: a mistaken counter is detected. */
static struct ferry_dispatcher_stats make_stats(uint64_t first)
{
	return (struct ferry_dispatcher_stats){.accepted = first,
	                                       .sent = first + 1,
	                                       .claimed = first + 2,
	                                       .done = first + 3,
	                                       .rejected = first + 4,
	                                       .expired = first + 5,
	                                       .kept = first + 6,
	                                       .lost = first + 7,
	                                       .fenced = first + 8,
	                                       .retried = first + 9,
	                                       .stale = first + 10,
	                                       .malformed = first + 11,
	                                       .workers_lost = first + 12,
	                                       .queued = first + 13,
	                                       .queued_max = first + 14,
	                                       .outstanding = first + 15,
	                                       .unclaimed = first + 16,
	                                       .credits = first + 17,
	                                       .workers = first + 18,
	                                       .returned = first + 19};
}

/* The names after "ferry_service_" and "ferry_worker_", in the order of make_stats(). */
static const struct {
	const char *name;
	bool of_worker;
} stats_names[] = {{"handoffs_accepted_total", false},
                   {"handoffs_sent_total", true},
                   {"handoffs_claimed_total", true},
                   {"handoffs_done_total", true},
                   {"handoffs_rejected_total", true},
                   {"handoffs_expired_total", true},
                   {"handoffs_kept_total", true},
                   {"handoffs_lost_total", true},
                   {"handoffs_fenced_total", true},
                   {"handoffs_retried_total", true},
                   {"answers_stale_total", true},
                   {"messages_malformed_total", true},
                   {"channels_lost_total", true},
                   {"queue_length", false},
                   {"queue_length_max", false},
                   {"handoffs_outstanding", true},
                   {"handoffs_unclaimed", true},
                   {"credits", true},
                   {"workers", false},
                   {"handoffs_returned_total", true}};

enum { STATS = sizeof(stats_names) / sizeof(stats_names[0]) };

#define HOSTILE "a\"b\\c\nd<script>&'{}"

static struct worker_snapshot workers[3];
static struct service_snapshot services[2];
static struct snapshot snapshot;

static void make_snapshot(void)
{
	for (unsigned int i = 0; i < 3; i++)
		workers[i] = (struct worker_snapshot){.pid = (pid_t)(5000 + i),
		                                      .state = (enum worker_state)(i + 1),
		                                      .restarts = 70 + i,
		                                      .started.tv_sec = 1700000000 + (time_t)i,
		                                      .started.tv_usec = 5,
		                                      .stats = make_stats(1000 * (i + 1))};
	workers[0].name = "www-1";
	workers[1].name = "www-2";
	workers[2].name = HOSTILE;
	workers[2].pid = 0;
	workers[2].started = (struct timeval){0};
	services[0] = (struct service_snapshot){.name = "www",
	                                        .root = "/srv/<w>",
	                                        .choice = "least",
	                                        .queue_limit = 91,
	                                        .stats = make_stats(10000),
	                                        .workers = workers,
	                                        .worker_count = 3};
	services[1] = (struct service_snapshot){.name = HOSTILE,
	                                        .choice = "by-client",
	                                        .queue_limit = 92,
	                                        .is_full = true,
	                                        .stats = make_stats(20000)};
	snapshot = (struct snapshot){.version = "1.2.3",
	                             .pid = 4711,
	                             .started = {.tv_sec = 1700000000, .tv_usec = 250000},
	                             .now = {.tv_sec = 1700093784},
	                             .upgrades = 31,
	                             .clients = 32,
	                             .clients_max = 33,
	                             .clients_accepted = UINT64_MAX,
	                             .tls_clients = 36,
	                             .clients_gone = 35,
	                             .idle = 41,
	                             .idle_woken = 42,
	                             .idle_ended = 43,
	                             .idle_expired = 44,
	                             .idle_evicted = 45,
	                             .waiting = 46,
	                             .refusals = {.bad_request = 41,
	                                          .no_route = 42,
	                                          .too_slow = 43,
	                                          .queue_full = 44,
	                                          .expired = 45,
	                                          .bad_proxy_header = 46,
	                                          .bad_client_hello = 48,
	                                          .no_tls_route = 49,
	                                          .failed = 47},
	                             .services = services,
	                             .service_count = 2};
}

static char report[65536];
static size_t report_length;

static void render(int (*add)(struct evbuffer *out, const struct snapshot *snapshot))
{
	struct evbuffer *out = evbuffer_new();
	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(add(out, &snapshot), 0);
	report_length = evbuffer_get_length(out);
	ck_assert_uint_lt(report_length, sizeof(report));
	evbuffer_remove(out, report, report_length);
	report[report_length] = '\0';
	ck_assert_uint_eq(strlen(report), report_length);
	evbuffer_free(out);
}

/* A reader of the text format, version 0.0.4. */

struct sample {
	char key[256]; /* name{label=value,…} with unescaped values */
	char value[32];
};

static struct sample samples[1024];
static size_t sample_count;

struct reader {
	const char *next;
	char family[100];
	char type[16];
	char families[200][100];
	size_t family_count;
};

static bool is_name_start(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static void take_name(struct reader *reader, char *out, size_t size)
{
	size_t length = 0;
	ck_assert(is_name_start(*reader->next));
	while (is_name_start(reader->next[length]) ||
	       (reader->next[length] >= '0' && reader->next[length] <= '9'))
		length++;
	ck_assert_uint_lt(length, size);
	memcpy(out, reader->next, length);
	out[length] = '\0';
	reader->next += length;
}

static void take(struct reader *reader, const char *text)
{
	ck_assert_msg(strncmp(reader->next, text, strlen(text)) == 0, "'%s' is missing at '%.40s'",
	              text, reader->next);
	reader->next += strlen(text);
}

/* HELP, then TYPE of the same name. A name has each once, before its samples. */
static void read_comment(struct reader *reader)
{
	char again[100];
	take(reader, "# HELP ");
	take_name(reader, reader->family, sizeof(reader->family));
	for (size_t i = 0; i < reader->family_count; i++)
		ck_assert_str_ne(reader->families[i], reader->family);
	snprintf(reader->families[reader->family_count++], sizeof(reader->families[0]), "%s",
	         reader->family);
	take(reader, " ");
	size_t help = strcspn(reader->next, "\n");
	ck_assert_uint_gt(help, 5);
	ck_assert_ptr_null(memchr(reader->next, '\\', help));
	reader->next += help;
	take(reader, "\n# TYPE ");
	take_name(reader, again, sizeof(again));
	ck_assert_str_eq(again, reader->family);
	take(reader, " ");
	take_name(reader, reader->type, sizeof(reader->type));
	take(reader, "\n");
	bool total = strlen(again) > 6 && strcmp(again + strlen(again) - 6, "_total") == 0;
	if (strcmp(again, "ferry_service_answer_duration_seconds") == 0)
		ck_assert_str_eq(reader->type, "histogram");
	else
		ck_assert_str_eq(reader->type, total ? "counter" : "gauge");
}

static void take_label(struct reader *reader, char *key, size_t *used)
{
	char name[32];
	take_name(reader, name, sizeof(name));
	*used += (size_t)sprintf(key + *used, "%s=", name);
	take(reader, "=\"");
	for (; *reader->next != '"'; reader->next++) {
		char c = *reader->next;
		ck_assert(c != '\n' && c != '\0');
		if (c == '\\') {
			c = *++reader->next;
			ck_assert(c == 'n' || c == '\\' || c == '"');
			if (c == 'n')
				c = '\n';
		}
		key[(*used)++] = c;
		ck_assert_uint_lt(*used, sizeof(samples[0].key) - 40);
	}
	take(reader, "\"");
}

static void read_sample(struct reader *reader)
{
	struct sample *sample = &samples[sample_count++];
	ck_assert_uint_lt(sample_count, sizeof(samples) / sizeof(samples[0]));
	take_name(reader, sample->key, sizeof(sample->key));
	size_t family = strlen(reader->family);
	ck_assert_int_eq(strncmp(sample->key, reader->family, family), 0);
	const char *part = sample->key + family;
	if (strcmp(reader->type, "histogram") == 0)
		ck_assert(strcmp(part, "_bucket") == 0 || strcmp(part, "_sum") == 0 ||
		          strcmp(part, "_count") == 0);
	else
		ck_assert_str_eq(part, "");
	size_t used = strlen(sample->key);
	if (*reader->next == '{') {
		do {
			sample->key[used++] = *reader->next++;
			take_label(reader, sample->key, &used);
		} while (*reader->next == ',');
		take(reader, "}");
		sample->key[used++] = '}';
	}
	sample->key[used] = '\0';
	take(reader, " ");
	size_t length = strspn(reader->next, "0123456789.");
	ck_assert(length > 0 && length < sizeof(sample->value));
	memcpy(sample->value, reader->next, length);
	sample->value[length] = '\0';
	reader->next += length;
	take(reader, "\n");
	for (size_t i = 0; i + 1 < sample_count; i++)
		ck_assert_str_ne(samples[i].key, sample->key);
}

static void read_metrics(void)
{
	static struct reader reader;
	memset(&reader, 0, sizeof(reader));
	sample_count = 0;
	render(report_add_metrics);
	reader.next = report;
	while (*reader.next != '\0') {
		if (*reader.next == '#')
			read_comment(&reader);
		else
			read_sample(&reader);
	}
}

static const char *value_of(const char *key)
{
	for (size_t i = 0; i < sample_count; i++)
		if (strcmp(samples[i].key, key) == 0)
			return samples[i].value;
	return "nothing";
}

static void check_number(const char *key, uint64_t expected)
{
	char text[32];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)expected);
	ck_assert_msg(strcmp(value_of(key), text) == 0, "%s is %s, not %s", key, value_of(key), text);
}

TEST_CASE("metrics");

TEST(the_proxys_own_numbers_are_told)
{
	make_snapshot();
	read_metrics();
	check_number("ferry_proxy_info{version=1.2.3}", 1);
	ck_assert_str_eq(value_of("ferry_proxy_start_time_seconds"), "1700000000.250000");
	check_number("ferry_proxy_serving", 1);
	check_number("ferry_proxy_upgrades_total", 31);
	check_number("ferry_proxy_clients", 32);
	check_number("ferry_proxy_clients_max", 33);
	check_number("ferry_proxy_clients_accepted_total", UINT64_MAX);
	check_number("ferry_proxy_clients_gone_total", 35);
	check_number("ferry_proxy_idle", 41);
	check_number("ferry_proxy_idle_woken_total", 42);
	check_number("ferry_proxy_idle_ended_total", 43);
	check_number("ferry_proxy_idle_expired_total", 44);
	check_number("ferry_proxy_idle_evicted_total", 45);
	check_number("ferry_proxy_waiting", 46);
	check_number("ferry_proxy_refusals_total{reason=bad_request}", 41);
	check_number("ferry_proxy_refusals_total{reason=no_route}", 42);
	check_number("ferry_proxy_refusals_total{reason=too_slow}", 43);
	check_number("ferry_proxy_refusals_total{reason=queue_full}", 44);
	check_number("ferry_proxy_refusals_total{reason=expired}", 45);
	check_number("ferry_proxy_refusals_total{reason=bad_proxy_header}", 46);
	check_number("ferry_proxy_refusals_total{reason=bad_client_hello}", 48);
	check_number("ferry_proxy_refusals_total{reason=no_tls_route}", 49);
	check_number("ferry_proxy_tls_clients_total", 36);
	check_number("ferry_proxy_refusals_total{reason=failed}", 47);
	snapshot.not_serving = "because";
	read_metrics();
	check_number("ferry_proxy_serving", 0);
}

static void check_stats(const char *part, const char *labels, uint64_t first, bool of_worker)
{
	for (size_t i = 0; i < STATS; i++) {
		char key[256];
		snprintf(key, sizeof(key), "ferry_%s_%s{%s}", part, stats_names[i].name, labels);
		if (of_worker && !stats_names[i].of_worker)
			ck_assert_str_eq(value_of(key), "nothing");
		else
			check_number(key, first + i);
	}
}

TEST(every_service_has_its_numbers)
{
	make_snapshot();
	read_metrics();
	check_stats("service", "service=www", 10000, false);
	check_stats("service", "service=" HOSTILE, 20000, false);
	check_number("ferry_service_queue_limit{service=www}", 91);
	check_number("ferry_service_queue_limit{service=" HOSTILE "}", 92);
	check_number("ferry_service_queue_full{service=www}", 0);
	check_number("ferry_service_queue_full{service=" HOSTILE "}", 1);
}

TEST(answers_are_those_of_the_proxys_own_workers)
{
	make_snapshot();
	services[0].has_answers = true;
	services[0].answers.statuses[0] = 900;
	services[0].answers.statuses[ANSWER_STATUSES - 1] = 7;
	services[0].answers.bytes = UINT64_MAX;
	for (unsigned int i = 0; i < ANSWER_TLS; i++)
		services[0].answers.tls[i] = 11 + i;
	services[0].answers.microseconds = 12000034;
	for (unsigned int i = 0; i < ANSWER_BUCKETS; i++)
		services[0].answers.buckets[i] = i + 1;
	read_metrics();
	check_number("ferry_service_answers_total{service=www,code=200}", 900);
	check_number("ferry_service_answers_total{service=www,code=other}", 7);
	check_number("ferry_service_tls_connections_total{service=www,by=kernel}", 11);
	check_number("ferry_service_tls_connections_total{service=www,by=openssl}", 12);
	check_number("ferry_service_tls_failed_total{service=www}", 13);
	check_number("ferry_service_tls_truncated_total{service=www}", 14);
	ck_assert_str_eq(value_of("ferry_service_answers_total{service=www,code=404}"), "nothing");
	check_number("ferry_service_answer_bytes_total{service=www}", UINT64_MAX);
	ck_assert_str_eq(value_of("ferry_service_answer_bytes_total{service=" HOSTILE "}"), "nothing");
	check_number("ferry_service_answer_duration_seconds_bucket{service=www,le=0.0005}", 1);
	check_number("ferry_service_answer_duration_seconds_bucket{service=www,le=0.001}", 3);
	check_number("ferry_service_answer_duration_seconds_bucket{service=www,le=60}", 78);
	check_number("ferry_service_answer_duration_seconds_bucket{service=www,le=+Inf}", 91);
	check_number("ferry_service_answer_duration_seconds_count{service=www}", 91);
	ck_assert_str_eq(value_of("ferry_service_answer_duration_seconds_sum{service=www}"),
	                 "12.000034");
}

TEST(every_worker_has_its_numbers)
{
	make_snapshot();
	read_metrics();
	check_stats("worker", "service=www,worker=www-1", 1000, true);
	check_stats("worker", "service=www,worker=www-2", 2000, true);
	check_stats("worker", "service=www,worker=" HOSTILE, 3000, true);
	check_number("ferry_worker_restarts_total{service=www,worker=www-2}", 71);
	ck_assert_str_eq(value_of("ferry_worker_start_time_seconds{service=www,worker=www-2}"),
	                 "1700000001.000005");
	ck_assert_str_eq(value_of("ferry_worker_start_time_seconds{service=www,worker=" HOSTILE "}"),
	                 "nothing");
}

TEST(a_worker_is_in_one_state)
{
	make_snapshot();
	services[0].worker_count = 1;
	for (unsigned int state = 0; state < WORKER_STATES; state++) {
		static const char *const names[] = {"starting", "ready", "draining", "waiting"};
		workers[0].state = (enum worker_state)state;
		ck_assert_str_eq(worker_state_name(workers[0].state), names[state]);
		read_metrics();
		for (unsigned int other = 0; other < WORKER_STATES; other++) {
			char key[100];
			snprintf(key, sizeof(key), "ferry_worker_state{service=www,worker=www-1,state=%s}",
			         names[other]);
			check_number(key, state == other);
		}
	}
}

TEST(a_proxy_without_services_has_metrics)
{
	make_snapshot();
	snapshot.service_count = 0;
	read_metrics();
	ck_assert_uint_eq(sample_count, 24);
}

/* The page. */

/* Checks that tags nest and are closed, that attributes are quoted, and that every "&" begins a
 * reference. */
static void check_markup(void)
{
	char stack[32][16];
	size_t depth = 0;
	const char *next = report;
	ck_assert_int_eq(strncmp(next, "<!DOCTYPE html>\n<html lang=\"en\">", 32), 0);
	next += 16;
	while (*next != '\0') {
		if (*next == '&') {
			ck_assert_int_eq(next[1], '#');
			ck_assert_int_eq(next[2 + strspn(next + 2, "0123456789")], ';');
		}
		ck_assert_int_ne(*next, '>');
		if (*next++ != '<')
			continue;
		bool closes = *next == '/';
		char name[16];
		next += closes;
		size_t length = strspn(next, "abcdefghijklmnopqrstuvwxyz0123456789");
		ck_assert(length > 0 && length < sizeof(name));
		memcpy(name, next, length);
		name[length] = '\0';
		next += length;
		while (*next != '>') {
			ck_assert(*next != '\0' && *next != '<');
			if (*next++ == '"')
				next += strcspn(next, "\"") + 1;
		}
		next++;
		if (closes) {
			ck_assert_uint_gt(depth, 0);
			ck_assert_str_eq(stack[--depth], name);
		} else if (strcmp(name, "meta") != 0 && strcmp(name, "link") != 0) {
			ck_assert_uint_lt(depth, 32);
			memcpy(stack[depth++], name, sizeof(name));
		}
	}
	ck_assert_uint_eq(depth, 0);
}

static void check_has(const char *text)
{
	ck_assert_msg(strstr(report, text) != NULL, "'%s' is missing", text);
}

static void check_has_not(const char *text)
{
	ck_assert_msg(strstr(report, text) == NULL, "'%s' is there", text);
}

TEST_CASE("page");

/* Every file that the page refers to is one of the program's. */
static void check_references(const char *attribute)
{
	for (const char *at = report; (at = strstr(at, attribute)) != NULL;) {
		char path[64];
		at += strlen(attribute);
		size_t length = strcspn(at, "\"");
		ck_assert_uint_lt(length, sizeof(path));
		memcpy(path, at, length);
		path[length] = '\0';
		bool is_page = strcmp(path, "/-/status") == 0 || strcmp(path, "/-/metrics") == 0 ||
		               strcmp(path, "/-/healthz") == 0;
		ck_assert_msg(is_page || page_find_file(path) != NULL, "%s", path);
	}
}

TEST(the_page_is_well_formed_and_stands_alone)
{
	make_snapshot();
	render(report_add_page);
	check_markup();
	check_has("<title>Status of ferry-proxy</title>");
	check_has("<link rel=\"stylesheet\" href=\"/-/style.css\">");
	check_has("<script src=\"/-/status.js\" defer=\"defer\"></script>");
	check_has("<a href=\"/-/status\" aria-current=\"page\">");
	check_references("src=\"");
	check_references("href=\"");
	check_has_not("style=");
	check_has_not("url(");
	check_has_not("http:");
	check_has_not("https:");
}

TEST(the_files_of_the_page_refer_to_no_other)
{
	static const char *const paths[] = {"/-/style.css", "/-/status.js", "/-/icon.svg"};
	for (size_t i = 0; i < 3; i++) {
		const struct page_file *file = page_find_file(paths[i]);
		ck_assert_ptr_nonnull(file);
		ck_assert_uint_gt(*file->length, 100);
		ck_assert_ptr_null(memmem(file->bytes, *file->length, "url(", 4));
		ck_assert_ptr_null(memmem(file->bytes, *file->length, "@import", 7));
		ck_assert_ptr_null(memmem(file->bytes, *file->length, "https:", 6));
	}
	ck_assert_ptr_null(page_find_file("/-/nothing"));
}

TEST(what_is_named_by_others_is_escaped)
{
	static const char escaped[] = "a&#34;b\\c\nd&#60;script&#62;&#38;&#39;{}";
	make_snapshot();
	snapshot.not_serving = "<why>";
	snapshot.version = "<v>";
	services[0].choice = "<c>";
	render(report_add_page);
	check_has_not("d<script");
	check_has("&#60;why&#62;");
	check_has("<dd>&#60;v&#62;</dd>");
	check_has("choice of worker: &#60;c&#62;.");
	check_has("<code>/srv/&#60;w&#62;</code>");
	char text[200];
	snprintf(text, sizeof(text), "<h2>%s</h2>", escaped);
	check_has(text);
	snprintf(text, sizeof(text), "<h3>%s <span", escaped);
	check_has(text);
	check_markup();
	services[1].workers = workers;
	services[1].worker_count = 1;
	render(report_add_page);
	snprintf(text, sizeof(text), "aria-label=\"Workers of %s\"", escaped);
	check_has(text);
	check_markup();
}

TEST(a_workers_card_has_its_numbers)
{
	make_snapshot();
	workers[0].is_own = true;
	render(report_add_page);
	check_has("<h3>www-1 <span class=\"pill ready\">ready</span></h3>\n<dl class=\"figures\">\n"
	          "<div><dt>Process</dt><dd>5000</dd></div>\n"
	          "<div><dt>Generation</dt><dd>71</dd></div>\n"
	          "<div><dt>Running for</dt><dd>1 d 2 h</dd></div>\n"
	          "<div><dt>Outstanding</dt><dd>1015</dd></div>\n"
	          "<div><dt>Handed over</dt><dd>1002</dd></div>\n"
	          "<div><dt>Done</dt><dd>1003</dd></div>\n"
	          "<div><dt>Returned</dt><dd>1019</dd></div>\n"
	          "<div><dt>Lost</dt><dd>1007</dd></div>\n"
	          "<div><dt>Fenced</dt><dd>1008</dd></div>\n"
	          "<div><dt>Retried</dt><dd>1009</dd></div>\n");
	/* A worker that others have started has no generation here. */
	check_has("<h3>www-2 <span class=\"pill draining\">draining</span></h3>\n"
	          "<dl class=\"figures\">\n<div><dt>Process</dt><dd>5001</dd></div>\n"
	          "<div><dt>Running for</dt>");
	check_has("<div><dt>Process</dt><dd>none</dd></div>\n"
	          "<div><dt>Running for</dt><dd>not running</dd></div>\n"
	          "<div><dt>Outstanding</dt><dd>3015</dd></div>\n");
}

TEST(the_summaries_have_their_numbers)
{
	make_snapshot();
	render(report_add_page);
	check_has("<strong class=\"pill ready\">Serving</strong>");
	check_has("<dt>Process</dt><dd>4711</dd>");
	check_has("<dt>Running for</dt><dd>1 d 2 h</dd>");
	check_has("<time datetime=\"2023-11-16T00:16:24Z\">2023-11-16 00:16:24 UTC</time>");
	check_has("<dt>Upgrades before</dt><dd>31</dd>");
	check_has("<dt>Clients</dt><dd>32 of 33</dd>");
	check_has("<dt>Accepted</dt><dd>18446744073709551615</dd>");
	check_has("<dt>Gone early</dt><dd>35</dd>");
	check_has("<dt>Queue</dt><dd>10013 of 91</dd>");
	check_has("<dt>Queue</dt><dd class=\"bad\">20013 of 92, full</dd>");
	check_has("<dt>Most queued</dt><dd>10014</dd>");
	check_has("<dt>Connections</dt><dd>10000</dd>");
	check_has_not("<dt>Answers</dt>");
	check_has("<dt>Expired</dt><dd>10005</dd>");
	check_has("<dt>Rejected</dt><dd>10004</dd>");
	check_has("<dt>Kept</dt><dd>10006</dd>");
	check_has("<dt>Channels lost</dt><dd>10012</dd>");
	check_has("<dt>Restarts</dt><dd>213</dd>");
	check_has("Its workers are started by others; choice of worker: by-client.");
	check_has("No worker is connected.");
	check_has("<th scope=\"row\">Full queue</th><td>44</td>");
	check_has("<th scope=\"row\">No worker in time</th><td>45</td>");
	check_has("<th scope=\"row\">Malformed request heads</th><td>41</td>");
	snapshot.not_serving = "it is over";
	render(report_add_page);
	check_has("<strong class=\"pill bad\">Not serving</strong>: it is over");
}

TEST(durations_have_two_units)
{
	static const struct {
		long seconds;
		const char *text;
	} durations[] = {
	    {-5, "0 s"},           {0, "0 s"},          {59, "59 s"},           {60, "1 min 0 s"},
	    {3599, "59 min 59 s"}, {3600, "1 h 0 min"}, {86399, "23 h 59 min"}, {86400, "1 d 0 h"},
	    {900000, "10 d 10 h"}};
	make_snapshot();
	for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
		char text[64];
		snapshot.now.tv_sec = snapshot.started.tv_sec + durations[i].seconds;
		render(report_add_page);
		snprintf(text, sizeof(text), "<dt>Running for</dt><dd>%s</dd>", durations[i].text);
		check_has(text);
	}
}

/* The graphs. */

static struct history history;

static void add_sample(uint64_t accepted, uint64_t queued)
{
	services[0].stats.accepted = accepted;
	services[0].stats.queued = queued;
	history_add(&history, &snapshot);
}

static void start_history(void)
{
	memset(&history, 0, sizeof(history));
	make_snapshot();
	snapshot.service_count = 1;
	snapshot.pid = getpid();
	snapshot.history = &history;
}

TEST(sums_become_rates)
{
	double points[HISTORY_SAMPLES];
	start_history();
	ck_assert_uint_eq(history_points(&history, HISTORY_REQUESTS, points), 0);
	add_sample(100, 7);
	ck_assert_uint_eq(history_points(&history, HISTORY_REQUESTS, points), 0);
	ck_assert_uint_eq(history_points(&history, HISTORY_QUEUE, points), 1);
	ck_assert_double_eq(points[0], 7);
	add_sample(110, 0);
	add_sample(3, 0); /* the counters have begun anew */
	ck_assert_uint_eq(history_points(&history, HISTORY_REQUESTS, points), 2);
	ck_assert_double_eq(points[0], 10.0 / HISTORY_SECONDS);
	ck_assert_double_eq(points[1], 0);
	ck_assert_uint_eq(history_points(&history, HISTORY_MEMORY, points), 3);
	ck_assert_double_gt(points[2], 4096);
}

TEST(answers_are_requests)
{
	double points[HISTORY_SAMPLES];
	start_history();
	services[0].has_answers = true;
	services[0].answers.statuses[0] = 5;
	services[0].answers.statuses[6] = 1; /* 404 */
	services[0].answers.statuses[ANSWER_STATUSES - 1] = 2;
	add_sample(0, 0);
	services[0].answers.statuses[6] += 100;
	add_sample(0, 0);
	ck_assert_uint_eq(history_points(&history, HISTORY_REQUESTS, points), 1);
	ck_assert_double_eq(points[0], 100.0 / HISTORY_SECONDS);
	render(report_add_page);
	check_has("<dt>Answers</dt><dd>108</dd>");
	check_has("<dt>Answers 4xx</dt><dd>101</dd>");
	check_has("<dt>Answers 5xx</dt><dd>0</dd>");
}

TEST(old_samples_go)
{
	double points[HISTORY_SAMPLES];
	start_history();
	for (uint64_t i = 0; i < HISTORY_SAMPLES + 5; i++)
		add_sample(i * i, i);
	ck_assert_uint_eq(history_points(&history, HISTORY_QUEUE, points), HISTORY_SAMPLES);
	ck_assert_double_eq(points[0], 5);
	ck_assert_double_eq(points[HISTORY_SAMPLES - 1], HISTORY_SAMPLES + 4);
	ck_assert_uint_eq(history_points(&history, HISTORY_REQUESTS, points), HISTORY_SAMPLES - 1);
	ck_assert_double_eq(points[0], 11.0 / HISTORY_SECONDS);
}

TEST(the_page_has_a_curve_for_each_series)
{
	start_history();
	render(report_add_page);
	check_markup();
	check_has("<h3>Requests <span class=\"number\">0 /s</span></h3>");
	check_has_not("<polyline");
	add_sample(100, 0);
	add_sample(105, 12);
	add_sample(105 + 2 * 1234, 3);
	render(report_add_page);
	check_markup();
	check_has("<h3>Requests <span class=\"number\">1234 /s</span></h3>");
	check_has("points=\"296,49.9 298,2.0\"></polyline>");
	check_has("<h3>Queue <span class=\"number\">3</span></h3>");
	check_has("<span>most 12</span>");
	check_has("<h3>Memory ");
	check_has(" MiB</span></h3>");
}

TEST_CASE("failing");

/* A frozen buffer takes no bytes, as without memory. */
TEST(a_report_without_room_fails)
{
	make_snapshot();
	struct evbuffer *out = evbuffer_new();
	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(evbuffer_freeze(out, 0), 0);
	ck_assert_int_lt(report_add_metrics(out, &snapshot), 0);
	ck_assert_int_lt(report_add_page(out, &snapshot), 0);
	evbuffer_free(out);
}
