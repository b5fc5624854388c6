/* Clients of an HTTP server: as many connections as --clients, each with one request at a time, in one loop of
 * epoll(7). It prints `name value` lines: counts, the rate, and the latencies from the request (of a new connection:
 * from its connect(2)) to the last byte of the answer.
 *
 * Each request has a number of its own in its query, so that the logs of servers show whether one was answered twice.
 * No request is repeated. While the program runs, SIGUSR1 begins a window and SIGUSR2 ends it: the latencies of requests
 * that end in a window are printed by themselves. After SIGTERM no request begins, and the program ends with the last
 * answer. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench.h"

enum { CLIENTS_MAX = 4096, HEAD_MAX = 4096, SOURCES = 200, ROOM = 1024 * 1024 };

static struct options {
	struct sockaddr_in server;
	const char *path;
	unsigned int clients, pause_ms;
	double seconds;
	uint64_t requests; /* 0: as many as the time allows */
	bool keep, numbered;
} options = {.path = "/", .clients = 1, .seconds = 1};

enum client_state { CLIENT_IDLE, CLIENT_ASKED, CLIENT_ANSWERED };

static struct client {
	int fd;
	enum client_state state;
	uint64_t number, began, next; /* the request, its time, and the time of the next one */
	char head[HEAD_MAX];
	size_t head_length, body_left;
	bool connecting, head_done, ok, closes; /* closes: the server has announced the end */
} clients[CLIENTS_MAX];

static struct counts {
	uint64_t begun, ok, lost, refused, cut, extra;
} counts;

static struct bench_samples latencies, in_window;
static volatile sig_atomic_t window, stopped;
static int epoll_fd;
static uint64_t started, deadline;
static unsigned int sources;
static char room[ROOM];

/* ---- connections ---- */

static void watch(struct client *client, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = client};

	bench_need(epoll_ctl(epoll_fd, operation, client->fd, &event) == 0, "epoll_ctl");
}

/* Many source addresses: else the ports of connections in TIME_WAIT are soon all of them. */
static void connect_client(struct client *client)
{
	struct sockaddr_in source = {.sin_family = AF_INET,
	                             .sin_addr.s_addr =
	                                 htonl(0x7f010001U + (sources++ % SOURCES) * 256U)};

	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bench_need(client->fd >= 0, "socket");
	setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	bench_need(bind(client->fd, (struct sockaddr *)&source, sizeof(source)) == 0, "bind");
	if (connect(client->fd, (struct sockaddr *)&options.server, sizeof(options.server)) < 0 &&
	    errno != EINPROGRESS) {
		counts.refused++;
		close(client->fd);
		client->fd = -1;
		return;
	}
	client->connecting = true;
	watch(client, EPOLL_CTL_ADD, EPOLLOUT);
}

static void disconnect(struct client *client)
{
	close(client->fd);
	client->fd = -1;
}

static bool may_begin(void)
{
	if (stopped)
		return false;
	if (options.requests > 0)
		return counts.begun < options.requests;
	return bench_now() < deadline;
}

/* ---- requests ---- */

static void send_request(struct client *client)
{
	char text[512];
	int length;

	if (options.numbered)
		length = snprintf(text, sizeof(text), "GET %s?n=%d.%llu HTTP/1.1\r\nHost: bench\r\n%s\r\n",
		                  options.path, (int)getpid(), (unsigned long long)client->number,
		                  options.keep ? "" : "Connection: close\r\n");
	else
		length = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n",
		                  options.path, options.keep ? "" : "Connection: close\r\n");
	client->head_length = client->body_left = 0;
	client->head_done = client->ok = client->closes = false;
	client->state = CLIENT_ASKED;
	/* A failure is seen when the answer does not come. */
	(void)!send(client->fd, text, (size_t)length, MSG_NOSIGNAL);
}

/* Without an answer. The next request waits for a while: the server may be gone. */
static void lose(struct client *client)
{
	counts.lost++;
	client->state = CLIENT_IDLE;
	client->next = bench_now() + (options.pause_ms > 0 ? options.pause_ms : 1) * 1000000U;
}

