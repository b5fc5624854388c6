#ifndef FERRY_CHANNEL_H
#define FERRY_CHANNEL_H

/**
 * @file channel.h
 * @brief A transport or a listening socket for sequential code, without callbacks.
 *
 * A channel collects bytes, descriptors, connections and ends until the program asks for them. A poller
 * (ferry/poller.h) asks many channels at once: ferry_poller_poll() waits, and fills an array with the events
 * that are pending. The program writes to a channel at any time. docs/channel.md is a guide.
 *
 * @code
 * struct ferry_poller *poller;
 * struct ferry_channel *channel;
 * struct ferry_channel_event events[64];
 * int count;
 *
 * ferry_poller_new(&poller);
 * ferry_channel_new_socket(&channel, poller, fd);          // takes the socket
 * ferry_channel_set_lines(channel, "\n", 1, 16384);
 * ferry_poller_register(poller, channel);
 * ferry_channel_write(channel, "hello\n", 6);
 * while ((count = ferry_poller_poll(poller, NULL, events, 64)) > 0)
 *     for (int i = 0; i < count; i++) {
 *         if (events[i].kind == FERRY_CHANNEL_LINE)
 *             printf("%.*s\n", (int)events[i].length, events[i].data);
 *         else if (events[i].kind == FERRY_CHANNEL_CLOSED)
 *             ferry_channel_free(events[i].channel);
 *     }
 * ferry_poller_free(poller);
 * @endcode
 *
 * @par Callers
 * Only in the one thread that uses the poller and its channels. In callbacks of other objects in the poller's
 * event_base (a file's, a producer's) too, but those that run the loop return -EBUSY there. Such callbacks run
 * during polls and flushes, with the exceptions that docs/callbacks.md lists.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/export.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct ferry_message;
struct ferry_poller;
struct timeval;

/** A connection, or a server: a listening socket. Opaque. */
struct ferry_channel;

/** The kinds of events. Later versions may add kinds: ignore those that you do not know. Since 0.1. */
enum ferry_channel_event_kind {
	/** Bytes arrived: `data` and `length`, at least 1. */
	FERRY_CHANNEL_BYTES = 1,
	/** A line arrived: `data` and `length`, without the delimiter. `incomplete`: the peer has ended in the
	 *  middle of the line. */
	FERRY_CHANNEL_LINE = 2,
	/** A line is longer than allowed: `data` and `length` are its first bytes, as many as are allowed. The
	 *  channel drops the rest of the line and continues with the next one. */
	FERRY_CHANNEL_LINE_TOO_LONG = 3,
	/** A descriptor arrived, `fd`. This event comes before the bytes, or the line, that the descriptor was
	 *  sent with. The next poll closes the descriptor unless ferry_poller_steal_fd() gives it to the
	 *  caller. */
	FERRY_CHANNEL_FD = 4,
	/** The peer has sent descriptors that the kernel could not install in this process (see
	 *  ferry_protocol). */
	FERRY_CHANNEL_FDS_LOST = 5,
	/** A server has accepted a connection: `accepted`, a channel with the server's settings, registered
	 *  already. */
	FERRY_CHANNEL_ACCEPTED = 6,
	/** The peer sends no more; this side still can. Only with ferry_channel_set_half_close(). */
	FERRY_CHANNEL_END = 7,
	/** The channel has refused a ferry_channel_write(), and has room again. */
	FERRY_CHANNEL_WRITABLE = 8,
	/** The connection is over: `reason` is 0, or a negative errno as for a protocol's connection_lost. This
	 *  is the last event of the channel and comes after all others. The descriptors of the channel are
	 *  closed; the caller still has to free it. */
	FERRY_CHANNEL_CLOSED = 9,
	/** A message arrived, `message`, for the functions of ferry/message.h; `data` and `length` are its payload. The
	 *  next poll closes the descriptors that ferry_message_steal_fd() has not given to the caller. Only with
	 *  ferry_channel_set_messages(). */
	FERRY_CHANNEL_MESSAGE = 10
};

