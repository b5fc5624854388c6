#ifndef FERRY_TAKEOVER_TAKEOVER_H
#define FERRY_TAKEOVER_TAKEOVER_H

/*
 * One takeover, at either end.
 *
 *     old process (takeover_serve.c)                new process (takeover_request.c)
 *
 *     TALKING   <- HELLO, REQUEST -------------     TALKING
 *               -- HELLO, LISTENER…, END ----->               received()
 *     OFFERED                                       OFFERED
 *                                                             ferry_takeover_commit()
 *               <- ACCEPTING ------------------     ACCEPTED
 *               ended(0), sockets closed
 *     OVER      -- RELEASED ------------------>               ended(0): the files are ours
 *                                                   OVER
 *
 * Two must not own a file: the one that ends first would remove it from under the other. The channel's
 * end alone does not tell the new process whether the old one has died, or has given up and goes on. So
 * an old process that goes on says WITHDRAWN, and one that ends without a word after END is dead.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/message.h"
#include "ferry/socket_set.h"
#include "takeover/wire.h"

struct event;

enum takeover_state {
	TAKEOVER_TALKING,  /* until all is offered, or has come */
	TAKEOVER_OFFERED,  /* the new process may say that it accepts */
	TAKEOVER_ACCEPTED, /* it has; at the new process only, as the next one */
	TAKEOVER_ORPHANED, /* the old process has died before */
	TAKEOVER_OVER      /* `ended` has run, or never will */
};

/* What is different at the two ends. */
struct takeover_role {
	/* Says what comes first after HELLO. Negative: that failed. From the loop, as the next two. */
	int (*begin)(struct ferry_takeover *takeover);

	/* A message, other than HELLO. Negative: what is wrong with it. */
	int (*message_received)(struct ferry_takeover *takeover, struct ferry_message *message);

	/* The channel has ended; it is not over. `by_peer`: not by this process. */
	void (*channel_ended)(struct ferry_takeover *takeover, int reason, bool by_peer);

	/* This process gives up, and it is not over, but begun: says so. */
	void (*give_up)(struct ferry_takeover *takeover, int status);
};

struct ferry_takeover {
	const struct takeover_role *role;
	struct ferry_message_stream *stream;
	const struct ferry_takeover_callbacks *callbacks;
	void *context;
	struct ferry_socket_set *set;   /* offered, or received; NULL: gone */
	struct ferry_socket_set *taken; /* by the new process; there, what has come so far */
	void *request;                  /* new process: the payload */
	size_t request_length;
	struct event *turn; /* has `ended` run from the loop, with `status` */
	int status;
	enum takeover_state state;
	bool begun;            /* HELLO was said */
	bool greeted;          /* HELLO has come */
	bool freed;            /* by its owner */
	unsigned int callings; /* of ours that are under way, and may free it */
};

/* Makes one, with its set or without. The transport is its own on success. */
int takeover_new(struct ferry_takeover **out, const struct takeover_role *role,
                 struct ferry_socket_set *set, struct ferry_transport *transport,
                 const struct ferry_takeover_callbacks *callbacks, void *context);

/* Binds the takeover and the set to each other, until it is over. */
void takeover_attach_set(struct ferry_takeover *takeover, struct ferry_socket_set *set);

/* The set is about to be freed. */
void takeover_forget_set(struct ferry_takeover *takeover);

/* Sends a message and has the kernel take it now, as far as it does: this process may be gone soon, and a
 * duplicate of a descriptor counts until it has left. From the loop, or when it is over: what has arrived
 * may be handed out in here. */
int takeover_send(struct ferry_takeover *takeover, enum takeover_wire_type type,
                  const void *payload, size_t length, const int *fds, size_t fd_count);

/* Whether the kernel has all that was sent. */
bool takeover_all_sent(const struct ferry_takeover *takeover);

/* Runs `ended`, from the loop; it is over before. */
void takeover_end(struct ferry_takeover *takeover, int status);

/* Has the loop do that; it is over at once. */
void takeover_end_later(struct ferry_takeover *takeover, int status);

#endif
