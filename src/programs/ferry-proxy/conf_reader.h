#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_READER_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_READER_H

/* The parts of reading a configuration. The target of the reader is the `struct conf`, its context a `struct conf_draft`.
 * False: the reader has the error. */

#include "programs/ferry-proxy/conf.h"

/* What routes and the default name: services that may follow in the file. */
struct conf_draft {
	unsigned int route_count;
	unsigned int route_lines[CONF_ROUTES];
	const char *route_services[CONF_ROUTES];
	const char *default_service; /* NULL: the first one */
	const char *tls_default;     /* NULL: none */
};

/* The options and directives. */
extern const struct settings conf_settings;

/* Prepares a reader and an empty configuration. */
bool conf_reader_begin(struct settings_reader *reader, struct conf *conf, struct conf_draft *draft,
                       char *error);

/* Reads the file `path`; or a text as if it were that file. */
bool conf_file_read(struct settings_reader *reader, const char *path);
bool conf_file_read_text(struct settings_reader *reader, const char *path, const char *text,
                         size_t length);

/* Adds a service; the values are those of "root", "workers", "socket", "choice", "mode", "group", "tls-certificate" and
 * "tls-key", or NULL. */
bool conf_service_add(struct settings_reader *reader, const char *name, const char *const *values);

/* Checks after the last directive that nothing is missing, and finds the services that routes name. */
bool conf_reader_finish(struct settings_reader *reader);

#endif
