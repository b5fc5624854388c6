#include "programs/ferry-proxy/conf_options.h"

#include "programs/ferry-proxy/conf_directives.h"
#include "programs/ferry-proxy/conf_file.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

const char conf_usage[] =
    "usage: ferry-proxy --config FILE [options] [-- options of the workers]\n"
    "       ferry-proxy --root DIRECTORY [--workers N] [options] [-- options of the workers]\n"
    "       ferry-proxy --socket PATH [options]\n"
    "Accepts HTTP clients, reads the head of each one's first request, and hands the open "
    "connection\n"
    "to a worker process: one that the proxy starts, or one that connects to a unix socket.\n"
    "\n"
    "  --config FILE            read this file; an option replaces the directive of its name\n"
    "  --check                  check the file and the options, and exit\n"
    "  --help                   show this\n"
    "  --version                show the version\n"
    "\n"
    "One service without a file:\n"
    "  --root DIRECTORY         start workers that serve the files in this directory\n"
    "  --workers N              the number of workers to start (2)\n"
    "  --socket PATH            the unix socket for a ferry-worker that you start; no other\n"
    "                           process may listen there\n"
    "\n"
    "Addresses:\n"
    "  --listen 'ADDRESS [proxy-protocol] [from=LIST] [mode=OCTAL] [group=NAME]'\n"
    "                           127.0.0.1:8080, [::1]:8080 or unix:/path; may be repeated; with\n"
    "                           proxy-protocol for a load balancer that sends the PROXY header,\n"
    "                           from the addresses after from=\n"
    "  --address ADDRESS        the same for one IPv4 or IPv6 address (127.0.0.1)\n"
    "  --port PORT              and its port; 0 picks a free one (8080)\n"
    "  --admin ADDRESS          serve /-/status, /-/metrics and /-/healthz there\n"
    "  --demo                   with an --admin on loopback: serve /-/demo, whose button kills a\n"
    "                           worker\n"
    "  --control PATH           the unix socket over which a new proxy takes over\n"
    "  --take-over PATH         take over from the proxy with this --control\n"
    "  --user NAME              become this user once the sockets are open\n"
    "  --group NAME             and this group (that of the user)\n"
    "  --access-log FILE        append a line for each answer, of the workers too\n"
    "  --outcome-log FILE       append a line for the outcome of each handoff\n"
    "\n"
    "Limits:\n"
    "  --max-clients N          clients whose request is being read (the descriptor limit)\n"
    "  --queue N                requests that wait for a worker, for each service (1024)\n"
    "  --queue-timeout MS       answer 503 to a request that waits longer (5000)\n"
    "  --retry-after SECONDS    the Retry-After field of a 503 (1)\n"
    "  --answer-timeout MS      disconnect a worker that does not answer for this time (5000)\n"
    "  --head-timeout SECONDS   answer 408 when a request's head takes longer (10)\n"
    "  --head-size BYTES        answer 431 or 414 to a longer request head (8192)\n"
    "  --head-fields N          answer 431 to one with more header fields (100)\n"
    "  --idle-timeout SECONDS   close a connection without a request for this time (60)\n"
    "  --keep SECONDS           the time that a worker keeps a connection without a request, "
    "before\n"
    "                           the proxy has it and routes its next request (1)\n"
    "  --lame-duck SECONDS      serve on for this time after SIGTERM, with 503 at /-/healthz (0)\n"
    "  --drain-timeout SECONDS  end a worker that is being replaced after this time (60)\n"
    "\n"
    "Prints \"listening ADDRESS\" for each address. SIGHUP replaces the workers, SIGUSR1 opens "
    "the\n"
    "logs anew, SIGUSR2 replaces the proxy itself, SIGINT and SIGTERM end it.\n"
    "\n"
    "Exit status: 0 ended as requested, 1 failed, 2 wrong usage or configuration.\n";

/* Directives have the numbers from FIRST_DIRECTIVE on. */
enum option_number {
	OPTION_CONFIG = DIRECTIVES + 256,
	OPTION_CHECK,
	OPTION_DEMO,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_ROOT,
	OPTION_WORKERS,
	OPTION_SOCKET,
	OPTION_ADDRESS,
	OPTION_PORT,
	OPTION_TAKE_OVER,
	OPTION_OUTCOME_LOG
};

