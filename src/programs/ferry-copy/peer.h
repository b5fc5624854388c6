#ifndef FERRY_PROGRAMS_FERRY_COPY_PEER_H
#define FERRY_PROGRAMS_FERRY_COPY_PEER_H

/* The connection of send or receive: one, at a unix or TCP address, as server or as client.
 *
 * An address is "unix:PATH", "unix:@NAME" or "@NAME" (Linux's abstract names), or "tcp:HOST:PORT" with a
 * numeric HOST ("tcp:127.0.0.1:7000", "tcp:[::1]:7000"). A server may use port 0 for a free one. */

#include <stdbool.h>

struct ev_token_bucket_cfg;
struct event_base;
struct ferry_connector;
struct ferry_listener;
struct ferry_transport;

enum { PEER_TIMEOUT = 60 /* the default, in seconds */ };

struct peer {
	const char *address;
	bool listens;          /* or connects */
	unsigned long limit;   /* bytes a second, in each direction; 0: none */
	unsigned long timeout; /* seconds without progress; 0: none */

	/* The connection has been made, or is being made and may still fail with connection_lost. Called
	 * once; by a server again, after a client that did not introduce itself was dropped. The callee sets a protocol, or returns a negative errno. The peer frees `transport`. */
	int (*connected)(struct peer *peer, struct ferry_transport *transport);

	/* The loop has ended, and its base still exists: the callee frees its events. */
	void (*ended)(struct peer *peer);

	bool succeeded; /* set by the callee of `connected` */

	/* Set by peer_run(). */
	struct event_base *base;
	struct ferry_transport *transport;
	struct ferry_connector *connector;
	struct ferry_listener *listener;
	int listening_fd;       /* for TCP; or -1 */
	struct event *watch;    /* for the timeout */
	struct event *stranger; /* drops a client that does not introduce itself */
	unsigned int still;     /* periods of the watch without progress */
	bool expired;
	struct ev_token_bucket_cfg *bucket;
};

/* The options of both commands for getopt_long(). */
#define PEER_OPTIONS                                                                        \
	{"listen", no_argument, NULL, 'l'}, {"connect", no_argument, NULL, 'c'},                \
	    {"limit", required_argument, NULL, 'r'}, {"timeout", required_argument, NULL, 't'}, \
	{                                                                                       \
		"help", no_argument, NULL, 'h'                                                      \
	}

/* Reads one of these options except --help. False, after a message: the option is unknown, or its value
 * is wrong. */
bool peer_option(struct peer *peer, int option);

/* Listens or connects, and runs the loop until peer_is_over(), SIGINT or SIGTERM. A server prints
 * "listening ADDRESS", and accepts one connection, after those that do not introduce themselves in time. EXIT_SUCCESS or EXIT_FAILURE; before the latter it
 * prints the cause if there was no connection, or a signal. */
int peer_run(struct peer *peer);

/* The other end has sent its first frame: it is no stranger. A server stops listening. */
void peer_is_introduced(struct peer *peer);

/* Bytes have come or gone, or are awaited from now on. */
void peer_moves(struct peer *peer);

/* No progress is expected of the other end for now: the source of the bytes has no limit of time. peer_moves() ends
 * that. */
void peer_pauses(struct peer *peer);

/* The text for a connection that is lost with this reason; `clean` for 0. */
const char *peer_loss(const struct peer *peer, int reason, const char *clean);

/* Ends the loop: the copy is complete, or has failed. */
void peer_is_over(struct peer *peer);

#endif
