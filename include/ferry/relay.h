#ifndef FERRY_RELAY_H
#define FERRY_RELAY_H

/**
 * @file relay.h
 * @brief Joins two transports: everything that one peer sends reaches the other.
 *
 * A relay passes on bytes, descriptors at their exact byte, half-closes, closes and errors, in both directions. It
 * reads from one side only as fast as the other side takes: beside the kernel's own queues it holds a few hundred
 * KiB at most, and one message's descriptors above the mark of ferry_transport_set_fd_buffer().
 *
 * One side is called the client, the other the server. The two are treated alike; only the server may come late. A
 * relay may be made when a client is accepted, while the connection to the server is still attempted: nothing of
 * the client's is read until then.
 *
 * The server sees the relay in place of the client: SO_PEERCRED, SO_PEERGROUPS and SO_PEERPIDFD of its socket are the
 * relay's. A server that authorises its peers by credentials gives every client the rights of the relay's process.
 * Therefore only users who have these rights themselves should reach the relay (mode 0600 of its socket,
 * ferry_listener_allow_uid()), or the owner decides by the client's credentials:
 * ferry_transport_get_peer_credentials() on ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT).
 *
 * @code
 * static void connected(struct ferry_connector *connector, int status, struct ferry_transport *server,
 *                       void *context)
 * {
 *     struct ferry_relay *relay = context;
 *
 *     if (status == 0 && ferry_relay_set_server(relay, server) == 0)
 *         return;                         // without callbacks, the relay frees itself at its end
 *     ferry_transport_free(server);       // NULL if the attempt has failed
 *     ferry_relay_free(relay);
 * }
 *
 * static void accepted(struct ferry_listener *listener, struct ferry_transport *client, void *context)
 * {
 *     struct ferry_relay *relay;
 *
 *     if (ferry_relay_new(&relay, client, NULL, NULL, NULL) < 0)
 *         ferry_transport_free(client);
 *     else if (ferry_connector_new_unix(NULL, base, "/run/app.sock", NULL, connected, relay) < 0)
 *         ferry_relay_free(relay);
 * }
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread that runs the transports' event_base: also with BEV_OPT_THREADSAFE no
 * other thread may use the two transports.
 */

#include <stdbool.h>
#include <stdint.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct evbuffer;
struct ferry_transport;
struct timeval;

/** Two transports that are joined. Opaque. */
struct ferry_relay;

/** One of the two. Since 0.1. */
enum ferry_relay_side {
	FERRY_RELAY_CLIENT = 0, /**< the transport that the relay was made with */
	FERRY_RELAY_SERVER = 1  /**< the transport that may come late */
};

/**
 * The callbacks of a relay. Every member may be NULL. ferry keeps the pointer: the table must outlive the relay.
 * Each runs from the loop, and may call every function, ferry_relay_free() included. Before the server is set, none
 * runs. Since 0.1.
 */
struct ferry_relay_callbacks {
	/**
	 * Bytes have arrived from side @p from. The callback may take bytes out of @p bytes, add some and replace them.
	 * If it returns 0, the bytes that are then in @p bytes are passed on. If it returns a negative errno, the relay
	 * ends as by ferry_relay_abort().
	 *
	 * To delay bytes, the callback moves them to a buffer of its own, and later writes them itself:
	 * ferry_transport_write_buffer() on the other side's transport. The relay has the callback's buffer in no
	 * account.
	 *
	 * A descriptor stands in front of the first byte of the next call. It leaves with the next byte that is passed
	 * on, also if the callback has replaced that byte.
	 */
	int (*filter_bytes)(struct ferry_relay *relay, enum ferry_relay_side from,
	                    struct evbuffer *bytes, void *context);

	/**
	 * A descriptor has arrived from side @p from, in front of the bytes of the next filter_bytes. If the callback
	 * returns 0, *@p fd is passed on. The callback may put another descriptor there, or -1: none is passed on. It then
	 * owns the one that it has replaced. To pass on further ones, it calls ferry_transport_send_fd() on the other side's
	 * transport. If it returns a negative errno, the relay ends as by ferry_relay_abort(), and closes *@p fd.
	 *
	 * A descriptor for a side that carries none (TCP, pipes) ends the relay with -EOPNOTSUPP, unless this callback
	 * drops it.
	 */
	int (*filter_fd)(struct ferry_relay *relay, enum ferry_relay_side from, int *fd, void *context);

