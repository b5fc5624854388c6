#ifndef FERRY_HANDOFF_HANDOFF_H
#define FERRY_HANDOFF_HANDOFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/dispatcher.h"
#include "ferry/handoff.h"

#include "handoff/wire.h"
#include "util/queue.h"

struct ferry_dispatcher_worker;

enum handoff_state {
	HANDOFF_OWN,      /* the user's; no dispatcher has it */
	HANDOFF_QUEUED,   /* a dispatcher's, as the next four: it waits for a worker */
	HANDOFF_SENT,     /* written to a channel; the dispatcher keeps a copy of the descriptor */
	HANDOFF_CLAIMED,  /* a worker has it; the copy is closed */
	HANDOFF_ENDED,    /* its outcome callback is pending */
	HANDOFF_NOTIFIED, /* its outcome callback runs */
	HANDOFF_BACK,     /* a worker has returned it; its callback is pending */
	HANDOFF_RECEIVED, /* a worker's callback has it */
	HANDOFF_REJECTED, /* a worker's callback has refused it */
	HANDOFF_PARKED,   /* a parking place has it */
	HANDOFF_FILTERED  /* the same, and the user's filter may change its contents */
};

/* The part of a handoff that a parking place uses. Its event is in the memory of the handoff: parking one takes no
 * memory that may be missing. */
struct handoff_parked {
	struct ferry_parking *parking;
	struct event *wake; /* of the second descriptor; NULL: none */
	int64_t timeout;    /* 0: none */
	int64_t since;      /* the timeout runs from then on */
	int error;
	uint8_t reason; /* enum ferry_parking_reason, for a pending wake-up */
	uint8_t list;   /* enum parking_list */
	uint64_t
	    event[1]; /* the first bytes of libevent's struct event, whose size is known at run time */
};

struct ferry_handoff {
	int fd; /* -1: stolen or closed */
	enum handoff_state state;
	struct handoff_wire_identity identity;
	/* The handoff's own memory; `borrowed`: parts of the received payload. */
	char *name; /* NULL: none */
	unsigned char *bytes, *blob;
	size_t bytes_length, blob_length;
	bool borrowed;
	bool has_key;
	bool inet_stream;      /* a non-blocking stream of IPv4 or IPv6, for certain */
	unsigned int returned; /* number of times that workers have returned it */
	uint64_t key;          /* a hash */
	void *context;
	int64_t idle_usec; /* in the parking place that it has left last; 0 once it was handed off */
	TAILQ_ENTRY(ferry_handoff)
	link; /* of a queue, a worker's list, the pending outcomes, or a parking place */

	union {
		/* A dispatcher's or worker's. */
		struct {
			uint64_t id;
			unsigned int attempt;
			uint32_t place;                         /* in the table of ids */
			struct ferry_dispatcher_worker *worker; /* the one that has it, or had it last */
			/* SENT: the position in the channel's stream at which its frame ends */
			uint64_t frame_end;
			/* since then it waits for a worker; stays after a loss that does not count */
			int64_t queued_at;
			TAILQ_ENTRY(ferry_handoff) wait_link; /* QUEUED: of the dispatcher's waiting ones */
			unsigned int losses;                  /* that did not count as an attempt */
			enum ferry_handoff_outcome outcome;
			uint64_t order; /* in which handoffs were accepted */
			ferry_handoff_outcome_cb outcome_cb;
			int reason;
			bool sent; /* to some worker, once at least */
		};
		struct handoff_parked parked;
	};
};

TAILQ_HEAD(handoff_list, ferry_handoff);

/* The identity of a descriptor, with one system call for a socket. 0, -EBADF, or -EOPNOTSUPP for a
 * descriptor that the kernel does not send (io_uring). */
int handoff_identify(int fd, struct handoff_wire_identity *identity);

/* Whether the descriptor has this identity. */
bool handoff_is_descriptor(int fd, const struct handoff_wire_identity *identity);

/* Makes `handoff` of a received payload and its descriptor, without a copy: it is valid as long as the
 * payload. */
void handoff_view(struct ferry_handoff *handoff, const struct handoff_wire_handoff *wire, int fd);

struct bufferevent;

/* Makes a handoff of a bufferevent's descriptor, with a copy of its input; the bufferevent is unchanged. The errors of
 * ferry_handoff_new(); -EINVAL: the user has frozen the input. */
int handoff_new_with_input(struct ferry_handoff **out, struct bufferevent *bev);

/* Frees a handoff without its descriptor, which is the caller's. */
void handoff_free_without_fd(struct ferry_handoff *handoff);

/* ferry_handoff_to_bufferevent(), but a blocking socket stays one, and no callback runs for the bytes. */
int handoff_to_bufferevent(struct bufferevent **out, struct ferry_handoff *handoff,
                           struct event_base *base, int options);

/* Takes the descriptor back from such a bufferevent, and frees that. */
void handoff_take_fd_back(struct ferry_handoff *handoff, struct bufferevent *bev);

/* Takes the descriptor out of the loop while it is open, and drops the input. epoll keeps watching a descriptor that
 * is closed as long as a copy of it is open elsewhere. */
void handoff_empty_bufferevent(struct bufferevent *bev);

/* Replaces bytes and blob by copies of those that a worker has returned. -ENOMEM: one of them may be replaced. */
int handoff_refill(struct ferry_handoff *handoff, const struct handoff_wire_handoff *wire);

/* Frees the bytes once a worker has them for good. */
void handoff_drop_bytes(struct ferry_handoff *handoff);

/* Clears the part that a dispatcher, worker or parking place used: the handoff is as if new. */
void handoff_reset(struct ferry_handoff *handoff);

/* Closes the descriptor and frees contents and memory. */
void handoff_destroy(struct ferry_handoff *handoff);

/* Closes the descriptor, unless it was stolen or closed before. */
void handoff_close_fd(struct ferry_handoff *handoff);

#endif
