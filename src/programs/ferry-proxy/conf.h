#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_H

/* What ferry-proxy is told to do: by a file of lines, and by options on its command line.
 *
 * A line is a directive and its arguments, separated by blanks. "#" at the start of a word begins a
 * comment. A word may stand, or have parts that stand, in double quotes, for blanks; within them \" and
 * \\ are a quote and a backslash. src/programs/ferry-proxy/ferry-proxy.conf has every directive.
 *
 *     listen ADDRESS [proxy-protocol]     repeated; ADDRESS as in socket_address.h
 *     service NAME [root=DIRECTORY] [workers=N] [socket=PATH] [choice=least|round-robin|by-client]
 *     route [host=HOST] [path=/PREFIX] SERVICE      repeated; see routes.h
 *     default SERVICE                     for what no route takes; else the first service is it
 *     admin ADDRESS
 *     control PATH
 *     queue N              retry-after SECONDS
 *     queue-timeout MS     head-timeout SECONDS
 *     answer-timeout MS    drain-timeout SECONDS
 *     max-clients N
 *
 * An option says what the directive of its name says, and then the file's is not looked at: --listen,
 * --admin, --control, --queue and so on. --socket, --root and --workers describe the one service of a
 * proxy without a file; --address and --port are another way of saying --listen.
 *
 * Every refusal is one line of text that says where, what and what was expected:
 *
 *     ferry-proxy.conf:12: queue: '0' is no number from 1 to 1000000
 *     --queue: '0' is no number from 1 to 1000000
 */

#include "programs/shared/socket_address.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/time.h>

#include <ferry/dispatcher.h>

enum {
	CONF_LISTENS = 16,
	CONF_SERVICES = 32,
	CONF_ROUTES = 256,
	CONF_NAME_MAX = 63, /* bytes of a service's name: letters, digits, '-', '_', '.' */
	CONF_LINE_MAX = 4096,
	CONF_FILE_MAX = 1048576,
	CONF_ERROR_SIZE = 512
};

struct conf_listen {
	struct socket_address address;
	bool proxy_protocol; /* every connection starts with a PROXY header: proxy_protocol.h */
};

struct conf_service {
	char name[CONF_NAME_MAX + 1];
	char *root;           /* of the workers that the proxy starts; NULL: it starts none */
	unsigned int workers; /* how many of these; 0 without a root */
	char *socket;         /* where workers that others start connect; NULL: nowhere */
	enum ferry_dispatch_choice choice;
	unsigned int line; /* where it stands in the file; 0: it comes from options */
};

struct conf_route {
	char *host;           /* "example.org", "*.example.org"; NULL: any */
	char *path;           /* "/prefix"; NULL: any */
	unsigned int service; /* index */
};

/* All of it; read only for everybody else. */
struct conf {
	char *file; /* NULL: none was read */

	struct conf_listen listens[CONF_LISTENS];
	unsigned int listen_count; /* 1 at least */
	struct conf_service services[CONF_SERVICES];
	unsigned int service_count; /* 1 at least */
	struct conf_route routes[CONF_ROUTES];
	unsigned int route_count;
	unsigned int default_service; /* index */

	struct socket_address admin; /* length 0: none */
	char *control;               /* NULL: none; where a new proxy takes over */
	char *take_over;   /* --take-over: the control path of the proxy to replace; or NULL */
	char *outcome_log; /* --outcome-log: a line for each hand-off's outcome; or NULL */

	unsigned int queue;            /* connections waiting, for each service; 1024 */
	struct timeval queue_timeout;  /* 5 s */
	struct timeval answer_timeout; /* 5 s */
	struct timeval head_timeout;   /* 10 s */
	struct timeval
	    drain_timeout; /* 60 s: then a worker that drains is ended; longer than its --idle-timeout */
	unsigned long max_clients; /* 0: as many as there are descriptors for */
	unsigned int retry_after;  /* seconds, in a 503; 1 */
};

enum conf_result {
	CONF_OK,
	CONF_HELP,    /* --help: print conf_usage, end with 0 */
	CONF_VERSION, /* --version: print the version, end with 0 */
	CONF_CHECK,   /* --check: all is well with it, say so, end with 0 */
	CONF_BAD      /* print `error`, end with 2 */
};

extern const char conf_usage[];

/*
 * Reads the command line, and the file that its --config names. `conf` need not be initialised; it is
 * to be freed after OK and CHECK, and is empty after the others. May be called again with the same
 * arguments, into another conf, to see what the file says now. `error` has room for
 * CONF_ERROR_SIZE bytes; NULL is for who does not want to know.
 */
enum conf_result conf_read(struct conf *conf, int argc, char **argv, char *error);

/* Reads a file's text alone, as if it were the file `name`. OK or BAD. */
enum conf_result conf_read_text(struct conf *conf, const char *name, const char *text,
                                size_t length, char *error);

/* The service of that name, or -1. */
int conf_find_service(const struct conf *conf, const char *name);

/* "least", "round-robin" or "by-client". */
const char *conf_choice_name(enum ferry_dispatch_choice choice);

/* Frees what it points to, and empties it. Twice is fine. */
void conf_free(struct conf *conf);

#endif
