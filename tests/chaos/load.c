/* Clients of an HTTP server: many at a time, each with one connection after the other. Each answer is
 * compared byte by byte with the expected one.
 *
 * A connection has an address of its own, 127.64.x.y:port, which is unique in the run, to find it in the
 * logs of others. After its end the client writes a line to its log:
 *
 *     ADDRESS:PORT BEGUN ANSWERED ENDING STATUS TIME
 *
 * with the number of requests that were begun, the number of correct answers, the ending (see `endings`
 * below), the status of the last answer, and the time (CLOCK_MONOTONIC) in nanoseconds. */

#include "files.h"
#include "plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

enum {
	CLIENTS_MAX = 1024,
	FIRST_PORT = 10000,
	PORTS = 50000, /* of each address */
	CONNECTIONS_MAX = 2000000000,
	HEAD_MAX = 8192,
	DEADLINE_SECONDS = 60 /* without a byte; a working server is much faster */
};

/* The first three are correct. */
enum ending { DONE, ANNOUNCED, IDLE, CLOSED, RESET, NO_END, TIMEOUT, STATUS, WRONG, NO_CONNECTION };
static const char *const endings[] = {
    [DONE] = "done",           /* the client has all answers, and has left */
    [ANNOUNCED] = "announced", /* the server has sent Connection: close before */
    [IDLE] = "idle",           /* the server closed it between two answers, without notice */
    [CLOSED] = "closed",       /* the server closed it before or within an answer */
    [RESET] = "reset",         /* the same with an error */
    [NO_END] = "no-end",       /* all answers are there, and the server does not close it */
    [TIMEOUT] = "timeout",     /* no answer */
    [STATUS] = "status",       /* an answer, but neither 200 nor 206 */
    [WRONG] = "wrong",         /* an answer that is not HTTP, or has other bytes than the file */
    [NO_CONNECTION] = "no-connection",
};

enum state { UNUSED, CONNECTING, PAUSING, SPLITTING, WAITING, READING, LEAVING };

struct client {
	unsigned int number, connections;
	struct plan plan;
	struct bufferevent *bev;
	struct event *timer; /* of pauses, and of the next connection */
	enum state state;
	struct sockaddr_in address;
	unsigned int begun, answered;
	unsigned int status;
	size_t left; /* of the body */
	bool last;   /* the server has sent Connection: close, and the client had not asked for it */
	bool final;  /* the request is the last of the client */
	char head[256];
	size_t head_length;
};

static struct event_base *base;
static struct client clients[CLIENTS_MAX];
static unsigned int client_count = 64, running;
static unsigned long long seed = 1, seconds = 60;
static struct sockaddr_in server = {.sin_family = AF_INET};
static unsigned int connection_number;
static bool stopping;
static bool one_connection;   /* each client keeps its connection to the end */
static unsigned int pause_ms; /* more of it before each request */
static FILE *log_file;