static void begin_request(struct client *client)
{
	client->number = counts.begun++;
	client->began = bench_now();
	if (client->fd >= 0) {
		send_request(client);
		return;
	}
	client->state = CLIENT_ASKED;
	connect_client(client);
	if (client->fd < 0)
		lose(client);
}

static void complete(struct client *client)
{
	uint64_t now = bench_now();

	if (client->ok)
		counts.ok++;
	else
		counts.lost++;
	bench_add(window ? &in_window : &latencies, now - client->began);
	client->state = CLIENT_ANSWERED;
	client->next = now + options.pause_ms * 1000000U;
}

/* Ready for the next request, now or after the pause. */
static void go_on(struct client *client)
{
	client->state = CLIENT_IDLE;
	if (options.pause_ms == 0 && may_begin())
		begin_request(client);
}

static const char *field(const struct client *client, const char *name)
{
	const char *found = strcasestr(client->head, name);
	return found == NULL ? NULL : found + strlen(name);
}

/* Returns how many bytes were the head's. */
static size_t take_head(struct client *client, const char *bytes, size_t length)
{
	size_t before = client->head_length, fits = HEAD_MAX - 1 - before;
	size_t taken = length < fits ? length : fits;

	memcpy(client->head + before, bytes, taken);
	client->head_length += taken;
	client->head[client->head_length] = '\0';
	char *end = strstr(client->head, "\r\n\r\n");
	if (end == NULL) {
		bench_need(client->head_length < HEAD_MAX - 1, "the head of an answer");
		return taken;
	}
	end[2] = '\0';
	client->head_done = true;
	const char *size = field(client, "\r\nContent-Length: ");
	const char *connection = field(client, "\r\nConnection: ");
	client->body_left = size == NULL ? 0 : strtoul(size, NULL, 10);
	client->closes = connection != NULL && strncasecmp(connection, "close", 5) == 0;
	client->ok = strncmp(client->head + 9, "200", 3) == 0;
	return (size_t)(end + 4 - client->head) - before;
}

static void take_bytes(struct client *client, size_t length)
{
	size_t used = 0;

	if (client->state != CLIENT_ASKED) {
		counts.extra++;
		return;
	}
	if (!client->head_done)
		used = take_head(client, room, length);
	if (!client->head_done)
		return;
	size_t body = length - used < client->body_left ? length - used : client->body_left;
	client->body_left -= body;
	if (used + body < length)
		counts.extra++;
	if (client->body_left == 0)
		complete(client);
}

/* The server has ended the connection, or the kernel has. */
static void ended(struct client *client)
{
	if (client->connecting)
		counts.refused++;
	else if (options.keep && !client->closes)
		counts.cut++; /* without announcement, in a request or between two */
	client->connecting = false;
	disconnect(client);
	if (client->state == CLIENT_ASKED)
		lose(client);
	else if (client->state == CLIENT_ANSWERED)
		go_on(client);
}

static void handle(struct client *client, uint32_t events)
{
	if (client->connecting && (events & (EPOLLERR | EPOLLHUP)) == 0) {
		client->connecting = false;
		watch(client, EPOLL_CTL_MOD, EPOLLIN);
		send_request(client);
		return;
	}
	for (;;) {
		ssize_t length = recv(client->fd, room, ROOM, 0);
		if (length < 0 && errno == EAGAIN)
			return;
		if (length <= 0) {
			ended(client);
			return;
		}
		take_bytes(client, (size_t)length);
		if (client->state == CLIENT_ANSWERED && options.keep && !client->closes) {
			go_on(client);
			return;
		}
	}
}

/* ---- the program ---- */

static void signal_window(int number)
{
	window = number == SIGUSR1;
}

static void signal_stop(int number)
{
	(void)number;
	stopped = 1;
}

/* Requests that are due after their pause; returns the number of clients that have something to wait for. */
static unsigned int begin_due(void)
{
	unsigned int busy = 0;
	uint64_t now = bench_now();
	bool begin = may_begin();

	for (unsigned int i = 0; i < options.clients; i++) {
		if (clients[i].state == CLIENT_IDLE && begin && clients[i].next <= now)
			begin_request(&clients[i]);
		busy += clients[i].state != CLIENT_IDLE || begin;
		begin = begin && may_begin();
	}
	return busy;
}

