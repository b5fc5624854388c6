#ifndef FERRY_PROGRAMS_FERRY_WORKER_CONNECTIONS_H
#define FERRY_PROGRAMS_FERRY_WORKER_CONNECTIONS_H

/* The connections of the clients that the worker serves, each from its first request to the close.
 *
 *            the head is complete         the stream is empty
 *   READING ----------------> ANSWERING ---------------------> READING      (keep-alive)
 *      ^                          |                       \
 *      +--------------------------+                        +-> LINGERING -> gone
 *
 * While the process has no descriptor for the file, the request waits some seconds before it is ANSWERING.
 *
 * One answer is in the stream at a time, and reading is paused meanwhile: a client that sends requests and
 * reads no answers fills the buffer of its own socket and not the memory of the worker. A connection that
 * is to be closed lingers: the worker ends its sending half, reads what the client still sends, and drops
 * it. The close of a TCP socket with unread input would reset the connection, and the client might lose
 * the answer before it has read it.
 *
 * A worker that drains sends "Connection: close" in each answer from then on. It does not close a
 * connection that waits for a request, because a request that is already on its way would fail. Such a
 * connection ends with its next answer, or after its idle timeout. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/time.h>

struct access_log;
struct bufferevent;
struct connection;
struct event_base;

/* Identifies a connection for its owner. */
struct connection_tag {
	unsigned long channel; /* the channel that it came over */
	uint64_t id;           /* of its handoff, on that channel */
};

/* All connections, and their settings. */
struct connections {
	struct event_base *base;
	int root; /* the directory to serve */

	struct timeval idle_timeout;   /* without a byte from or to the client */
	struct timeval head_timeout;   /* from the first byte of a head to its last */
	struct timeval linger_timeout; /* from the last byte sent to the close */
	bool draining;                 /* from now on no answer keeps its connection */
	bool closes_idle;              /* set by connections_close_idle() */
	struct access_log *access_log; /* NULL: none */

	/* A connection has ended, and its descriptors are closed. */
	void (*ended)(struct connections *connections, const struct connection_tag *tag);

	struct connection *first; /* initially NULL */
	size_t count;
};

/* Serves a client. `bev` was made by bufferevent_socket_new() with BEV_OPT_CLOSE_ON_FREE; its input has the
 * bytes that the proxy has read. `name` is the client's name in the access log. 0, or a negative errno.
 * The callee owns the bufferevent, also on failure; `ended` follows only after 0. */
int connections_serve(struct connections *connections, struct bufferevent *bev, const char *name,
                      const struct connection_tag *tag);

/* Closes the connections that wait for a request, and from now on each one that begins to wait. For a
 * worker that is to end and would not answer the next request. `ended` follows for each. */
void connections_close_idle(struct connections *connections);

/* Ends all connections at once, without calling `ended`. The caller runs the loop for a few more turns. */
void connections_close_all(struct connections *connections);

#endif
