/* ferry-worker serves static files. It does not listen: ferry-proxy hands it open connections over a unix
 * socket, with the bytes that the proxy has read from them. */

#include "programs/ferry-worker/connections.h"
#include "programs/ferry-worker/filled_page.h"
#include "programs/ferry-worker/static_file.h"
#include "programs/ferry-worker/stream.h"
#include "programs/http/head.h"
#include "programs/shared/access_log.h"
#include "programs/shared/answer_counters.h"
#include "programs/shared/client_address.h"
#include "programs/shared/program.h"
#include "programs/shared/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

#ifdef FERRY_WORKER_HAS_TLS
#include "programs/ferry-worker/tls_context.h"
#include "programs/ferry-worker/tls_stream.h"
#endif

/* Descriptors for other purposes than clients; more than one message can bring. */
enum { SPARE_FDS = 320 };

struct worker {
	struct connections connections;
	struct ferry_worker_client *client;
	const char *socket_path; /* of a proxy; NULL: the proxy has started this worker */
	unsigned int credits;
	const char *root_path;
	struct filled_pages filled;
	unsigned int counters_fd; /* 0: none */
	const char *access_path;  /* NULL: none */
	struct access_log access_log;
	const char *claim_path; /* NULL: none */
	int claim_log;
	bool terminated;
	bool check;                  /* --check: start nothing */
	const char *tls_certificate; /* NULL: no TLS */
	const char *tls_key;
	struct tls_context *tls;
};

enum { TLS_HANDSHAKE_BYTE = 22 };

/* Ends the worker when it has no clients, gets no more, and no proxy waits for the end of one. */
static void end_if_done(struct worker *worker)
{
	enum ferry_worker_client_state state = ferry_worker_client_get_state(worker->client);
	if (state != FERRY_WORKER_CLIENT_RUNNING)
		worker->connections.draining = true;
	if (state == FERRY_WORKER_CLIENT_OVER && worker->connections.count == 0)
		event_base_loopbreak(worker->connections.base);
}

static void report_end(const struct connection_tag *tag)
{
	int status = tag->worker != NULL ? ferry_worker_done_later(tag->worker, tag->id) : 0;
	if (status < 0 && status != -ENOTCONN)
		program_log("a proxy gets no answer for a client that has ended: %s", strerror(-status));
}

static void client_ended(struct connections *connections, const struct connection_tag *tag)
{
	report_end(tag);
	end_if_done((struct worker *)connections); /* its first member */
}

/* Sets the addresses of the client: those of the blob, which may come from a load balancer, else those of the
 * socket. False: those of the socket. */
static bool set_client(struct client_address *address, const struct ferry_handoff *handoff)
{
	size_t length;
	const void *blob = ferry_handoff_get_blob(handoff, &length);
	if (client_address_get(address, blob, length) == 0)
		return true;
	*address = (struct client_address){.proxied = false};
	client_address_of_socket(address, ferry_handoff_get_fd(handoff));
	return false;
}

/* A line is one write(2): lines of several workers do not mix, and a worker that is killed leaves no
 * half line. */
static void log_claim(const struct worker *worker, const struct ferry_handoff *handoff,
                      unsigned int attempt)
{
	struct client_address address;
	char client[FERRY_ADDRESS_TEXT_SIZE], line[sizeof(client) + 64];
	if (worker->claim_log < 0)
		return;
	(void)set_client(&address, handoff);
	ferry_address_format(&address.client, client, sizeof(client));
	int length = snprintf(line, sizeof(line), "claim %ld %u %s\n", (long)getpid(), attempt, client);
	if (write(worker->claim_log, line, (size_t)length) != length)
		program_log("the claim log: %s", strerror(errno));
}

/* A TLS client begins with that byte, and no request does. */
static bool is_tls(const struct ferry_handoff *handoff)
{
	size_t length;
	const unsigned char *bytes = ferry_handoff_get_bytes(handoff, &length);
	return length > 0 && bytes[0] == TLS_HANDSHAKE_BYTE;
}