static void fail(const char *what)
{
	fprintf(stderr, "chaos_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void need(bool good, const char *what)
{
	if (!good)
		fail(what);
}

static unsigned long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (unsigned long long)time.tv_sec * 1000000000 + (unsigned long long)time.tv_nsec;
}

static void wake_in(struct client *client, unsigned int ms)
{
	struct timeval delay = {.tv_sec = (time_t)ms / 1000,
	                        .tv_usec = (suseconds_t)(ms % 1000) * 1000};
	need(event_add(client->timer, &delay) == 0, "event_add");
}

/* ---- the end ---- */

static void client_is_out(void)
{
	if (--running == 0)
		event_base_loopbreak(base);
}

/* Also a connection without a request gets a line: the server has closed an idle connection. */
static void leave(struct client *client, enum ending ending)
{
	char host[INET_ADDRSTRLEN];

	if (ending == NO_CONNECTION)
		client->begun++; /* the request that the client would have sent */
	inet_ntop(AF_INET, &client->address.sin_addr, host, sizeof(host));
	fprintf(log_file, "%s:%u %u %u %s %u %llu\n", host, ntohs(client->address.sin_port),
	        client->begun, client->answered, endings[ending], client->status, now());
	if (ending == DONE && client->plan.leaving == RESETS)
		setsockopt(bufferevent_getfd(client->bev), SOL_SOCKET, SO_LINGER,
		           &(struct linger){.l_onoff = 1}, sizeof(struct linger));
	bufferevent_free(client->bev);
	client->bev = NULL;
	client->state = UNUSED;
	event_del(client->timer);
	if (stopping)
		client_is_out();
	else
		wake_in(client, 0);
}

static bool waits_for_the_end(const struct client *client)
{
	return client->last || (client->final && (client->plan.leaving == ENDS_ITS_HALF ||
	                                          client->plan.leaving == ASKS_FOR_CLOSE));
}

/* ---- requests ---- */

static struct request *current(struct client *client)
{
	return &client->plan.requests[(client->begun - 1) % client->plan.request_count];
}

/* Whether the next request is the last one of the connection. */
static bool is_at_the_last(const struct client *client)
{
	return stopping || (!one_connection && client->begun == client->plan.request_count);
}

static void write_bytes(struct client *client, const char *bytes, size_t length)
{
	need(bufferevent_write(client->bev, bytes, length) == 0, "bufferevent_write");
}

static void send_rest(struct client *client, size_t from)
{
	client->state = WAITING;
	write_bytes(client, client->head + from, client->head_length - from);
}

static void make_head(struct client *client, const struct request *request)
{
	char range[64] = "";

	if (request->has_range)
		snprintf(range, sizeof(range), "Range: bytes=%zu-%zu\r\n", request->first,
		         request->first + request->length - 1);
	int length = snprintf(
	    client->head, sizeof(client->head), "GET /%u HTTP/1.1\r\nHost: chaos\r\n%s%s\r\n",
	    request->file, range,
	    client->final && client->plan.leaving == ASKS_FOR_CLOSE ? "Connection: close\r\n" : "");
	client->head_length = (size_t)length;
}

static void ask(struct client *client)
{
	client->begun++;
	client->final = is_at_the_last(client);
	const struct request *request = current(client);
	make_head(client, request);
	if (request->split == 0) {
		send_rest(client, 0);
		return;
	}
	client->state = SPLITTING;
	write_bytes(client, client->head, request->split);
	wake_in(client, request->split_pause_ms);
}

static void pause_then_ask(struct client *client)
{
	unsigned int next = client->begun % client->plan.request_count;
	unsigned int ms = client->plan.requests[next].pause_ms + pause_ms;

	client->state = PAUSING;
	if (ms == 0)
		ask(client);
	else
		wake_in(client, ms);
}

/* ---- answers ---- */

static void answer_is_whole(struct client *client)
{
	client->answered++;
	if (evbuffer_get_length(bufferevent_get_input(client->bev)) > 0)
		leave(client, WRONG); /* bytes after the answer */
	else if (waits_for_the_end(client))
		client->state = LEAVING;
	else if (client->final || stopping)
		leave(client, DONE);
	else
		pause_then_ask(client);
}

/* The value of a field, or NULL. */
static const char *field(const char *head, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, length) == 0 && line[length] == ':')
			return line + length + 1 + strspn(line + length + 1, " ");
	}
	return NULL;
}

/* DONE: the head is that of the expected answer. */
static enum ending check_head(struct client *client, const char *head)
{
	const struct request *request = current(client);
	char expected[80];

	if (sscanf(head, "HTTP/1.1 %3u ", &client->status) != 1)
		return WRONG;
	if (client->status != 200 && client->status != 206)
		return STATUS;
	if ((client->status == 206) != request->has_range || client->state != WAITING)
		return WRONG;
	const char *length = field(head, "Content-Length");
	if (length == NULL || strtoull(length, NULL, 10) != request->length)
		return WRONG;
	if (request->has_range) {
		const char *range = field(head, "Content-Range");
		snprintf(expected, sizeof(expected), "bytes %zu-%zu/%zu\r\n", request->first,
		         request->first + request->length - 1, file_size(request->file));
		if (range == NULL || strncmp(range, expected, strlen(expected)) != 0)
			return WRONG;
	}
	const char *connection = field(head, "Connection");
	bool asked = client->final && client->plan.leaving == ASKS_FOR_CLOSE;
	client->last = connection != NULL && strncasecmp(connection, "close\r\n", 7) == 0 && !asked;
	return DONE;
}

