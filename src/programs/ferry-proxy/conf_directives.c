#include "programs/ferry-proxy/conf_directives.h"

#include "programs/ferry-proxy/conf_keys.h"
#include "programs/ferry-proxy/conf_listen.h"
#include "programs/ferry-proxy/routes.h"
#include "programs/http/head.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_WORKERS = 2, MOST_WORKERS = 1024 };

static bool check_one_argument(struct conf_reader *reader, size_t count, const char *what)
{
	if (count == 0)
		return conf_reader_refuse(reader, "%s is missing", what);
	if (count > 1)
		return conf_reader_refuse(reader, "one argument is expected, %s, not %zu", what, count);
	return true;
}

static bool is_service_name(const char *name)
{
	size_t length =
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
	return length > 0 && length <= CONF_NAME_MAX && name[length] == '\0';
}

static bool read_service_name(struct conf_reader *reader, const char *word, char *name)
{
	if (!is_service_name(word))
		return conf_reader_refuse(
		    reader, "'%s' is not a service name, which is 1 to %d letters, digits, '-', '_', '.'",
		    conf_reader_shown(word), CONF_NAME_MAX);
	(void)snprintf(name, CONF_NAME_MAX + 1, "%s", word);
	return true;
}

static bool read_choice(struct conf_reader *reader, const char *value,
                        enum ferry_dispatch_choice *choice)
{
	if (conf_find_choice(value, choice))
		return true;
	return conf_reader_refuse(reader, "choice='%s' is neither least, round-robin nor by-client",
	                          conf_reader_shown(value));
}

/* Of two sockets on one path each would remove the file of the other. */
static bool socket_is_free(struct conf_reader *reader, const char *path)
{
	const struct conf *conf = reader->conf;
	bool taken = conf->control != NULL && strcmp(conf->control, path) == 0;
	for (unsigned int i = 0; i < conf->service_count; i++)
		taken = taken ||
		        (conf->services[i].socket != NULL && strcmp(conf->services[i].socket, path) == 0);
	return !taken ||
	       conf_reader_refuse(reader, "the path '%s' is already used", conf_reader_shown(path));
}

static bool fill_service(struct conf_reader *reader, struct conf_service *service,
                         const char *const *values)
{
	const char *root = values[0], *workers = values[1], *socket = values[2], *choice = values[3];
	const char *mode = values[4], *group = values[5];
	unsigned long number = DEFAULT_WORKERS;
	if (root == NULL && socket == NULL)
		return conf_reader_refuse(reader, "'%s' has neither root= nor socket=", service->name);
	if (workers != NULL && root == NULL)
		return conf_reader_refuse(reader, "workers= is for a service with root=");
	if (workers != NULL && !conf_reader_number(reader, workers, 1, MOST_WORKERS, &number))
		return false;
	if (root != NULL && !conf_reader_directory(reader, root))
		return false;
	if (socket != NULL &&
	    !(conf_reader_socket_path(reader, socket) && socket_is_free(reader, socket)))
		return false;
	if (socket == NULL && (mode != NULL || group != NULL))
		return conf_reader_refuse(reader, "mode= and group= are for a service with socket=");
	if (!conf_listen_access(reader, mode, group, &service->access))
		return false;
	if (choice != NULL && !read_choice(reader, choice, &service->choice))
		return false;
	service->workers = root != NULL ? (unsigned int)number : 0;
	return (root == NULL || conf_reader_set(reader, &service->root, root)) &&
	       (socket == NULL || conf_reader_set(reader, &service->socket, socket));
}

static bool add_service(struct conf_reader *reader, char **words, size_t count)
{
	static const char *const names[] = {"root", "workers", "socket", "choice",
	                                    "mode", "group",   NULL};
	struct conf_keys keys = {.names = names,
	                         .expected = "root=, workers=, socket=, choice=, mode=, group="};
	struct conf *conf = reader->conf;
	if (count == 0)
		return conf_reader_refuse(reader, "a name is missing");
	if (conf->service_count == CONF_SERVICES)
		return conf_reader_refuse(reader, "more than %d services", CONF_SERVICES);
	struct conf_service *service = &conf->services[conf->service_count];
	*service = (struct conf_service){.line = reader->line};
	if (!read_service_name(reader, words[0], service->name))
		return false;
	int other = conf_find_service(conf, service->name);
	if (other >= 0)
		return conf_reader_refuse(reader, "'%s' is already in line %u", service->name,
		                          conf->services[other].line);
	if (!conf_keys_read(reader, &keys, words + 1, count - 1) ||
	    !fill_service(reader, service, keys.values)) {
		free(service->root);
		return false;
	}
	conf->service_count++;
	return true;
}

