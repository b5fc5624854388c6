#ifndef FERRY_PROGRAMS_FERRY_WORKER_CHANNELS_H
#define FERRY_PROGRAMS_FERRY_WORKER_CHANNELS_H

/* The channels to proxies, over which a worker gets its connections. A worker that a proxy has started has
 * one channel, which it inherits. Other workers connect to the unix socket of a proxy. They connect again
 * whenever that proxy is lost, or drains them because another proxy takes over from it. */

#include "programs/ferry-worker/connections.h"

#include <stdbool.h>
#include <stddef.h>

struct channels;
struct event_base;
struct ferry_handoff;

struct channels_callbacks {
	/* The worker has claimed a connection. 0: the callee serves it, and calls channels_done() later. */
	int (*taken)(struct ferry_handoff *handoff, const struct connection_tag *tag, void *context);

	/* The proxy asks for the idle connections of a channel, within a time. */
	void (*recalled)(unsigned long channel, const struct timeval *spread, void *context);

	/* The proxy has not got a connection that was returned: it is this worker's. The callee owns the handoff. */
	void (*kept)(struct ferry_handoff *handoff, const struct connection_tag *tag, void *context);

	/* A channel has no credit left, or has some again. */
	void (*scarce)(bool scarce, void *context);

	/* A channel has been drained, or has ended. */
	void (*changed)(void *context);
};

struct channels_options {
	const char *socket_path; /* the socket to connect to; NULL: the proxy has started this worker */
	unsigned int credits;    /* the number of connections that one proxy may hand over at a time */
};

/* 0, or a negative errno: no proxy has started this worker (-ENOENT), or there is no memory. */
int channels_new(struct channels **out, struct event_base *base,
                 const struct channels_options *options, const struct channels_callbacks *callbacks,
                 void *context);

/* A connection has ended. */
void channels_done(struct channels *channels, const struct connection_tag *tag);

/* The process that has the other end of the channel; 0: the channel has ended. */
long channels_proxy(const struct channels *channels, const struct connection_tag *tag);

/* Whether the proxy that a connection came from takes it back. */
bool channels_can_return(const struct channels *channels, const struct connection_tag *tag);

/* Returns a connection to the proxy that it came from, in place of channels_done(). 0, and the callee owns the
 * handoff; or a negative errno. */
int channels_return(struct channels *channels, const struct connection_tag *tag,
                    struct ferry_handoff *handoff);

/* Asks the proxies for no more connections, and connects no more. */
void channels_drain(struct channels *channels);

/* Whether no more connections come: channels_drain() was called, or the proxy has drained the inherited
 * channel. */
bool channels_are_drained(const struct channels *channels);

/* Whether all channels have ended, and none will be made: no proxy waits for the end of a connection. */
bool channels_are_over(const struct channels *channels);

/* Closes all channels. The caller runs the loop for a few more turns. NULL: does nothing. */
void channels_free(struct channels *channels);

#endif
