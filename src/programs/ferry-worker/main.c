/* ferry-worker serves static files. It does not listen: ferry-proxy hands it open connections over a unix
 * socket, with the bytes that the proxy has read from them. */

#include "programs/ferry-worker/channels.h"
#include "programs/ferry-worker/connections.h"
#include "programs/ferry-worker/filled_page.h"
#include "programs/ferry-worker/static_file.h"
#include "programs/http/head.h"
#include "programs/shared/access_log.h"
#include "programs/shared/answer_counters.h"
#include "programs/shared/client_address.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* Descriptors for other purposes than clients; more than one message can bring. */
enum { SPARE_FDS = 320 };

struct worker {
	struct connections connections;
	struct channels *channels;
	int claim_log; /* -1: none */
	const char *claim_path;
	bool terminated;
};

/* Ends the worker when it has no clients, gets no more, and no proxy waits for the end of one. */
static void end_if_done(struct worker *worker)
{
	if (channels_are_drained(worker->channels))
		worker->connections.draining = true;
	if (channels_are_over(worker->channels) && worker->connections.count == 0)
		event_base_loopbreak(worker->connections.base);
}

static void client_ended(struct connections *connections, const struct connection_tag *tag)
{
	struct worker *worker = (struct worker *)connections; /* its first member */
	channels_done(worker->channels, tag);
	end_if_done(worker);
}

static long proxy_of(const struct connections *connections, const struct connection_tag *tag)
{
	return channels_proxy(((const struct worker *)connections)->channels, tag);
}

static bool can_return(const struct connections *connections, const struct connection_tag *tag)
{
	return channels_can_return(((const struct worker *)connections)->channels, tag);
}

static int give_back(struct connections *connections, const struct connection_tag *tag,
                     struct ferry_handoff *handoff)
{
	return channels_return(((struct worker *)connections)->channels, tag, handoff);
}

static void channels_changed(void *context)
{
	end_if_done(context);
}

/* The addresses of the client: those of the blob, which may come from a load balancer, else those of the
 * socket. */
static struct client_address client_of(const struct ferry_handoff *handoff)
{
	struct client_address address = {0};
	size_t length;
	const void *blob = ferry_handoff_get_blob(handoff, &length);
	if (client_address_get(&address, blob, length) < 0)
		client_address_of_socket(&address, ferry_handoff_get_fd(handoff));
	return address;
}

/* A line is one write(2): lines of several workers do not mix, and a worker that is killed leaves no
 * half line. */
static void log_claim(const struct worker *worker, const struct ferry_handoff *handoff,
                      const struct client_address *address)
{
	char client[SOCKET_ADDRESS_TEXT_SIZE], line[sizeof(client) + 64];
	if (worker->claim_log < 0)
		return;
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	socket_address_format(&address->client, client, sizeof(client));
	int length =
	    snprintf(line, sizeof(line), "claim %ld %u %s\n", (long)getpid(), info.attempt, client);
	if (write(worker->claim_log, line, (size_t)length) != length)
		program_log("the claim log: %s", strerror(errno));
}

static int serve_client(struct worker *worker, struct ferry_handoff *handoff,
                        const struct client_address *address, bool answered,
                        const struct connection_tag *tag)
{
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	struct ferry_transport *transport;
	char name[SOCKET_ADDRESS_TEXT_SIZE];
	unsigned char blob[CLIENT_ADDRESS_MAX];
	int length = client_address_put(address, blob);
	int status = length < 0
	                 ? length
	                 : ferry_handoff_to_transport(&transport, handoff, worker->connections.base,
	                                              BEV_OPT_CLOSE_ON_FREE);
	if (status < 0)
		return status;
	struct connection_client client = {
	    .name = socket_address_format(&address->client, name, sizeof(name)),
	    .blob = blob,
	    .blob_length = (size_t)length,
	    .routes_each = address->routes_each,
	    .attempt = info.attempt,
	    .answered = answered};
	return connections_serve(&worker->connections, transport, &client, tag);
}

static int client_taken(struct ferry_handoff *handoff, const struct connection_tag *tag,
                        void *context)
{
	struct worker *worker = context;
	struct client_address address = client_of(handoff);
	log_claim(worker, handoff, &address);
	return serve_client(worker, handoff, &address, false, tag);
}

