#ifndef FERRY_CHANNEL_STATE_H
#define FERRY_CHANNEL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/channel.h"

#include "channel/batch.h"
#include "channel/wait.h"
#include "line/scanner.h"
#include "util/queue.h"

/*
 * A channel, its states, and the poller that it belongs to. docs/channel.md has a picture of the states, and
 * tests/unit/channel/states.c a table of every state and event. Each state has one writer, below or in
 * channel/ready.h.
 */

/* The connection of a channel. A server is open until it is freed. */
enum channel_life {
	CHANNEL_OPEN,
	CHANNEL_OVER, /* the connection is over; events that it brought may be pending */
	CHANNEL_FREED /* closed; the object lives until the next poll, because events may point to it */
};

/* The peer's half of the connection. */
enum channel_half { CHANNEL_HALF_OPEN, CHANNEL_HALF_ENDED };

/* Reading from the peer, or accepting. */
enum channel_flow { CHANNEL_PAUSED, CHANNEL_FLOWING };

/* Writing by the user. */
enum channel_out {
	CHANNEL_OUT_OPEN,
	CHANNEL_OUT_REFUSED,  /* the queue was full: the user waits for FERRY_CHANNEL_WRITABLE */
	CHANNEL_OUT_WRITABLE, /* FERRY_CHANNEL_WRITABLE is pending */
	CHANNEL_OUT_DRAINING  /* ferry_poller_close_all() waits until the queue is sent */
};

/* The last event about an end that the user got. */
enum channel_notified { CHANNEL_NOTIFIED_NONE, CHANNEL_NOTIFIED_END, CHANNEL_NOTIFIED_CLOSED };

/* The place in the poller. */
enum channel_place {
	CHANNEL_UNREGISTERED,
	CHANNEL_IDLE, /* registered, and no event is pending */
	CHANNEL_READY /* registered, and events may be pending */
};

/* A server's settings are those of the channels that it accepts. */
struct channel_settings {
	bool lines;
	bool messages;
	bool half_close;
	size_t read_limit, write_limit;
	size_t max_payload; /* of messages */
	unsigned int max_fds;
};

struct channel_in {
	enum channel_half half;
	enum channel_flow flow;
	struct evbuffer *buffer; /* NULL: a server, or freed */
	uint64_t received;       /* bytes since the beginning; those in the buffer are the last */
	struct channel_items items;
	unsigned int item_count; /* descriptors, and losses of some */
	size_t message_bytes;    /* of the messages that are items, with their headers */
	bool fds_lost;           /* descriptors were lost, and there was no memory for the item */
	struct line_scanner scanner;
};

struct ferry_channel;

/* The difference between a connection and a server. */
struct channel_kind {
	bool sends; /* whether a user can write to it */
	/* Fills in the next event. 1; 0: none is pending; -ENOMEM. */
	int (*next)(struct ferry_channel *channel, struct ferry_channel_event *event);
	/* Pauses or resumes reading (accepting), according to the amount that is pending. `idle`: no event was
	 * pending. -ENOMEM: could not resume. */
	int (*settle)(struct ferry_channel *channel, bool idle);
	/* The channel was registered. -ENOMEM: it cannot be. */
	int (*start)(struct ferry_channel *channel);
	/* -ENOTCONN: closed. */
	int (*get_fd)(const struct ferry_channel *channel);
	/* Closes everything that the channel has. */
	void (*close_down)(struct ferry_channel *channel);
};

struct ferry_channel {
	const struct channel_kind *kind;
	struct ferry_poller *poller;
	TAILQ_ENTRY(ferry_channel) link; /* among the registered, or the freed */
	TAILQ_ENTRY(ferry_channel) ready_link;
	TAILQ_ENTRY(ferry_channel) refused_link;
	enum channel_life life;
	int reason; /* of the end */
	enum channel_place place;
	enum channel_notified notified;
	struct channel_in in;
	enum channel_out out;
	struct ferry_transport *transport; /* NULL: a server, or not open */
	struct ferry_message_stream
	    *messages;    /* owns the transport; NULL: not open, or bytes or lines */
	bool owns_socket; /* and closes it: no bufferevent of the user's has it */
	struct channel_settings settings;
	void *context; /* the user's */
};
TAILQ_HEAD(channel_list, ferry_channel);

struct ferry_poller {
	struct wait_loop loop;
	struct batch batch; /* of the last poll */
	struct channel_list registered;
	struct channel_list ready;
	struct channel_list refused;
	struct channel_list freed_channels; /* until the next poll */
	size_t channels;                    /* all but the freed */
	size_t live;                        /* registered channels without CHANNEL_NOTIFIED_CLOSED */
	bool freed; /* lives on for channels that are not registered, or until a callback returns */
	bool abandoned;
	LIST_ENTRY(ferry_poller) abandoned_link;
};

/* Sets up an object that is all zeros, as a channel that is open and not registered. */
void channel_init(struct ferry_channel *channel, struct ferry_poller *poller,
                  const struct channel_kind *kind);

/* Frees a channel that the user has not got yet, and that has neither a transport nor a listener. */
void channel_discard(struct ferry_channel *channel);

/* ---- the writers ---- */

void channel_set_half_ended(struct ferry_channel *channel);
void channel_set_flow(struct ferry_channel *channel, enum channel_flow flow);
void channel_set_over(struct ferry_channel *channel, int reason);
void channel_set_freed(struct ferry_channel *channel);
void channel_set_notified(struct ferry_channel *channel, enum channel_notified notified);

#endif