/* getopt_long() uses smaller numbers for its own results. */
enum { FIRST_DIRECTIVE = 256 };

#define DIRECTIVE_OPTION(name, directive)                                 \
	{                                                                     \
		name, required_argument, NULL, FIRST_DIRECTIVE + (int)(directive) \
	}

static const struct option options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"demo", no_argument, NULL, OPTION_DEMO},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"root", required_argument, NULL, OPTION_ROOT},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"address", required_argument, NULL, OPTION_ADDRESS},
    {"port", required_argument, NULL, OPTION_PORT},
    {"take-over", required_argument, NULL, OPTION_TAKE_OVER},
    {"outcome-log", required_argument, NULL, OPTION_OUTCOME_LOG},
    DIRECTIVE_OPTION("listen", DIRECTIVE_LISTEN),
    DIRECTIVE_OPTION("admin", DIRECTIVE_ADMIN),
    DIRECTIVE_OPTION("control", DIRECTIVE_CONTROL),
    DIRECTIVE_OPTION("user", DIRECTIVE_USER),
    DIRECTIVE_OPTION("group", DIRECTIVE_GROUP),
    DIRECTIVE_OPTION("access-log", DIRECTIVE_ACCESS_LOG),
    DIRECTIVE_OPTION("queue", DIRECTIVE_QUEUE),
    DIRECTIVE_OPTION("queue-timeout", DIRECTIVE_QUEUE_TIMEOUT),
    DIRECTIVE_OPTION("answer-timeout", DIRECTIVE_ANSWER_TIMEOUT),
    DIRECTIVE_OPTION("head-timeout", DIRECTIVE_HEAD_TIMEOUT),
    DIRECTIVE_OPTION("idle-timeout", DIRECTIVE_IDLE_TIMEOUT),
    DIRECTIVE_OPTION("keep", DIRECTIVE_KEEP),
    DIRECTIVE_OPTION("drain-timeout", DIRECTIVE_DRAIN_TIMEOUT),
    DIRECTIVE_OPTION("lame-duck", DIRECTIVE_LAME_DUCK),
    DIRECTIVE_OPTION("max-clients", DIRECTIVE_MAX_CLIENTS),
    DIRECTIVE_OPTION("retry-after", DIRECTIVE_RETRY_AFTER),
    DIRECTIVE_OPTION("head-size", DIRECTIVE_HEAD_SIZE),
    DIRECTIVE_OPTION("head-fields", DIRECTIVE_HEAD_FIELDS),
    {NULL, 0, NULL, 0},
};

/* The options that are not directives. */
struct other_options {
	const char *config;
	bool check;
	bool help;
	bool version;
	const char *root;
	const char *workers;
	const char *socket;
	const char *address;
	const char *port;
	const char *take_over;
	const char *outcome_log;
};

static const char *option_name(int number)
{
	const struct option *option = options;
	while (option->name != NULL && option->val != number)
		option++;
	return option->name;
}

static const char **other_option(struct other_options *others, int number)
{
	switch (number) {
	case OPTION_CONFIG:
		return &others->config;
	case OPTION_ROOT:
		return &others->root;
	case OPTION_WORKERS:
		return &others->workers;
	case OPTION_SOCKET:
		return &others->socket;
	case OPTION_ADDRESS:
		return &others->address;
	case OPTION_PORT:
		return &others->port;
	case OPTION_OUTCOME_LOG:
		return &others->outcome_log;
	default:
		return &others->take_over;
	}
}

/* The words of the directive in one argument. */
static bool read_listen(struct conf_reader *reader, const char *argument)
{
	char text[2048];
	char *words[8];
	size_t count = 0;
	if (strlen(argument) >= sizeof(text))
		return conf_reader_refuse(reader, "'%s' is too long", conf_reader_shown(argument));
	(void)snprintf(text, sizeof(text), "%s", argument);
	char *rest = text;
	for (char *word; count < 8 && (word = strsep(&rest, " ")) != NULL;)
		if (word[0] != '\0')
			words[count++] = word;
	return conf_directive_run(reader, DIRECTIVE_LISTEN, words, count);
}