/* The proxy has gone in the middle of a return. */
static void client_kept(struct ferry_handoff *handoff, const struct connection_tag *tag,
                        void *context)
{
	struct worker *worker = context;
	struct client_address address = client_of(handoff);
	int status = serve_client(worker, handoff, &address, true, tag);
	if (status < 0)
		program_log("a client was dropped: %s", strerror(-status));
	ferry_handoff_free(handoff);
}

static void recalled(unsigned long channel, const struct timeval *spread, void *context)
{
	struct worker *worker = context;
	connections_recall(&worker->connections, channel, spread);
}

/* After the first signal the worker finishes the answers that have begun, and closes idle connections;
 * the second one ends it at once. */
static void end_requested(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct worker *worker = context;
	if (worker->terminated) {
		event_base_loopbreak(worker->connections.base);
		return;
	}
	worker->terminated = true;
	channels_drain(worker->channels);
	connections_close_idle(&worker->connections);
	end_if_done(worker);
}

/* The logs were renamed. */
static void reopen_logs(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct worker *worker = context;
	struct access_log *access = worker->connections.access_log;
	int status = access != NULL ? access_log_reopen(access) : 0;
	if (status < 0)
		program_log("%s: %s", access->path, strerror(-status));
	if (worker->claim_log >= 0)
		program_reopen(&worker->claim_log, worker->claim_path);
}

static void credits_scarce(bool scarce, void *context)
{
	struct worker *worker = context;
	connections_set_scarce(&worker->connections, scarce);
}

