#ifndef FERRY_HANDOFF_HANDOFF_H
#define FERRY_HANDOFF_HANDOFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ferry/dispatcher.h"
#include "ferry/handoff.h"

#include "handoff/wire.h"

struct ferry_dispatcher_worker;

enum handoff_state {
	HANDOFF_OWN,    /* the user's, with nobody else */
	HANDOFF_QUEUED, /* with a dispatcher, as the next four: it waits for a worker */
	HANDOFF_SENT,   /* written to a channel; the descriptor here is a copy */
	HANDOFF_CLAIMED,
	HANDOFF_ENDED,    /* its outcome is due */
	HANDOFF_TOLD,     /* the outcome callback has it */
	HANDOFF_RECEIVED, /* a worker's callback has it */
	HANDOFF_REJECTED  /* and refused it */
};

struct ferry_handoff {
	int fd; /* -1: stolen, or gone */
	enum handoff_state state;
	struct handoff_wire_identity identity;
	/* Its own, or inside the frame that it was received in: `in_frame`. */
	char *name; /* NULL: none */
	unsigned char *bytes, *blob;
	size_t bytes_length, blob_length;
	bool in_frame;
	bool has_key;
	uint64_t key; /* a hash */
	uint64_t id;
	unsigned int attempt;

	/* The dispatcher's. */
	struct ferry_dispatcher_worker *worker; /* who has it, or had it last */
	TAILQ_ENTRY(ferry_handoff) link;        /* of the queue, a worker's list, or those to be told */
	uint32_t place;                         /* in the table of ids */
	uint64_t frame_end; /* SENT: the position in the channel's stream at which its frame ends */
	int64_t sent_at;    /* times are in µs of the monotonic clock */
	int64_t taken_at;   /* by ferry_dispatcher_hand_off() */
	uint64_t order;     /* of being taken */
	ferry_handoff_outcome_cb outcome_cb;
	void *context;
	enum ferry_handoff_outcome outcome;
	int reason;
};

TAILQ_HEAD(handoff_list, ferry_handoff);

/* What a descriptor is, in as few system calls as tell: one for a socket. 0, -EBADF, or -EOPNOTSUPP for
 * one that the kernel does not send (io_uring). */
int handoff_identify(int fd, struct handoff_wire_identity *identity);

/* Looks at a received frame as a handoff, without a copy: both live as long as the payload. */
void handoff_view(struct ferry_handoff *handoff, const struct handoff_wire_handoff *frame, int fd);

/* Frees the bytes, which are with a worker for good. */
void handoff_drop_bytes(struct ferry_handoff *handoff);

/* Frees what the user no longer has: descriptor, contents and memory. */
void handoff_destroy(struct ferry_handoff *handoff);

/* Closes the descriptor, if it is there. */
void handoff_close_fd(struct ferry_handoff *handoff);

#endif
