#ifndef FERRY_PROGRAMS_FERRY_WORKER_CHANNELS_H
#define FERRY_PROGRAMS_FERRY_WORKER_CHANNELS_H

/* Where a worker's connections come from: the channels to proxies. A worker that a proxy has started has
 * one, which it was born with. Others connect to a proxy's unix socket, and do so again whenever that
 * proxy is gone, or wants to give them no more because another one takes over from it. */

#include "programs/ferry-worker/connection.h"

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct ferry_handoff;
struct channels;

struct channels_callbacks {
	/* A connection is this process's. 0: it is served, and channels_done() follows some time. */
	int (*taken)(struct ferry_handoff *handoff, const struct connection_tag *tag, void *context);

	/* A channel sends no more, or is over. */
	void (*changed)(void *context);
};

struct channels_options {
	int fd;                  /* the only channel, owned by the callee; or -1 */
	const char *socket_path; /* where to connect, or NULL */
	unsigned int credits;    /* connections at once */
};

/* 0, or a negative errno: the descriptor is no channel, or there is no memory. */
int channels_new(struct channels **out, struct event_base *base,
                 const struct channels_options *options, const struct channels_callbacks *callbacks,
                 void *context);

/* A connection has ended. */
void channels_done(struct channels *channels, const struct connection_tag *tag);

/* Wants no more connections, and connects no more. */
void channels_drain(struct channels *channels);

/* Whether no more connections are to come: the one channel sends none, or all are drained. */
bool channels_are_drained(const struct channels *channels);

/* Whether there is nobody left to be told of the end of a connection, and nobody will be. */
bool channels_are_over(const struct channels *channels);

/* Closes all; the loop has to run a few turns after. NULL: nothing happens. */
void channels_free(struct channels *channels);

#endif
