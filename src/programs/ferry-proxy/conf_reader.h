#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_READER_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_READER_H

/* The reading of one configuration: the present place in the file or on the command line, the first
 * error, and checks that both share. For conf_directives.c, conf_file.c and conf_options.c alone. */

#include "programs/ferry-proxy/conf.h"

enum directive {
	DIRECTIVE_LISTEN,
	DIRECTIVE_SERVICE,
	DIRECTIVE_ROUTE,
	DIRECTIVE_DEFAULT,
	DIRECTIVE_ADMIN,
	DIRECTIVE_CONTROL,
	DIRECTIVE_USER,
	DIRECTIVE_GROUP,
	DIRECTIVE_ACCESS_LOG,
	DIRECTIVE_QUEUE,
	DIRECTIVE_QUEUE_TIMEOUT,
	DIRECTIVE_ANSWER_TIMEOUT,
	DIRECTIVE_HEAD_TIMEOUT,
	DIRECTIVE_IDLE_TIMEOUT,
	DIRECTIVE_KEEP,
	DIRECTIVE_DRAIN_TIMEOUT,
	DIRECTIVE_LAME_DUCK,
	DIRECTIVE_MAX_CLIENTS,
	DIRECTIVE_RETRY_AFTER,
	DIRECTIVE_HEAD_SIZE,
	DIRECTIVE_HEAD_FIELDS,
	DIRECTIVES
};

struct routes;

struct conf_reader {
	struct conf *conf;
	char *error; /* CONF_ERROR_SIZE bytes, or NULL */

	/* The present place. */
	const char *file;    /* NULL: the command line */
	unsigned int line;   /* of the file; 0: the file as a whole */
	const char *subject; /* the directive, or the option with its "--"; NULL: the line */

	bool by_option[DIRECTIVES];     /* an option replaces the directive */
	unsigned int lines[DIRECTIVES]; /* the line where each directive stood first; 0: nowhere */
	struct routes *routes;          /* those of `conf`, to find duplicates */
	unsigned int route_lines[CONF_ROUTES];
	char route_services[CONF_ROUTES][CONF_NAME_MAX + 1];
	char default_name[CONF_NAME_MAX + 1];
};

/* Sets the defaults in `conf`. 0, or -ENOMEM with an error; the caller ends the reader in both cases. */
int conf_reader_begin(struct conf_reader *reader, struct conf *conf, char *error);
void conf_reader_end(struct conf_reader *reader);

/* Writes the place and the message to `error`, unless there is one already. Returns false. */
__attribute__((format(printf, 2, 3))) bool conf_reader_refuse(struct conf_reader *reader,
                                                              const char *format, ...);

/* A word as a message may contain it: cut, and without control characters. The text is one of a ring of
 * four buffers. */
const char *conf_reader_shown(const char *word);

/* Copies `value` to an owned string. False: no memory, and the reader has the error. */
bool conf_reader_set(struct conf_reader *reader, char **member, const char *value);

/* Reads a decimal number without a sign. False: `word` is none, or is out of range. */
bool conf_reader_number(struct conf_reader *reader, const char *word, unsigned long min,
                        unsigned long max, unsigned long *number);

/* Checks that a path is a directory; that a path fits into the address of a unix socket. */
bool conf_reader_directory(struct conf_reader *reader, const char *path);
bool conf_reader_socket_path(struct conf_reader *reader, const char *path);

#endif
