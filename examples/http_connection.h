#ifndef EXAMPLES_HTTP_CONNECTION_H
#define EXAMPLES_HTTP_CONNECTION_H

/* One client of the static file server, from the first request to the close.
 *
 *            a head is whole              the stream is empty
 *   READING ----------------> ANSWERING ---------------------> READING      (keep-alive)
 *      ^                          |                       \
 *      +--------------------------+                        +-> LINGERING -> gone
 *
 * One answer is in the stream at a time, and reading stands still meanwhile: a client that sends
 * requests and reads no answers fills its own socket and not this process's memory. A connection
 * that is to be closed lingers: its sending half is ended, and what the client still sends is read
 * and dropped, because closing a TCP socket with unread input resets the connection and may take
 * the answer away before the client has read it. */

#include <stddef.h>

#include <sys/time.h>

struct evbuffer;
struct event_base;
struct http_connection;

/* What a server's connections share. */
struct http_server {
	struct event_base *base;
	int root; /* the directory that is served */

	struct timeval idle_timeout;   /* without a byte from or to the client */
	struct timeval head_timeout;   /* from a head's first byte to its last */
	struct timeval linger_timeout; /* from the last byte sent to the close */

	/* A connection has ended and its descriptors are closed; `tag` is what it was given. */
	void (*ended)(struct http_server *server, unsigned long tag);

	struct http_connection *connections; /* start with NULL */
	size_t connection_count;
};

/* Serves a client. `fd` is a connected stream socket, of which the bytes in `input` have been read
 * already; they are taken out. 0, or a negative errno. The descriptor is the server's whatever
 * happens, and `ended` follows only when 0 is returned. */
int http_server_serve(struct http_server *server, int fd, struct evbuffer *input,
                      unsigned long tag);

/* Ends all connections at once, without calling `ended`. The loop has to run a few turns after. */
void http_server_close_all(struct http_server *server);

#endif
