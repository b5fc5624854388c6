#ifndef EXAMPLES_UNIX_PEER_H
#define EXAMPLES_UNIX_PEER_H

/* Meeting the other end at a unix socket, whichever of the two is the server: the command line of
 * the programs of this directory that speak over one, and the connections they have. */

#include <stdbool.h>
#include <sys/queue.h>

struct event_base;
struct ferry_transport;
struct unix_peer;

/* A connection that stands, inside the callee's own object. */
struct unix_connection {
	LIST_ENTRY(unix_connection) others;
	struct unix_peer *peer;
	void (*end)(struct unix_connection *connection); /* frees it, with what it is in */
};

/* It is ended by unix_connection_is_over(), or when the loop has ended, maybe by a signal. */
void unix_connection_stands(struct unix_connection *connection, struct unix_peer *peer,
                            void (*end)(struct unix_connection *connection));
void unix_connection_is_over(struct unix_connection *connection);

struct unix_peer {
	struct event_base *base;
	const char *path;
	bool listens; /* or connects */
	bool once;    /* ends after the first connection; who connects has no second one */

	/* A connection stands; `transport` is the callee's. Once, when this end connects. */
	void (*met)(struct unix_peer *peer, struct ferry_transport *transport);

	LIST_HEAD(unix_connections, unix_connection) connections;

	bool failed; /* the connection was not what it should be: unix_peer_run() returns 1 */
};

/* Takes --listen, --connect and --once, and then the path and `extra` more arguments, which are from
 * the returned index on. -1, after printing `usage`, when that is not what there is. */
int unix_peer_read_arguments(struct unix_peer *peer, int argc, char **argv, int extra,
                             const char *usage);

/* Listens or connects, and runs the loop until the only connection is over, SIGINT or SIGTERM. 0, or
 * 1 after printing what went wrong. */
int unix_peer_run(struct unix_peer *peer);

/* The callee of `met` says that there is no connection after all. */
void unix_peer_is_over(struct unix_peer *peer);

#endif