static int run_worker(struct worker *worker, const struct channels_options *options)
{
	static const struct channels_callbacks callbacks = {.taken = client_taken,
	                                                    .recalled = recalled,
	                                                    .kept = client_kept,
	                                                    .scarce = credits_scarce,
	                                                    .changed = channels_changed};
	struct event_base *base = worker->connections.base;
	struct program_signals signals = {0};
	/* Before the channel: a proxy signals a worker that is ready. */
	struct event *user1 = evsignal_new(base, SIGUSR1, reopen_logs, worker);
	int status = user1 != NULL && event_add(user1, NULL) == 0 ? 0 : -ENOMEM;
	if (status == 0)
		status = channels_new(&worker->channels, base, options, &callbacks, worker);
	if (status < 0)
		program_log("no channel to a proxy: %s", strerror(-status));
	if (status == 0)
		status = program_signals_init_callback(&signals, base, end_requested, worker);
	if (status == 0)
		status = event_base_dispatch(base);
	if (user1 != NULL)
		event_free(user1);
	program_signals_free(&signals);
	channels_free(worker->channels);
	connections_close_all(&worker->connections);
	/* Freed transports, and the files in their streams, are finalised in the loop. */
	for (int turn = 0; turn < 4; turn++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_loop(struct worker *worker, const struct channels_options *options)
{
	struct connections *connections = &worker->connections;
	int result = EXIT_FAILURE;
	connections->base = event_base_new();
	connections->answer = evbuffer_new();
	if (connections->base != NULL && connections->answer != NULL)
		result = run_worker(worker, options);
	else
		program_log("no event loop");
	if (connections->answer != NULL)
		evbuffer_free(connections->answer);
	if (connections->base != NULL)
		event_base_free(connections->base);
	return result;
}

static const char usage[] =
    "usage: ferry-worker [--socket PATH] [--root DIR] [options]\n"
    "Serves the files below a directory to the clients that ferry-proxy hands over.\n"
    "\n"
    "  --socket PATH           the unix socket of a proxy; retries until it can connect. Without "
    "it,\n"
    "                          a proxy has to start the worker\n"
    "  --root DIR              the directory to serve (the current one)\n"
    "  --idle-timeout SECONDS  end a connection after this time without a byte (30)\n"
    "  --head-timeout SECONDS  answer 408 when a request's head takes longer (10)\n"
    "  --head-size BYTES       answer 431 or 414 to a longer request head (8192)\n"
    "  --head-fields N         answer 431 to one with more header fields (100)\n"
    "  --keep SECONDS          return a connection that is idle for this time to the proxy, which\n"
    "                          may then give it to another worker (1); 0: after each answer\n"
    "  --access-log FILE       append a line for each answer\n"
    "  --claim-log FILE        append a line for each client that the worker claims\n"
    "  --counters FD           the inherited memory in which the proxy counts answers\n"
    "  --fill PATH             in this file below the root, {{worker.pid}} and other names stand "
    "for\n"
    "                          the way of the request; up to four times\n"
    "  --help                  show this\n"
    "  --version               show the version\n"
    "\n"
    "SIGUSR1: the worker opens its logs anew. SIGTERM and SIGINT: it finishes the answers that\n"
    "have begun, and ends. A second signal ends it at once. When the proxy drains a worker "
    "without\n"
    "--socket, or has ended, the worker serves its clients with \"Connection: close\" in every\n"
    "answer, and ends with the last of them.\n"
    "\n"
    "Exit status: 0 ended as requested, 1 failed, 2 wrong usage.\n";

struct options {
	struct channels_options channels;
	const char *root;
	const char *access_log;
	const char *claim_log;
	struct filled_pages filled;
	int counters; /* or -1 */
};

static bool read_seconds(const char *name, const char *text, unsigned long least,
                         struct timeval *timeout)
{
	unsigned long seconds;
	if (!program_number(text, 86400, &seconds) || seconds < least) {
		program_log("--%s takes seconds, %lu to 86400, not '%s'", name, least, text);
		return false;
	}
	timeout->tv_sec = (time_t)seconds;
	return true;
}

static bool read_limit(const char *name, const char *text, unsigned long most, size_t *limit)
{
	unsigned long number;
	if (!program_number(text, most, &number) || number == 0) {
		program_log("--%s takes a number, 1 to %lu, not '%s'", name, most, text);
		return false;
	}
	*limit = number;
	return true;
}

static bool read_descriptor(const char *name, const char *text, int *fd)
{
	unsigned long number;
	if (!program_number(text, 1048576, &number) || fcntl((int)number, F_GETFD) < 0) {
		program_log("--%s takes an open descriptor, not '%s'", name, text);
		return false;
	}
	*fd = (int)number;
	return true;
}

/* False: the option is wrong, and a message has been printed. */
static bool read_option(int option, struct worker *worker, struct options *options)
{
	switch (option) {
	case 'm':
		return read_descriptor("counters", optarg, &options->counters);
	case 's':
		options->channels.socket_path = optarg;
		return true;
	case 'r':
		options->root = optarg;
		return true;
	case 'i':
		return read_seconds("idle-timeout", optarg, 1, &worker->connections.idle_timeout);
	case 't':
		return read_seconds("head-timeout", optarg, 1, &worker->connections.head_timeout);
	case 'k':
		return read_seconds("keep", optarg, 0, &worker->connections.keep);
	case 'z':
		return read_limit("head-size", optarg, HTTP_HEAD_LIMIT_MAX, &worker->connections.head_size);
	case 'n':
		return read_limit("head-fields", optarg, HTTP_HEAD_FIELDS_MAX,
		                  &worker->connections.head_fields);
	case 'a':
		options->access_log = optarg;
		return true;
	case 'l':
		options->claim_log = optarg;
		return true;
	case 'f':
		if (options->filled.count == FILLED_PAGES) {
			program_log("--fill is given more than %d times", FILLED_PAGES);
			return false;
		}
		options->filled.paths[options->filled.count++] = optarg;
		return true;
	default:
		return false;
	}
}

/* 0: run the worker. 2: wrong usage, a message has been printed. -1: --help or --version was answered. */
static int read_worker_options(int argc, char **argv, struct worker *worker,
                               struct options *options)
{
	static const struct option table[] = {{"socket", required_argument, NULL, 's'},
	                                      {"root", required_argument, NULL, 'r'},
	                                      {"idle-timeout", required_argument, NULL, 'i'},
	                                      {"head-timeout", required_argument, NULL, 't'},
	                                      {"keep", required_argument, NULL, 'k'},
	                                      {"head-size", required_argument, NULL, 'z'},
	                                      {"head-fields", required_argument, NULL, 'n'},
	                                      {"access-log", required_argument, NULL, 'a'},
	                                      {"claim-log", required_argument, NULL, 'l'},
	                                      {"counters", required_argument, NULL, 'm'},
	                                      {"fill", required_argument, NULL, 'f'},
	                                      {"help", no_argument, NULL, 'h'},
	                                      {"version", no_argument, NULL, 'v'},
	                                      {NULL, 0, NULL, 0}};
	int option;
	bool fine = true;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return -1;
		}
		if (option == 'v') {
			program_print_version("ferry-worker");
			return -1;
		}
		fine = read_option(option, worker, options) && fine;
	}
	if (optind < argc) {
		program_log("'%s' is one argument too many", argv[optind]);
		fine = false;
	}
	if (options->channels.socket_path == NULL && getenv("FERRY_WORKER") == NULL) {
		program_log("--socket is missing; see --help");
		fine = false;
	}
	return fine ? 0 : 2;
}

