#ifndef FERRY_PROGRAMS_FERRY_COPY_PEER_H
#define FERRY_PROGRAMS_FERRY_COPY_PEER_H

/* One connection at a unix or TCP address, whichever end is the server: what send and receive have
 * in common.
 *
 * An address is "unix:PATH", "unix:@NAME" or "@NAME" (Linux's abstract names), or "tcp:HOST:PORT" with
 * a numeric HOST ("tcp:127.0.0.1:7000", "tcp:[::1]:7000") and, to listen, 0 for a free port. */

#include <stdbool.h>

struct ev_token_bucket_cfg;
struct event_base;
struct ferry_connector;
struct ferry_listener;
struct ferry_transport;

struct peer {
	const char *address;
	bool listens;        /* or connects */
	unsigned long limit; /* bytes a second, either way; 0: none */

	/* The connection is there, or being made: then it may still fail by connection_lost. Sets a
	 * protocol, or returns a negative errno. Once. `transport` is the peer's to free. */
	int (*met)(struct peer *peer, struct ferry_transport *transport);

	/* The loop will not run any more, and is still there: for what stands on it to be freed. */
	void (*left)(struct peer *peer);

	bool succeeded; /* for the callee of `met` to say */

	/* The rest is set by peer_run(). */
	struct event_base *base;
	struct ferry_transport *transport;
	struct ferry_connector *connector;
	struct ferry_listener *listener;
	int listening_fd; /* of TCP; or -1 */
	struct ev_token_bucket_cfg *bucket;
};

/* What getopt_long() gives for the options that both programs have; their own begin after these. */
#define PEER_OPTIONS                                                         \
	{"listen", no_argument, NULL, 'l'}, {"connect", no_argument, NULL, 'c'}, \
	    {"limit", required_argument, NULL, 'r'},                             \
	{                                                                        \
		"help", no_argument, NULL, 'h'                                       \
	}

/* Takes one of them, other than --help. False, after printing why, when it is none or its value is
 * not what it takes. */
bool peer_option(struct peer *peer, int option);

/* Listens or connects, and runs the loop until peer_is_over(), SIGINT or SIGTERM. Who listens
 * prints "listening ADDRESS" once it does, and takes one connection. EXIT_SUCCESS or EXIT_FAILURE, after
 * printing why there was no connection or that a signal came. */
int peer_run(struct peer *peer);

/* The callee of `met` says that all is done, or lost. */
void peer_is_over(struct peer *peer);

#endif
