/* The command line of ferry-proxy, and what it adds to the file. */

#include "programs/ferry-proxy/conf_listen.h"
#include "programs/ferry-proxy/conf_reader.h"
#include "programs/ferry-proxy/routes.h"
#include "programs/ferry-proxy/tls_routes.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool conf_reader_begin(struct settings_reader *reader, struct conf *conf, struct conf_draft *draft,
                       char *error)
{
	conf_init(conf);
	memset(draft, 0, sizeof(*draft));
	*reader = (struct settings_reader){
	    .settings = &conf_settings, .target = conf, .context = draft, .error = error};
	if (error != NULL)
		error[0] = '\0';
	return (routes_new(&conf->routes) == 0 && tls_routes_new(&conf->tls_routes) == 0) ||
	       settings_refuse(reader, "out of memory");
}

/* Listens on --address and --port, or on their defaults. */
static bool add_address(struct settings_reader *reader)
{
	const struct conf *conf = reader->target;
	const char *address = conf->single.address;
	unsigned char bytes[16];
	char text[INET6_ADDRSTRLEN + 16], *words[] = {text};
	bool inet6 = inet_pton(AF_INET6, address, bytes) == 1;
	reader->subject = "address";
	if (!inet6 && inet_pton(AF_INET, address, bytes) != 1)
		return settings_refuse(reader, "'%s' is not an IPv4 or IPv6 address",
		                       settings_shown(address));
	reader->subject = NULL;
	(void)snprintf(text, sizeof(text), inet6 ? "[%s]:%u" : "%s:%u", address, conf->single.port);
	settings_replace_directive(reader, "listen");
	return conf_listen_add(reader, words, 1);
}

static bool set_listens(struct settings_reader *reader)
{
	const struct conf *conf = reader->target;
	bool given = settings_has_option(reader, "address") || settings_has_option(reader, "port");
	if (given && conf->listen_count > 0)
		return settings_refuse(
		    reader, "--listen excludes --address and --port, which are a shorter form of it");
	if (given || (conf->file == NULL && conf->listen_count == 0))
		return add_address(reader);
	return true;
}

/* Makes the service "default" of the options. */
static bool set_service(struct settings_reader *reader)
{
	const struct conf *conf = reader->target;
	const struct conf_single *single = &conf->single;
	const char *values[] = {single->root, single->workers, single->socket, NULL, NULL, NULL, NULL,
	                        NULL};
	bool wanted = single->root != NULL || single->workers != NULL || single->socket != NULL;
	if (wanted && conf->service_count > 0)
		return settings_refuse(reader, "--root, --workers and --socket are for a proxy without a "
		                               "service in its file");
	if (!wanted && conf->file != NULL)
		return true;
	if (single->root == NULL && single->socket == NULL)
		return settings_refuse(reader, "--socket is missing, or --root, or --config; see --help");
	if (single->workers != NULL && single->root == NULL)
		return settings_refuse(reader, "--workers is for workers with a --root");
	return conf_service_add(reader, "default", values);
}

static bool check_demo(struct settings_reader *reader)
{
	const struct conf *conf = reader->target;
	return !conf->demo || ferry_address_is_loopback(&conf->admin) ||
	       settings_refuse(reader, "--demo needs an --admin address on loopback");
}

static bool read_configuration(struct settings_reader *reader)
{
	const struct conf *conf = reader->target;
	if (!set_listens(reader) || (conf->file != NULL && !conf_file_read(reader, conf->file)))
		return false;
	reader->file = NULL;
	if (!set_service(reader) || !check_demo(reader))
		return false;
	reader->file = conf->file;
	return conf_reader_finish(reader);
}

enum settings_result conf_read(struct conf *conf, int argc, char **argv, char *error)
{
	struct settings_reader reader;
	struct conf_draft draft;
	enum settings_result result = SETTINGS_BAD;
	if (conf_reader_begin(&reader, conf, &draft, error))
		result = settings_read_options(&reader, argc, argv);
	if (result == SETTINGS_READ && !read_configuration(&reader))
		result = SETTINGS_BAD;
	if (result != SETTINGS_READ)
		conf_free(conf);
	return result;
}

bool conf_read_text(struct conf *conf, const char *name, const char *text, size_t length,
                    char *error)
{
	struct settings_reader reader;
	struct conf_draft draft;
	bool fine = conf_reader_begin(&reader, conf, &draft, error);
	conf->file = name;
	fine = fine && conf_file_read_text(&reader, name, text, length) && conf_reader_finish(&reader);
	if (!fine)
		conf_free(conf);
	return fine;
}