/* False: the head is not complete, or the client has left. */
static bool read_head(struct client *client, struct evbuffer *input)
{
	char head[HEAD_MAX + 1];
	struct evbuffer_ptr end = evbuffer_search(input, "\r\n\r\n", 4, NULL);
	size_t length = end.pos < 0 ? evbuffer_get_length(input) : (size_t)end.pos + 4;

	if (length > HEAD_MAX || client->state == PAUSING || client->state == LEAVING) {
		leave(client, WRONG);
		return false;
	}
	if (end.pos < 0)
		return false;
	evbuffer_remove(input, head, length);
	head[length] = '\0';
	enum ending verdict = strlen(head) == length ? check_head(client, head) : WRONG;
	if (verdict != DONE) {
		leave(client, verdict);
		return false;
	}
	client->state = READING;
	client->left = current(client)->length;
	return true;
}

static void read_body(struct client *client, struct evbuffer *input)
{
	const struct request *request = current(client);
	const unsigned char *expected = file_bytes(request->file) + request->first;
	unsigned char piece[16384];

	while (client->left > 0) {
		size_t size = client->left < sizeof(piece) ? client->left : sizeof(piece);
		int length = evbuffer_remove(input, piece, size);
		if (length <= 0)
			return;
		if (memcmp(piece, expected + (request->length - client->left), (size_t)length) != 0) {
			leave(client, WRONG);
			return;
		}
		client->left -= (size_t)length;
	}
	answer_is_whole(client);
}

static void can_read(struct bufferevent *bev, void *context)
{
	struct client *client = context;
	struct evbuffer *input = bufferevent_get_input(bev);

	if (client->state == READING || read_head(client, input))
		read_body(client, input);
}

/* ---- the connection ---- */

static void all_is_written(struct bufferevent *bev, void *context)
{
	struct client *client = context;

	if (client->state == WAITING && client->plan.leaving == ENDS_ITS_HALF && client->final)
		shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static enum ending ending_of(const struct client *client, short what)
{
	if (client->state == CONNECTING)
		return NO_CONNECTION;
	if ((what & BEV_EVENT_TIMEOUT) != 0)
		return client->state == LEAVING ? NO_END : TIMEOUT;
	if (client->state == LEAVING)
		return client->last && !client->final ? ANNOUNCED : DONE;
	if (client->state == PAUSING)
		return IDLE;
	return (what & BEV_EVENT_ERROR) != 0 ? RESET : CLOSED;
}

static void something_happened(struct bufferevent *bev, short what, void *context)
{
	(void)bev;
	struct client *client = context;

	if ((what & BEV_EVENT_CONNECTED) != 0)
		pause_then_ask(client);
	else
		leave(client, ending_of(client, what));
}

/* A socket with an address that is new in this run. */
static int next_socket(struct client *client)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	need(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	if (client->plan.small_buffer)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
	for (;;) {
		unsigned int host = connection_number / PORTS;
		client->address = (struct sockaddr_in){
		    .sin_family = AF_INET,
		    .sin_port = htons((uint16_t)(FIRST_PORT + connection_number % PORTS)),
		    .sin_addr.s_addr = htonl(0x7f400000u | host / 250 << 8 | (1 + host % 250))};
		connection_number++;
		if (bind(fd, (struct sockaddr *)&client->address, sizeof(client->address)) == 0)
			return fd;
		need(errno == EADDRINUSE, "bind");
	}
}

static bool connect_somewhere(struct client *client)
{
	int fd = next_socket(client);
	client->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	need(client->bev != NULL, "bufferevent_socket_new");
	bufferevent_setcb(client->bev, can_read, all_is_written, something_happened, client);
	struct timeval deadline = {.tv_sec = DEADLINE_SECONDS};
	bufferevent_set_timeouts(client->bev, &deadline, &deadline);
	bufferevent_enable(client->bev, EV_READ | EV_WRITE);
	if (bufferevent_socket_connect(client->bev, (struct sockaddr *)&server, sizeof(server)) == 0)
		return true;
	/* The address is in TIME_WAIT since an earlier run. */
	need(errno == EADDRNOTAVAIL, "connect");
	bufferevent_free(client->bev);
	return false;
}

static void start_connection(struct client *client)
{
	plan_make(&client->plan, seed, client->number, client->connections++);
	client->begun = client->answered = client->status = 0;
	client->last = client->final = false;
	client->state = CONNECTING;
	while (!connect_somewhere(client))
		;
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct client *client = context;

	if (client->state == PAUSING)
		ask(client);
	else if (client->state == SPLITTING)
		send_rest(client, current(client)->split);
	else if (stopping)
		client_is_out();
	else
		start_connection(client);
}

/* ---- the program ---- */

/* Open connections continue to their end, without further requests. */
static void stop(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	stopping = true;
}

static void run(void)
{
	base = event_base_new();
	need(base != NULL, "event_base_new");
	struct event *term = evsignal_new(base, SIGTERM, stop, NULL);
	struct event *end = evtimer_new(base, stop, NULL);
	need(term != NULL && end != NULL && event_add(term, NULL) == 0 &&
	         event_add(end, &(struct timeval){.tv_sec = (time_t)seconds}) == 0,
	     "event_new");
	for (unsigned int i = 0; i < client_count; i++) {
		clients[i].number = i;
		clients[i].timer = evtimer_new(base, on_timer, &clients[i]);
		need(clients[i].timer != NULL, "evtimer_new");
		wake_in(&clients[i], 0);
	}
	running = client_count;
	need(event_base_dispatch(base) == 0, "event_base_dispatch");
	for (unsigned int i = 0; i < client_count; i++)
		event_free(clients[i].timer);
	event_free(term);
	event_free(end);
	event_base_free(base);
}

static unsigned long long number(const char *text, unsigned long long max)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || value > max) {
		fprintf(stderr, "chaos_load: '%s' is not a number up to %llu\n", text, max);
		exit(2);
	}
	return value;
}