static bool fill_route(struct conf_reader *reader, struct conf_route *route, const char *host,
                       const char *path)
{
	if (host == NULL && path == NULL)
		return conf_reader_refuse(reader,
		                          "neither host= nor path=; 'default' names the service for "
		                          "what no route takes");
	if (host != NULL && !routes_host_is_fine(host))
		return conf_reader_refuse(
		    reader,
		    "host='%s' is neither a name like example.org or *.example.org nor an address, "
		    "without a port",
		    conf_reader_shown(host));
	if (path != NULL && !routes_path_is_fine(path))
		return conf_reader_refuse(
		    reader,
		    "path='%s' is not a path like /a/b, without '..', '%%2F', '?' and '#', and with "
		    "others escaped as in a request",
		    conf_reader_shown(path));
	int status = routes_add(reader->routes, host, path, reader->conf->route_count);
	if (status == -EEXIST)
		return conf_reader_refuse(reader, "a route for that host and path exists already");
	if (status < 0)
		return conf_reader_refuse(reader, "out of memory");
	return (host == NULL || conf_reader_set(reader, &route->host, host)) &&
	       (path == NULL || conf_reader_set(reader, &route->path, path));
}

/* conf_directives_finish() finds the service, which may follow in the file. */
static bool add_route(struct conf_reader *reader, char **words, size_t count)
{
	static const char *const names[] = {"host", "path", NULL};
	struct conf_keys keys = {.names = names, .expected = "host=, path= before the service's name"};
	struct conf *conf = reader->conf;
	if (count == 0)
		return conf_reader_refuse(reader, "host= or path=, and a service's name are missing");
	if (conf->route_count == CONF_ROUTES)
		return conf_reader_refuse(reader, "more than %d routes", CONF_ROUTES);
	if (strchr(words[count - 1], '=') != NULL)
		return conf_reader_refuse(reader, "a service's name is missing at the end");
	struct conf_route *route = &conf->routes[conf->route_count];
	*route = (struct conf_route){.service = 0};
	if (!conf_keys_read(reader, &keys, words, count - 1) ||
	    !read_service_name(reader, words[count - 1], reader->route_services[conf->route_count]))
		return false;
	if (!fill_route(reader, route, keys.values[0], keys.values[1])) {
		free(route->host);
		return false;
	}
	reader->route_lines[conf->route_count++] = reader->line;
	return true;
}

static bool set_control(struct conf_reader *reader, const char *path)
{
	return conf_reader_socket_path(reader, path) && socket_is_free(reader, path) &&
	       conf_reader_set(reader, &reader->conf->control, path);
}

/* The directives whose argument is a number. */
static const struct {
	enum directive directive;
	unsigned long min, max;
	const char *what;
} numbers[] = {
    {DIRECTIVE_QUEUE, 1, 1000000, "a number of connections"},
    {DIRECTIVE_QUEUE_TIMEOUT, 1, 3600000, "a number of milliseconds"},
    {DIRECTIVE_ANSWER_TIMEOUT, 1, 3600000, "a number of milliseconds"},
    {DIRECTIVE_HEAD_TIMEOUT, 1, 86400, "a number of seconds"},
    {DIRECTIVE_IDLE_TIMEOUT, 1, 86400, "a number of seconds"},
    {DIRECTIVE_KEEP, 0, 86400, "a number of seconds"},
    {DIRECTIVE_DRAIN_TIMEOUT, 1, 86400, "a number of seconds"},
    {DIRECTIVE_LAME_DUCK, 0, 86400, "a number of seconds"},
    {DIRECTIVE_MAX_CLIENTS, 1, 1000000, "a number of connections"},
    {DIRECTIVE_RETRY_AFTER, 1, 86400, "a number of seconds"},
    {DIRECTIVE_HEAD_SIZE, 256, HTTP_HEAD_LIMIT_MAX, "a number of bytes"},
    {DIRECTIVE_HEAD_FIELDS, 1, HTTP_HEAD_FIELDS_MAX, "a number of header fields"},
};

static struct timeval milliseconds(unsigned long number)
{
	return (struct timeval){.tv_sec = (time_t)(number / 1000),
	                        .tv_usec = (suseconds_t)(number % 1000 * 1000)};
}

