#ifndef FERRY_TAKEOVER_TAKEOVER_H
#define FERRY_TAKEOVER_TAKEOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/message.h"
#include "ferry/takeover.h"

#include "takeover/wire.h"

/*
 * One takeover, at either end.
 *
 *     old process (old_process.c)                   new process (new_process.c)
 *
 *     TALKING   <- HELLO, REQUEST -------------     TALKING
 *               -- HELLO, LISTENER…, END ----->               received()
 *     OFFERED                                       OFFERED
 *                                                             ferry_takeover_commit()
 *               <- ACCEPTING ------------------     ACCEPTED
 *               ended(0), sockets closed
 *     OVER      -- RELEASED ------------------>               ended(0): this process owns the files
 *                                                   OVER
 *
 * Only one process may own a file: if two own it, the one that ends first removes it from under the
 * other. The channel's end alone does not show the new process whether the old one has died, or has
 * given up and goes on. An old process that goes on therefore sends WITHDRAWN, and one that sends
 * nothing after END is dead.
 */

struct evbuffer;
struct event;

enum takeover_state {
	TAKEOVER_TALKING,  /* until all is offered, or has arrived */
	TAKEOVER_OFFERED,  /* the new process may commit */
	TAKEOVER_ACCEPTED, /* new process only: it has committed */
	TAKEOVER_ORPHANED, /* new process only: the old one has died before that */
	TAKEOVER_OVER      /* `ended` has run, is pending, or will never run */
};

/* The functions that differ at the two ends. The first three run from the loop. */
struct takeover_role {
	/* Sends what comes first after HELLO. A negative errno ends the takeover. */
	int (*begin)(struct ferry_takeover *takeover);

	/* Processes a message other than HELLO. A negative errno ends the takeover. */
	int (*message_received)(struct ferry_takeover *takeover, struct ferry_message *message);

	/* Processes the end of the channel before the takeover is over. `by_peer`: the other process has
	 * ended it. */
	void (*channel_ended)(struct ferry_takeover *takeover, int reason, bool by_peer);

	/* Withdraws from a takeover that has begun and is not over. */
	void (*withdraw)(struct ferry_takeover *takeover, int status);
};

/* The new process has asked for the sockets: appends the state that goes with them. A negative errno ends the takeover. */
typedef int (*takeover_state_cb)(struct ferry_takeover *takeover, struct evbuffer *state,
                                 void *context);

struct ferry_takeover {
	const struct takeover_role *role;
	struct ferry_message_stream *stream;
	const struct ferry_takeover_callbacks *callbacks;
	void *context;
	struct ferry_socket_set *set;   /* offered, or received; NULL: neither, or over */
	struct ferry_socket_set *taken; /* old process: by the new one; new process: arrived so far */
	void *request;                  /* new process: the payload of REQUEST */
	size_t request_length;
	takeover_state_cb state_requested; /* old process; NULL: it sends no state */
	void *state_bytes;                 /* new process: the payload of STATE */
	size_t state_length;
	struct event *event; /* runs `ended` from the loop, with `status` */
	int status;
	enum takeover_state state;
	bool begun;         /* our HELLO was sent */
	bool greeted;       /* the peer's HELLO has arrived */
	bool ended;         /* `ended` has run, or runs */
	bool freed;         /* by its owner */
	unsigned int calls; /* on the stack that may run user code */
};

/* Makes a takeover. The old process has a set, the new one NULL. On success the transport is the
 * takeover's. */
int takeover_new(struct ferry_takeover **out, const struct takeover_role *role,
                 struct ferry_socket_set *set, struct ferry_transport *transport,
                 const struct ferry_takeover_callbacks *callbacks, void *context);

/* Binds the takeover and the set to each other until the takeover is over. */
void takeover_attach_set(struct ferry_takeover *takeover, struct ferry_socket_set *set);

/* Old process: sends a state. It is not NULL. */
void takeover_set_state_cb(struct ferry_takeover *takeover, takeover_state_cb state_requested);

/* New process, in `received`: moves the state out, for the caller to free(3). NULL: there is none. */
void *takeover_steal_state(struct ferry_takeover *takeover, size_t *length);

/* Old process, in `ended` with 0: moves the sockets that the new one has taken out. Without it they are closed. */
struct ferry_socket_set *takeover_steal_taken(struct ferry_takeover *takeover);

/* These two enclose each call that may run user code. If that frees the takeover, the last takeover_leave() destroys
 * it. */
void takeover_enter(struct ferry_takeover *takeover);
void takeover_leave(struct ferry_takeover *takeover);

/* Sends a message, and flushes it: this process may end soon, and duplicates of descriptors stay open
 * until they have left. From the loop, or when the takeover is over, because messages that have arrived
 * may be delivered inside this call. */
int takeover_send(struct ferry_takeover *takeover, enum takeover_wire_type type,
                  const void *payload, size_t length, const int *fds, size_t fd_count);

/* Whether the kernel has taken everything that was sent. */
bool takeover_all_sent(const struct ferry_takeover *takeover);

/* Ends the takeover and runs `ended`, unless user code inside one of the calls above has freed or ended it. From the
 * loop. */
void takeover_end(struct ferry_takeover *takeover, int status);

/* Ends the takeover now, and runs `ended` from the loop. */
void takeover_end_later(struct ferry_takeover *takeover, int status);

#endif
