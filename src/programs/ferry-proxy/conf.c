#include "programs/ferry-proxy/conf_reader.h"

#include "programs/ferry-proxy/conf_words.h"
#include "programs/ferry-proxy/routes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEFAULT_WORKERS = 2, MOST_WORKERS = 1024 };

static const char *const choices[] = {
    [FERRY_DISPATCH_LEAST_OUTSTANDING] = "least",
    [FERRY_DISPATCH_ROUND_ROBIN] = "round-robin",
    [FERRY_DISPATCH_BY_KEY] = "by-client",
};

enum { CHOICES = sizeof(choices) / sizeof(choices[0]) };

const char *conf_choice_name(enum ferry_dispatch_choice choice)
{
	return choices[choice];
}

int conf_find_service(const struct conf *conf, const char *name)
{
	for (unsigned int i = 0; i < conf->service_count; i++)
		if (strcmp(conf->services[i].name, name) == 0)
			return (int)i;
	return -1;
}

void conf_free(struct conf *conf)
{
	for (unsigned int i = 0; i < conf->service_count; i++) {
		free(conf->services[i].root);
		free(conf->services[i].socket);
	}
	for (unsigned int i = 0; i < conf->route_count; i++) {
		free(conf->routes[i].host);
		free(conf->routes[i].path);
	}
	free(conf->file);
	free(conf->control);
	free(conf->take_over);
	free(conf->outcome_log);
	memset(conf, 0, sizeof(*conf));
}

const char *conf_reader_shown(const char *word)
{
	enum { RING = 4, MOST = 60 };
	static char ring[RING][MOST + 4];
	static unsigned int turn;
	char *out = ring[turn++ % RING];
	size_t length = 0;
	for (; length < MOST && word[length] != '\0'; length++) {
		out[length] = word[length];
		if ((unsigned char)word[length] < ' ' || word[length] == 0x7f)
			out[length] = '?';
	}
	(void)snprintf(out + length, 4, "%s", word[length] != '\0' ? "..." : "");
	return out;
}

bool conf_reader_refuse(struct conf_reader *reader, const char *format, ...)
{
	if (reader->error == NULL || reader->error[0] != '\0')
		return false;
	char *out = reader->error;
	size_t size = CONF_ERROR_SIZE;
	int used = 0;
	if (reader->file != NULL && reader->line > 0)
		used = snprintf(out, size, "%.200s:%u: ", reader->file, reader->line);
	else if (reader->file != NULL)
		used = snprintf(out, size, "%.200s: ", reader->file);
	if (reader->subject != NULL)
		used += snprintf(out + used, size - (size_t)used, "%s: ", reader->subject);
	va_list arguments;
	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) clang-tidy 14 does not see va_start() */
	(void)vsnprintf(out + used, size - (size_t)used, format, arguments);
	va_end(arguments);
	return false;
}

static bool out_of_memory(struct conf_reader *reader)
{
	return conf_reader_refuse(reader, "out of memory");
}

bool conf_reader_set(struct conf_reader *reader, char **member, const char *value)
{
	char *copy = strdup(value);
	if (copy == NULL)
		return out_of_memory(reader);
	free(*member);
	*member = copy;
	return true;
}

bool conf_reader_number(struct conf_reader *reader, const char *word, unsigned long min,
                        unsigned long max, unsigned long *number)
{
	size_t digits = strspn(word, "0123456789");
	unsigned long value = 0;
	for (size_t i = 0; i < digits && value <= max; i++)
		value = value * 10 + (unsigned long)(word[i] - '0');
	if (digits == 0 || word[digits] != '\0' || value < min || value > max)
		return conf_reader_refuse(reader, "'%s' is no number from %lu to %lu",
		                          conf_reader_shown(word), min, max);
	*number = value;
	return true;
}

bool conf_reader_directory(struct conf_reader *reader, const char *path)
{
	struct stat status;
	if (stat(path, &status) < 0)
		return conf_reader_refuse(reader, "the directory '%s': %s", conf_reader_shown(path),
		                          strerror(errno));
	if (!S_ISDIR(status.st_mode))
		return conf_reader_refuse(reader, "'%s' is no directory", conf_reader_shown(path));
	return true;
}

