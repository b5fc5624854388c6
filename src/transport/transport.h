#ifndef FERRY_TRANSPORT_TRANSPORT_H
#define FERRY_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "ferry/transport.h"

#include "libevent/rearm.h"
#include "stream/incoming.h"
#include "stream/outgoing.h"

/*
 * The transport's own layout and the calls between its files:
 *
 *   transport.c        the object: making, settings, pausing
 *   transport_end.c    closing, aborting, freeing
 *   transport_send.c   what users put into the stream
 *   transport_read.c   the read step
 *   transport_write.c  the write step
 *   transport_loop.c   what else runs from the loop
 *   protocol.c         the bufferevent's callbacks turned into a protocol's
 *
 * All of it runs with the bufferevent locked. Whatever calls user code looks at transport_is_over()
 * before it goes on: any callback may have freed the transport. Its memory lives until the loop has
 * finalised its event, so that looking is safe.
 */

enum transport_state {
	TRANSPORT_OPEN,
	TRANSPORT_CLOSING, /* ferry_transport_lose_connection(): ends when all is sent */
	TRANSPORT_LOST,    /* ended; connection_lost is due */
	TRANSPORT_ENDED    /* connection_lost has run */
};

/* Who watches how full the stream is: the registered producer. */
struct transport_watcher {
	/* Bytes or a descriptor were queued. */
	void (*queued)(void *argument);
	/* Something was sent; `empty`: nothing is left. */
	void (*sent)(void *argument, bool empty);
	/* The connection is gone; the watcher has been removed. */
	void (*gone)(void *argument);
};

/* Who takes what a read brings as a whole, in place of the callbacks for single descriptors: the
 * messages. */
struct transport_reader {
	/* Asked before each read. False: not now; the reader has called transport_hold_reading() and
	 * will let it go on. */
	bool (*admits)(void *argument);
	/* A read of `length` bytes, now at the input's end, brought these descriptors, which are the
	 * reader's; `loss`: and others that the kernel could not install. */
	void (*received)(void *argument, const int *fds, unsigned int count, bool loss, size_t length);
};

struct ferry_transport {
	struct rearm rearm;
	struct outgoing outgoing;
	struct incoming incoming;
	struct ferry_transport_stats stats;
	struct event *loop_event; /* work that must run from the loop; and the retry timer */
	struct bufferevent_rate_limit_group *rate_limit_group;
	struct read_ahead *read_ahead; /* once a cold file was met */

	const struct ferry_protocol *protocol;
	void *protocol_context;
	ferry_fd_cb fd_cb;
	void *fd_context;
	ferry_fds_lost_cb fds_lost_cb;
	void *fds_lost_context;
	const struct transport_watcher *watcher;
	void *watcher_argument;
	const struct transport_reader *reader;
	void *reader_argument;
	void (*sent)(void *argument); /* the kernel has taken something, whatever came then; or NULL */
	void *sent_argument;
	void (*on_free)(void *argument); /* who counts it: its owner has freed it; or NULL */
	void *on_free_argument;
	size_t fd_high;

	int *kept_fds; /* that came in the read in which reading was paused */
	unsigned int kept_count;
	bool kept_loss; /* and others were lost there */

	uint64_t cookie;                 /* of a unix socket */
	int pipe_read_fd, pipe_write_fd; /* ours to close; -1 on a socket */
	unsigned int retry_usec;

	enum transport_state state;
	int reason; /* of connection_lost */
	int broken; /* why nothing can be sent any more, or 0 */
	bool on_pipes;
	bool freed;
	bool made;          /* connection_made has run for this protocol */
	bool read_ended;    /* the peer sends no more */
	bool write_closing; /* ferry_transport_lose_write_connection() */
	bool write_ended;   /* our half is closed */
	bool fds_dropped;   /* descriptors had no byte to travel with */
	bool reading_paused;
	bool held_back;   /* the peer has ended, and the pause is for what it sent before */
	bool starved;     /* the retry timer runs */
	bool writing;     /* in the write step: it arms the event itself, at its end */
	bool write_again; /* something to write came up meanwhile */
	bool woken;       /* the write step was asked for by us, not by the socket */
};

static inline bool transport_is_over(const struct ferry_transport *transport)
{
	return transport->freed || transport->state >= TRANSPORT_LOST;
}

/* Whether more can be queued: while closing, only by the producer that the closing waits for. */
static inline bool transport_takes_output(const struct ferry_transport *transport)
{
	if (transport_is_over(transport) || transport->write_ended || transport->broken != 0)
		return false;
	return transport->watcher != NULL ||
	       (transport->state == TRANSPORT_OPEN && !transport->write_closing);
}

/* Whether what is received waits until the user resumes. Not when the peer is gone: nothing can follow
 * it, and the connection ends. */
static inline bool transport_holds_back(const struct ferry_transport *transport)
{
	return transport->reading_paused && transport->state == TRANSPORT_OPEN && !transport->freed &&
	       (transport->broken == 0 || transport->protocol == NULL);
}

/* transport_read.c */
void transport_on_read(evutil_socket_t fd, short what, void *argument);

/* Delivers the descriptors that a pause has held back. */
void transport_deliver_kept(struct ferry_transport *transport);

