#ifndef FERRY_PROGRAMS_FERRY_PROXY_LISTENERS_H
#define FERRY_PROGRAMS_FERRY_PROXY_LISTENERS_H

/* The sockets that the proxy listens on, by the names under which the next proxy takes them over:
 *
 *     listen ADDRESS      for clients, ADDRESS as it was configured; the second of the same address, port
 *                         0 for example, is "listen ADDRESS 2"
 *     admin ADDRESS
 *     service PATH        for workers that others start
 *     control PATH
 *
 * What is not in the set that was taken over is opened: so a new configuration may have more. */

#include "programs/ferry-proxy/conf.h"

#include <stddef.h>

struct ferry_socket_set;

enum {
	LISTENERS_MAX = CONF_LISTENS + CONF_SERVICES + 2,
	LISTENERS_NAME_SIZE = SOCKET_ADDRESS_TEXT_SIZE + 16
};

/* One socket that a configuration wants. */
struct listener {
	char name[LISTENERS_NAME_SIZE];
	struct socket_address address;
	int fd; /* of the set, once it is open */
};

/* All of them. */
struct listeners {
	struct listener listens[CONF_LISTENS];   /* as many as the configuration has */
	struct listener services[CONF_SERVICES]; /* those without a socket: no name */
	struct listener admin, control;          /* without: no name */
};

/* Lists what the configuration wants; nothing is opened. 0, or -EINVAL or -ENAMETOOLONG after saying which
 * path is none for a socket. */
int listeners_init(struct listeners *listeners, const struct conf *conf);

/* Takes each from the set, or opens it and adds it. 0, or a negative errno after saying what failed. */
int listeners_open(struct listeners *listeners, struct ferry_socket_set *set);

/* The next one, in some order; NULL to begin with, and in the end. */
struct listener *listeners_next(struct listeners *listeners, const struct listener *listener);

#endif
