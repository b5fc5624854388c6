#ifndef FERRY_CHANNEL_CHANNEL_H
#define FERRY_CHANNEL_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ferry/channel.h"

#include "channel/held.h"
#include "line/scanner.h"

/*
 * A channel keeps what its transport's callbacks say until a poll takes it out:
 *
 *   channel.c  what waits in a channel, and the next piece of it as an event; making, settings, freeing
 *   sending.c  what users put into a channel
 *   server.c   channels of listening sockets
 *   poller.c   which channels have something, and the loop that brings it
 *   held.c     what the last events point to
 *
 * All of it is for one thread.
 */

struct accepted;

struct ferry_channel {
	TAILQ_ENTRY(ferry_channel) link; /* among the registered, or the freed */
	TAILQ_ENTRY(ferry_channel) ready_link;
	TAILQ_ENTRY(ferry_channel) refused_link;
	struct ferry_poller *poller;
	struct ferry_transport *transport; /* NULL: a server's, or closed */
	void *context;

	struct evbuffer *input;
	uint64_t received;            /* how many bytes ever came into it */
	struct arrival_list arrivals; /* descriptors, at their positions */
	unsigned int arrival_count;

	/* Settings; a server's are those of the channels that it makes. */
	struct line_scanner scanner;
	bool lines;
	bool half_close;
	size_t read_limit, write_limit;

	struct ferry_listener *listener; /* a server's */
	STAILQ_HEAD(accepted_list, accepted) accepted;
	unsigned int accepted_count;

	int reason;
	bool registered;
	bool ready;    /* in the poller's list of those that may have an event */
	bool refused;  /* in its list of those that want to write */
	bool writable; /* again: to be told */
	bool reading;  /* or, of a server, accepting */
	bool fds_lost; /* and there was no memory for an arrival */
	bool ended;    /* the peer sends no more */
	bool end_told;
	bool closed;
	bool closed_told;
	bool sending; /* when all are closed: something was queued */
	bool freed;
};
TAILQ_HEAD(channel_list, ferry_channel);

struct ferry_poller {
	struct event_base *base;
	struct event *timer; /* ends a wait, or keeps the loop from waiting */
	struct event *interruption;
	int interruption_fd;
	struct channel_list registered;
	struct channel_list ready;
	struct channel_list refused;
	struct channel_list freed_channels; /* until the next poll */
	struct held held;
	size_t channels; /* not freed, registered or not */
	size_t live;     /* registered, and their end was not told */
	bool interrupted;
	bool running; /* the loop */
	bool freed;   /* but for channels that are not registered */
};

/* ---- channel.c ---- */

/* A channel without anything, to be given a transport or a listener, and counted by its poller. NULL: no
 * memory. */
struct ferry_channel *channel_allocate(struct ferry_poller *poller);

/* What channel_allocate() made and nobody has seen. */
void channel_discard(struct ferry_channel *channel);

/* Gives it the transport. -ENOTCONN: that is over, and nothing has changed. */
int channel_attach(struct ferry_channel *channel, struct ferry_transport *transport);

/* Fills in the next event: 1; 0: there is none; or -ENOMEM. */
int channel_next(struct ferry_channel *channel, struct ferry_channel_event *event);

/* Reads on, or stops, by what waits already. `idle`: there was no event. -ENOMEM: nothing has changed. */
int channel_settle_reading(struct ferry_channel *channel, bool idle);

/* The peer has ended: closes this side too, unless it wants to go on. */
void channel_settle_end(struct ferry_channel *channel);

/* Closes all that the channel has; the object stays. */
void channel_close_down(struct ferry_channel *channel);

/* ---- sending.c ---- */

/* How much waits to be sent, in bytes; of a file in the stream at least 1. */
size_t channel_queued(const struct ferry_channel *channel);

/* ---- server.c ---- */

int server_next(struct ferry_channel *server, struct ferry_channel_event *event);
int server_settle_accepting(struct ferry_channel *server, bool idle);
void server_close_down(struct ferry_channel *server);

/* ---- poller.c ---- */

/* The channel may have an event. */
void poller_wake(struct ferry_channel *channel);

/* Writing was refused. */
void poller_note_refused(struct ferry_channel *channel);

/* Registers a channel; it is not read from before it has had its turn. */
void poller_enroll(struct ferry_channel *channel);

/* Has a time in microseconds, on the monotonic clock, at which `timeout` is over: INT64_MAX: never. -EINVAL:
 * it is no time. */
int poller_deadline(const struct timeval *timeout, int64_t *deadline);

/* Runs the loop until something has happened, the time has come or the caller was interrupted. 0, -EINTR,
 * -ETIMEDOUT: it had come before, and the loop has run without waiting; -ENOMEM, -EIO. */
int poller_run(struct ferry_poller *poller, int64_t deadline);

/* Has the loop do what it can without waiting. */
int poller_turn(struct ferry_poller *poller);

#endif
