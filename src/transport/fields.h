#ifndef FERRY_TRANSPORT_FIELDS_H
#define FERRY_TRANSPORT_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "ferry/transport.h"

#include "libevent/rearm.h"
#include "stream/incoming.h"
#include "stream/outgoing.h"
#include "transport/interface.h"
#include "transport/parts.h"

/* The transport's fields, for src/transport alone: two halves and a life (docs/transport.md). transport/core.h has the one
 * writer of each state. */

enum transport_life {
	TRANSPORT_OPEN,
	TRANSPORT_CLOSING, /* the connection ends when all is sent */
	TRANSPORT_LOST,    /* the connection has ended; connection_lost is due */
	TRANSPORT_ENDED    /* connection_lost has run */
};

enum transport_in_half {
	IN_OPEN,
	IN_EOF_UNDELIVERED, /* the peer sends no more; the pause defers what it sent before */
	IN_EOF
};

enum transport_out_half {
	OUT_OPEN,
	OUT_CLOSING, /* the half ends when all is sent */
	OUT_SHUT,    /* the peer has, or will read, our end of file */
	OUT_BROKEN   /* the kernel takes no more: `error` */
};

/* The object that is notified of how full the stream is: the registered producer. */
struct transport_watcher {
	const char *name; /* for the log */
	/* Bytes, a descriptor or a file were queued. */
	void (*queued)(struct ferry_transport *transport);
	/* The kernel has taken bytes; `empty`: nothing is left. */
	void (*sent)(struct ferry_transport *transport, bool empty);
	/* The connection is gone; the watcher has been removed. */
	void (*gone)(struct ferry_transport *transport);
};

/* The flags are bits: each transport pays for its fields (docs/decisions/transport-memory.md). */
struct transport_in {
	struct incoming stream;
	enum transport_in_half half;
	bool paused : 1;    /* by the user */
	bool exact : 1;     /* the user wants the exact positions of descriptors, where there are any */
	bool close_due : 1; /* transport_close_with_peer() is to run from the loop */
	bool offer_due : 1; /* the user has resumed, and the input waits for the pending descriptors */
	bool trigger_due : 1, trigger_below_mark : 1, offer_first : 1; /* the loop's next callback */
	bool fds_follow : 1; /* a descriptor's callback runs, and others of that read come behind it */
	bool direct; /* bufferevent_trigger() has run a protocol's read callback, and always will */
	bool triggering : 1;        /* bufferevent_trigger() is on the stack */
	bool loss_pending : 1;      /* the kernel dropped others than these: */
	unsigned int pending_count; /* of the read in which the user paused; without callback yet */
	unsigned int rest; /* OUT_BROKEN: bytes of the peer in the socket, which are still to be read */
	int *pending_fds;
	const struct transport_reader *reader;
	void *reader_argument;
};

/* The write step. */
struct transport_step {
	bool running : 1;    /* on the stack: it arms the event itself, at its end */
	bool again : 1;      /* wanted while it was running */
	bool requested : 1;  /* by the transport, not by a writable socket */
	bool silent : 1;     /* runs inside a user's call: its callbacks run later, from the loop */
	bool unnotified : 1; /* such callbacks are due */
	bool flushed : 1;    /* ferry_transport_flush() has sent, and the callbacks for that are due */
	bool notifying : 1;  /* the callbacks that were due run */
	bool out_of_memory : 1; /* the retry timer runs */
	unsigned int retry_usec;
	int kernel_queue, peer_unread; /* when the step found the kernel full; negative: unknown */
	int64_t kernel_queue_since;
};

struct transport_out {
	struct outgoing stream;
	enum transport_out_half half;
	int error;            /* OUT_BROKEN: a negative errno; else one that the next step reports */
	size_t byte_limit;    /* of queued bytes; 0: none */
	unsigned int fd_high; /* the descriptors' high-water mark */
	bool fds_dropped;     /* descriptors had no byte to travel with */
	bool wait_logged;     /* the log has that the close waits for the watcher */
	bool no_linger;       /* a close does not wait for the peer */
	bool producer_waits;  /* for resume_producing */
	struct transport_step step;
	const struct transport_watcher *watcher;
	const struct ferry_producer_callbacks *producer; /* it is the watcher, if there is one */
	void *producer_context;
};

/* The steps of the files above core, which it does not know. */
struct transport_steps {
	struct rearm_steps rearm;
	event_callback_fn on_watch;
	bufferevent_data_cb on_readable; /* for a protocol; and its work: */
	void (*readable)(struct ferry_transport *transport);
	outgoing_adopt_cb adopt;
	void (*refuse)(struct ferry_transport *transport, int error); /* the new socket */
};

struct ferry_transport {
	/* First: it is the argument of the events' callbacks. Its steps are a struct transport_steps. */
	struct rearm rearm;
	struct event *loop_event; /* for work that must run from the loop; and the retry timer */

	enum transport_life life;
	int reason;                      /* of connection_lost */
	int pipe_read_fd, pipe_write_fd; /* on pipes: the transport's to close; -1 once closed */
	bool on_pipes;
	bool owned; /* by a line stream, a message stream or a channel, to the end */
	bool freed;
	bool watch_due;    /* there was no memory for the watch: the loop's event tries again */
	bool made;         /* connection_made has run for this protocol, or never will */
	bool end_notified; /* read_connection_lost has run, or the transport closes in its place */
	bool peer_closed;  /* when this side shut its half down, or when the connection ended */
	bool is_inet;      /* a stream of TCP */
	struct transport_in in;
	struct transport_out out;
	struct transport_watch *watch; /* NULL: not needed so far */
	struct {
		const struct ferry_protocol *table; /* or NULL */
		void *context;
	} protocol;
	struct transport_fd_cbs *fd_cbs; /* NULL: none was set */
	void (*on_free)(void *argument); /* or NULL */
	void *on_free_argument;
	struct bufferevent_rate_limit_group *rate_limit_group;
	uint64_t cookie; /* of a unix socket */
};

static inline bool transport_has_tls(const struct ferry_transport *transport)
{
	return transport->in.stream.way == INCOMING_TLS;
}

static inline const struct transport_steps *transport_steps(const struct ferry_transport *transport)
{
	return (const struct transport_steps *)transport->rearm.steps;
}

#endif