#ifdef FERRY_WORKER_HAS_TLS
static int open_tls(struct worker *worker, struct stream *stream, struct ferry_handoff *handoff,
                    const struct client_address *address)
{
	char name[FERRY_ADDRESS_TEXT_SIZE];
	ferry_address_format(&address->client, name, sizeof(name));
	struct tls_client client = {.context = worker->tls,
	                            .name = name,
	                            .handshake_timeout = worker->connections.head_timeout,
	                            .counters = worker->connections.counters};
	if (worker->tls == NULL) {
		program_log("%s: a TLS client, and there is no --tls-certificate", name);
		return -EPROTONOSUPPORT;
	}
	client.bytes = ferry_handoff_get_bytes(handoff, &client.length);
	client.fd = ferry_handoff_steal_fd(handoff);
	if (client.fd < 0)
		return client.fd;
	return tls_stream_new(&stream->tls, worker->connections.base, &client);
}

/* SIGHUP */
static void reload_tls(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct worker *worker = context;
	tls_context_reload(worker->tls);
}

static bool start_tls(struct worker *worker)
{
	return worker->tls_certificate == NULL ||
	       tls_context_new(&worker->tls, worker->tls_certificate, worker->tls_key) == 0;
}

static void end_tls(struct worker *worker)
{
	tls_context_free(worker->tls);
}
#else
static int open_tls(struct worker *worker, struct stream *stream, struct ferry_handoff *handoff,
                    const struct client_address *address)
{
	char name[FERRY_ADDRESS_TEXT_SIZE];
	(void)worker, (void)stream, (void)handoff;
	ferry_address_format(&address->client, name, sizeof(name));
	program_log("%s: a TLS client, and this ferry-worker is built without OpenSSL", name);
	return -EPROTONOSUPPORT;
}

static bool start_tls(struct worker *worker)
{
	(void)worker;
	return true;
}

static void end_tls(struct worker *worker)
{
	(void)worker;
}
#endif

static int serve_client(struct worker *worker, struct ferry_handoff *handoff, unsigned int attempt,
                        bool answered, const struct connection_tag *tag)
{
	struct client_address address;
	struct stream stream = {.transport = NULL};
	struct connection_client client = {.attempt = attempt, .answered = answered};
	unsigned char blob[CLIENT_ADDRESS_MAX];
	if (set_client(&address, handoff)) {
		client.blob = ferry_handoff_get_blob(handoff, &client.blob_length);
	} else {
		client.blob = blob;
		client.blob_length = client_address_put(&address, blob);
	}
	client.routes_each = address.routes_each;
	if (!is_tls(handoff))
		return connections_serve_handoff(&worker->connections, handoff, &client, tag);
	int status = open_tls(worker, &stream, handoff, &address);
	return status < 0 ? status : connections_serve(&worker->connections, &stream, &client, tag);
}

/* ---- the callbacks of the channels ---- */

static void handoff_received(struct ferry_worker *channel, struct ferry_handoff *handoff,
                             void *context)
{
	struct worker *worker = context;
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	struct connection_tag tag = {.worker = channel, .id = info.id};
	log_claim(worker, handoff, info.attempt);
	int status = serve_client(worker, handoff, info.attempt, false, &tag);
	if (status < 0) {
		program_log("a client was dropped: %s", strerror(-status));
		report_end(&tag);
	}
}

/* The proxy has gone in the middle of a return. */
static void return_failed(struct ferry_worker *channel, uint64_t id, struct ferry_handoff *handoff,
                          void *context)
{
	struct worker *worker = context;
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	struct connection_tag tag = {.worker = channel, .id = id};
	int status = serve_client(worker, handoff, info.attempt, true, &tag);
	if (status < 0)
		program_log("a client was dropped: %s", strerror(-status));
	ferry_handoff_free(handoff);
}