	/** Side @p from sends no more: it has shut down its sending half, or (@p closed) has closed, and reads no more
	 *  either. The callback may still write bytes that it has delayed to the other side's transport; then
	 *  the half-close, or the close, is passed on behind them. Does not run if the connection breaks. */
	void (*side_ended)(struct ferry_relay *relay, enum ferry_relay_side from, bool closed,
	                   void *context);

	/** Both connections are over. Runs exactly once, unless the relay is freed before. @p side is the side whose
	 *  connection ended first, and @p reason its end: 0 if it was clean, else a negative errno, as in
	 *  connection_lost of ferry/transport.h; or that of ferry_relay_abort(), of a filter or of a timeout. The owner
	 *  frees the relay here or later. If NULL, the relay frees itself. */
	void (*relay_ended)(struct ferry_relay *relay, enum ferry_relay_side side, int reason,
	                    void *context);

	/** Reserved for later versions; leave NULL. */
	void (*reserved[4])(void);
};

/** One direction's counters. Since 0.1. */
struct ferry_relay_flow {
	uint64_t bytes_received; /**< bytes that arrived from this side, before the filter */
	uint64_t
	    bytes_passed; /**< bytes that were put into the other side's stream, behind the filter */
	uint64_t bytes_spliced; /**< the part of both that splice(2) has moved */
	uint64_t fds_received;  /**< descriptors that arrived from this side */
	uint64_t fds_passed;    /**< descriptors that were put into the other side's stream */
	uint64_t fds_dropped;   /**< descriptors that arrived and were not passed on */
	uint64_t pauses;        /**< times that the other side's queue was full */
	uint64_t reserved[5];   /**< zero, for later versions */
};

/** The counters of a relay. Since 0.1. */
struct ferry_relay_stats {
	struct ferry_relay_flow
	    from[2];          /**< by the sender: [FERRY_RELAY_CLIENT] is the way to the server */
	uint64_t reserved[4]; /**< zero, for later versions */
};

/**
 * Joins two transports, and sets their protocols. On success the relay owns both. It frees them, and with them their
 * bufferevents, in ferry_relay_free() or at its end.
 *
 * Set before, on the transports: watermarks, limits of descriptors, rate limits, timeouts. The write high-water mark
 * of one side (64 KiB if it is 0) pauses the reading of the other, and so does the mark of
 * ferry_transport_set_fd_buffer(). The relay sets FERRY_FD_EXACT, and 253 descriptors in a message, the kernel's
 * limit. A limit of queued bytes or descriptors that is too low for one read (256 KiB, 253 descriptors) above the mark
 * ends the relay with -ENOBUFS. The owner registers no producer and sets no protocol. A transport may still be
 * connecting; if that fails, the relay ends.
 *
 * Passed on, in both directions:
 * - bytes, and descriptors right before the byte that they came with;
 * - the end of a side's sending half, behind all that it has sent, as a half-close;
 * - the close of a side, behind all that it has sent, as a close: on unix sockets the other peer sees POLLHUP, and
 *   EPIPE when it writes. If that side had shut down its sending half before, it takes up to 1.6 seconds. On TCP a
 *   close looks like a half-close until something is sent;
 * - the error of a side (a reset; descriptors that the kernel could not install): all that it had sent is passed on,
 *   and then the other connection is aborted, on TCP by a reset. The other peer cannot take it for a complete stream.
 *
 * Not passed on: control messages other than descriptors (SCM_CREDENTIALS), urgent data, socket options.
 *
 * @param[out] out the relay
 * @param client one transport
 * @param server the other, or NULL: it follows with ferry_relay_set_server()
 * @param callbacks the table, or NULL: no callbacks
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out or @p client is NULL, both transports are the same, or they have different event_bases
 * @retval -EBUSY a producer is registered on a transport
 * @retval -ENOTCONN, -EPIPE a connection is over, or closing
 * @retval -ENOTSUP this kernel does not show where descriptors are
 * @retval -ENOMEM out of memory
 *
 * On failure the caller still owns both transports. Their limits of descriptors may have changed, and their protocol
 * may be one without callbacks. Since 0.1.
 */