/** An event. Members that the kind does not use are NULL, 0 or false, and -1 for `fd`. Since 0.1. */
struct ferry_channel_event {
	enum ferry_channel_event_kind kind; /**< which of the members below are set */
	struct ferry_channel *channel;      /**< the channel of the event */
	struct ferry_channel *accepted;     /**< the new channel */
	const char *data;                   /**< belongs to the poller, valid until its next poll */
	size_t length;                      /**< of data, in bytes */
	int fd;                             /**< a descriptor */
	int reason;                         /**< of the end */
	bool incomplete;                    /**< the line has no delimiter */
	struct ferry_message *message;      /**< belongs to the poller, valid until its next poll */
	void *reserved[3];                  /**< NULL, for later versions */
};

/* ---- making and freeing ---- */

/**
 * Makes a channel on a connected stream socket: unix, TCP or another. The channel is not registered yet; nor
 * are those of the next two functions.
 *
 * @param[out] out the channel
 * @param poller the poller of the channel
 * @param fd the socket, which becomes non-blocking; belongs to the channel if the call succeeds, else to the
 *        caller
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -EBADF @p fd is not open
 * @retval -ENOTSOCK, -EPROTOTYPE, -ENOTSUP as ferry_transport_new()
 * @retval -ENOMEM out of memory
 * @retval other as ferry_transport_new()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_new_socket(struct ferry_channel **out, struct ferry_poller *poller,
                                          int fd);

/**
 * Makes a channel on two pipes, FIFOs or terminals, or on one.
 *
 * @param[out] out the channel
 * @param poller the poller of the channel
 * @param faucet the descriptor to read from; -1: no bytes ever arrive
 * @param sink the descriptor to write to; -1: ferry_channel_write() returns -EPIPE. Both descriptors become
 *        non-blocking and belong to the channel if the call succeeds; else they belong to the caller, unchanged
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, both descriptors are -1, or one is not open in the direction needed
 * @retval -EPERM as ferry_transport_new_pipes(): a regular file, a directory, /dev/null
 * @retval -EBADF a descriptor is not open
 * @retval -EMFILE one descriptor is -1, and the descriptor limit leaves no slot for its substitute; or as
 *         ferry_transport_new_pipes()
 * @retval -ENOTSUP as ferry_transport_new()
 * @retval -ENOMEM out of memory
 * @retval other as ferry_transport_new_pipes()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_new_pipes(struct ferry_channel **out, struct ferry_poller *poller,
                                         int faucet, int sink);

/**
 * Makes a channel on a transport in the poller's event_base. Bytes in the transport's input become the first
 * events.
 *
 * @param[out] out the channel
 * @param poller the poller of the channel
 * @param transport belongs to the channel if the call succeeds, else to the caller
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or the transport is in another event_base
 * @retval -EBUSY another object owns the transport already: a stream, a channel, a dispatcher, a worker or a takeover
 * @retval -ENOTCONN the connection of the transport is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_new_transport(struct ferry_channel **out,
                                             struct ferry_poller *poller,
                                             struct ferry_transport *transport);

/**
 * Closes a channel at once, registered or not, and frees it. Drops the output that is queued. The descriptors
 * of the channel are closed when the call returns; if ferry_channel_new_transport() has made it, in the next
 * poll or flush, by the transport's bufferevent. Legal in callbacks.
 *
 * The object itself lives until the next poll, because events of the last poll may point to it. Until then its
 * functions return -ENOTCONN, and another ferry_channel_free() does nothing. NULL: nothing happens. Since 0.1.
 */
FERRY_EXPORT void ferry_channel_free(struct ferry_channel *channel);

/* ---- settings ---- */

