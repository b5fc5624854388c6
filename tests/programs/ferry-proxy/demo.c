/* The button of the demo: who may press it. */

#include "programs/ferry-proxy/demo.h"
#include "programs/ferry-proxy/admin.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct admin *admin;
static struct ferry_address address;
static char host[64], token[64];
static struct worker_snapshot workers[4];

static void fill(struct snapshot *snapshot, void *context)
{
	static struct service_snapshot service;
	(void)context;
	service = (struct service_snapshot){
	    .name = "www", .choice = "least", .workers = workers, .worker_count = 4};
	service.stats.fenced = 12;
	service.stats.kept = 34;
	*snapshot = (struct snapshot){
	    .version = "1", .now.tv_sec = 1000, .services = &service, .service_count = 1};
}

static pid_t start_child(void)
{
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

/* The one that has run longest drains, the next one belongs to others. */
static void start(void)
{
	struct demo *demo;
	ck_assert_int_eq(ferry_address_parse(&address, "127.0.0.1:0"), 0);
	int fd = ferry_address_listen(&address, 0);
	ck_assert_int_ge(fd, 0);
	socklen_t length = sizeof(address.name.storage);
	ck_assert_int_eq(getsockname(fd, &address.name.any, &length), 0);
	address.length = length;
	ferry_address_format(&address, host, sizeof(host));
	for (unsigned int i = 0; i < 4; i++)
		workers[i] = (struct worker_snapshot){.name = "w<>",
		                                      .pid = start_child(),
		                                      .is_own = i != 1,
		                                      .state = i == 0 ? WORKER_DRAINING : WORKER_READY,
		                                      .started.tv_sec = 100 + (time_t)i};
	ck_assert_int_eq(admin_new(&admin, base, fd, fill, NULL), 0);
	ck_assert_int_eq(demo_new(&demo, &address, "http://127.0.0.1:1"), 0);
	admin_set_demo(admin, demo);
}

static unsigned int count_killed(void)
{
	unsigned int killed = 0;
	int status;
	for (unsigned int i = 0; i < 4; i++)
		if (workers[i].pid > 0 && waitpid(workers[i].pid, &status, WNOHANG) == workers[i].pid) {
			killed++;
			workers[i].pid = 0;
		}
	return killed;
}

static void stop(void)
{
	for (unsigned int i = 0; i < 4; i++)
		if (workers[i].pid > 0) {
			kill(workers[i].pid, SIGKILL);
			waitpid(workers[i].pid, NULL, 0);
		}
	admin_free(admin);
	admin = NULL;
}

static char answer[65536];
static size_t answer_length;
static int client;

static bool has_ended(void *argument)
{
	(void)argument;
	ssize_t count = read(client, answer + answer_length, sizeof(answer) - 1 - answer_length);
	if (count > 0)
		answer_length += (size_t)count;
	answer[answer_length] = '\0';
	return count == 0 || (count < 0 && errno != EAGAIN);
}

static void ask(const char *line, const char *fields, const char *body)
{
	char request[2048];
	int length = snprintf(request, sizeof(request),
	                      "%s HTTP/1.1\r\n%sConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
	                      line, fields, strlen(body), body);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(client, 0);
	ck_assert_int_eq(connect(client, &address.name.any, address.length), 0);
	ck_assert_int_eq(evutil_make_socket_nonblocking(client), 0);
	ck_assert_int_eq(send(client, request, (size_t)length, MSG_NOSIGNAL), length);
	answer_length = 0;
	pump_until(has_ended, NULL);
	close(client);
}

static int status_of_answer(void)
{
	ck_assert_int_eq(strncmp(answer, "HTTP/1.1 ", 9), 0);
	return atoi(answer + 9);
}

static const char *fields_of(const char *name, const char *origin)
{
	static char text[512];
	int used = snprintf(text, sizeof(text), "Host: %s\r\n", name);
	if (origin != NULL)
		snprintf(text + used, sizeof(text) - (size_t)used, "Origin: %s\r\n", origin);
	return text;
}

static const char *own_origin(void)
{
	static char origin[80];
	snprintf(origin, sizeof(origin), "http://%s", host);
	return origin;
}

static void read_token(void)
{
	static const char mark[] = "name=\"token\" value=\"";
	ask("GET /-/demo", fields_of(host, NULL), "");
	ck_assert_int_eq(status_of_answer(), 200);
	const char *at = strstr(answer, mark);
	ck_assert_ptr_nonnull(at);
	snprintf(token, sizeof(token), "token=%.32s", at + sizeof(mark) - 1);
	ck_assert_uint_eq(strspn(token + 6, "0123456789abcdef"), 32);
}

TEST_CASE("button");

TEST(the_page_may_be_framed_by_the_proxys_pages_alone)
{
	start();
	read_token();
	ck_assert_ptr_nonnull(strstr(answer, "frame-ancestors http://127.0.0.1:1\r\n"));
	ck_assert_ptr_nonnull(strstr(answer, "form-action 'self';"));
	ck_assert_ptr_nonnull(strstr(answer, "w&#60;&#62;"));
	ask("GET /-/status", fields_of(host, NULL), "");
	ck_assert_ptr_nonnull(strstr(answer, "frame-ancestors 'none'"));
	stop();
}

TEST(the_button_kills_the_oldest_own_worker_that_is_ready)
{
	char shown[64];
	start();
	read_token();
	snprintf(shown, sizeof(shown), ", process %ld, was killed 0 s ago", (long)workers[2].pid);
	ask("POST /-/demo/kill", fields_of(host, own_origin()), token);
	ck_assert_int_eq(status_of_answer(), 303);
	ck_assert_ptr_nonnull(strstr(answer, "\r\nLocation: /-/demo\r\n"));
	int status;
	ck_assert_int_eq(waitpid(workers[2].pid, &status, 0), workers[2].pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	workers[2].pid = 0;
	ck_assert_uint_eq(count_killed(), 0);
	ask("GET /-/demo", fields_of(host, NULL), "");
	ck_assert_ptr_nonnull(strstr(answer, shown));
	ck_assert_ptr_nonnull(strstr(answer, "<dt>Moved on</dt><dd>12</dd>"));
	ck_assert_ptr_nonnull(strstr(answer, "<dt>Cut in an answer</dt><dd>34</dd>"));
	stop();
}

TEST(without_a_ready_worker_it_kills_none)
{
	start();
	workers[2].state = WORKER_STARTING;
	workers[3].state = WORKER_WAITING;
	read_token();
	ask("POST /-/demo/kill", fields_of(host, own_origin()), token);
	ck_assert_int_eq(status_of_answer(), 303);
	ask("GET /-/demo", fields_of(host, NULL), "");
	ck_assert_ptr_nonnull(strstr(answer, "No worker has been killed yet."));
	stop();
}

TEST(nobody_else_presses_it)
{
	char wrong[64], name[64];
	start();
	read_token();
	snprintf(wrong, sizeof(wrong), "%s", token);
	wrong[20] = wrong[20] == 'a' ? 'b' : 'a';
	snprintf(name, sizeof(name), "rebound.example%s", strrchr(host, ':'));
	const struct {
		const char *line, *host, *origin, *body;
		int status;
	} requests[] = {
	    {"GET /-/demo", name, NULL, "", 421}, /* DNS rebinding: would have got the token */
	    {"POST /-/demo/kill", name, "http://rebound.example", token, 421},
	    {"GET /-/demo", "127.0.0.1", NULL, "", 421},
	    {"POST /-/demo/kill", host, NULL, token, 403},
	    {"POST /-/demo/kill", host, "null", token, 403},
	    {"POST /-/demo/kill", host, "http://127.0.0.1:1", token, 403},
	    {"POST /-/demo/kill", host, "https://evil.example", token, 403},
	    {"POST /-/demo/kill", host, own_origin(), wrong, 403},
	    {"POST /-/demo/kill", host, own_origin(), "", 403},
	    {"POST /-/demo/kill", host, own_origin(), "token=", 403},
	    {"GET /-/demo/kill", host, own_origin(), token, 405},
	    {"PUT /-/demo/kill", host, own_origin(), token, 405},
	    {"POST /-/demo", host, own_origin(), token, 405},
	};
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		ask(requests[i].line, fields_of(requests[i].host, requests[i].origin), requests[i].body);
		ck_assert_msg(status_of_answer() == requests[i].status, "%zu: %.40s", i, answer);
	}
	/* A second Host field. */
	char twice[256];
	snprintf(twice, sizeof(twice), "Host: %s\r\nHost: %s\r\nOrigin: http://%s\r\n", name, host,
	         name);
	ask("POST /-/demo/kill", twice, token);
	ck_assert_int_ge(status_of_answer(), 400);
	ask("GET /-/demo", fields_of(host, NULL), "");
	ck_assert_ptr_nonnull(strstr(answer, "No worker has been killed yet."));
	ck_assert_uint_eq(count_killed(), 0);
	stop();
}

TEST(without_a_demo_there_is_no_such_path)
{
	start();
	admin_set_demo(admin, NULL);
	ask("GET /-/demo", fields_of(host, NULL), "");
	ck_assert_int_eq(status_of_answer(), 404);
	ask("POST /-/demo/kill", fields_of(host, own_origin()), token);
	ck_assert_int_eq(status_of_answer(), 404);
	stop();
}

TEST(it_is_for_loopback_alone)
{
	static const char *const others[] = {"0.0.0.0:1", "192.0.2.1:1", "[::]:1", "unix:/x",
	                                     "128.0.0.1:1"};
	static const char *const own[] = {"127.0.0.1:1", "127.1.2.3:1", "[::1]:1"};
	struct demo *demo = NULL;
	struct ferry_address where;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		ck_assert_int_eq(ferry_address_parse(&where, others[i]), 0);
		ck_assert_int_eq(demo_new(&demo, &where, "'none'"), -EINVAL);
	}
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		ck_assert_int_eq(ferry_address_parse(&where, own[i]), 0);
		ck_assert_int_eq(demo_new(&demo, &where, "'none'"), 0);
		demo_free(demo);
	}
	demo_free(NULL);
}