FERRY_EXPORT int ferry_relay_new(struct ferry_relay **out, struct ferry_transport *client,
                                 struct ferry_transport *server,
                                 const struct ferry_relay_callbacks *callbacks, void *context);

/**
 * Brings the server of a relay that was made without one. Then the relay begins to read from the client. If the
 * client has gone meanwhile, all that it had sent is passed on, and its end behind that. Until this call the relay does
 * not end by itself and calls nobody: an attempt to connect may have it as its context.
 *
 * @param relay the relay
 * @param server the transport; on success the relay owns it
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, @p server is the client, or has another event_base
 * @retval -EALREADY the relay has a server
 * @retval -ECANCELED ferry_relay_close() or ferry_relay_abort() was called
 * @retval -EBUSY, -ENOTCONN, -EPIPE, -ENOTSUP, -ENOMEM as ferry_relay_new()
 *
 * On failure the caller still owns @p server. Since 0.1.
 */
FERRY_EXPORT int ferry_relay_set_server(struct ferry_relay *relay, struct ferry_transport *server);

/**
 * Frees the relay and both transports, as ferry_transport_free() does: without shutdown(2), so that a forked child may
 * free its copy. No callback follows. Data that is queued is dropped; see ferry_relay_close().
 *
 * @param relay the relay; NULL does nothing
 *
 * Since 0.1.
 */
FERRY_EXPORT void ferry_relay_free(struct ferry_relay *relay);

/**
 * Ends both connections when all is sent that was read so far. Nothing more is read. relay_ended follows, with the
 * reason 0. Without a server the client's connection ends at once. In a filter: after the bytes of this read have
 * passed, with the descriptors in front of them.
 *
 * @param relay the relay
 * @retval 0 done, also when called again
 * @retval -EINVAL @p relay is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_relay_close(struct ferry_relay *relay);

/**
 * Ends both connections now, on TCP with a reset, and drops what is queued. relay_ended follows from the loop, with
 * @p reason, unless a connection has ended with an error before.
 *
 * @param relay the relay
 * @param reason a negative errno value
 * @retval 0 done, also when called again
 * @retval -EINVAL @p relay is NULL, or @p reason is not negative
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_relay_abort(struct ferry_relay *relay, int reason);

/**
 * Sets the time after which a relay on which nothing moves is aborted with -ETIMEDOUT. Bytes that a peer takes out of
 * the kernel's queue count as movement. None at first. It takes the time, and a quarter of it more at most. Does not
 * run until there is a server.
 *
 * @param relay the relay
 * @param timeout the time, or NULL for none
 * @retval 0 done
 * @retval -EINVAL @p relay is NULL, or @p timeout is zero or negative
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_relay_set_idle_timeout(struct ferry_relay *relay,
                                              const struct timeval *timeout);

/**
 * Sets the time from the end of one connection, or the close of its peer, after which the other connection is aborted,
 * although it has not taken all that is queued. The reason is then -ETIMEDOUT. None at first: a peer that never reads
 * keeps the rest, as it would keep it in the kernel. A half-close does not start the time. Applies also to a relay that
 * ends already.
 *
 * @param relay the relay
 * @param timeout the time, or NULL for none
 * @retval 0 done
 * @retval -EINVAL @p relay is NULL, or @p timeout is zero or negative
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_relay_set_close_timeout(struct ferry_relay *relay,
                                               const struct timeval *timeout);

/**
 * Returns a side's transport: for its peer's credentials, its counters, and to write to it. The relay still owns it: do
 * not free or close it, and set no protocol.
 *
 * @param relay the relay
 * @param side the side
 * @return the transport, which lives as long as the relay, also when its connection is over; NULL if @p relay is NULL,
 *         @p side is neither, or there is no server yet
 *
 * Since 0.1.
 */
FERRY_EXPORT struct ferry_transport *ferry_relay_get_transport(const struct ferry_relay *relay,
                                                               enum ferry_relay_side side);

/**
 * Copies the counters.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_relay_get_stats(const struct ferry_relay *relay,
                                       struct ferry_relay_stats *stats);

FERRY_END_DECLS

#endif
