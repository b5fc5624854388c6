/* A static file server that listens on nothing: its clients come from handoff_proxy, as open
 * connections over a unix socket, together with what the proxy has read of them already. */

#include "handoff_frame.h"
#include "http_connection.h"
#include "program.h"
#include "static_file.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum {
	/* Descriptors that came before their frame was whole. Each frame needs one, so that more than a
	 * few are a proxy that counts differently. */
	WAITING_FDS = 512,
	/* Descriptors that are left for other things than clients. */
	SPARE_FDS = WAITING_FDS + 64,
	FIRST_RETRY_MS = 50,
	LONGEST_RETRY_MS = 2000
};

struct worker {
	struct http_server server;
	const char *socket_path;
	size_t most_clients;
	int claim_log; /* -1: none */

	/* The channel to the proxy; NULL while there is none. */
	struct ferry_transport *channel;
	struct ferry_connector *connector;
	unsigned long
	    channel_number;       /* the tag of its clients: those of an earlier one are not reported */
	bool paused;              /* enough clients */
	int waiting[WAITING_FDS]; /* a ring */
	size_t first_waiting;
	size_t waiting_count;

	struct event *retry;
	unsigned int retry_ms;
	bool proxy_is_missing; /* said once */
};

static void try_to_connect(struct worker *worker);

static int take_waiting(struct worker *worker)
{
	int fd = worker->waiting[worker->first_waiting];
	worker->first_waiting = (worker->first_waiting + 1) % WAITING_FDS;
	worker->waiting_count--;
	return fd;
}

/* Two descriptors for each client: its socket, and the file that it is sent. */
static void pause_when_full(struct worker *worker)
{
	bool full = worker->server.connection_count >= worker->most_clients;
	if (worker->channel == NULL || full == worker->paused)
		return;
	worker->paused = full;
	if (full)
		ferry_transport_pause_reading(worker->channel);
	else
		ferry_transport_resume_reading(worker->channel);
}

static void client_ended(struct http_server *server, unsigned long tag)
{
	struct worker *worker = (struct worker *)server; /* its first member */
	pause_when_full(worker);
	if (worker->channel == NULL || tag != worker->channel_number)
		return;
	struct evbuffer *frame = evbuffer_new();
	if (frame == NULL || handoff_frame_add_header(frame, HANDOFF_DONE, 0) < 0 ||
	    ferry_transport_write_buffer(worker->channel, frame) < 0)
		ferry_transport_abort_connection(worker->channel); /* the counts would differ */
	if (frame != NULL)
		evbuffer_free(frame);
}

static void file_descriptor_received(struct ferry_transport *channel, int fd, void *context)
{
	struct worker *worker = context;
	if (worker->waiting_count == WAITING_FDS) {
		program_say("the proxy sends descriptors without frames");
		close(fd);
		ferry_transport_abort_connection(channel);
		return;
	}
	worker->waiting[(worker->first_waiting + worker->waiting_count++) % WAITING_FDS] = fd;
}

/* ADDRESS:PORT of the client; "?" when it has gone meanwhile. */
static void name_client(int client, char *out, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getpeername(client, (struct sockaddr *)&address, &length) == 0 &&
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
	                NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		evutil_snprintf(out, size, "%s:%s", host, port);
	else
		evutil_snprintf(out, size, "?");
}

/* One write, so that the lines of several workers do not mix, and so that a line is there or is not when
 * this process is killed. */
static void log_claim(const struct worker *worker, unsigned int attempt, int client)
{
	char name[NI_MAXHOST + NI_MAXSERV], line[sizeof(name) + 64];

	if (worker->claim_log < 0)
		return;
	name_client(client, name, sizeof(name));
	int length =
	    evutil_snprintf(line, sizeof(line), "claim %ld %u %s\n", (long)getpid(), attempt, name);
	if (write(worker->claim_log, line, (size_t)length) != length)
		program_say("the claim log: %s", strerror(errno));
}

/* The payload of a HANDOFF_CONNECTION frame is next in the input. */
static int accept_client(struct worker *worker, struct evbuffer *input, uint32_t length)
{
	if (worker->waiting_count == 0)
		return -EPROTO;
	int fd = take_waiting(worker);
	log_claim(worker, 1, fd);
	struct evbuffer *bytes = evbuffer_new();
	int status = -ENOMEM;
	if (bytes == NULL || evbuffer_remove_buffer(input, bytes, length) != (int)length) {
		close(fd);
		if (bytes == NULL)
			evbuffer_drain(input, length);
	} else {
		status = http_server_serve(&worker->server, fd, bytes, worker->channel_number);
	}
	if (bytes != NULL)
		evbuffer_free(bytes);
	if (status < 0) {
		program_say("a client was dropped: %s", strerror(-status));
		client_ended(&worker->server, worker->channel_number);
	}
	return 0;
}

