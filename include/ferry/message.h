#ifndef FERRY_MESSAGE_H
#define FERRY_MESSAGE_H

/**
 * @file message.h
 * @brief Frames of bytes with descriptors that belong to exactly that frame.
 *
 * A raw stream delivers a descriptor no later than its byte, but does not mark the frame of a protocol that
 * it belongs to. Messages do: each has a type, a payload and 0 to 253 descriptors. A message arrives with
 * exactly its descriptors, or with the number of those that were lost on the way. docs/message.md describes
 * the header on the wire.
 *
 * @code
 * static void received(struct ferry_message_stream *stream, struct ferry_message *message,
 *                      void *context)
 * {
 *     int fd = ferry_message_steal_fd(message, 0);   // the others are closed on return
 *     if (fd >= 0)
 *         use(fd);
 * }
 * static const struct ferry_message_callbacks callbacks = {.message_received = received};
 *
 * struct ferry_message_stream *stream;
 * ferry_message_stream_new(&stream, transport, &callbacks, NULL);   // takes the transport
 * ferry_message_stream_send(stream, MY_TYPE, "hello", 5, fds, 2, FERRY_FD_DUP);
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread that runs the transport's event_base; if the bufferevent was made with
 * BEV_OPT_THREADSAFE, in any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/export.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct evbuffer;
struct iovec;

/** Messages over one transport, both ways. Opaque. */
struct ferry_message_stream;

/** A message that was received. Opaque; valid until message_received returns, even if that frees the
 *  stream. */
struct ferry_message;

/** The callbacks of a stream of messages. Every member may be NULL; the table must outlive the stream. A
 *  callback may call any ferry function, ferry_message_stream_free() included. Since 0.1. */
struct ferry_message_callbacks {
	/** The connection is established; as in a protocol. */
	void (*connection_made)(struct ferry_message_stream *stream, void *context);

	/** A message has arrived, with all of its descriptors, or with fewer: see
	 *  ferry_message_get_fds_lost(). Descriptors that are not stolen are closed on return. */
	void (*message_received)(struct ferry_message_stream *stream, struct ferry_message *message,
	                         void *context);

	/** The connection is over; called once. @p reason is one of a protocol's connection_lost, or -EPROTO: the
	 *  peer broke the format, sent a message over the limits or other descriptors than its messages declare, or
	 *  ended in the middle of a message (the log callback gets a line with the fault); or -EMSGSIZE: the peer
	 *  has refused a message that was over its limits; or -ENOMEM: out of memory for a message. */
	void (*connection_lost)(struct ferry_message_stream *stream, int reason, void *context);

	/** The peer sends no more messages, and all that it has sent are delivered; called once. This side still
	 *  can send, until ferry_message_stream_lose_connection(). NULL: the
	 *  connection ends when all is sent, and later messages are refused with -EPIPE. */
	void (*read_connection_lost)(struct ferry_message_stream *stream, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[3])(void);
};