/**
 * Splits the input into lines, or stops splitting it. Applies to all input that no event has returned yet.
 *
 * One poll returns all complete lines. To change between lines and bytes at a certain line, poll with room for
 * one event.
 *
 * @param channel a connection; or a server, for the channels that it accepts from now on
 * @param delimiter the end of a line; copied. Ignored if @p delimiter_length is 0
 * @param delimiter_length 1 to 16 bytes; 0: bytes, as in a new channel
 * @param max_length the longest line, without its delimiter; 1 to 1 GiB. A longer line is
 *        FERRY_CHANNEL_LINE_TOO_LONG. Ignored if @p delimiter_length is 0
 * @retval 0 done
 * @retval -EINVAL @p channel or @p delimiter is NULL, a length is out of range, or the channel is a connection that has
 *         messages
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_set_lines(struct ferry_channel *channel, const void *delimiter,
                                         size_t delimiter_length, size_t max_length);

/**
 * Receives messages (ferry/message.h) in place of bytes: FERRY_CHANNEL_MESSAGE events, each with its descriptors.
 * Messages are sent by ferry_channel_send_message(), and nothing else may be written. A peer that breaks the format, or
 * exceeds a limit, closes the channel with -EPROTO, as for a stream of messages.
 *
 * A connection is set to messages before it is registered the first time, and stays so; another call changes the
 * limits. A server may be set to lines or bytes again. Descriptors that an earlier protocol of the transport was given
 * belong to no message.
 *
 * @param channel a connection; or a server, for the channels that it accepts from now on
 * @param max_payload bytes of a payload, up to 1 GiB, in both directions
 * @param max_fds descriptors of a message, up to 253, in both directions
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL, or a limit is out of range
 * @retval -EBUSY the connection is registered, or has received something
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_set_messages(struct ferry_channel *channel, size_t max_payload,
                                            unsigned int max_fds);

/**
 * Sets the reaction when the peer ends its half. True: FERRY_CHANNEL_END, and the channel stays open until
 * ferry_channel_close(). False, as in a new channel: the channel sends the output that is queued and closes.
 *
 * @param half_close whether the channel stays open
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_set_half_close(struct ferry_channel *channel, bool half_close);

/**
 * Sets how much a channel buffers in each direction.
 *
 * @param channel a connection; or a server, for the channels that it accepts from now on
 * @param read_limit bytes that are read ahead of the polls, approximately; with lines at least the length of
 *        the longest line. 256 KiB in a new channel
 * @param write_limit length of the queue, in bytes, from which ferry_channel_write() returns -EAGAIN. 1 MiB in
 *        a new channel
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL, or a limit is 0
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_set_limits(struct ferry_channel *channel, size_t read_limit,
                                          size_t write_limit);

/**
 * Stores a pointer for the caller.
 *
 * @param context the pointer
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_set_context(struct ferry_channel *channel, void *context);

/** Returns the pointer of ferry_channel_set_context(), or NULL. Since 0.1. */
FERRY_EXPORT void *ferry_channel_get_context(const struct ferry_channel *channel);

/**
 * Returns the descriptor that the channel reads from; the listening one of a server. The channel uses it: do not
 * read, write or close it.
 *
 * @return the descriptor
 * @retval -EINVAL @p channel is NULL
 * @retval -ENOTCONN the channel is closed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_get_fd(const struct ferry_channel *channel);

/** Returns the transport of a connection, for files, producers, rate limits and statistics. It belongs to the
 *  channel: do not close it, pause its reading or set a protocol. NULL for a server, for a closed channel, and
 *  for NULL. Since 0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_channel_get_transport(const struct ferry_channel *channel);

/* ---- sending ---- */