static bool read_directive(struct conf_reader *reader, enum directive directive)
{
	char *words[] = {optarg};
	if (reader->by_option[directive] && directive != DIRECTIVE_LISTEN)
		return conf_reader_refuse(reader, "is given twice");
	reader->by_option[directive] = true;
	return directive == DIRECTIVE_LISTEN ? read_listen(reader, optarg)
	                                     : conf_directive_run(reader, directive, words, 1);
}

static bool read_option(struct conf_reader *reader, struct other_options *others, int number)
{
	char name[32];
	(void)snprintf(name, sizeof(name), "--%s", option_name(number));
	reader->subject = name;
	bool fine = true;
	if (number == OPTION_CHECK) {
		others->check = true;
	} else if (number == OPTION_DEMO) {
		reader->conf->demo = true;
	} else if (number == OPTION_HELP) {
		others->help = true;
	} else if (number == OPTION_VERSION) {
		others->version = true;
	} else if (number >= FIRST_DIRECTIVE && number < FIRST_DIRECTIVE + (int)DIRECTIVES) {
		fine = read_directive(reader, (enum directive)(number - FIRST_DIRECTIVE));
	} else {
		const char **value = other_option(others, number);
		if (*value != NULL)
			fine = conf_reader_refuse(reader, "is given twice");
		*value = optarg;
	}
	reader->subject = NULL;
	return fine;
}

