/* The options and directives of ferry-proxy: those of services and routes, and the table of all. */

#include "programs/ferry-proxy/conf_listen.h"
#include "programs/ferry-proxy/conf_reader.h"
#include "programs/ferry-proxy/conf_words.h"
#include "programs/ferry-proxy/routes.h"
#include "programs/ferry-proxy/tls_routes.h"
#include "programs/http/head.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEFAULT_WORKERS = 2, MOST_WORKERS = 1024 };

/* ---- paths ---- */

static bool check_directory(struct settings_reader *reader, const char *path)
{
	struct stat status;
	if (stat(path, &status) < 0)
		return settings_refuse(reader, "the directory '%s': %s", settings_shown(path),
		                       strerror(errno));
	if (!S_ISDIR(status.st_mode))
		return settings_refuse(reader, "'%s' is not a directory", settings_shown(path));
	return true;
}

/* Checks that a path fits into the address of a unix socket. */
static bool check_socket_path(struct settings_reader *reader, const char *path)
{
	enum { MOST = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 };
	if (path[0] == '\0' || strcmp(path, "@") == 0)
		return settings_refuse(reader, "the path of a unix socket is missing");
	if (strlen(path) > MOST)
		return settings_refuse(reader,
		                       "'%s' is too long for a unix socket, which takes %d bytes at most",
		                       settings_shown(path), (int)MOST);
	return true;
}

/* ---- services ---- */

static bool is_service_name(const char *name)
{
	size_t length =
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
	return length > 0 && length <= CONF_NAME_MAX && name[length] == '\0';
}

static bool check_service_name(struct settings_reader *reader, const char *word)
{
	return is_service_name(word) ||
	       settings_refuse(
	           reader,
	           "'%s' is not a service name, which is 1 to %d letters, digits, '-', '_', '.'",
	           settings_shown(word), CONF_NAME_MAX);
}

static bool read_choice(struct settings_reader *reader, const char *value,
                        enum ferry_dispatch_choice *choice)
{
	if (conf_find_choice(value, choice))
		return true;
	return settings_refuse(reader, "choice='%s' is neither least, round-robin nor by-client",
	                       settings_shown(value));
}

/* Of two sockets on one path each would remove the file of the other. */
static bool check_socket_is_free(struct settings_reader *reader, const char *path)
{
	const struct conf *conf = reader->target;
	bool taken = conf->control != NULL && strcmp(conf->control, path) == 0;
	for (unsigned int i = 0; i < conf->service_count; i++)
		taken = taken ||
		        (conf->services[i].socket != NULL && strcmp(conf->services[i].socket, path) == 0);
	return !taken || settings_refuse(reader, "the path '%s' is already used", settings_shown(path));
}

/* The proxy reads neither file: it may not be allowed to. */
static bool set_tls(struct settings_reader *reader, struct conf_service *service,
                    const char *certificate, const char *key)
{
	if ((certificate == NULL) != (key == NULL))
		return settings_refuse(reader, "tls-certificate= and tls-key= need each other");
	if (certificate != NULL && service->root == NULL)
		return settings_refuse(reader,
		                       "tls-certificate= and tls-key= are for a service with root=");
	service->tls_certificate = certificate;
	service->tls_key = key;
	return true;
}

static bool fill_service(struct settings_reader *reader, struct conf_service *service,
                         const char *const *values)
{
	const char *root = values[0], *workers = values[1], *socket = values[2], *choice = values[3];
	const char *mode = values[4], *group = values[5];
	unsigned long number = DEFAULT_WORKERS;
	if (root == NULL && socket == NULL)
		return settings_refuse(reader, "'%s' has neither root= nor socket=", service->name);
	if (workers != NULL && root == NULL)
		return settings_refuse(reader, "workers= is for a service with root=");
	if (workers != NULL && !settings_read_number(reader, workers, 1, MOST_WORKERS, &number))
		return false;
	if (root != NULL && !check_directory(reader, root))
		return false;
	if (socket != NULL &&
	    !(check_socket_path(reader, socket) && check_socket_is_free(reader, socket)))
		return false;
	if (socket == NULL && (mode != NULL || group != NULL))
		return settings_refuse(reader, "mode= and group= are for a service with socket=");
	if (!conf_listen_access(reader, mode, group, &service->access))
		return false;
	if (choice != NULL && !read_choice(reader, choice, &service->choice))
		return false;
	service->workers = root != NULL ? (unsigned int)number : 0;
	service->root = root;
	service->socket = socket;
	return set_tls(reader, service, values[6], values[7]);
}

