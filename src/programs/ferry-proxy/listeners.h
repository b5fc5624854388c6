#ifndef FERRY_PROGRAMS_FERRY_PROXY_LISTENERS_H
#define FERRY_PROGRAMS_FERRY_PROXY_LISTENERS_H

/* The sockets that the proxy listens on. Each has a name, by which the next proxy takes it over:
 *
 *     listen ADDRESS      for clients; ADDRESS as configured. A second socket of the same address, with
 *                         port 0 for example, is "listen ADDRESS 2"
 *     NAME                that of "listen systemd:NAME"; the second socket of a NAME is that of the second line
 *     admin ADDRESS
 *     service PATH        for workers that others start
 *     control PATH
 *
 * A socket that is not in the set that was taken over is opened: a new configuration may have more. Those of the
 * service manager are in the set of the first proxy, from which the later ones take them over. */

#include "programs/ferry-proxy/conf.h"

#include <stddef.h>

struct event_base;
struct ferry_socket_set;

enum {
	LISTENERS_MAX = CONF_LISTENS + CONF_SERVICES + 2,
	LISTENERS_NAME_SIZE = FERRY_ADDRESS_TEXT_SIZE + 16
};

/* One socket of the configuration. */
struct listener {
	char name[LISTENERS_NAME_SIZE]; /* empty: the configuration has no such socket */
	struct ferry_address address;
	struct conf_access access; /* of its file */
	unsigned int
	    passed; /* by the service manager: the number among those of that name, from 1; else 0 */
	int fd;     /* once it is open; the set owns it */
};

/* All sockets of the configuration. */
struct listeners {
	struct listener listens[CONF_LISTENS];
	struct listener services[CONF_SERVICES];
	struct listener admin, control;
};

/* Lists the sockets of the configuration, and opens none. 0, or after printing the path -EINVAL or
 * -ENAMETOOLONG: a path cannot be that of a socket. */
int listeners_init(struct listeners *listeners, const struct conf *conf);

/* Finds each socket in the set, or opens it and adds it, unless the service manager has to pass it. The path of a unix socket is locked as long as a process has
 * the socket: of several that start at once one gets it, and a socket that a dead process has left is replaced. Any
 * other file stays. 0, or a negative errno after printing the cause. */
int listeners_open(struct listeners *listeners, struct ferry_socket_set *set,
                   struct event_base *base);

/* The next socket, in some order; after NULL the first one, and NULL after the last one. */
struct listener *listeners_next(struct listeners *listeners, const struct listener *listener);

#endif