static bool read_proxy_options(struct conf_reader *reader, struct other_options *others, int argc,
                               char **argv)
{
	int number;
	optind = 0; /* glibc: start anew, although arguments were read before */
	opterr = 0;
	while ((number = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (number == '?' && optopt >= FIRST_DIRECTIVE)
			return conf_reader_refuse(reader, "--%s takes no argument", option_name(optopt));
		if (number == '?' && optopt != 0)
			return conf_reader_refuse(reader, "'-%c' is not an option; see --help", optopt);
		if (number == '?')
			return conf_reader_refuse(reader, "'%s' is not an option; see --help",
			                          conf_reader_shown(argv[optind - 1]));
		if (number == ':')
			return conf_reader_refuse(reader, "--%s: an argument is missing", option_name(optopt));
		if (!read_option(reader, others, number))
			return false;
		if (others->help || others->version)
			return true;
	}
	if (optind < argc)
		return conf_reader_refuse(reader, "'%s' is one argument too many; see --help",
		                          conf_reader_shown(argv[optind]));
	return true;
}

/* Listens on --address and --port, or on their defaults. */
static bool add_address(struct conf_reader *reader, const struct other_options *others)
{
	const char *address = others->address != NULL ? others->address : "127.0.0.1";
	unsigned char bytes[16];
	unsigned long port = 8080;
	char text[INET6_ADDRSTRLEN + 16];
	char *words[] = {text};
	reader->subject = "--port";
	if (others->port != NULL && !conf_reader_number(reader, others->port, 0, 65535, &port))
		return false;
	reader->subject = "--address";
	bool inet6 = inet_pton(AF_INET6, address, bytes) == 1;
	if (!inet6 && inet_pton(AF_INET, address, bytes) != 1)
		return conf_reader_refuse(reader, "'%s' is not an IPv4 or IPv6 address",
		                          conf_reader_shown(address));
	(void)snprintf(text, sizeof(text), inet6 ? "[%s]:%lu" : "%s:%lu", address, port);
	reader->subject = NULL;
	reader->by_option[DIRECTIVE_LISTEN] = true;
	return conf_directive_run(reader, DIRECTIVE_LISTEN, words, 1);
}

static bool set_listens(struct conf_reader *reader, const struct other_options *others)
{
	bool has_address = others->address != NULL || others->port != NULL;
	if (has_address && reader->conf->listen_count > 0)
		return conf_reader_refuse(
		    reader, "--listen excludes --address and --port, which are a shorter form of it");
	if (has_address || (others->config == NULL && reader->conf->listen_count == 0))
		return add_address(reader, others);
	return true;
}

static bool add_word(struct conf_reader *reader, const char *key, const char *value, char *out,
                     size_t size, char **words, size_t *count)
{
	if (value == NULL)
		return true;
	if (value[0] == '\0')
		return conf_reader_refuse(reader, "--%s: is empty", key);
	if ((size_t)snprintf(out, size, "%s=%s", key, value) >= size)
		return conf_reader_refuse(reader, "--%s: '%s' is too long", key, conf_reader_shown(value));
	words[(*count)++] = out;
	return true;
}

/* Makes the service "default" of the options. */
static bool set_service(struct conf_reader *reader, const struct other_options *others)
{
	static char name[] = "default";
	char root[CONF_LINE_MAX], workers[32], socket[CONF_LINE_MAX];
	char *words[4] = {name};
	size_t count = 1;
	bool wanted = others->root != NULL || others->workers != NULL || others->socket != NULL;
	if (wanted && reader->conf->service_count > 0)
		return conf_reader_refuse(reader,
		                          "--root, --workers and --socket are for a proxy without a "
		                          "service in its file");
	if (!wanted && others->config != NULL)
		return true;
	if (others->root == NULL && others->socket == NULL)
		return conf_reader_refuse(reader,
		                          "--socket is missing, or --root, or --config; see --help");
	if (others->workers != NULL && others->root == NULL)
		return conf_reader_refuse(reader, "--workers is for workers with a --root");
	unsigned long number;
	reader->subject = "--workers";
	if (others->workers != NULL && !conf_reader_number(reader, others->workers, 1, 1024, &number))
		return false;
	reader->subject = "--root";
	if (others->root != NULL && !conf_reader_directory(reader, others->root))
		return false;
	reader->subject = "--socket";
	if (others->socket != NULL && !conf_reader_socket_path(reader, others->socket))
		return false;
	reader->subject = NULL;
	return add_word(reader, "root", others->root, root, sizeof(root), words, &count) &&
	       add_word(reader, "workers", others->workers, workers, sizeof(workers), words, &count) &&
	       add_word(reader, "socket", others->socket, socket, sizeof(socket), words, &count) &&
	       conf_directive_run(reader, DIRECTIVE_SERVICE, words, count);
}

static bool set_take_over(struct conf_reader *reader, const char *path)
{
	if (path == NULL)
		return true;
	reader->subject = "--take-over";
	bool fine = conf_reader_socket_path(reader, path) &&
	            conf_reader_set(reader, &reader->conf->take_over, path);
	reader->subject = NULL;
	return fine;
}

static bool set_outcome_log(struct conf_reader *reader, const char *path)
{
	return path == NULL || conf_reader_set(reader, &reader->conf->outcome_log, path);
}

static bool check_demo(struct conf_reader *reader)
{
	return !reader->conf->demo || socket_address_is_loopback(&reader->conf->admin) ||
	       conf_reader_refuse(reader, "--demo needs an --admin address on loopback");
}

static bool read_configuration(struct conf_reader *reader, const struct other_options *others)
{
	if (!set_take_over(reader, others->take_over) ||
	    !set_outcome_log(reader, others->outcome_log) || !set_listens(reader, others))
		return false;
	if (others->config != NULL && (!conf_reader_set(reader, &reader->conf->file, others->config) ||
	                               !conf_file_read(reader, others->config)))
		return false;
	reader->file = NULL;
	if (!set_service(reader, others))
		return false;
	if (!check_demo(reader))
		return false;
	reader->file = others->config;
	return conf_directives_finish(reader);
}

enum conf_result conf_read(struct conf *conf, int argc, char **argv, char *error)
{
	struct conf_reader reader;
	struct other_options others = {.check = false};
	bool fine = conf_reader_begin(&reader, conf, error) == 0 &&
	            read_proxy_options(&reader, &others, argc, argv) &&
	            (others.help || others.version || read_configuration(&reader, &others));
	conf_reader_end(&reader);
	if (!fine || others.help || others.version)
		conf_free(conf);
	if (!fine)
		return CONF_BAD;
	if (others.help)
		return CONF_HELP;
	if (others.version)
		return CONF_VERSION;
	return others.check ? CONF_CHECK : CONF_OK;
}