bool conf_service_add(struct settings_reader *reader, const char *name, const char *const *values)
{
	struct conf *conf = reader->target;
	struct conf_service *service = &conf->services[conf->service_count];
	if (conf->service_count == CONF_SERVICES)
		return settings_refuse(reader, "more than %d services", CONF_SERVICES);
	int other = conf_find_service(conf, name);
	if (other >= 0)
		return settings_refuse(reader, "'%s' is already in line %u", name,
		                       conf->services[other].line);
	*service = (struct conf_service){.line = reader->line};
	(void)snprintf(service->name, sizeof(service->name), "%s", name);
	if (!fill_service(reader, service, values))
		return false;
	conf->service_count++;
	return true;
}

static bool add_service(struct settings_reader *reader, char **words, size_t count)
{
	static const char *const names[] = {"root",  "workers",         "socket",  "choice", "mode",
	                                    "group", "tls-certificate", "tls-key", NULL};
	struct conf_keys keys = {.names = names,
	                         .expected = "root=, workers=, socket=, choice=, mode=, group=, "
	                                     "tls-certificate=, tls-key="};
	return check_service_name(reader, words[0]) &&
	       conf_words_read_keys(reader, &keys, words + 1, count - 1) &&
	       conf_service_add(reader, words[0], keys.values);
}

/* ---- routes ---- */

static bool check_route(struct settings_reader *reader, const char *host, const char *path)
{
	if (host == NULL && path == NULL)
		return settings_refuse(reader, "neither host= nor path=; 'default' names the service for "
		                               "what no route takes");
	if (host != NULL && !routes_host_is_fine(host))
		return settings_refuse(
		    reader,
		    "host='%s' is neither a name like example.org or *.example.org nor an address, "
		    "without a port",
		    settings_shown(host));
	if (path != NULL && !routes_path_is_fine(path))
		return settings_refuse(
		    reader,
		    "path='%s' is not a path like /a/b, without '..', '%%2F', '?' and '#', and with "
		    "others escaped as in a request",
		    settings_shown(path));
	return true;
}

static bool check_tls_route(struct settings_reader *reader, const char *name, const char *protocol)
{
	if (name != NULL && !tls_routes_name_is_fine(name))
		return settings_refuse(reader,
		                       "server-name='%s' is not a name like example.org or *.example.org",
		                       settings_shown(name));
	return protocol == NULL || strlen(protocol) <= 255 ||
	       settings_refuse(reader, "alpn='%s' is longer than 255 bytes", settings_shown(protocol));
}

/* `keys` are host, path, server-name and alpn, or NULL. */
static bool insert_route(struct settings_reader *reader, const char *const *keys,
                         unsigned int number)
{
	const struct conf *conf = reader->target;
	const char *host = keys[0], *path = keys[1], *name = keys[2], *protocol = keys[3];
	bool tls = name != NULL || protocol != NULL;
	int status;
	if (tls && (host != NULL || path != NULL))
		return settings_refuse(reader, "host= and path= are for requests, server-name= and alpn= "
		                               "for TLS clients: a route has one of the two");
	if (!(tls ? check_tls_route(reader, name, protocol) : check_route(reader, host, path)))
		return false;
	if (tls)
		status = tls_routes_add(conf->tls_routes, name, protocol, number);
	else
		status = routes_add(conf->routes, host, path, number);
	if (status == -EEXIST)
		return settings_refuse(reader, "a route for that %s exists already",
		                       tls ? "server name and protocol" : "host and path");
	return status == 0 || settings_refuse(reader, "out of memory");
}