/**
 * Sends bytes. As many as the kernel takes leave at once. The channel queues a copy of the rest and sends it
 * during polls and flushes. No bytes are sent as others are, and get the same errors: -EAGAIN too.
 *
 * @param channel the channel
 * @param data the bytes; may be NULL if @p length is 0
 * @param length their number, which may exceed the write limit
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL, a server or has messages, or @p data is NULL and @p length is not 0
 * @retval -EAGAIN the queue had reached the write limit (ferry_channel_set_limits()): the channel has taken
 *         nothing. FERRY_CHANNEL_WRITABLE follows when the queue is half as long as the limit
 * @retval -EPIPE the channel is closing, or its sending half is
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_write(struct ferry_channel *channel, const void *data,
                                     size_t length);

/**
 * Sends a text of printf(3), without its terminating zero, as ferry_channel_write().
 *
 * @param channel the channel
 * @param format the format, and the arguments behind it
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL, a server or has messages; @p format is NULL or no format of printf(3)
 * @retval -EILSEQ a wide character of the arguments has no multibyte character
 * @retval -EOVERFLOW the text is longer than INT_MAX
 * @retval -EAGAIN, -EPIPE, -ENOTCONN, -ENOMEM as ferry_channel_write()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_printf(struct ferry_channel *channel, const char *format, ...)
    FERRY_PRINTF(2, 3);

/**
 * Does what ferry_channel_printf() does, with @p format and the arguments in a va_list, @p arguments: for functions
 * that have such arguments themselves.
 *
 * @retval 0 done
 * @retval other as ferry_channel_printf()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_vprintf(struct ferry_channel *channel, const char *format,
                                       va_list arguments) FERRY_PRINTF(2, 0);

/**
 * Sends a message on a channel of messages: all of it, or nothing. As much as the kernel takes leaves at once, and the
 * rest during polls and flushes.
 *
 * @param channel the channel
 * @param type the application's own, 0 to 65535
 * @param payload the bytes, copied; may be NULL when @p length is 0
 * @param length the number of bytes
 * @param fds the descriptors; may be NULL when @p fd_count is 0
 * @param fd_count the number of descriptors
 * @param ownership for all of @p fds, as for ferry_message_stream_send()
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL or a server, or has no messages
 * @retval -EAGAIN as ferry_channel_write()
 * @retval -ENOTCONN the connection is over
 * @retval other as ferry_message_stream_send()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_send_message(struct ferry_channel *channel, uint16_t type,
                                            const void *payload, size_t length, const int *fds,
                                            size_t fd_count, enum ferry_fd_ownership ownership);

/**
 * Queues a descriptor for the next byte that is written, as ferry_transport_send_fd().
 *
 * @param fd the descriptor
 * @param ownership FERRY_FD_TAKE or FERRY_FD_DUP
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL, a server or has messages, or as ferry_transport_send_fd()
 * @retval -ENOTCONN the connection is over
 * @retval other as ferry_transport_send_fd()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_send_fd(struct ferry_channel *channel, int fd,
                                       enum ferry_fd_ownership ownership);

/**
 * Waits until the kernel has taken everything that is queued, files in the stream included. The channels of
 * the poller go on reading within their read limits; their events are pending until the next poll.
 *
 * @param channel the channel, registered or not
 * @param timeout how long to wait; NULL: for ever; zero: sends without waiting
 * @retval 0 the queue is empty
 * @retval -EINVAL @p channel is NULL or a server, or @p timeout is negative
 * @retval -ETIMEDOUT the queue is not empty yet
 * @retval -EINTR as ferry_poller_poll()
 * @retval -EBUSY called in a callback from the poller's event_base
 * @retval -ENOTCONN the channel is freed
 * @retval other the connection is over, for this reason (-EPIPE, -ECONNRESET, …)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_flush(struct ferry_channel *channel, const struct timeval *timeout);

/**
 * Ends the sending half when everything in the queue is sent, during polls or a flush. The peer then reads an
 * end of file, and can still answer. When the peer has ended too, FERRY_CHANNEL_CLOSED follows.
 *
 * @retval 0 done, also if called again
 * @retval -EINVAL @p channel is NULL or a server
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_close_write(struct ferry_channel *channel);

/**
 * Closes the channel when everything in the queue is sent, during polls while it is registered, or during
 * flushes. The channel reads nothing any more; polls return the events of earlier input, and then
 * FERRY_CHANNEL_CLOSED. ferry_channel_free() closes at once.
 *
 * @retval 0 done, also if called again
 * @retval -EINVAL @p channel is NULL or a server
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_close(struct ferry_channel *channel);

FERRY_END_DECLS

#endif