bool conf_reader_socket_path(struct conf_reader *reader, const char *path)
{
	enum { MOST = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 };
	if (path[0] == '\0' || strcmp(path, "@") == 0)
		return conf_reader_refuse(reader, "the path of a unix socket is missing");
	if (strlen(path) > MOST)
		return conf_reader_refuse(
		    reader, "'%s' is too long for a unix socket, which takes %d bytes at most",
		    conf_reader_shown(path), (int)MOST);
	return true;
}

static bool exactly(struct conf_reader *reader, size_t count, const char *what)
{
	if (count == 0)
		return conf_reader_refuse(reader, "%s is missing", what);
	if (count > 1)
		return conf_reader_refuse(reader, "one argument is expected, %s, not %zu", what, count);
	return true;
}

static bool read_address(struct conf_reader *reader, const char *word,
                         struct socket_address *address)
{
	int status = socket_address_parse(address, word);
	if (status == -ENAMETOOLONG)
		return conf_reader_refuse(reader, "'%s' is too long for a unix socket",
		                          conf_reader_shown(word));
	if (status < 0)
		return conf_reader_refuse(
		    reader, "'%s' is no address like 127.0.0.1:8080, [::1]:8080 or unix:/path",
		    conf_reader_shown(word));
	return true;
}

/* Any number of sockets may be on port 0. */
static bool is_any_port(const struct socket_address *address)
{
	return address->any.sa_family != AF_UNIX && address->in.sin_port == 0;
}

static bool add_listen(struct conf_reader *reader, char **words, size_t count)
{
	struct conf *conf = reader->conf;
	if (count == 0)
		return conf_reader_refuse(reader, "an address is missing");
	if (conf->listen_count == CONF_LISTENS)
		return conf_reader_refuse(reader, "more than %d addresses", CONF_LISTENS);
	struct conf_listen *listen = &conf->listens[conf->listen_count];
	*listen = (struct conf_listen){.proxy_protocol = count > 1};
	if (!read_address(reader, words[0], &listen->address))
		return false;
	if (count > 2 || (count == 2 && strcmp(words[1], "proxy-protocol") != 0))
		return conf_reader_refuse(reader,
		                          "'%s' after the address; only proxy-protocol may follow it",
		                          conf_reader_shown(words[count > 2 ? 2 : 1]));
	for (unsigned int i = 0; i < conf->listen_count; i++)
		if (socket_address_equal(&conf->listens[i].address, &listen->address) &&
		    !is_any_port(&listen->address))
			return conf_reader_refuse(reader, "'%s' is listened on already",
			                          conf_reader_shown(words[0]));
	conf->listen_count++;
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
		    reader, "'%s' is no name of a service, which is 1 to %d letters, digits, '-', '_', '.'",
		    conf_reader_shown(word), CONF_NAME_MAX);
	(void)snprintf(name, CONF_NAME_MAX + 1, "%s", word);
	return true;
}

