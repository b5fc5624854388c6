#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_READER_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_READER_H

/* What reads the file's lines and what reads the command line have in common; nobody else's. */

#include "programs/ferry-proxy/conf.h"

enum directive {
	DIRECTIVE_LISTEN,
	DIRECTIVE_SERVICE,
	DIRECTIVE_ROUTE,
	DIRECTIVE_DEFAULT,
	DIRECTIVE_ADMIN,
	DIRECTIVE_CONTROL,
	DIRECTIVE_QUEUE,
	DIRECTIVE_QUEUE_TIMEOUT,
	DIRECTIVE_ANSWER_TIMEOUT,
	DIRECTIVE_HEAD_TIMEOUT,
	DIRECTIVE_DRAIN_TIMEOUT,
	DIRECTIVE_MAX_CLIENTS,
	DIRECTIVE_RETRY_AFTER,
	DIRECTIVES
};

struct routes;

struct conf_reader {
	struct conf *conf;
	char *error; /* CONF_ERROR_SIZE bytes, or NULL */

	const char *file;  /* what is read now; NULL: the command line */
	unsigned int line; /* in it; 0: it as a whole */
	const char
	    *subject; /* the directive, without which it is about the line; an option has its "--" */

	bool by_option[DIRECTIVES];     /* the file's is not looked at */
	unsigned int lines[DIRECTIVES]; /* where each stood first; 0: nowhere */
	struct routes *routes;          /* those of conf, for finding what is said twice */
	unsigned int route_lines[CONF_ROUTES];
	char route_services[CONF_ROUTES][CONF_NAME_MAX + 1];
	char default_name[CONF_NAME_MAX + 1];
};

/* 0, or -ENOMEM, told; in either case conf_reader_end() is due. */
int conf_reader_begin(struct conf_reader *reader, struct conf *conf, char *error);
void conf_reader_end(struct conf_reader *reader);

/* Each of these is true, or has told what is wrong. */

/* Carries out a directive. `words` are its arguments. */
bool conf_reader_directive(struct conf_reader *reader, enum directive directive, char **words,
                           size_t count);
bool conf_reader_text(struct conf_reader *reader, const char *text, size_t length);
bool conf_reader_file(struct conf_reader *reader, const char *path);

/* All was read: whether it goes together. */
bool conf_reader_finish(struct conf_reader *reader);

/* Sets an owned string. */
bool conf_reader_set(struct conf_reader *reader, char **member, const char *value);

bool conf_reader_number(struct conf_reader *reader, const char *word, unsigned long min,
                        unsigned long max, unsigned long *number);

/* Whether a directory can be entered; whether a path fits into a unix socket's address. */
bool conf_reader_directory(struct conf_reader *reader, const char *path);
bool conf_reader_socket_path(struct conf_reader *reader, const char *path);

/* Tells what is wrong, with the place before it; only the first is kept. False. */
__attribute__((format(printf, 2, 3))) bool conf_reader_refuse(struct conf_reader *reader,
                                                              const char *format, ...);

/* A word as it may be shown: cut, and without control characters. A ring of a few buffers. */
const char *conf_reader_shown(const char *word);

#endif