static void recall_requested(struct ferry_worker *channel, const struct timeval *spread,
                             void *context)
{
	struct worker *worker = context;
	connections_recall(&worker->connections, channel, spread);
}

static void credits_scarce(struct ferry_worker *channel, bool scarce, void *context)
{
	(void)channel;
	struct worker *worker = context;
	connections_set_scarce(&worker->connections, scarce);
}

static void drain_requested(struct ferry_worker *channel, void *context)
{
	(void)channel;
	end_if_done(context);
}

static void dispatcher_lost(struct ferry_worker *channel, int reason, void *context)
{
	struct worker *worker = context;
	/* By closing the inherited channel a proxy dismisses a worker that it has started. */
	bool dismissed = reason == 0 && worker->socket_path == NULL;
	if (!ferry_worker_is_drained(channel) && !dismissed)
		program_log("the proxy is disconnected%s%s", reason != 0 ? ": " : "",
		            reason != 0 ? strerror(-reason) : "");
	connections_leave_channel(&worker->connections, channel);
	end_if_done(worker);
}

static void connect_failed(struct ferry_worker_client *client, const char *path, int reason,
                           void *context)
{
	(void)client, (void)context;
	program_log("no proxy at %s yet: %s", path, strerror(-reason));
}

static int open_channels(struct worker *worker)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .drain_requested = drain_requested,
	                                                        .recall_requested = recall_requested,
	                                                        .return_failed = return_failed,
	                                                        .credits_scarce = credits_scarce,
	                                                        .dispatcher_lost = dispatcher_lost};
	int status =
	    ferry_worker_client_new(&worker->client, worker->connections.base, &callbacks, worker);
	if (status < 0)
		return status;
	ferry_worker_client_set_credits(worker->client, worker->credits);
	ferry_worker_client_set_failed_cb(worker->client, connect_failed, worker);
	if (worker->socket_path == NULL)
		return ferry_worker_client_add_from_environment(worker->client);
	return ferry_worker_client_add_unix(worker->client, worker->socket_path);
}

/* ---- the loop ---- */

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
	ferry_worker_client_drain(worker->client);
	connections_close_idle(&worker->connections);
	end_if_done(worker);
}

/* The logs were renamed. */
static void reopen_logs(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct worker *worker = context;
	program_reopen(&worker->access_log.fd, worker->access_path);
	program_reopen(&worker->claim_log, worker->claim_path);
}