static int open_root(const char *path)
{
	int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0) {
		program_log("%s: %s", path, strerror(errno));
		return -1;
	}
	/* Fail now if the kernel has no openat2(2), which keeps look-ups below the root. Sandboxes that do not know
	 * the call fail it with EPERM, which the call itself does not for a directory. */
	struct static_file file;
	int status = static_file_open(root, ".", &file);
	if (status != -EISDIR) {
		bool absent = status == -ENOSYS || status == -EPERM;
		program_log("%s: %s%s", path,
		            absent ? "openat2(2), of Linux 5.6, is missing or forbidden: " : "",
		            strerror(-status));
		close(root);
		return -1;
	}
	return root;
}

/* A proxy of another version has other counters: the worker serves without. */
static void open_counters(struct worker *worker, int fd)
{
	if (fd < 0)
		return;
	int status = answer_counters_map(&worker->connections.counters, fd);
	if (status < 0)
		program_log("--counters %d: %s", fd, strerror(-status));
	close(fd);
}

static void open_extras(struct worker *worker, const struct options *options)
{
	if (options->filled.count > 0)
		worker->connections.filled = &options->filled;
	open_counters(worker, options->counters);
}

static bool open_logs(struct worker *worker, const struct options *options,
                      struct access_log *access)
{
	if (options->access_log != NULL) {
		int status = access_log_open(access, options->access_log);
		if (status < 0) {
			program_log("%s: %s", options->access_log, strerror(-status));
			return false;
		}
		worker->connections.access_log = access;
	}
	worker->claim_path = options->claim_log;
	return options->claim_log == NULL || program_reopen(&worker->claim_log, options->claim_log);
}

/* A client needs two descriptors: its socket, and the file in its stream. Under a small limit half of the descriptors
 * are spare. */
static unsigned int credits_of(unsigned long fds)
{
	unsigned long many = fds > SPARE_FDS ? (fds - SPARE_FDS) / 2 : 0;
	unsigned long few = fds > 20 ? fds / 4 - 4 : 1;
	return (unsigned int)(many > few ? many : few);
}

int main(int argc, char **argv)
{
	static struct worker worker = {.connections = {.idle_timeout = {.tv_sec = 30},
	                                               .head_timeout = {.tv_sec = 10},
	                                               .linger_timeout = {.tv_sec = 2},
	                                               .keep = {.tv_sec = 1},
	                                               .head_size = HTTP_HEAD_LIMIT,
	                                               .head_fields = HTTP_HEAD_FIELDS,
	                                               .root = -1,
	                                               .proxy_of = proxy_of,
	                                               .can_return = can_return,
	                                               .give_back = give_back,
	                                               .ended = client_ended},
	                               .claim_log = -1};
	static struct options options = {.root = ".", .counters = -1};
	static struct access_log access = {.fd = -1};
	int status = read_worker_options(argc, argv, &worker, &options);
	if (status != 0)
		return status < 0 ? EXIT_SUCCESS : status;
	/* The standard error may be a pipe of the proxy's, which is killed. */
	signal(SIGPIPE, SIG_IGN);
	status = EXIT_FAILURE;
	open_extras(&worker, &options);
	worker.connections.root = open_root(options.root);
	if (worker.connections.root >= 0 && open_logs(&worker, &options, &access)) {
		unsigned long fds = program_raise_descriptor_limit();
		options.channels.credits = credits_of(fds);
		program_print_ferry_log();
		status = run_loop(&worker, &options.channels);
	}
	access_log_close(&access);
	if (worker.claim_log >= 0)
		close(worker.claim_log);
	answer_counters_free(worker.connections.counters);
	if (worker.connections.root >= 0)
		close(worker.connections.root);
	return status;
}
