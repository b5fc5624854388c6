#ifndef FERRY_PROGRAMS_FERRY_WORKER_CONNECTION_H
#define FERRY_PROGRAMS_FERRY_WORKER_CONNECTION_H

/* One client of the static file server, from the first request to the close.
 *
 *            a head is whole              the stream is empty
 *   READING ----------------> ANSWERING ---------------------> READING      (keep-alive)
 *      ^                          |                       \
 *      +--------------------------+                        +-> LINGERING -> gone
 *
 * A request for a file waits before it is ANSWERING, for some seconds, while the process has no descriptor
 * for it.
 *
 * One answer is in the stream at a time, and reading stands still meanwhile: a client that sends
 * requests and reads no answers fills its own socket and not this process's memory. A connection
 * that is to be closed lingers: its sending half is ended, and what the client still sends is read
 * and dropped, because closing a TCP socket with unread input resets the connection and may take
 * the answer away before the client has read it.
 *
 * A server that drains says "Connection: close" in each answer from then on. It does not close a
 * connection that waits for a request, because that may be on its way already: the client would see it
 * fail. Such a one ends with its next answer, or when it has been idle for its time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/time.h>

struct access_log;
struct bufferevent;
struct event_base;
struct connection;

/* What its owner knows a connection by. */
struct connection_tag {
	unsigned long channel; /* the one that it came over */
	uint64_t id;           /* its number there */
};

/* What a server's connections share. */
struct connections {
	struct event_base *base;
	int root; /* the directory that is served */

	struct timeval idle_timeout;   /* without a byte from or to the client */
	struct timeval head_timeout;   /* from a head's first byte to its last */
	struct timeval linger_timeout; /* from the last byte sent to the close */
	bool draining;                 /* no answer keeps its connection, from now on */
	bool closes_idle;              /* set by connections_close_idle() */
	struct access_log *access_log; /* NULL: none */

	/* A connection has ended and its descriptors are closed; `tag` is what it was given. */
	void (*ended)(struct connections *server, const struct connection_tag *tag);

	struct connection *connections; /* start with NULL */
	size_t connection_count;
};

/* Serves a client: `bev` was made by bufferevent_socket_new() with BEV_OPT_CLOSE_ON_FREE, and has in its
 * input what was read of the connection already. `name` is what the client is called in the access log.
 * 0, or a negative errno. The bufferevent is the server's whatever happens, and `ended` follows only
 * when 0 is returned. */
int connections_serve(struct connections *server, struct bufferevent *bev, const char *name,
                      const struct connection_tag *tag);

/* Closes the connections that wait for a request, and those that will, without a word: for when nobody
 * is to answer the next one anyway. `ended` follows. */
void connections_close_idle(struct connections *server);

/* Ends all connections at once, without calling `ended`. The loop has to run a few turns after. */
void connections_close_all(struct connections *server);

#endif