static void data_received(struct ferry_transport *channel, struct evbuffer *input, void *context)
{
	struct worker *worker = context;
	int status;
	enum handoff_frame_type type;
	uint32_t length;
	while ((status = handoff_frame_take_header(input, &type, &length)) == 1) {
		status = type == HANDOFF_CONNECTION ? accept_client(worker, input, length) : -EPROTO;
		if (status < 0)
			break;
	}
	if (status < 0) {
		program_say("the proxy speaks another protocol");
		ferry_transport_abort_connection(channel);
	}
	pause_when_full(worker);
}

static void try_again_later(struct worker *worker)
{
	struct timeval delay = {.tv_sec = worker->retry_ms / 1000,
	                        .tv_usec = (suseconds_t)(worker->retry_ms % 1000) * 1000};
	if (event_add(worker->retry, &delay) < 0) {
		/* Without the timer this process would be of no use for ever, and look well. */
		program_say("no memory to come back to the proxy");
		event_base_loopbreak(worker->server.base);
	}
	worker->retry_ms =
	    worker->retry_ms * 2 < LONGEST_RETRY_MS ? worker->retry_ms * 2 : LONGEST_RETRY_MS;
}

/* The clients stay: they are this process's own. */
static void connection_lost(struct ferry_transport *channel, int reason, void *context)
{
	struct worker *worker = context;
	program_say("the proxy is gone%s%s", reason != 0 ? ": " : "",
	            reason != 0 ? strerror(-reason) : "");
	worker->channel = NULL;
	while (worker->waiting_count > 0)
		close(take_waiting(worker));
	ferry_transport_free(channel);
	try_again_later(worker);
}

static void connected(struct ferry_connector *connector, int status,
                      struct ferry_transport *channel, void *context)
{
	/* No file_descriptors_lost: a lost descriptor breaks the tie between frames and descriptors, and
	 * without the callback ferry ends the channel. */
	static const struct ferry_protocol protocol = {.data_received = data_received,
	                                               .file_descriptor_received =
	                                                   file_descriptor_received,
	                                               .connection_lost = connection_lost};
	(void)connector;
	struct worker *worker = context;
	worker->connector = NULL;
	if (status == 0) {
		status = ferry_transport_set_protocol(channel, &protocol, worker);
		if (status < 0)
			ferry_transport_free(channel);
	}
	if (status < 0) {
		try_again_later(worker);
		return;
	}
	worker->channel = channel;
	worker->channel_number++;
	worker->paused = false;
	worker->retry_ms = FIRST_RETRY_MS;
	worker->proxy_is_missing = false;
	pause_when_full(worker);
}

static void try_to_connect(struct worker *worker)
{
	int status = ferry_connect_unix(&worker->connector, worker->server.base, worker->socket_path,
	                                NULL, connected, worker);
	if (status == 0)
		return;
	if (!worker->proxy_is_missing)
		program_say("no proxy at %s yet: %s", worker->socket_path, strerror(-status));
	worker->proxy_is_missing = true;
	worker->connector = NULL;
	try_again_later(worker);
}

static void retry(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	try_to_connect(context);
}

static void close_all(struct worker *worker)
{
	ferry_connector_free(worker->connector);
	ferry_transport_free(worker->channel);
	worker->channel = NULL;
	while (worker->waiting_count > 0)
		close(take_waiting(worker));
	http_server_close_all(&worker->server);
	/* Freed transports and files in their streams end in the loop. */
	for (int turn = 0; turn < 4; turn++)
		event_base_loop(worker->server.base, EVLOOP_NONBLOCK);
}