/* The number of the route stands for its service, which may follow in the file. */
static bool add_route(struct settings_reader *reader, char **words, size_t count)
{
	static const char *const names[] = {"host", "path", "server-name", "alpn", NULL};
	struct conf_keys keys = {
	    .names = names, .expected = "host=, path=, server-name=, alpn= before the service's name"};
	struct conf_draft *draft = reader->context;
	const char *service = words[count - 1];
	if (draft->route_count == CONF_ROUTES)
		return settings_refuse(reader, "more than %d routes", CONF_ROUTES);
	if (strchr(service, '=') != NULL)
		return settings_refuse(reader, "a service's name is missing at the end");
	if (!conf_words_read_keys(reader, &keys, words, count - 1) ||
	    !check_service_name(reader, service) ||
	    !insert_route(reader, keys.values, draft->route_count))
		return false;
	draft->route_lines[draft->route_count] = reader->line;
	draft->route_services[draft->route_count++] = service;
	return true;
}

static bool set_default(struct settings_reader *reader, const char *name)
{
	struct conf_draft *draft = reader->context;
	draft->default_service = name;
	return check_service_name(reader, name);
}

static bool set_tls_default(struct settings_reader *reader, const char *name)
{
	struct conf_draft *draft = reader->context;
	draft->tls_default = name;
	return check_service_name(reader, name);
}

/* The index of a service that the setting `subject` names in a line, or -1. */
static int find_named_service(struct settings_reader *reader, const char *subject,
                              unsigned int line, const char *name)
{
	int service = conf_find_service(reader->target, name);
	reader->subject = subject;
	reader->line = line;
	if (service < 0)
		settings_refuse(reader, "there is no service '%s'", name);
	return service;
}

static bool find_services(struct settings_reader *reader)
{
	struct conf *conf = reader->target;
	const struct conf_draft *draft = reader->context;
	unsigned int services[CONF_ROUTES];
	for (unsigned int i = 0; i < draft->route_count; i++) {
		int found =
		    find_named_service(reader, "route", draft->route_lines[i], draft->route_services[i]);
		if (found < 0)
			return false;
		services[i] = (unsigned int)found;
	}
	routes_renumber(conf->routes, services);
	tls_routes_renumber(conf->tls_routes, services);
	int first = 0;
	if (draft->default_service != NULL)
		first = find_named_service(reader, "default", settings_find_line(reader, "default"),
		                           draft->default_service);
	if (first >= 0)
		routes_set_default(conf->routes, (unsigned int)first);
	return first >= 0;
}

static bool has_passthrough(const struct conf *conf)
{
	for (unsigned int i = 0; i < conf->listen_count; i++)
		if (conf->listens[i].tls_passthrough)
			return true;
	return false;
}

/* The only service needs no route; a service without keys is never guessed. */
static bool find_tls_default(struct settings_reader *reader)
{
	const struct conf *conf = reader->target;
	const struct conf_draft *draft = reader->context;
	int found = 0;
	if (draft->tls_default != NULL)
		found = find_named_service(reader, "tls-default", settings_find_line(reader, "tls-default"),
		                           draft->tls_default);
	else if (!has_passthrough(conf) || !tls_routes_are_empty(conf->tls_routes))
		return true;
	else if (conf->service_count > 1)
		return settings_refuse(reader, "'tls-passthrough' needs a route with server-name= or "
		                               "alpn=, or 'tls-default'");
	if (found >= 0)
		tls_routes_set_default(conf->tls_routes, (unsigned int)found);
	return found >= 0;
}

bool conf_reader_finish(struct settings_reader *reader)
{
	const struct conf *conf = reader->target;
	if (conf->listen_count == 0)
		return settings_refuse(reader, "a 'listen ADDRESS' line is missing");
	if (conf->service_count == 0)
		return settings_refuse(reader, "a 'service NAME ...' line is missing");
	if (conf->has_group && conf->user[0] == '\0')
		return settings_refuse(reader, "'group' is for a proxy with a 'user'");
	return find_services(reader) && find_tls_default(reader);
}

/* ---- the table ---- */

static bool check_workers(struct settings_reader *reader, const char *word)
{
	unsigned long number;
	return settings_read_number(reader, word, 1, MOST_WORKERS, &number);
}

static bool check_control(struct settings_reader *reader, const char *path)
{
	return check_socket_path(reader, path) && check_socket_is_free(reader, path);
}