static void run(void)
{
	struct epoll_event events[256];
	uint64_t last = 0, looked = 0;

	for (;;) {
		uint64_t now = bench_now();
		/* The clients are looked through once a millisecond. */
		if (now - looked > 1000000U) {
			looked = now;
			/* Answers that do not come for this time after the end are lost. */
			if (may_begin() || last == 0)
				last = now + 10000000000U;
			if (begin_due() == 0 || now > last)
				break;
		}
		int count = epoll_wait(epoll_fd, events, 256, 1);
		for (int i = 0; i < count; i++) {
			struct client *client = events[i].data.ptr;
			if (client->fd >= 0)
				handle(client, events[i].events);
		}
	}
	for (unsigned int i = 0; i < options.clients; i++)
		counts.lost += clients[i].state == CLIENT_ASKED;
}

static void print_latencies(struct bench_samples *samples, const char *prefix)
{
	static const struct {
		const char *name;
		double part;
	} quantiles[] = {{"p50_us", 0.5}, {"p99_us", 0.99}, {"p999_us", 0.999}, {"worst_us", 1}};
	char name[64];

	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", prefix, quantiles[i].name);
		bench_print(name, (double)bench_quantile(samples, quantiles[i].part) / 1e3);
	}
}

static void report(double seconds)
{
	bench_print("requests", (double)counts.begun);
	bench_print("ok", (double)counts.ok);
	bench_print("lost", (double)counts.lost);
	bench_print("refused", (double)counts.refused);
	bench_print("cut", (double)counts.cut);
	bench_print("extra", (double)counts.extra);
	bench_print("seconds", seconds);
	bench_print("requests_per_s", (double)counts.ok / seconds);
	print_latencies(&latencies, "");
	bench_print("window_requests", (double)in_window.count);
	if (in_window.count > 0)
		print_latencies(&in_window, "window_");
}

static void usage(const char *program)
{
	fprintf(stderr,
	        "usage: %s PORT [--path PATH] [--clients N] [--seconds S | --requests N] [--keep] "
	        "[--pause MS] [--numbered]\n",
	        program);
	exit(2);
}

static void read_arguments(int argc, char **argv)
{
	if (argc < 2)
		usage(argv[0]);
	options.server = (struct sockaddr_in){.sin_family = AF_INET,
	                                      .sin_port = htons((uint16_t)atoi(argv[1])),
	                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	for (int i = 2; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (strcmp(argv[i], "--keep") == 0) {
			options.keep = true;
			continue;
		}
		if (strcmp(argv[i], "--numbered") == 0) {
			options.numbered = true;
			continue;
		}
		if (value == NULL)
			usage(argv[0]);
		if (strcmp(argv[i], "--path") == 0)
			options.path = value;
		else if (strcmp(argv[i], "--clients") == 0)
			options.clients = (unsigned int)atoi(value);
		else if (strcmp(argv[i], "--seconds") == 0)
			options.seconds = atof(value);
		else if (strcmp(argv[i], "--requests") == 0)
			options.requests = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--pause") == 0)
			options.pause_ms = (unsigned int)atoi(value);
		else
			usage(argv[0]);
		i++;
	}
	if (options.clients == 0 || options.clients > CLIENTS_MAX)
		usage(argv[0]);
}

int main(int argc, char **argv)
{
	read_arguments(argc, argv);
	signal(SIGUSR1, signal_window);
	signal(SIGUSR2, signal_window);
	signal(SIGTERM, signal_stop);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bench_need(epoll_fd >= 0, "epoll_create1");
	started = bench_now();
	deadline = started + (uint64_t)(options.seconds * 1e9);
	for (unsigned int i = 0; i < options.clients; i++) {
		clients[i].fd = -1;
		/* With a pause, the clients are spread over it. */
		clients[i].next = started + i * (uint64_t)options.pause_ms * 1000000U / options.clients;
	}
	run();
	report((double)(bench_now() - started) / 1e9);
	return counts.extra > 0;
}