/* "key=value": the value, if the key is this one. */
static const char *value_of(const char *word, const char *key)
{
	size_t length = strlen(key);
	return strncmp(word, key, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

static bool read_choice(struct conf_reader *reader, const char *value,
                        enum ferry_dispatch_choice *choice)
{
	for (unsigned int i = 0; i < CHOICES; i++)
		if (strcmp(value, choices[i]) == 0) {
			*choice = (enum ferry_dispatch_choice)i;
			return true;
		}
	return conf_reader_refuse(reader, "choice='%s' is neither least, round-robin nor by-client",
	                          conf_reader_shown(value));
}

/* What a service's and a route's words may be, once each. */
struct keys {
	const char *const *names;
	const char *expected;
	const char *values[4];
};

static bool read_keys(struct conf_reader *reader, struct keys *keys, char **words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t key = 0;
		const char *value = NULL;
		while (keys->names[key] != NULL && (value = value_of(words[i], keys->names[key])) == NULL)
			key++;
		if (value == NULL)
			return conf_reader_refuse(reader, "'%s' is not one of %s", conf_reader_shown(words[i]),
			                          keys->expected);
		if (keys->values[key] != NULL)
			return conf_reader_refuse(reader, "%s= is there twice", keys->names[key]);
		if (value[0] == '\0')
			return conf_reader_refuse(reader, "%s= has no value", keys->names[key]);
		keys->values[key] = value;
	}
	return true;
}

/* Two that listen on one path would take it from each other. */
static bool socket_is_free(struct conf_reader *reader, const char *path)
{
	const struct conf *conf = reader->conf;
	bool taken = conf->control != NULL && strcmp(conf->control, path) == 0;
	for (unsigned int i = 0; i < conf->service_count; i++)
		taken = taken ||
		        (conf->services[i].socket != NULL && strcmp(conf->services[i].socket, path) == 0);
	return !taken ||
	       conf_reader_refuse(reader, "the path '%s' is used already", conf_reader_shown(path));
}

static bool fill_service(struct conf_reader *reader, struct conf_service *service,
                         const char *const *values)
{
	const char *root = values[0], *workers = values[1], *socket = values[2], *choice = values[3];
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
	if (choice != NULL && !read_choice(reader, choice, &service->choice))
		return false;
	service->workers = root != NULL ? (unsigned int)number : 0;
	return (root == NULL || conf_reader_set(reader, &service->root, root)) &&
	       (socket == NULL || conf_reader_set(reader, &service->socket, socket));
}

static bool add_service(struct conf_reader *reader, char **words, size_t count)
{
	static const char *const names[] = {"root", "workers", "socket", "choice", NULL};
	struct keys keys = {.names = names, .expected = "root=, workers=, socket=, choice="};
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
		return conf_reader_refuse(reader, "'%s' is there already, in line %u", service->name,
		                          conf->services[other].line);
	if (!read_keys(reader, &keys, words + 1, count - 1) ||
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
		    "path='%s' is no path like /a/b, without '..', '%%2F', '?' and '#', and with "
		    "others escaped as in a request",
		    conf_reader_shown(path));
	int status = routes_add(reader->routes, host, path, reader->conf->route_count);
	if (status == -EEXIST)
		return conf_reader_refuse(reader, "there is one for that host and path already");
	if (status < 0)
		return out_of_memory(reader);
	return (host == NULL || conf_reader_set(reader, &route->host, host)) &&
	       (path == NULL || conf_reader_set(reader, &route->path, path));
}

/* The service is looked for when all have been read. */
static bool add_route(struct conf_reader *reader, char **words, size_t count)
{
	static const char *const names[] = {"host", "path", NULL};
	struct keys keys = {.names = names, .expected = "host=, path= before the service's name"};
	struct conf *conf = reader->conf;
	if (count == 0)
		return conf_reader_refuse(reader, "host= or path=, and a service's name are missing");
	if (conf->route_count == CONF_ROUTES)
		return conf_reader_refuse(reader, "more than %d routes", CONF_ROUTES);
	if (strchr(words[count - 1], '=') != NULL)
		return conf_reader_refuse(reader, "a service's name is missing at the end");
	struct conf_route *route = &conf->routes[conf->route_count];
	*route = (struct conf_route){.service = 0};
	if (!read_keys(reader, &keys, words, count - 1) ||
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

/* Those that are a number. */
static const struct {
	enum directive directive;
	unsigned long min, max;
	const char *what;
} numbers[] = {
    {DIRECTIVE_QUEUE, 1, 1000000, "a number of connections"},
    {DIRECTIVE_QUEUE_TIMEOUT, 1, 3600000, "a number of milliseconds"},
    {DIRECTIVE_ANSWER_TIMEOUT, 1, 3600000, "a number of milliseconds"},
    {DIRECTIVE_HEAD_TIMEOUT, 1, 86400, "a number of seconds"},
    {DIRECTIVE_DRAIN_TIMEOUT, 1, 86400, "a number of seconds"},
    {DIRECTIVE_MAX_CLIENTS, 1, 1000000, "a number of connections"},
    {DIRECTIVE_RETRY_AFTER, 1, 86400, "a number of seconds"},
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
	case DIRECTIVE_DRAIN_TIMEOUT:
		conf->drain_timeout = milliseconds(1000 * number);
		break;
	case DIRECTIVE_MAX_CLIENTS:
		conf->max_clients = number;
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
	if (!exactly(reader, count, numbers[i].what) ||
	    !conf_reader_number(reader, words[0], numbers[i].min, numbers[i].max, &number))
		return false;
	set_number(reader->conf, directive, number);
	return true;
}

bool conf_reader_directive(struct conf_reader *reader, enum directive directive, char **words,
                           size_t count)
{
	switch (directive) {
	case DIRECTIVE_LISTEN:
		return add_listen(reader, words, count);
	case DIRECTIVE_SERVICE:
		return add_service(reader, words, count);
	case DIRECTIVE_ROUTE:
		return add_route(reader, words, count);
	case DIRECTIVE_DEFAULT:
		return exactly(reader, count, "a service's name") &&
		       read_service_name(reader, words[0], reader->default_name);
	case DIRECTIVE_ADMIN:
		return exactly(reader, count, "an address") &&
		       read_address(reader, words[0], &reader->conf->admin);
	case DIRECTIVE_CONTROL:
		return exactly(reader, count, "a path") && set_control(reader, words[0]);
	default:
		return read_number(reader, directive, words, count);
	}
}

static const char *const directive_names[DIRECTIVES] = {
    [DIRECTIVE_LISTEN] = "listen",
    [DIRECTIVE_SERVICE] = "service",
    [DIRECTIVE_ROUTE] = "route",
    [DIRECTIVE_DEFAULT] = "default",
    [DIRECTIVE_ADMIN] = "admin",
    [DIRECTIVE_CONTROL] = "control",
    [DIRECTIVE_QUEUE] = "queue",
    [DIRECTIVE_QUEUE_TIMEOUT] = "queue-timeout",
    [DIRECTIVE_ANSWER_TIMEOUT] = "answer-timeout",
    [DIRECTIVE_HEAD_TIMEOUT] = "head-timeout",
    [DIRECTIVE_DRAIN_TIMEOUT] = "drain-timeout",
    [DIRECTIVE_MAX_CLIENTS] = "max-clients",
    [DIRECTIVE_RETRY_AFTER] = "retry-after",
};

static bool is_repeatable(enum directive directive)
{
	return directive == DIRECTIVE_LISTEN || directive == DIRECTIVE_SERVICE ||
	       directive == DIRECTIVE_ROUTE;
}

static bool read_words(struct conf_reader *reader, char **words, size_t count)
{
	unsigned int directive = 0;
	while (directive < DIRECTIVES && strcmp(words[0], directive_names[directive]) != 0)
		directive++;
	if (directive == DIRECTIVES)
		return conf_reader_refuse(reader,
		                          "'%s' is no directive; expected is listen, service, route, "
		                          "default, admin, control, queue, max-clients, retry-after, "
		                          "queue-, answer-, head- or drain-timeout",
		                          conf_reader_shown(words[0]));
	reader->subject = directive_names[directive];
	unsigned int first = reader->lines[directive];
	if (first > 0 && !is_repeatable((enum directive)directive))
		return conf_reader_refuse(reader, "is there already, in line %u", first);
	if (first == 0)
		reader->lines[directive] = reader->line;
	return reader->by_option[directive] ||
	       conf_reader_directive(reader, (enum directive)directive, words + 1, count - 1);
}

static bool read_line(struct conf_reader *reader, const char *start, size_t length)
{
	char line[CONF_LINE_MAX + 1];
	char *words[CONF_WORDS_MAX];
	const char *why;
	reader->subject = NULL;
	if (length > CONF_LINE_MAX)
		return conf_reader_refuse(reader, "the line is longer than %d bytes", CONF_LINE_MAX);
	if (memchr(start, '\0', length) != NULL)
		return conf_reader_refuse(reader, "a zero byte; a file of text is expected");
	memcpy(line, start, length);
	line[length] = '\0';
	int count = conf_words_split(line, words, &why);
	if (count < 0)
		return conf_reader_refuse(reader, "%s", why);
	return count == 0 || read_words(reader, words, (size_t)count);
}

bool conf_reader_text(struct conf_reader *reader, const char *text, size_t length)
{
	bool fine = true;
	reader->line = 0;
	for (size_t at = 0; fine && at < length;) {
		const char *end = memchr(text + at, '\n', length - at);
		size_t line_length = (end != NULL ? (size_t)(end - text) : length) - at;
		reader->line++;
		fine = read_line(reader, text + at, line_length);
		at += line_length + 1;
	}
	reader->subject = NULL;
	if (fine)
		reader->line = 0;
	return fine;
}

/* `room` bytes at most. How many, or a negative errno. */
static ssize_t read_all(int fd, char *out, size_t room)
{
	size_t used = 0;
	while (used < room) {
		ssize_t count = read(fd, out + used, room - used);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		if (count == 0)
			break;
		used += (size_t)count;
	}
	return (ssize_t)used;
}

bool conf_reader_file(struct conf_reader *reader, const char *path)
{
	enum { ROOM = CONF_FILE_MAX + 1 };
	reader->file = path;
	reader->line = 0;
	reader->subject = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return conf_reader_refuse(reader, "%s", strerror(errno));
	char *text = malloc(ROOM);
	ssize_t length = text != NULL ? read_all(fd, text, ROOM) : -ENOMEM;
	close(fd);
	bool fine;
	if (length < 0)
		fine = conf_reader_refuse(reader, "%s", strerror((int)-length));
	else if (length == ROOM)
		fine = conf_reader_refuse(reader, "the file is longer than %d bytes", CONF_FILE_MAX);
	else
		fine = conf_reader_text(reader, text, (size_t)length);
	free(text);
	return fine;
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

bool conf_reader_finish(struct conf_reader *reader)
{
	const struct conf *conf = reader->conf;
	reader->line = 0;
	reader->subject = NULL;
	if (conf->listen_count == 0)
		return conf_reader_refuse(reader, "no 'listen ADDRESS' is there, one is needed");
	if (conf->service_count == 0)
		return conf_reader_refuse(reader, "no 'service NAME ...' is there, one is needed");
	return find_services(reader);
}

int conf_reader_begin(struct conf_reader *reader, struct conf *conf, char *error)
{
	memset(conf, 0, sizeof(*conf));
	memset(reader, 0, sizeof(*reader));
	reader->conf = conf;
	reader->error = error;
	if (error != NULL)
		error[0] = '\0';
	conf->queue = 1024;
	conf->queue_timeout = milliseconds(5000);
	conf->answer_timeout = milliseconds(5000);
	conf->head_timeout = milliseconds(10000);
	conf->drain_timeout = milliseconds(60000);
	conf->retry_after = 1;
	if (routes_new(&reader->routes) < 0) {
		out_of_memory(reader);
		return -ENOMEM;
	}
	return 0;
}

void conf_reader_end(struct conf_reader *reader)
{
	routes_free(reader->routes);
	reader->routes = NULL;
}

enum conf_result conf_read_text(struct conf *conf, const char *name, const char *text,
                                size_t length, char *error)
{
	struct conf_reader reader;
	bool fine = conf_reader_begin(&reader, conf, error) == 0;
	reader.file = name;
	fine = fine && conf_reader_set(&reader, &conf->file, name) &&
	       conf_reader_text(&reader, text, length) && conf_reader_finish(&reader);
	conf_reader_end(&reader);
	if (!fine)
		conf_free(conf);
	return fine ? CONF_OK : CONF_BAD;
}