static void set_number(struct conf *conf, enum directive directive, unsigned long number)
{
	switch (directive) {
	case DIRECTIVE_QUEUE:
		conf->queue = (unsigned int)number;
		break;
	case DIRECTIVE_QUEUE_TIMEOUT:
		conf->queue_timeout = milliseconds(number);
		break;
	case DIRECTIVE_ANSWER_TIMEOUT:
		conf->answer_timeout = milliseconds(number);
		break;
	case DIRECTIVE_HEAD_TIMEOUT:
		conf->head_timeout = milliseconds(1000 * number);
		break;
	case DIRECTIVE_IDLE_TIMEOUT:
		conf->idle_timeout = milliseconds(1000 * number);
		break;
	case DIRECTIVE_KEEP:
		conf->keep = (unsigned int)number;
		break;
	case DIRECTIVE_DRAIN_TIMEOUT:
		conf->drain_timeout = milliseconds(1000 * number);
		break;
	case DIRECTIVE_LAME_DUCK:
		conf->lame_duck = milliseconds(1000 * number);
		break;
	case DIRECTIVE_MAX_CLIENTS:
		conf->max_clients = number;
		break;
	case DIRECTIVE_HEAD_SIZE:
		conf->head_size = (unsigned int)number;
		break;
	case DIRECTIVE_HEAD_FIELDS:
		conf->head_fields = (unsigned int)number;
		break;
	default:
		conf->retry_after = (unsigned int)number;
	}
}

static bool read_number(struct conf_reader *reader, enum directive directive, char **words,
                        size_t count)
{
	size_t i = 0;
	while (numbers[i].directive != directive)
		i++;
	unsigned long number = 0;
	if (!check_one_argument(reader, count, numbers[i].what) ||
	    !conf_reader_number(reader, words[0], numbers[i].min, numbers[i].max, &number))
		return false;
	set_number(reader->conf, directive, number);
	return true;
}

bool conf_directive_run(struct conf_reader *reader, enum directive directive, char **words,
                        size_t count)
{
	switch (directive) {
	case DIRECTIVE_LISTEN:
		return conf_listen_add(reader, words, count);
	case DIRECTIVE_SERVICE:
		return add_service(reader, words, count);
	case DIRECTIVE_ROUTE:
		return add_route(reader, words, count);
	case DIRECTIVE_DEFAULT:
		return check_one_argument(reader, count, "a service's name") &&
		       read_service_name(reader, words[0], reader->default_name);
	case DIRECTIVE_ADMIN:
		return check_one_argument(reader, count, "an address") &&
		       conf_listen_address(reader, words[0], &reader->conf->admin);
	case DIRECTIVE_USER:
		return check_one_argument(reader, count, "a user's name") &&
		       conf_listen_user(reader, words[0]);
	case DIRECTIVE_GROUP:
		reader->conf->has_group = true;
		return check_one_argument(reader, count, "a group's name") &&
		       conf_listen_group(reader, words[0], &reader->conf->gid);
	case DIRECTIVE_ACCESS_LOG:
		return check_one_argument(reader, count, "a path") &&
		       conf_reader_set(reader, &reader->conf->access_log, words[0]);
	case DIRECTIVE_CONTROL:
		return check_one_argument(reader, count, "a path") && set_control(reader, words[0]);
	default:
		return read_number(reader, directive, words, count);
	}
}

static bool find_services(struct conf_reader *reader)
{
	struct conf *conf = reader->conf;
	reader->subject = "route";
	for (unsigned int i = 0; i < conf->route_count; i++) {
		int service = conf_find_service(conf, reader->route_services[i]);
		reader->line = reader->route_lines[i];
		if (service < 0)
			return conf_reader_refuse(reader, "there is no service '%s'",
			                          reader->route_services[i]);
		conf->routes[i].service = (unsigned int)service;
	}
	if (reader->default_name[0] == '\0')
		return true;
	int service = conf_find_service(conf, reader->default_name);
	reader->subject = "default";
	reader->line = reader->lines[DIRECTIVE_DEFAULT];
	if (service < 0)
		return conf_reader_refuse(reader, "there is no service '%s'", reader->default_name);
	conf->default_service = (unsigned int)service;
	return true;
}

bool conf_directives_finish(struct conf_reader *reader)
{
	const struct conf *conf = reader->conf;
	reader->line = 0;
	reader->subject = NULL;
	if (conf->listen_count == 0)
		return conf_reader_refuse(reader, "a 'listen ADDRESS' line is missing");
	if (conf->service_count == 0)
		return conf_reader_refuse(reader, "a 'service NAME ...' line is missing");
	if (conf->has_group && conf->user[0] == '\0')
		return conf_reader_refuse(reader, "'group' is for a proxy with a 'user'");
	return find_services(reader);
}