static const char usage[] =
    "usage: chaos_load --make-files DIR\n"
    "       chaos_load --port PORT --log FILE [--clients N] [--seconds N] [--seed N]\n"
    "                  [--first N]   the number of the first connection: other addresses\n"
    "                  [--pause MS]  before each request, beside that of the plan\n"
    "                  [--one-connection]  for each client, from the start to the end\n";

static const char *read_options(int argc, char **argv, const char **directory)
{
	static const struct option options[] = {
	    {"make-files", required_argument, NULL, 'm'}, {"port", required_argument, NULL, 'p'},
	    {"log", required_argument, NULL, 'l'},        {"clients", required_argument, NULL, 'c'},
	    {"seconds", required_argument, NULL, 't'},    {"seed", required_argument, NULL, 's'},
	    {"first", required_argument, NULL, 'f'},      {"pause", required_argument, NULL, 'w'},
	    {"one-connection", no_argument, NULL, 'o'},   {NULL, 0, NULL, 0}};
	const char *log_path = NULL;
	bool fine = true;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'm')
			*directory = optarg;
		else if (option == 'p')
			server.sin_port = htons((uint16_t)number(optarg, 65535));
		else if (option == 'l')
			log_path = optarg;
		else if (option == 'c')
			client_count = (unsigned int)number(optarg, CLIENTS_MAX);
		else if (option == 't')
			seconds = number(optarg, 86400);
		else if (option == 's')
			seed = number(optarg, UINT64_MAX);
		else if (option == 'f')
			connection_number = (unsigned int)number(optarg, CONNECTIONS_MAX);
		else if (option == 'w')
			pause_ms = (unsigned int)number(optarg, 3600000);
		else if (option == 'o')
			one_connection = true;
		else
			fine = false;
	}
	if (!fine || optind != argc || (*directory == NULL) == (log_path == NULL) ||
	    client_count == 0) {
		fputs(usage, stderr);
		exit(2);
	}
	return log_path;
}

int main(int argc, char **argv)
{
	const char *directory = NULL;
	const char *log_path = read_options(argc, argv, &directory);

	if (directory != NULL) {
		need(files_write(directory) == 0, directory);
		return 0;
	}
	for (unsigned int file = 0; file < FILES; file++)
		need(file_bytes(file) != NULL, "memory");
	signal(SIGPIPE, SIG_IGN);
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	log_file = fopen(log_path, "we");
	need(log_file != NULL, log_path);
	run();
	need(fclose(log_file) == 0, log_path);
	return 0;
}
