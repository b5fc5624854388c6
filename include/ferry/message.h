#ifndef FERRY_MESSAGE_H
#define FERRY_MESSAGE_H

/**
 * @file message.h
 * @brief Frames of bytes with descriptors that belong to exactly that frame.
 *
 * A raw stream promises that a descriptor is there no later than its byte; which frame of a protocol
 * it belongs to is then for the protocol to work out. Messages do that: each has a type, a payload
 * and 0 to 253 descriptors, and arrives with just those, or with a report of how many were lost on
 * the way. The header on the wire is described in docs/message.md.
 *
 * @code
 * static void received(struct ferry_message_stream *stream, struct ferry_message *message,
 *                      void *context)
 * {
 *     int fd = ferry_message_steal_fd(message, 0);   // ours now; the others are closed on return
 *     if (fd >= 0)
 *         use(fd);
 * }
 * static const struct ferry_message_callbacks callbacks = {.message_received = received};
 *
 * struct ferry_message_stream *stream;
 * ferry_message_stream_new(&stream, transport, &callbacks, NULL);   // takes the transport
 * ferry_message_stream_send(stream, MY_TYPE, "hello", 5, fds, 2, FERRY_FD_DUP);
 * @endcode
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/export.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

/** Messages over one transport, both ways. Opaque. */
struct ferry_message_stream;

/** A message that was received. Opaque; valid until message_received returns, even if that frees the
 *  stream. */
struct ferry_message;

/** What a stream of messages tells its owner. Every member may be NULL; the table must outlive the
 *  stream. Each may call any ferry function, ferry_message_stream_free() included. Since 0.1. */
struct ferry_message_callbacks {
	/** The connection stands; as in a protocol. */
	void (*connection_made)(struct ferry_message_stream *stream, void *context);

	/** A message arrived, with all of its descriptors, or with fewer: see
	 *  ferry_message_get_fds_lost(). Descriptors that are not stolen are closed on return. */
	void (*message_received)(struct ferry_message_stream *stream, struct ferry_message *message,
	                         void *context);

	/** The connection is over, once; the reasons of a protocol's connection_lost, and -EPROTO: the
	 *  peer broke the format, sent other descriptors than its messages declare, or ended in the
	 *  middle of a message (the log callback is told which); -ENOMEM: out of memory for a message.
	 */
	void (*connection_lost)(struct ferry_message_stream *stream, int reason, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/**
 * Puts messages on a transport, as its protocol. The transport is the stream's from then on, and
 * goes with it. Coalescing of descriptors is turned off and one message may carry 253; both are to
 * stay so. Bytes that an earlier protocol has left in the input are the first of the messages;
 * descriptors that it was given are not. Of the bufferevent's EV_READ watermarks the low one has no
 * effect, and the high one bounds what one read brings, not what a message may be.
 *
 * @param[out] out the stream
 * @param transport a transport on a unix socket, or on another kind for messages without
 *        descriptors; nothing else may be written to it
 * @param callbacks what is told; must outlive the stream
 * @param context handed to each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p transport or @p callbacks is NULL
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_new(struct ferry_message_stream **out,
                                          struct ferry_transport *transport,
                                          const struct ferry_message_callbacks *callbacks,
                                          void *context);

/** Frees the stream and its transport, as ferry_transport_free(). NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_message_stream_free(struct ferry_message_stream *stream);

/** The transport below, for producers, pausing, closing and statistics. It stays the stream's. A pause
 *  in message_received holds the next message back. NULL for NULL. Since 0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_message_stream_get_transport(const struct ferry_message_stream *stream);

/**
 * Bounds what a message may be, both ways. A longer one from the peer ends the connection with
 * -EPROTO before memory is taken for it.
 *
 * @param stream the stream
 * @param max_payload bytes, up to 1 GiB; 1 MiB at first
 * @param max_fds descriptors, up to 253; 253 at first
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL or a limit is out of range
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_set_limits(struct ferry_message_stream *stream,
                                                 size_t max_payload, unsigned int max_fds);

/**
 * Stops reading while fewer than so many descriptor numbers are free in this process, so that
 * descriptors wait in the kernel instead of being lost. A timer looks again, 50 times a second. Until
 * then the read timeout does not run, and the peer's end is not noticed.
 *
 * It is looked before each read, not for each message: about 3 µs for a reserve of 253, and less for a
 * smaller one. What other threads and callbacks open between the look and the read is what more than
 * the largest message should be in reserve for. Without effect but on unix sockets.
 *
 * @param stream the stream
 * @param reserve free descriptor numbers below which nothing is read; 0, the default, for no such
 *        care. One that RLIMIT_NOFILE never allows stops the reading for good.
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_set_fd_reserve(struct ferry_message_stream *stream,
                                                     unsigned int reserve);

/**
 * Sends a message: all of it is queued, or nothing. The descriptors need room in the transport's queue
 * together (ferry_transport_set_fd_buffer(), 1024 at first); bytes are never refused for want of room.
 *
 * @param stream the stream
 * @param type the application's own, 0 to 65535
 * @param payload the bytes, copied; may be NULL when @p length is 0
 * @param length how many, at most max_payload
 * @param fds the descriptors; may be NULL when @p fd_count is 0
 * @param fd_count how many, at most max_fds
 * @param ownership for all of @p fds: FERRY_FD_TAKE or FERRY_FD_DUP; on failure all of them are
 *        still the caller's
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, @p payload or @p fds is NULL with a count, @p ownership is
 *         neither, or a descriptor is to be taken twice
 * @retval -EMSGSIZE @p length or @p fd_count is over the limits
 * @retval -ENOBUFS the transport's queue of descriptors is full
 * @retval -EBADF, -ELOOP, -EOPNOTSUPP, -EMFILE as ferry_transport_send_fd(), for any of @p fds
 * @retval -EPIPE as ferry_transport_write()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_send(struct ferry_message_stream *stream, uint16_t type,
                                           const void *payload, size_t length, const int *fds,
                                           size_t fd_count, enum ferry_fd_ownership ownership);

/** The message's type. Since 0.1. */
FERRY_EXPORT uint16_t ferry_message_get_type(const struct ferry_message *message);

/** The payload, in one piece, valid as long as the message; @p length gets its length. Since 0.1. */
FERRY_EXPORT const void *ferry_message_get_payload(const struct ferry_message *message,
                                                   size_t *length);

/** How many descriptors the sender declared. Since 0.1. */
FERRY_EXPORT size_t ferry_message_get_fd_count(const struct ferry_message *message);

/** How many of them did not arrive: this process had no numbers free, or a security module refused.
 *  Those that did are the first ones, in order. Since 0.1. */
FERRY_EXPORT size_t ferry_message_get_fds_lost(const struct ferry_message *message);

/** Looks at a descriptor, which stays the message's. -ENOENT: @p index is not one that arrived, or it
 *  was stolen. Since 0.1. */
FERRY_EXPORT int ferry_message_get_fd(const struct ferry_message *message, size_t index);

/** Takes a descriptor, which is the caller's from then on. -ENOENT as above. Since 0.1. */
FERRY_EXPORT int ferry_message_steal_fd(struct ferry_message *message, size_t index);

FERRY_END_DECLS

#endif
