#include "programs/ferry-proxy/demo.h"

#include "programs/ferry-proxy/admin_answer.h"
#include "programs/ferry-proxy/page.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <event2/buffer.h>
#include <event2/http.h>

static const char page_path[] = "/-/demo";
static const char kill_path[] = "/-/demo/kill";

PAGE_PIECE(demo);
PAGE_PIECE(demo_worker);

struct demo {
	char hosts[2][64]; /* the Host fields that mean this address */
	char token[33];
	char *policy;
	char killed[128]; /* the name of the last worker that was killed; "": none */
	pid_t killed_pid;
	struct timeval killed_at;
	uint64_t kills;
};

/* ---- what is permitted ---- */

static bool is_own_host(const struct demo *demo, const char *host)
{
	return host != NULL && (strcmp(host, demo->hosts[0]) == 0 || strcmp(host, demo->hosts[1]) == 0);
}

/* The origin of the page that sends the request is this address, under the name of the Host field. */
static bool is_own_origin(const char *origin, const char *host)
{
	static const char scheme[] = "http://";
	return origin != NULL && strncmp(origin, scheme, sizeof(scheme) - 1) == 0 &&
	       strcmp(origin + sizeof(scheme) - 1, host) == 0;
}

/* The body is "token=" and the token. The time of the comparison does not depend on the bytes. */
static bool has_token(const struct demo *demo, struct evhttp_request *request)
{
	static const char name[] = "token=";
	enum { LENGTH = sizeof(name) - 1 + sizeof(demo->token) - 1 };
	char expected[LENGTH + 1], body[LENGTH];
	struct evbuffer *input = evhttp_request_get_input_buffer(request);
	snprintf(expected, sizeof(expected), "%s%s", name, demo->token);
	if (evbuffer_get_length(input) != LENGTH || evbuffer_copyout(input, body, LENGTH) != LENGTH)
		return false;
	unsigned char difference = 0;
	for (size_t i = 0; i < LENGTH; i++)
		difference |= (unsigned char)(body[i] ^ expected[i]);
	return difference == 0;
}

/* ---- the page ---- */

/* The button, and what its last use has done. */
static void add_button(struct text *text, const struct demo *demo, const struct snapshot *snapshot)
{
	char since[PAGE_DURATION];
	uint64_t moved = 0, cut = 0;
	for (size_t i = 0; i < snapshot->service_count; i++) {
		moved += snapshot->services[i].stats.fenced;
		cut += snapshot->services[i].stats.kept;
	}
	const struct template_value values[] = {
	    {"token", .text = demo->token},
	    {"none", .number = demo->kills == 0},
	    {"kills", .number = demo->kills},
	    {"killed", .text = demo->killed},
	    {"pid", .number = (uint64_t)demo->killed_pid},
	    {"since", .text = page_format_duration(since, demo->killed_at, snapshot->now)},
	    {"moved", .number = moved},
	    {"cut", .number = cut},
	};
	PAGE_ADD(text, demo, values);
}

static void add_worker(struct text *text, const struct worker_snapshot *worker)
{
	const struct template_value values[] = {
	    {"name", .text = worker->name},
	    {"state", .text = worker_state_name(worker->state)},
	    {"pid", .number = (uint64_t)worker->pid},
	    {"none", .number = worker->pid <= 0},
	    {"generation", .number = worker->restarts + 1},
	    {"connections", .number = worker->stats.claimed},
	};
	PAGE_ADD(text, demo_worker, values);
}

static void send_page(const struct demo *demo, struct evhttp_request *request,
                      const struct snapshot *snapshot)
{
	struct evbuffer *body = evbuffer_new();
	struct text text = {.out = body};
	if (body == NULL) {
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
		return;
	}
	page_begin(&text, "Kill a worker", true);
	add_button(&text, demo, snapshot);
	for (size_t i = 0; i < snapshot->service_count; i++)
		for (size_t j = 0; j < snapshot->services[i].worker_count; j++)
			add_worker(&text, &snapshot->services[i].workers[j]);
	text_add(&text, "</ul>\n");
	page_end(&text);
	admin_answer_set(request, "Content-Security-Policy", demo->policy);
	if (text.failed)
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	else
		admin_answer_body(request, HTTP_OK, "OK", "text/html; charset=utf-8", body);
	evbuffer_free(body);
}

/* ---- the button ---- */

static bool is_older(const struct worker_snapshot *a, const struct worker_snapshot *b)
{
	if (b == NULL || a->started.tv_sec != b->started.tv_sec)
		return b == NULL || a->started.tv_sec < b->started.tv_sec;
	return a->started.tv_usec < b->started.tv_usec;
}