/**
 * Puts messages on a transport, as its protocol. The stream owns the transport from then on and frees it.
 *
 * The stream turns coalescing of descriptors off and sets 253 descriptors per message; do not change
 * either. Bytes that an earlier protocol has left in the input are the beginning of the first message;
 * descriptors that it was given do not belong to any. The bufferevent's low EV_READ watermark has no effect;
 * the high one limits the bytes of one read, not the size of a message.
 *
 * @param[out] out the stream
 * @param transport a transport on a unix socket, or on another kind for messages without
 *        descriptors; nothing else may be written to it
 * @param callbacks the callbacks; the table must outlive the stream
 * @param context passed to each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p transport or @p callbacks is NULL
 * @retval -EBUSY another object owns the transport already: a stream, a channel, a dispatcher, a worker or a takeover
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

/** Returns the transport, which the stream owns; for producers, pausing and statistics. If reading is
 *  paused in message_received, the next message waits for ferry_transport_resume_reading(). NULL for NULL.
 *  Since 0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_message_stream_get_transport(const struct ferry_message_stream *stream);

/**
 * Closes the stream and its connection when all that is queued is sent: ferry_transport_lose_connection() on the
 * stream's transport. No further message is delivered; connection_lost follows from the loop; the owner frees
 * the stream there or later.
 *
 * @param stream the stream
 * @retval 0 done, also while it is closing already
 * @retval -EINVAL @p stream is NULL
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_lose_connection(struct ferry_message_stream *stream);

/**
 * Ends the sending half when all that is queued is sent: ferry_transport_lose_write_connection() on the stream's
 * transport. The peer's messages are delivered until it ends its half too.
 *
 * @param stream the stream
 * @retval 0 done, also when called again
 * @retval -EINVAL, -ENOTCONN as ferry_message_stream_lose_connection()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_lose_write_connection(struct ferry_message_stream *stream);

/**
 * Ends the connection now, and drops what is queued: ferry_transport_abort_connection() on the stream's transport.
 * connection_lost follows from the loop, with -ECONNABORTED.
 *
 * @param stream the stream
 * @retval 0 done
 * @retval -EINVAL, -ENOTCONN as ferry_message_stream_lose_connection()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_abort_connection(struct ferry_message_stream *stream);

/**
 * Limits the messages in both directions. If the peer sends one over a limit, the connection ends with
 * -EPROTO before memory is taken for it; a peer with ferry ends with -EMSGSIZE.
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
 * Suspends reading while fewer than @p reserve descriptor slots are free in this process. Descriptors then
 * wait in the kernel instead of being lost. A timer counts the free slots again, 50 times a second. While
 * reading is suspended, the read timeout does not run. The peer's end is noticed once nothing is unread.
 *
 * A message of which the beginning has arrived is read to its end, and the read timeout runs for it: its
 * descriptors came with its first byte, and become free with it. If the peer is gone, slots for one message are
 * enough (ferry_message_stream_set_limits()): connections of peers that are gone end, and their slots become free.
 * Set the limit of descriptors below the reserve, and of connections below the descriptor limit, for that.
 *
 * The slots are counted before each read, not for each message: about 3 µs for a reserve of 253, and less for
 * a smaller one. Other threads and callbacks may open descriptors between the count and the read: reserve
 * more than the largest message needs. On anything but a unix socket the reserve has no effect.
 *
 * @param stream the stream
 * @param reserve the number of free descriptor slots below which nothing is read; 0, the default: reading is
 *        never suspended. If RLIMIT_NOFILE never allows so many, nothing is read any more.
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_set_fd_reserve(struct ferry_message_stream *stream,
                                                     unsigned int reserve);

/**
 * Sends a message: all of it is queued, or nothing. All of its descriptors must fit into the transport's
 * queue (ferry_transport_set_fd_buffer(), 1024 at first), and its bytes under ferry_transport_set_byte_limit().
 *
 * @param stream the stream
 * @param type the application's own, 0 to 65535
 * @param payload the bytes, copied; may be NULL when @p length is 0
 * @param length the number of bytes, at most max_payload
 * @param fds the descriptors; may be NULL when @p fd_count is 0
 * @param fd_count the number of descriptors, at most max_fds
 * @param ownership for all of @p fds: FERRY_FD_TAKE or FERRY_FD_DUP; on failure all of them are
 *        still the caller's. Ignored if @p fd_count is 0: may be 0 then
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, @p payload or @p fds is NULL with a count, @p ownership is
 *         neither although there are descriptors, or a descriptor is to be taken twice
 * @retval -EMSGSIZE @p length or @p fd_count is over the limits
 * @retval -ENOBUFS the transport's queue of descriptors is full, or more bytes would be queued than
 *         ferry_transport_set_byte_limit() permits
 * @retval -EBADF, -ELOOP, -EOPNOTSUPP, -EMFILE as ferry_transport_send_fd(), for any of @p fds
 * @retval -EPIPE as ferry_transport_write()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_send(struct ferry_message_stream *stream, uint16_t type,
                                           const void *payload, size_t length, const int *fds,
                                           size_t fd_count, enum ferry_fd_ownership ownership);

/**
 * Sends a message whose payload is the bytes of several places, one behind the other. The arguments are those of
 * ferry_message_stream_send(), with @p parts and @p count in place of the payload.
 *
 * @param parts the places, as for writev(2); may be NULL when @p count is 0. The bytes are copied
 * @param count the number of places
 * @retval 0 done
 * @retval -EINVAL @p parts is NULL and @p count is not 0, the bytes of a part are NULL and its length is not 0, or the
 *         lengths add up to more than SSIZE_MAX
 * @retval other as ferry_message_stream_send()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_sendv(struct ferry_message_stream *stream, uint16_t type,
                                            const struct iovec *parts, size_t count, const int *fds,
                                            size_t fd_count, enum ferry_fd_ownership ownership);

/**
 * Sends a message whose payload is all bytes of an evbuffer, without copying them, and leaves @p buffer empty. The
 * arguments are those of ferry_message_stream_send(), with @p buffer in place of the payload. Files that
 * evbuffer_add_file() has put into @p buffer are parts of the payload (docs/files.md). On failure @p buffer has its
 * bytes again. The callbacks of @p buffer run as the bytes leave it, and when they come back; what they add to
 * @p buffer stays there. Another thread may add to @p buffer if that has a lock (evbuffer_enable_locking()): its bytes
 * are in this message, or stay.
 *
 * @param buffer the payload; the caller still owns the evbuffer
 * @retval 0 done
 * @retval -EINVAL @p buffer is NULL, or the output of the stream's transport
 * @retval -ENOMEM the front of @p buffer, or the end of the output, is frozen (evbuffer_freeze())
 * @retval other as ferry_message_stream_send()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_send_buffer(struct ferry_message_stream *stream,
                                                  uint16_t type, struct evbuffer *buffer,
                                                  const int *fds, size_t fd_count,
                                                  enum ferry_fd_ownership ownership);

/**
 * Runs once for ferry_message_stream_notify_sent(). @p status is 0: the kernel has the whole message; or it never will:
 * the reason of connection_lost, which runs behind this, or -ECANCELED if the connection has ended without an error or
 * the stream is being freed. Since 0.1.
 */
