/* The admin's server, with raw requests over sockets. */

#include "programs/ferry-proxy/admin.h"
#include "test.h"
#include <ferry/address.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct admin *admin;
static struct ferry_address address;
static const char *not_serving;
static unsigned int filled;

static enum worker_state worker_state = WORKER_READY;
static bool is_full;

static void fill(struct snapshot *snapshot, void *context)
{
	static struct service_snapshot service;
	static struct worker_snapshot worker;
	ck_assert_ptr_eq(context, &filled);
	worker = (struct worker_snapshot){.name = "www-1", .state = worker_state};
	service = (struct service_snapshot){.name = "www",
	                                    .choice = "least",
	                                    .queue_limit = 5,
	                                    .is_full = is_full,
	                                    .workers = &worker,
	                                    .worker_count = 1};
	*snapshot = (struct snapshot){.version = "0.0.7",
	                              .not_serving = not_serving,
	                              .clients = 17,
	                              .services = &service,
	                              .service_count = 1};
	filled++;
}

static void start_at(const char *where)
{
	ck_assert_int_eq(ferry_address_parse(&address, where), 0);
	int fd = ferry_address_listen(&address, 0);
	ck_assert_int_ge(fd, 0);
	socklen_t length = sizeof(address.name.storage);
	ck_assert_int_eq(getsockname(fd, &address.name.any, &length), 0);
	address.length = length;
	filled = 0;
	not_serving = NULL;
	ck_assert_int_eq(admin_new(&admin, base, fd, fill, &filled), 0);
	ck_assert_int_eq(admin_get_fd(admin), fd);
}

static void start(void)
{
	start_at("127.0.0.1:0");
}

static void stop(void)
{
	admin_free(admin);
	admin = NULL;
}

struct client {
	int fd;
	char answer[65536];
	size_t length;
	bool ended;
};

static struct client client;

static int connect_client(void)
{
	int fd = socket(address.name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, &address.name.any, address.length), 0);
	ck_assert_int_eq(evutil_make_socket_nonblocking(fd), 0);
	return fd;
}

static void read_more(void)
{
	ssize_t count =
	    read(client.fd, client.answer + client.length, sizeof(client.answer) - 1 - client.length);
	if (count > 0)
		client.length += (size_t)count;
	client.answer[client.length] = '\0';
	client.ended = client.ended || count == 0 || (count < 0 && errno != EAGAIN);
}

static bool has_ended(void *argument)
{
	(void)argument;
	read_more();
	return client.ended;
}

static bool has_text(void *argument)
{
	read_more();
	return strstr(client.answer, argument) != NULL;
}