static int serve(struct worker *worker)
{
	worker->retry = evtimer_new(worker->server.base, retry, worker);
	if (worker->retry == NULL)
		return EXIT_FAILURE;
	try_to_connect(worker);
	int status = event_base_dispatch(worker->server.base);
	event_free(worker->retry);
	close_all(worker);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run(struct worker *worker)
{
	worker->server.base = event_base_new();
	if (worker->server.base == NULL) {
		program_say("no event loop");
		return EXIT_FAILURE;
	}
	struct program_signals signals = {0};
	int result = EXIT_FAILURE;
	if (program_signals_init(&signals, worker->server.base) == 0)
		result = serve(worker);
	program_signals_free(&signals);
	event_base_free(worker->server.base);
	return result;
}

static const char usage[] =
    "usage: handoff_worker --socket PATH [--root DIR] [options]\n"
    "Serves the files below a directory to the clients that handoff_proxy hands over.\n"
    "\n"
    "  --socket PATH           the unix socket of the proxy; tried again until it answers\n"
    "  --root DIR              what to serve (the current directory)\n"
    "  --idle-timeout SECONDS  end a connection after so long without a byte (30)\n"
    "  --head-timeout SECONDS  answer 408 when a request's head takes longer (10)\n"
    "  --claim-log FILE        append a line for each client that is taken\n"
    "  --help                  show this\n";

static bool open_claim_log(struct worker *worker, const char *path)
{
	worker->claim_log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (worker->claim_log < 0)
		program_say("%s: %s", path, strerror(errno));
	return worker->claim_log >= 0;
}

static bool read_seconds(const char *name, const char *text, struct timeval *timeout)
{
	unsigned long seconds;
	if (!program_number(text, 86400, &seconds) || seconds == 0) {
		program_say("--%s takes seconds, 1 to 86400, not '%s'", name, text);
		return false;
	}
	timeout->tv_sec = (time_t)seconds;
	return true;
}

/* 0 to go on, else the status to exit with after printing what is wrong; -1: after --help. */
static int read_options(int argc, char **argv, struct worker *worker, const char **root)
{
	static const struct option options[] = {{"socket", required_argument, NULL, 's'},
	                                        {"root", required_argument, NULL, 'r'},
	                                        {"idle-timeout", required_argument, NULL, 'i'},
	                                        {"head-timeout", required_argument, NULL, 't'},
	                                        {"claim-log", required_argument, NULL, 'c'},
	                                        {"help", no_argument, NULL, 'h'},
	                                        {NULL, 0, NULL, 0}};
	int option;
	bool fine = true;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			worker->socket_path = optarg;
			break;
		case 'r':
			*root = optarg;
			break;
		case 'i':
			fine = read_seconds("idle-timeout", optarg, &worker->server.idle_timeout) && fine;
			break;
		case 't':
			fine = read_seconds("head-timeout", optarg, &worker->server.head_timeout) && fine;
			break;
		case 'c':
			fine = open_claim_log(worker, optarg) && fine;
			break;
		case 'h':
			fputs(usage, stdout);
			return -1;
		default:
			fine = false;
		}
	}
	if (optind < argc) {
		program_say("'%s' is one argument too many", argv[optind]);
		fine = false;
	}
	if (fine && worker->socket_path == NULL) {
		program_say("--socket is missing; see --help");
		fine = false;
	}
	return fine ? 0 : 2;
}

static int open_root(const char *path)
{
	int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0) {
		program_say("%s: %s", path, strerror(errno));
		return -1;
	}
	/* Nothing could be served on a kernel that cannot keep a lookup below the root. */
	struct static_file file;
	int status = static_file_open(root, ".", &file);
	if (status != -EISDIR) {
		program_say("%s: %s", path, strerror(-status));
		close(root);
		return -1;
	}
	return root;
}

int main(int argc, char **argv)
{
	static struct worker worker = {.server = {.idle_timeout = {.tv_sec = 30},
	                                          .head_timeout = {.tv_sec = 10},
	                                          .linger_timeout = {.tv_sec = 2},
	                                          .ended = client_ended},
	                               .claim_log = -1,
	                               .retry_ms = FIRST_RETRY_MS};
	const char *root = ".";
	int status = read_options(argc, argv, &worker, &root);
	if (status != 0)
		return status < 0 ? EXIT_SUCCESS : status;
	worker.server.root = open_root(root);
	if (worker.server.root < 0)
		return EXIT_FAILURE;

	unsigned long fds = program_raise_descriptor_limit();
	worker.most_clients = fds > SPARE_FDS + 2 ? (fds - SPARE_FDS) / 2 : 1;
	program_print_ferry_log();
	status = run(&worker);
	close(worker.server.root);
	if (worker.claim_log >= 0)
		close(worker.claim_log);
	return status;
}