/* Closes them. */
void transport_close_kept(struct ferry_transport *transport);

/* Reads and delivers what is there, as much as it is. False if the reader did not admit all of it. */
bool transport_read_rest(struct ferry_transport *transport);

/* Has the bufferevent's read callback run, as bufferevent_trigger() with these options. The low-water mark
 * does not hold a reader up: where its frames end is not the mark's to say. */
void transport_trigger_read(struct ferry_transport *transport, int options);

/* Reads nothing until transport_go_on_reading(), whatever is enabled. */
void transport_hold_reading(struct ferry_transport *transport);

/* Reads again, if reading is enabled. -ENOMEM: nothing has changed. */
int transport_go_on_reading(struct ferry_transport *transport);

/* transport_write.c */
void transport_on_write(evutil_socket_t fd, short what, void *argument);
void transport_on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                         void *argument);

/* Has the write step run soon. */
void transport_want_write(struct ferry_transport *transport);

/* Runs it now. `quiet`: no write callback unless something is sent. */
void transport_write_step(struct ferry_transport *transport, bool quiet);

/* Writes what is queued now, if nothing stands in the way, rather than when the loop comes round to it. */
void transport_flush(struct ferry_transport *transport);

/* Tells files' progress and end; and with `progress`, which is that something was sent, or that the
 * socket said by itself that it is writable, runs the write callback. */
void transport_tell(struct ferry_transport *transport, bool progress);

/* Waits no longer for the socket to be writable, and so not for the write timeout either. */
void transport_stop_waiting(struct ferry_transport *transport);

/* transport_send.c */

/* Queues descriptors for the next byte, all of them or none, and tells no watcher: the errors of
 * ferry_transport_send_fd(). `count` is 1 to ANCILLARY_MAX_FDS. */
int transport_queue_fds(struct ferry_transport *transport, const int *fds, unsigned int count,
                        enum ferry_fd_ownership ownership);

/* The same for one that the caller knows to be open and fit to be sent, and keeps open until it has left
 * the queue. */
int transport_lend_fd(struct ferry_transport *transport, int fd);

/* transport_loop.c */
void transport_on_loop(evutil_socket_t fd, short what, void *argument);

/* Has transport_on_loop() run soon. */
void transport_want_loop(struct ferry_transport *transport);

/* Disables one direction and tells the user of an event, as libevent does. */
void transport_report_event(struct ferry_transport *transport, short what, int error);

/* An event came of a connection that is over, because the user has enabled it. It would for ever. */
void transport_disable_ended(struct ferry_transport *transport, short what);

/* transport.c */

/* Locks the bufferevent, which is returned to be unlocked, and keeps it alive until then. Notices a
 * socket that was changed behind our back. */
struct bufferevent *transport_lock(struct ferry_transport *transport);

/* Takes the events again if bufferevent_setfd() has put libevent's own steps back. */
void transport_notice_socket(struct ferry_transport *transport);

/* Puts the bufferevent back into its rate limit group, which a hold took it out of. */
void transport_rejoin_group(struct ferry_transport *transport);

/* Registers who watches the stream, or NULL. */
void transport_set_watcher(struct ferry_transport *transport,
                           const struct transport_watcher *watcher, void *argument);

/* Registers who takes whole reads. Descriptors of half a read that a pause has kept are closed. */
void transport_set_reader(struct ferry_transport *transport, const struct transport_reader *reader,
                          void *argument);

/* Enables reading. -ENOMEM. */
int transport_enable_reading(struct ferry_transport *transport);

/* Removes the watcher and tells it that the connection is gone. */
void transport_dismiss_watcher(struct ferry_transport *transport);

/* transport_end.c */

/* The connection is over: drops the queue, shuts down, has connection_lost run from the loop. */
void transport_end(struct ferry_transport *transport, int reason);

/* Ends the connection once all is sent. */
void transport_close(struct ferry_transport *transport);

/* Goes on with a close or half-close that waits, if it need not wait any longer. */
void transport_settle_close(struct ferry_transport *transport);

/* protocol.c */

/* Runs connection_made if it is due. */
void protocol_begin(struct ferry_transport *transport);

/* Runs connection_lost; and before it connection_made, if the connection stood but ended before the
 * loop came round to that. */
void protocol_end(struct ferry_transport *transport);

/* What a pause has held back of a peer that has ended was offered now: goes on with the close that waits for
 * it, unless there is a pause again. */
void protocol_end_holding_back(struct ferry_transport *transport);

/* Hands the input to data_received. */
void protocol_offer_input(struct ferry_transport *transport);

/* The peer sends no more, and nobody wants half a connection: ends it once all is sent. */
void protocol_leave_with_peer(struct ferry_transport *transport);

/* Nothing can be sent any more: delivers what the peer still sent, and ends the connection, unless the
 * reader holds the reading; then it is called again. */
void protocol_end_broken(struct ferry_transport *transport);

/* The bufferevent's callbacks, with the transport as argument. */
void protocol_on_readable(struct bufferevent *bev, void *argument);
void protocol_on_event(struct bufferevent *bev, short what, void *argument);

#endif