static void send_text(const char *text)
{
	ck_assert_int_eq(send(client.fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* The whole answer to a request that ends the connection. */
static void ask(const char *request)
{
	client = (struct client){.fd = connect_client()};
	send_text(request);
	pump_until(has_ended, NULL);
	close(client.fd);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

static const char *body(void)
{
	const char *end = strstr(client.answer, "\r\n\r\n");
	ck_assert_ptr_nonnull(end);
	return end + 4;
}

static bool has_field(const char *field)
{
	const char *at = strstr(client.answer, field);
	return at != NULL && at < body();
}

static void check_status(const char *status)
{
	char line[64];
	snprintf(line, sizeof(line), "HTTP/1.1 %s\r\n", status);
	ck_assert_msg(strncmp(client.answer, line, strlen(line)) == 0, "'%.60s'", client.answer);
	snprintf(line, sizeof(line), "\r\nContent-Length: %zu\r\n", strlen(body()));
	ck_assert_msg(has_field(line), "%s", client.answer);
}

TEST_CASE("pages");

TEST(the_metrics_are_served)
{
	start();
	ask(GET("/-/metrics"));
	check_status("200 OK");
	ck_assert(has_field("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	ck_assert(has_field("\r\nCache-Control: no-store\r\n"));
	ck_assert_ptr_nonnull(strstr(body(), "\nferry_proxy_clients 17\n"));
	ck_assert_int_eq(client.answer[client.length - 1], '\n');
	ck_assert_uint_eq(filled, 1);
	stop();
}

TEST(the_page_is_served)
{
	start();
	ask(GET("/-/status?x=y"));
	check_status("200 OK");
	ck_assert(has_field("\r\nContent-Type: text/html; charset=utf-8\r\n"));
	ck_assert(has_field("\r\nX-Content-Type-Options: nosniff\r\n"));
	ck_assert(has_field("\r\nContent-Security-Policy: default-src 'none';"));
	ck_assert_int_eq(strncmp(body(), "<!DOCTYPE html>\n", 16), 0);
	ck_assert_ptr_nonnull(strstr(body(), "<dd>0.0.7</dd>"));
	ck_assert_str_eq(client.answer + client.length - 8, "</html>\n");
	stop();
}

TEST(the_status_is_that_of_a_request)
{
	start();
	ask(GET("/-/healthz"));
	check_status("200 OK");
	ck_assert_str_eq(body(), "ok\nwww: ok\n");
	worker_state = WORKER_STARTING;
	ask(GET("/-/healthz"));
	check_status("503 Service Unavailable");
	ck_assert_str_eq(body(), "no service can serve\nwww: no worker is ready\n");
	worker_state = WORKER_READY;
	is_full = true;
	ask(GET("/-/healthz"));
	check_status("503 Service Unavailable");
	ck_assert_str_eq(body(), "no service can serve\nwww: the queue is full\n");
	is_full = false;
	not_serving = "another one has taken over";
	ask(GET("/-/healthz"));
	check_status("503 Service Unavailable");
	ck_assert_str_eq(body(), "another one has taken over\n");
	ask(GET("/-/metrics")); /* the metrics exist nevertheless */
	check_status("200 OK");
	stop();
}

TEST(a_service_has_a_health_of_its_own)
{
	start();
	ask(GET("/-/healthz/www"));
	check_status("200 OK");
	ck_assert_str_eq(body(), "www: ok\n");
	worker_state = WORKER_DRAINING;
	ask(GET("/-/healthz/www"));
	check_status("503 Service Unavailable");
	ck_assert_str_eq(body(), "www: no worker is ready\n");
	ask(GET("/-/healthz/ww"));
	check_status("404 Not Found");
	ask(GET("/-/healthz/"));
	check_status("404 Not Found");
	ask(GET("/-/healthzwww"));
	check_status("404 Not Found");
	not_serving = "draining";
	ask(GET("/-/healthz/www"));
	check_status("503 Service Unavailable");
	stop();
}

TEST(a_head_is_answered_without_a_body)
{
	static const char *const paths[] = {"/-/status", "/-/metrics", "/-/healthz"};
	char request[200], length[64];
	start();
	for (size_t i = 0; i < 3; i++) {
		snprintf(request, sizeof(request),
		         "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", paths[i]);
		ask(request);
		snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n", strlen(body()));
		snprintf(request, sizeof(request),
		         "HEAD %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", paths[i]);
		ask(request);
		ck_assert_int_eq(strncmp(client.answer, "HTTP/1.1 200 OK\r\n", 17), 0);
		ck_assert_str_eq(body(), "");
		ck_assert(has_field(length));
	}
	stop();
}

TEST_CASE("refused");

TEST(other_paths_are_not_found)
{
	static const char *const paths[] = {
	    "/",           "/-/",          "/-/metrics/", "/-/Metrics",
	    "/-/metricsx", "/-/%6detrics", "//-/metrics", "/-/../-/metrics"};
	start();
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char request[200];
		snprintf(request, sizeof(request),
		         "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", paths[i]);
		ask(request);
		check_status("404 Not Found");
		ck_assert_ptr_nonnull(strstr(body(), "/-/status"));
	}
	ck_assert_uint_eq(filled, 0);
	stop();
}

TEST(other_methods_are_not_allowed)
{
	static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"};
	start();
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		char request[200];
		snprintf(
		    request, sizeof(request),
		    "%s /-/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		    methods[i]);
		ask(request);
		check_status("405 Method Not Allowed");
		ck_assert(has_field("\r\nAllow: GET, HEAD\r\n"));
	}
	ck_assert_uint_eq(filled, 0);
	stop();
}

TEST(what_is_no_request_ends_the_connection_and_nothing_else)
{
	static const char too_long[] = "POST /-/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
	                               "Content-Length: 9999999\r\n\r\n";
	static const char *const requests[] = {
	    "\x16\x03\x01\x02\r\n\r\n",
	    "GET\r\n\r\n",
	    "GET /-/status\r\n\r\n",
	    "GET  HTTP/1.1\r\n\r\n",
	    "BREW /-/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	    "GET http://[ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	    too_long};
	start();
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		ask(requests[i]);
		ck_assert_msg(client.length == 0 || strncmp(client.answer, "HTTP/1.", 7) == 0, "%s",
		              client.answer);
		ck_assert_msg(strstr(client.answer, " 200 ") == NULL, "%s", client.answer);
	}
	static char large[20000];
	memset(large, 'x', sizeof(large) - 1);
	static const char start_of_it[] = "GET /-/status HTTP/1.1\r\nA: ";
	memcpy(large, start_of_it, sizeof(start_of_it));
	large[sizeof(start_of_it) - 1] = 'x';
	ask(large);
	ck_assert_ptr_null(strstr(client.answer, " 200 "));
	ck_assert_uint_eq(filled, 0);
	ask(GET("/-/healthz"));
	check_status("200 OK");
	stop();
}

TEST_CASE("connections");

TEST(a_connection_may_ask_again)
{
	start();
	client = (struct client){.fd = connect_client()};
	for (unsigned int i = 1; i <= 3; i++) {
		client.length = 0;
		client.answer[0] = '\0';
		send_text("GET /-/healthz HTTP/1.1\r\nHost: a\r\n\r\n");
		pump_until(has_text, (void *)(uintptr_t) "\r\n\r\nok\n");
		ck_assert(!client.ended);
		ck_assert_uint_eq(filled, i);
	}
	close(client.fd);
	stop();
}

TEST(a_unix_socket_serves_too)
{
	char name[64];
	snprintf(name, sizeof(name), "unix:@ferry-admin-%d", (int)getpid());
	start_at(name);
	ask(GET("/-/healthz"));
	check_status("200 OK");
	stop();
}

TEST(freed_with_connections_it_drops_them)
{
	start();
	client = (struct client){.fd = connect_client()};
	send_text("GET /-/healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /-/hea");
	pump_until(has_text, (void *)(uintptr_t) "\r\n\r\nok\n");
	stop();
	pump_until(has_ended, NULL);
	close(client.fd);
}

static bool is_refused(void *argument)
{
	(void)argument;
	int fd = socket(address.name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	int status = connect(fd, &address.name.any, address.length);
	close(fd);
	return status < 0;
}

TEST(it_can_stop_accepting_and_go_on_serving)
{
	start();
	int fd = admin_get_fd(admin);
	client = (struct client){.fd = connect_client()};
	send_text("GET /-/healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	pump_until(has_text, (void *)(uintptr_t) "\r\n\r\nok\n");
	admin_stop_accepting(admin);
	admin_stop_accepting(admin);
	ck_assert_int_eq(admin_get_fd(admin), -1);
	ck_assert(!fd_is_open(fd));
	ck_assert(is_refused(NULL));
	client.length = 0;
	send_text("GET /-/healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	pump_until(has_text, (void *)(uintptr_t) "\r\n\r\nok\n");
	ck_assert_uint_eq(filled, 2);
	close(client.fd);
	stop();
}

TEST(only_a_listening_socket_is_taken)
{
	int fds[2];
	make_pair(PAIR_TCP, fds);
	struct admin *none = NULL;
	ck_assert_int_eq(admin_new(&none, base, fds[0], fill, NULL), -EINVAL);
	ck_assert_int_eq(admin_new(&none, base, -1, fill, NULL), -EINVAL);
	ck_assert_ptr_null(none);
	ck_assert(fd_is_open(fds[0]));
	close(fds[0]);
	close(fds[1]);
	admin_free(NULL);
}

static int count_if_it_is_the_listeners(const struct event_base *of, const struct event *event,
                                        void *count)
{
	(void)of;
	if (event_get_fd(event) == admin_get_fd(admin))
		*(int *)count += 1;
	return 0;
}

static bool is_accepting(void *argument)
{
	(void)argument;
	int count = 0;
	event_base_foreach_event(base, count_if_it_is_the_listeners, &count);
	return count > 0;
}

static bool is_not_accepting(void *argument)
{
	return !is_accepting(argument);
}

/* A connection that cannot be accepted keeps the listener readable: accepting has to pause. */
TEST(without_descriptors_it_waits_and_does_not_spin)
{
	start();
	struct admin *first = admin;
	start(); /* the error finds its admin among several */
	struct admin *second = admin;
	client = (struct client){.fd = connect_client()};
	send_text(GET("/-/healthz"));
	ck_assert(is_accepting(NULL));
	struct rlimit limit, none;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)client.fd + 1; /* the lowest free descriptor is above the limit */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	pump_until(is_not_accepting, NULL);
	admin = first;
	ck_assert(is_accepting(NULL));
	admin = second;
	ck_assert_uint_eq(filled, 0);
	pump_until(is_accepting, NULL); /* it resumes */
	pump_until(is_not_accepting, NULL);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	pump_until(has_ended, NULL);
	check_status("200 OK");
	ck_assert_uint_eq(filled, 1);
	close(client.fd);
	stop();
	admin_free(first);
}