typedef void (*ferry_message_sent_cb)(struct ferry_message_stream *stream, int status,
                                      void *context);

/**
 * Has a callback run when the kernel has taken all that was sent before this call, the last message to its last byte. A
 * sender of large messages sends the next one then, or frees what it has counted for this one. The peer may still not
 * read the message: only an answer shows that.
 *
 * Call it right after the call that has sent the message, whichever that is. The callbacks run in the order of these
 * calls, exactly once each: from the loop, before connection_lost; for those that are left, inside
 * ferry_message_stream_free(). They may call every function, ferry_message_stream_free() included.
 *
 * @param stream the stream
 * @param sent the callback
 * @param context the last argument of @p sent
 * @retval 0 done
 * @retval -EINVAL @p stream or @p sent is NULL
 * @retval -EPIPE nothing can be sent any more: the connection is over, or a write has failed
 * @retval -ENOBUFS 65536 callbacks wait already
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_stream_notify_sent(struct ferry_message_stream *stream,
                                                  ferry_message_sent_cb sent, void *context);

/** Returns the message's type; 0 for NULL. Since 0.1. */
FERRY_EXPORT uint16_t ferry_message_get_type(const struct ferry_message *message);

/** Returns the payload, in one piece and valid as long as the message. @p length, which may be NULL, gets its
 *  length. NULL and a length of 0 for NULL. Since 0.1. */
FERRY_EXPORT const void *ferry_message_get_payload(const struct ferry_message *message,
                                                   size_t *length);

/** Returns the number of descriptors that the sender declared; 0 for NULL. Since 0.1. */
FERRY_EXPORT size_t ferry_message_get_fd_count(const struct ferry_message *message);

/** Returns the number of declared descriptors that did not arrive: this process was at its descriptor limit, or
 *  a security module refused them. The descriptors that did arrive are the first ones, in order. 0 for NULL.
 *  Since 0.1. */
FERRY_EXPORT size_t ferry_message_get_fds_lost(const struct ferry_message *message);

/**
 * Returns a descriptor, which stays the message's.
 *
 * @param index from 0, in the order of sending
 * @return the descriptor
 * @retval -ENOENT no descriptor arrived at @p index, or it was stolen
 * @retval -EINVAL @p message is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_get_fd(const struct ferry_message *message, size_t index);

/**
 * Takes a descriptor, which is the caller's from then on.
 *
 * @param index from 0, in the order of sending
 * @return the descriptor
 * @retval -ENOENT, -EINVAL as ferry_message_get_fd()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_message_steal_fd(struct ferry_message *message, size_t index);

FERRY_END_DECLS

#endif