static int run_worker(struct worker *worker)
{
	struct event_base *base = worker->connections.base;
	struct program_signals signals = {0};
	/* Before the channel: a proxy signals a worker that is ready. */
	int status = program_signals_add(&signals, base, SIGUSR1, reopen_logs, worker);
	if (status == 0)
		status = open_channels(worker);
#ifdef FERRY_WORKER_HAS_TLS
	if (status == 0 && worker->tls != NULL)
		status = program_signals_add(&signals, base, SIGHUP, reload_tls, worker);
#endif
	if (status < 0)
		program_log("no channel to a proxy: %s", strerror(-status));
	if (status == 0)
		status = program_signals_add(&signals, base, SIGINT, end_requested, worker);
	if (status == 0)
		status = program_signals_add(&signals, base, SIGTERM, end_requested, worker);
	if (status == 0)
		status = event_base_dispatch(base);
	program_signals_free(&signals);
	ferry_worker_client_free(worker->client);
	connections_close_all(&worker->connections);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_loop(struct worker *worker)
{
	struct connections *connections = &worker->connections;
	int result = EXIT_FAILURE;
	connections->base = event_base_new();
	connections->answer = evbuffer_new();
	if (connections->base != NULL && connections->answer != NULL)
		result = run_worker(worker);
	else
		program_log("no event loop");
	if (connections->base != NULL)
		program_free_base(connections->base);
	if (connections->answer != NULL)
		evbuffer_free(connections->answer);
	free(connections->spare);
	return result;
}

/* ---- the command line ---- */

static bool add_filled_page(struct settings_reader *reader, const char *path)
{
	struct filled_pages *filled = &((struct worker *)reader->target)->filled;
	if (filled->count == FILLED_PAGES)
		return settings_refuse(reader, "is given more than %d times", FILLED_PAGES);
	filled->paths[filled->count++] = path;
	return true;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): these are initialisers */
#define OPTION .is = SETTING_OPTION | SETTING_REPEATED /* the last one counts */
#define AT(name) .member = offsetof(struct worker, name)
#define TEXT(shown, name) OPTION, .kind = SETTING_TEXT, .argument = shown, AT(name)
#define SECONDS(from, name)                                                               \
	OPTION, .kind = SETTING_SECONDS, .argument = "SECONDS", .least = from, .most = 86400, \
	        AT(connections.name)
#define LIMIT(shown, to, name) \
	OPTION, .kind = SETTING_NUMBER, .argument = shown, .least = 1, .most = to, AT(connections.name)
/* NOLINTEND(bugprone-macro-parentheses) */

static const struct setting table[] = {
    {"socket", TEXT("PATH", socket_path),
     .help = "the unix socket of a proxy; retries until it can connect. Without it,\na proxy has "
             "to start the worker"},
    {"check", OPTION, SETTING_FLAG, AT(check),
     .help = "check the options, the directory, the certificate and the key, and exit"},
    {"root", TEXT("DIR", root_path), .help = "the directory to serve (the current one)"},
    {"idle-timeout", SECONDS(1, idle_timeout),
     .help = "end a connection after this time without a byte (30)"},
    {"head-timeout", SECONDS(1, head_timeout),
     .help = "answer 408 when a request's head takes longer (10)"},
    {"head-size", LIMIT("BYTES", HTTP_HEAD_LIMIT_MAX, head_size),
     .help = "answer 431 or 414 to a longer request head (8192)"},
    {"head-fields", LIMIT("N", HTTP_HEAD_FIELDS_MAX, head_fields),
     .help = "answer 431 to one with more header fields (100)"},
    {"keep", SECONDS(0, keep),
     .help = "return a connection that is idle for this time to the proxy, which\nmay then give it "
             "to another worker (1); 0: after each answer"},
    {"tls-certificate", TEXT("FILE", tls_certificate),
     .help = "serve TLS clients with the certificates in this file, the own one first;\nSIGHUP "
             "reads it anew"},
    {"tls-key", TEXT("FILE", tls_key), .help = "the key of that certificate"},
    {"access-log", TEXT("FILE", access_path), .help = "append a line for each answer"},
    {"claim-log", TEXT("FILE", claim_path),
     .help = "append a line for each client that the worker claims"},
    {"counters", OPTION, SETTING_NUMBER, "FD", AT(counters_fd), .least = 1, .most = INT_MAX,
     .help = "the inherited memory in which the proxy counts answers"},
    {"fill", OPTION, SETTING_WORD, "PATH", .check = add_filled_page,
     .help = "in this file below the root, {{worker.pid}} and other names stand for\nthe way of "
             "the request; up to four times"},
};

static const struct settings settings = {
    .program = "ferry-worker",
    .synopsis = "usage: ferry-worker [--socket PATH] [--root DIR] [options]\n"
                "Serves the files below a directory to the clients that ferry-proxy hands over.\n",
    .notes =
        "SIGUSR1: the worker opens its logs anew. SIGHUP: with --tls-certificate, it reads the\n"
        "certificate and the key anew. SIGTERM and SIGINT: it finishes the answers "
        "that\n"
        "have begun, and ends. A second signal ends it at once. When the proxy drains a worker "
        "without\n"
        "--socket, or has ended, the worker serves its clients with \"Connection: close\" in "
        "every\n"
        "answer, and ends with the last of them.\n"
        "\n"
        "Exit status: 0 ended as requested, 1 failed, 2 wrong usage.\n",
    .all = table,
    .count = sizeof(table) / sizeof(table[0]),
};

static bool check_tls(struct settings_reader *reader)
{
	const struct worker *worker = reader->target;
	if ((worker->tls_certificate == NULL) != (worker->tls_key == NULL))
		return settings_refuse(reader, "--tls-certificate and --tls-key need each other");
#ifdef FERRY_WORKER_HAS_TLS
	return true;
#else
	return worker->tls_key == NULL ||
	       settings_refuse(reader, "--tls-certificate: this ferry-worker is built without OpenSSL");
#endif
}

static enum settings_result read_arguments(struct worker *worker, int argc, char **argv)
{
	char error[SETTINGS_ERROR_SIZE] = "";
	struct settings_reader reader = {.settings = &settings, .target = worker, .error = error};
	enum settings_result result = settings_read_options(&reader, argc, argv);
	if (result == SETTINGS_READ && !worker->check && worker->socket_path == NULL &&
	    getenv("FERRY_WORKER") == NULL) {
		settings_refuse(&reader, "--socket is missing; see --help");
		result = SETTINGS_BAD;
	}
	if (result == SETTINGS_READ && !check_tls(&reader))
		result = SETTINGS_BAD;
	if (result == SETTINGS_BAD)
		program_log("%s", error);
	return result;
}

/* ---- the start ---- */

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
static void open_counters(struct worker *worker)
{
	int fd = (int)worker->counters_fd;
	if (fd == 0)
		return;
	int status = answer_counters_map(&worker->connections.counters, fd);
	if (status < 0)
		program_log("--counters %d: %s", fd, strerror(-status));
	close(fd);
}

static bool open_logs(struct worker *worker)
{
	if (worker->access_path != NULL)
		worker->connections.access_log = &worker->access_log;
	return program_reopen(&worker->access_log.fd, worker->access_path) &&
	       program_reopen(&worker->claim_log, worker->claim_path);
}

/* A client needs two descriptors: its socket, and the file in its stream. Under a small limit half of the descriptors
 * are spare. */
static unsigned int credits_of(unsigned long fds)
{
	unsigned long many = fds > SPARE_FDS ? (fds - SPARE_FDS) / 2 : 0;
	unsigned long few = fds > 20 ? fds / 4 - 4 : 1;
	return (unsigned int)(many > few ? many : few);
}

static int serve_or_check(struct worker *worker)
{
	if (worker->connections.root < 0 || !start_tls(worker))
		return EXIT_FAILURE;
	if (worker->check) {
		puts("the options are valid");
		return EXIT_SUCCESS;
	}
	if (!open_logs(worker))
		return EXIT_FAILURE;
	worker->credits = credits_of(program_raise_descriptor_limit());
	program_print_ferry_log();
	return run_loop(worker);
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
	                                               .ended = client_ended},
	                               .root_path = ".",
	                               .access_log.fd = -1,
	                               .claim_log = -1};
	enum settings_result read = read_arguments(&worker, argc, argv);
	if (read != SETTINGS_READ)
		return read == SETTINGS_BAD ? 2 : EXIT_SUCCESS;
	/* The standard error may be a pipe of the proxy's, which is killed. */
	signal(SIGPIPE, SIG_IGN);
	open_counters(&worker);
	worker.connections.filled = worker.filled.count > 0 ? &worker.filled : NULL;
	worker.connections.root = open_root(worker.root_path);
	int status = serve_or_check(&worker);
	if (worker.access_log.fd >= 0)
		close(worker.access_log.fd);
	if (worker.claim_log >= 0)
		close(worker.claim_log);
	answer_counters_free(worker.connections.counters);
	end_tls(&worker);
	if (worker.connections.root >= 0)
		close(worker.connections.root);
	return status;
}