/* A process that has a place was not waited for yet: the number is still its own. */
static void kill_oldest(struct demo *demo, const struct snapshot *snapshot)
{
	const struct worker_snapshot *oldest = NULL;
	for (size_t i = 0; i < snapshot->service_count; i++)
		for (size_t j = 0; j < snapshot->services[i].worker_count; j++) {
			const struct worker_snapshot *worker = &snapshot->services[i].workers[j];
			if (worker->is_own && worker->state == WORKER_READY && worker->pid > 0 &&
			    is_older(worker, oldest))
				oldest = worker;
		}
	if (oldest == NULL || kill(oldest->pid, SIGKILL) < 0)
		return;
	program_log("the demo kills worker %s (pid %ld)", oldest->name, (long)oldest->pid);
	snprintf(demo->killed, sizeof(demo->killed), "%s", oldest->name);
	demo->killed_pid = oldest->pid;
	demo->killed_at = snapshot->now;
	demo->kills++;
}

static void answer_post(struct demo *demo, struct evhttp_request *request,
                        const struct snapshot *snapshot)
{
	const struct evkeyvalq *fields = evhttp_request_get_input_headers(request);
	if (!is_own_origin(evhttp_find_header(fields, "Origin"), evhttp_find_header(fields, "Host")) ||
	    !has_token(demo, request)) {
		admin_answer_text(request, 403, "Forbidden", "press the button of /-/demo");
		return;
	}
	kill_oldest(demo, snapshot);
	admin_answer_set(request, "Location", page_path);
	admin_answer_text(request, 303, "See Other", page_path);
}

bool demo_has_path(const char *path)
{
	return strcmp(path, page_path) == 0 || strcmp(path, kill_path) == 0;
}

void demo_answer(struct demo *demo, struct evhttp_request *request, const char *path,
                 const struct snapshot *snapshot)
{
	const struct evkeyvalq *fields = evhttp_request_get_input_headers(request);
	enum evhttp_cmd_type command = evhttp_request_get_command(request);
	bool is_kill = strcmp(path, kill_path) == 0;
	bool reads = command == EVHTTP_REQ_GET || command == EVHTTP_REQ_HEAD;
	if (!is_own_host(demo, evhttp_find_header(fields, "Host"))) {
		admin_answer_text(request, 421, "Misdirected Request", "another host");
	} else if (is_kill ? command != EVHTTP_REQ_POST : !reads) {
		admin_answer_set(request, "Allow", is_kill ? "POST" : "GET, HEAD");
		admin_answer_text(request, HTTP_BADMETHOD, "Method Not Allowed",
		                  is_kill ? "only POST" : "only GET and HEAD");
	} else if (is_kill) {
		answer_post(demo, request, snapshot);
	} else {
		send_page(demo, request, snapshot);
	}
}

/* ---- made and freed ---- */

static int make_token(char *token)
{
	unsigned char random[16];
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return errno != 0 ? -errno : -EIO;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(token + 2 * i, 3, "%02x", random[i]);
	return 0;
}

static char *make_policy(const char *frames)
{
	static const char format[] = "default-src 'none'; style-src 'self'; script-src 'self'; "
	                             "img-src 'self'; connect-src 'self'; base-uri 'none'; "
	                             "form-action 'self'; frame-ancestors %s";
	size_t size = sizeof(format) + strlen(frames);
	char *policy = malloc(size);
	if (policy != NULL)
		snprintf(policy, size, format, frames);
	return policy;
}

int demo_new(struct demo **out, const struct ferry_address *admin, const char *frames)
{
	if (!ferry_address_is_loopback(admin))
		return -EINVAL;
	struct demo *demo = calloc(1, sizeof(*demo));
	if (demo == NULL)
		return -ENOMEM;
	ferry_address_format(admin, demo->hosts[0], sizeof(demo->hosts[0]));
	snprintf(demo->hosts[1], sizeof(demo->hosts[1]), "localhost%s", strrchr(demo->hosts[0], ':'));
	int status = make_token(demo->token);
	if (status == 0) {
		demo->policy = make_policy(frames);
		status = demo->policy != NULL ? 0 : -ENOMEM;
	}
	if (status < 0) {
		demo_free(demo);
		return status;
	}
	*out = demo;
	return 0;
}

void demo_free(struct demo *demo)
{
	if (demo == NULL)
		return;
	free(demo->policy);
	free(demo);
}
