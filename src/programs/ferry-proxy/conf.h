#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_H

/* The configuration of ferry-proxy. conf_settings.c has the table of its options and directives, conf_options.c reads
 * the command line, and conf_file.c the file that --config names. An option replaces the directive of the same name. The
 * texts are those of the arguments and of the file, and are not copied. */

#include "programs/shared/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/time.h>
#include <sys/types.h>

#include <ferry/address.h>
#include <ferry/dispatcher.h>
#include <ferry/proxy_protocol.h>

struct routes;
struct tls_routes;

enum {
	CONF_LISTENS = 16,
	CONF_SERVICES = 32,
	CONF_ROUTES = 256,
	CONF_NAME_MAX = 63, /* bytes of a service's name: letters, digits, '-', '_', '.' */
	CONF_LINE_MAX = 4096,
	CONF_FILE_MAX = 1048576,
	CONF_ERROR_SIZE = SETTINGS_ERROR_SIZE
};

/* The permissions of the file of a unix socket. */
struct conf_access {
	mode_t mode; /* 0: 0600 */
	gid_t group; /* (gid_t)-1: that of the process */
};

struct conf_listen {
	struct ferry_address address;
	/* The name of a socket that the service manager passes; `address` has length 0 then. Empty: the proxy opens
	 * `address`. */
	char systemd[CONF_NAME_MAX + 1];
	struct conf_access access;
	bool proxy_protocol;                       /* every connection starts with a PROXY header */
	struct ferry_proxy_protocol_sources *from; /* the peers that may connect then; NULL: all */
	bool tls_passthrough;                      /* of TLS clients, whose ClientHello has the route */
};

struct conf_service {
	char name[CONF_NAME_MAX + 1];
	const char *root; /* the directory that the proxy's own workers serve; NULL: it starts none */
	unsigned int workers;        /* the number of own workers; 0 without a root */
	const char *tls_certificate; /* of own workers, with tls_key; NULL: none */
	const char *tls_key;
	const char *socket;        /* the unix socket for workers that others start; NULL: none */
	struct conf_access access; /* of the socket */
	enum ferry_dispatch_choice choice;
	unsigned int line; /* of the file; 0: the service comes from options */
};

/* The one listener and the one service of a proxy without a file, as the command line has them. */
struct conf_single {
	const char *address;
	unsigned int port;
	const char *root;
	const char *workers;
	const char *socket;
};

/* Once it has been read, only conf_reload_exchange() changes it. */
struct conf {
	const char *file; /* NULL: no file was read */
	char *text;       /* its content, cut into words */
	bool check;       /* --check: print that the configuration has no error, and exit */
	struct conf_single single;

	struct conf_listen listens[CONF_LISTENS];
	unsigned int listen_count; /* 1 at least */
	struct conf_service services[CONF_SERVICES];
	unsigned int service_count;    /* 1 at least */
	struct routes *routes;         /* to indices of `services` */
	struct tls_routes *tls_routes; /* the same for TLS clients */

	char user[CONF_NAME_MAX + 1]; /* empty: the proxy stays who it is */
	uid_t uid;                    /* of the user */
	gid_t gid;                    /* of the directive "group", or else that of the user */
	bool has_group;

	struct ferry_address admin; /* length 0: none */
	bool demo;                  /* --demo: a page of `admin`, which is on loopback, kills workers */
	const char *control;        /* the socket over which a new proxy takes over; NULL: none */
	const char *take_over;      /* --take-over: the control path of the proxy to replace; or NULL */
	const char *access_log;     /* of the proxy and the workers that it starts; NULL: none */
	const char *outcome_log;    /* --outcome-log: a line for each handoff's outcome; or NULL */

	unsigned int queue;            /* connections that wait, for each service; 1024 */
	struct timeval queue_timeout;  /* 5 s */
	struct timeval answer_timeout; /* 5 s */
	struct timeval start_timeout;  /* 60 s; of a worker that the proxy has started */
	struct timeval head_timeout;   /* 10 s */
	struct timeval idle_timeout;   /* 60 s; of a connection that a worker has returned */
	/* 60 s. Then a worker that drains is ended. Longer than the worker's --idle-timeout. */
	struct timeval drain_timeout;
	struct timeval
	    lame_duck; /* 0 s. For this time after SIGTERM the proxy serves on, and is not healthy */
	unsigned int max_clients; /* 0: as many as the descriptor limit allows */
	unsigned int retry_after; /* seconds, in a 503; 1 */
	unsigned int head_size;   /* bytes of a request head; 8192 */
	unsigned int head_fields; /* fields of one; 100 */
	unsigned int keep;        /* seconds for which the own workers keep an idle connection; 1 */

	int scheduling; /* SCHED_BATCH, the default, or SCHED_OTHER; of the proxy and the workers that it starts */
};

/* Sets the defaults; nothing is listened on, and there is no service. */
void conf_init(struct conf *conf);

/*
 * Reads the command line, and the file that --config names. `conf` need not be initialised. After SETTINGS_READ the caller
 * frees it; after the other results it is empty. The caller may read the same arguments again into another `conf`, to get
 * the present content of the file. `error` has room for CONF_ERROR_SIZE bytes; with NULL the message is dropped.
 */
enum settings_result conf_read(struct conf *conf, int argc, char **argv, char *error);

/* Reads a text as if it were the file `name`, without a command line. False: `error` has the reason; `conf` and `error` as
 * for conf_read(). */
bool conf_read_text(struct conf *conf, const char *name, const char *text, size_t length,
                    char *error);

/* The service of that name, or -1. */
int conf_find_service(const struct conf *conf, const char *name);

/* "least", "round-robin" or "by-client". */
const char *conf_choice_name(enum ferry_dispatch_choice choice);

/* The reverse. False: `name` is none of the three. */
bool conf_find_choice(const char *name, enum ferry_dispatch_choice *choice);

/* Frees the members, and empties the configuration. A second call does nothing. */
void conf_free(struct conf *conf);

#endif