static bool set_scheduling(struct settings_reader *reader, const char *word)
{
	struct conf *conf = reader->target;
	bool batch = strcmp(word, "batch") == 0;
	if (!batch && strcmp(word, "other") != 0)
		return settings_refuse(reader, "'%s' is neither batch nor other", settings_shown(word));
	conf->scheduling = batch ? SCHED_BATCH : SCHED_OTHER;
	return true;
}

enum { OPTION = SETTING_OPTION, BOTH = SETTING_OPTION | SETTING_DIRECTIVE };

#define AT(name) .member = offsetof(struct conf, name)

/* NOLINTBEGIN(bugprone-macro-parentheses): these are initialisers */
#define NUMBER(unit_kind, unit, text, from, to)                                                  \
	.is = BOTH, .kind = unit_kind, .argument = unit, .what = "a number of " text, .least = from, \
	.most = to
/* NOLINTEND(bugprone-macro-parentheses) */
#define CONNECTIONS NUMBER(SETTING_NUMBER, "N", "connections", 1, 1000000)
#define MILLISECONDS NUMBER(SETTING_MILLISECONDS, "MS", "milliseconds", 1, 3600000)
#define SECONDS(kind, from) NUMBER(kind, "SECONDS", "seconds", from, 86400)

static const struct setting table[] = {
    {"config", OPTION, SETTING_TEXT, "FILE", "a path", AT(file),
     .help = "read this file; an option replaces the directive of its name"},
    {"check", OPTION, SETTING_FLAG, AT(check), .help = "check the file and the options, and exit"},
    {.help = "One service without a file"},
    {"root", OPTION, SETTING_TEXT, "DIRECTORY", "a directory", AT(single.root),
     .check = check_directory, .help = "start workers that serve the files in this directory"},
    {"workers", OPTION, SETTING_TEXT, "N", "a number of workers", AT(single.workers),
     .check = check_workers, .help = "the number of workers to start (2)"},
    {"socket", OPTION, SETTING_TEXT, "PATH", "a path", AT(single.socket),
     .check = check_socket_path,
     .help =
         "the unix socket for a ferry-worker that you start; no other\nprocess may listen there"},
    {.help = "Addresses"},
    {"listen", BOTH | SETTING_REPEATED, SETTING_WORDS,
     "'ADDRESS [proxy-protocol] [tls-passthrough] [from=LIST] [mode=OCTAL] [group=NAME]'",
     "an address", .read = conf_listen_add,
     .help = "127.0.0.1:8080, [::1]:8080 or unix:/path; may be repeated; with\nproxy-protocol for "
             "a load balancer that sends the PROXY header,\nfrom the addresses after from=; with "
             "tls-passthrough for TLS\nclients, whom workers with the keys serve"},
    {"address", OPTION, SETTING_TEXT, "ADDRESS", "an address", AT(single.address),
     .help = "the same for one IPv4 or IPv6 address (127.0.0.1)"},
    {"port", OPTION, SETTING_NUMBER, "PORT", "a number", AT(single.port), .most = 65535,
     .help = "and its port; 0 picks a free one (8080)"},
    {"admin", BOTH, SETTING_WORD, "ADDRESS", "an address", .check = conf_listen_admin,
     .help = "serve /-/status, /-/metrics and /-/healthz there"},
    {"demo", OPTION, SETTING_FLAG, AT(demo),
     .help = "with an --admin on loopback: serve /-/demo, whose button kills a\nworker"},
    {"control", BOTH, SETTING_TEXT, "PATH", "a path", AT(control), .check = check_control,
     .help = "the unix socket over which a new proxy takes over"},
    {"take-over", OPTION, SETTING_TEXT, "PATH", "a path", AT(take_over), .check = check_socket_path,
     .help = "take over from the proxy with this --control"},
    {"user", BOTH, SETTING_WORD, "NAME", "a user's name", .check = conf_listen_user,
     .help = "become this user once the sockets are open"},
    {"group", BOTH, SETTING_WORD, "NAME", "a group's name", .check = conf_listen_group,
     .help = "and this group (that of the user)"},
    {"access-log", BOTH, SETTING_TEXT, "FILE", "a path", AT(access_log),
     .help = "append a line for each answer, of the workers too"},
    {"outcome-log", OPTION, SETTING_TEXT, "FILE", "a path", AT(outcome_log),
     .help = "append a line for the outcome of each handoff"},
    {"scheduling", BOTH, SETTING_WORD, "POLICY", "batch or other", .check = set_scheduling,
     .help = "the policy of the proxy and its workers, see sched(7) (batch)"},
    {.help = "Limits"},
    {"max-clients", CONNECTIONS, AT(max_clients),
     .help = "clients whose request is being read (the descriptor limit)"},
    {"queue", CONNECTIONS, AT(queue),
     .help = "requests that wait for a worker, for each service (1024)"},
    {"queue-timeout", MILLISECONDS, AT(queue_timeout),
     .help = "answer 503 to a request that waits longer (5000)"},
    {"retry-after", SECONDS(SETTING_NUMBER, 1), AT(retry_after),
     .help = "the Retry-After field of a 503 (1)"},
    {"answer-timeout", MILLISECONDS, AT(answer_timeout),
     .help = "disconnect a worker that does not answer for this time (5000)"},
    {"start-timeout", SECONDS(SETTING_SECONDS, 1), AT(start_timeout),
     .help = "end a worker that is not ready after this time (60)"},
    {"head-timeout", SECONDS(SETTING_SECONDS, 1), AT(head_timeout),
     .help = "answer 408 when a request's head takes longer (10)"},
    {"head-size", NUMBER(SETTING_NUMBER, "BYTES", "bytes", 256, HTTP_HEAD_LIMIT_MAX), AT(head_size),
     .help = "answer 431 or 414 to a longer request head (8192)"},
    {"head-fields", NUMBER(SETTING_NUMBER, "N", "header fields", 1, HTTP_HEAD_FIELDS_MAX),
     AT(head_fields), .help = "answer 431 to one with more header fields (100)"},
    {"idle-timeout", SECONDS(SETTING_SECONDS, 1), AT(idle_timeout),
     .help = "close a connection without a request for this time (60)"},
    {"keep", SECONDS(SETTING_NUMBER, 0), AT(keep),
     .help = "the time that a worker keeps a connection without a request, before\nthe proxy has "
             "it and routes its next request (1)"},
    {"lame-duck", SECONDS(SETTING_SECONDS, 0), AT(lame_duck),
     .help = "serve on for this time after SIGTERM, with 503 at /-/healthz (0)"},
    {"drain-timeout", SECONDS(SETTING_SECONDS, 1), AT(drain_timeout),
     .help = "end a worker that is being replaced after this time (60)"},
    {"service", SETTING_DIRECTIVE | SETTING_REPEATED, SETTING_WORDS, NULL, "a name",
     .read = add_service},
    {"route", SETTING_DIRECTIVE | SETTING_REPEATED, SETTING_WORDS, NULL,
     "host=, path=, server-name= or alpn=, and a service's name", .read = add_route},
    {"default", SETTING_DIRECTIVE, SETTING_WORD, NULL, "a service's name", .check = set_default},
    {"tls-default", SETTING_DIRECTIVE, SETTING_WORD, NULL, "a service's name",
     .check = set_tls_default},
};

const struct settings conf_settings = {
    .program = "ferry-proxy",
    .synopsis =
        "usage: ferry-proxy --config FILE [options] [-- options of the workers]\n"
        "       ferry-proxy --root DIRECTORY [--workers N] [options] [-- options of the workers]\n"
        "       ferry-proxy --socket PATH [options]\n"
        "Accepts HTTP clients, reads the head of each one's first request, and hands the open "
        "connection\n"
        "to a worker process: one that the proxy starts, or one that connects to a unix socket.\n",
    .notes = "Prints \"listening ADDRESS\" for each address. SIGHUP reads the file anew and "
             "replaces the workers,\n"
             "SIGUSR1 opens the logs anew, SIGUSR2 replaces the proxy itself, SIGINT and SIGTERM "
             "end it.\n"
             "\n"
             "Exit status: 0 ended as requested, 1 failed, 2 wrong usage or configuration.\n",
    .all = table,
    .count = sizeof(table) / sizeof(table[0]),
};
