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
	PROXY_LISTENERS_MAX = PROXY_CONF_LISTENS + PROXY_CONF_SERVICES + 2,
	PROXY_LISTENERS_NAME_SIZE = SOCKET_ADDRESS_TEXT_SIZE + 16
};

/* One socket that a configuration wants. */
struct proxy_listener {
	char name[PROXY_LISTENERS_NAME_SIZE];
	struct socket_address address;
	int fd; /* of the set, once it is open */
};

/* All of them. */
struct proxy_listeners {
	struct proxy_listener listens[PROXY_CONF_LISTENS];   /* as many as the configuration has */
	struct proxy_listener services[PROXY_CONF_SERVICES]; /* those without a socket: no name */
	struct proxy_listener admin, control;                /* without: no name */
};

/* Lists what the configuration wants; nothing is opened. 0, or -EINVAL or -ENAMETOOLONG after saying which
 * path is none for a socket. */
int proxy_listeners_init(struct proxy_listeners *listeners, const struct proxy_conf *conf);

/* Takes each from the set, or opens it and adds it. 0, or a negative errno after saying what failed. */
int proxy_listeners_open(struct proxy_listeners *listeners, struct ferry_socket_set *set);

/* The next one, in some order; NULL to begin with, and in the end. */
struct proxy_listener *proxy_listeners_next(struct proxy_listeners *listeners,
                                            const struct proxy_listener *listener);

#endif
