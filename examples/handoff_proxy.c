/* A front door: accepts TCP clients, reads each one's request head, and hands the open connection,
 * with all bytes that were read of it, to a worker process over a unix socket. From then on no byte
 * of that client passes through here. */

#include "program.h"
#include "proxy_clients.h"
#include "proxy_workers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

/* Descriptors that are left for other things than clients: the workers' channels first of all. */
static const unsigned long spare_fds = 64;

struct options {
	const char *socket_path;
	const char *address;
	unsigned long port;
	unsigned long head_timeout;
};

static const char usage[] =
    "usage: handoff_proxy --socket PATH [options]\n"
    "Hands the clients of a TCP port over to the workers that connect to a unix socket.\n"
    "\n"
    "  --socket PATH           the unix socket for handoff_worker; must not exist yet\n"
    "  --address ADDRESS       the IPv4 or IPv6 address to listen on (127.0.0.1)\n"
    "  --port PORT             the TCP port; 0 picks a free one (8080)\n"
    "  --head-timeout SECONDS  answer 408 when a request's head takes longer (10)\n"
    "  --help                  show this\n"
    "\n"
    "Prints \"listening ADDRESS:PORT\" once it does. Ends on SIGINT and SIGTERM.\n";

static bool number_option(const char *name, unsigned long min, unsigned long max,
                          unsigned long *number)
{
	if (program_number(optarg, max, number) && *number >= min)
		return true;
	program_say("--%s takes a number, %lu to %lu, not '%s'", name, min, max, optarg);
	return false;
}

/* 0 to go on, else the status to exit with after printing what is wrong; -1: after --help. */
static int read_options(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
	    {"socket", required_argument, NULL, 's'}, {"address", required_argument, NULL, 'a'},
	    {"port", required_argument, NULL, 'p'},   {"head-timeout", required_argument, NULL, 't'},
	    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
	int option;
	bool fine = true;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case 's':
			options->socket_path = optarg;
			break;
		case 'a':
			options->address = optarg;
			break;
		case 'p':
			fine = number_option("port", 0, 65535, &options->port) && fine;
			break;
		case 't':
			fine = number_option("head-timeout", 1, 86400, &options->head_timeout) && fine;
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
	if (fine && options->socket_path == NULL) {
		program_say("--socket is missing; see --help");
		fine = false;
	}
	return fine ? 0 : 2;
}

static bool read_address(const struct options *options, struct proxy_clients_options *clients)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&clients->address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&clients->address;
	if (inet_pton(AF_INET, options->address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)options->port);
		clients->address_length = sizeof(*in);
		return true;
	}
	if (inet_pton(AF_INET6, options->address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)options->port);
		clients->address_length = sizeof(*in6);
		return true;
	}
	program_say("--address takes an IPv4 or IPv6 address, not '%s'", options->address);
	return false;
}

static int say_where(const struct proxy_clients *clients)
{
	char name[INET6_ADDRSTRLEN + 16];
	int status = proxy_clients_name(clients, name, sizeof(name));
	if (status < 0)
		return status;
	printf("listening %s\n", name);
	fflush(stdout);
	return 0;
}

static int serve(struct event_base *base, const struct options *options,
                 const struct proxy_clients_options *client_options)
{
	struct proxy_workers *workers = NULL;
	struct proxy_clients *clients = NULL;
	int result = EXIT_FAILURE;
	int status = proxy_workers_new(&workers, base, options->socket_path);
	if (status < 0) {
		program_say("%s: %s", options->socket_path, strerror(-status));
		return EXIT_FAILURE;
	}
	status = proxy_clients_new(&clients, base, workers, client_options);
	if (status == 0)
		status = say_where(clients);
	if (status < 0)
		program_say("%s port %lu: %s", options->address, options->port, strerror(-status));
	else if (event_base_dispatch(base) == 0)
		result = EXIT_SUCCESS;
	proxy_clients_free(clients);
	proxy_workers_free(workers);
	return result;
}

static int run(const struct options *options, const struct proxy_clients_options *client_options)
{
	struct event_base *base = event_base_new();
	if (base == NULL) {
		program_say("no event loop");
		return EXIT_FAILURE;
	}
	struct program_signals signals = {0};
	int result = EXIT_FAILURE;
	if (program_signals_init(&signals, base) == 0)
		result = serve(base, options, client_options);
	program_signals_free(&signals);
	/* Freed bufferevents end in the loop. */
	for (int turn = 0; turn < 4; turn++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
	return result;
}

int main(int argc, char **argv)
{
	struct options options = {.address = "127.0.0.1", .port = 8080, .head_timeout = 10};
	struct proxy_clients_options clients = {0};
	int status = read_options(argc, argv, &options);
	if (status != 0)
		return status < 0 ? EXIT_SUCCESS : status;
	if (!read_address(&options, &clients))
		return 2;
	clients.head_timeout.tv_sec = (time_t)options.head_timeout;
	unsigned long fds = program_raise_descriptor_limit();
	clients.most_clients = fds > 2 * spare_fds ? fds - spare_fds : fds / 2;

	/* Clients are on stock bufferevents, whose writes raise it. */
	signal(SIGPIPE, SIG_IGN);
	program_print_ferry_log();
	return run(&options, &clients);
}
