#ifndef FERRY_PROGRAMS_FERRY_WORKER_CONNECTIONS_H
#define FERRY_PROGRAMS_FERRY_WORKER_CONNECTIONS_H

/* The connections of the clients that the worker serves, each from its first request to the close.
 *
 *            the head is complete         the stream is empty
 *   READING ----------------> ANSWERING ---------------------> READING      (keep-alive)
 *      ^                          |                       \
 *      +--------------------------+                        +-> LINGERING -> gone
 *
 * A connection that idles goes back to the proxy that it came from, which routes its next request anew: after
 * `keep`; at once if each request has a route of its own, if the proxy asks for it, if the worker drains, or if it
 * has no credit left. It is LEAVING for the rest of that turn of the loop.
 *
 * While the process has no descriptor for the file, the request waits some seconds before it is ANSWERING.
 *
 * A request that has come as a whole with its connection is answered on the bare socket, in the callback that brings it.
 * Only what goes on behind the answer, or does not fit into the socket, or has TLS in the kernel, gets a stream: a
 * bufferevent and a transport cost more than the answer of a small file.
 *
 * One answer is in the stream at a time, and reading is paused meanwhile: a client that sends requests and
 * reads no answers fills the buffer of its own socket and not the memory of the worker. A connection that
 * is to be closed lingers: the worker ends its sending half, reads what the client still sends, and drops
 * it. The close of a TCP socket with unread input would reset the connection, and the client might lose
 * the answer before it has read it.
 *
 * If the proxy takes no connection back, a worker that drains sends "Connection: close" in each answer from then on,
 * and so does each worker if each request has a route of its own. If the proxy goes after the head of such an answer,
 * the connection ends behind it: the next request may be for another service.
 * A connection with TLS stays with its worker in any case: the state of OpenSSL does not travel.
 * It does not close a connection that waits for a request, because a request that is already on its way would fail.
 * Such a connection ends with its next answer, or after its idle timeout. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/time.h>

struct access_log;
struct answer_counters;
struct connection;
struct evbuffer;
struct event_base;
struct ferry_handoff;
struct ferry_worker;
struct filled_pages;
struct stream;

/* Where a connection has come from. */
struct connection_tag {
	struct ferry_worker *worker; /* of the channel to the proxy; NULL: that has ended */
	uint64_t id;                 /* of its handoff, on that channel */
};

/* All connections, and their settings. */
struct connections {
	struct event_base *base;
	int root; /* the directory to serve */

	struct timeval idle_timeout;       /* without a byte from or to the client */
	struct timeval head_timeout;       /* from the first byte of a head to its last */
	struct timeval linger_timeout;     /* from the last byte sent to the close */
	unsigned int head_size;            /* bytes of a request head; http_head_set_limits() */
	unsigned int head_fields;          /* of a request head */
	struct timeval keep;               /* from an answer to the return; 0: none */
	unsigned int scarce;               /* channels without a free credit; then none is kept */
	bool draining;                     /* from now on none is kept */
	bool closes_idle;                  /* set by connections_close_idle() */
	struct access_log *access_log;     /* NULL: none */
	struct answer_counters *counters;  /* NULL: none */
	const struct filled_pages *filled; /* NULL: none */

	/* A connection has ended, and its descriptors are closed. */
	void (*ended)(struct connections *connections, const struct connection_tag *tag);

	struct evbuffer *answer;  /* for the bytes of one answer; empty between two */
	struct connection *spare; /* memory of one that has ended, for the next one; or NULL */
	struct connection *first; /* initially NULL */
	size_t count;
};

/* Who is served, and how. The callee copies the blob. */
struct connection_client {
	const void *blob; /* of client_address_put(): goes back with the connection */
	size_t blob_length;
	bool routes_each;     /* each request has a route of its own */
	unsigned int attempt; /* of the handoff */
	bool answered;        /* it has had an answer, and waits for its next request */
};

/* Serves a client on a stream, whose input has the bytes that the proxy has read. 0, or a negative errno. The
 * callee owns the stream, also on failure; `ended` follows only after 0. */
int connections_serve(struct connections *connections, struct stream *stream,
                      const struct connection_client *client, const struct connection_tag *tag);

/* The same for a connection without TLS that a channel has brought, on a transport. If it has brought a whole request,
 * and nothing behind that, the request is answered within the call, on the bare socket; a connection that is then over
 * never has a transport, and `ended` runs within the call, too. */
int connections_serve_handoff(struct connections *connections, struct ferry_handoff *handoff,
                              const struct connection_client *client,
                              const struct connection_tag *tag);

/* A channel has no credit left, or has some again: returns the connections that idle, so that others can come. */
void connections_set_scarce(struct connections *connections, bool scarce);

/* Returns the connections of a channel that idle, spread over a time, and the others when they idle next. */
void connections_recall(struct connections *connections, const struct ferry_worker *worker,
                        const struct timeval *spread);

/* A channel has ended: nobody takes its connections back, or waits for their ends. */
void connections_leave_channel(struct connections *connections, const struct ferry_worker *worker);

/* Returns the connections that wait for a request, or closes them if the proxy takes them not back, and from now on
 * each one that begins to wait. For a worker that is to end and would not answer the next request. `ended` follows for
 * each that is closed. */
void connections_close_idle(struct connections *connections);

/* Ends all connections at once, without calling `ended`. The caller runs the loop for a few more turns. */
void connections_close_all(struct connections *connections);

#endif
