#ifndef FERRY_CHANNEL_H
#define FERRY_CHANNEL_H

/**
 * @file channel.h
 * @brief Transports for sequential code: no callbacks, one call that says what has happened.
 *
 * A channel is a transport, or a listening socket, whose news wait until they are asked for. A poller
 * asks for those of many at once: ferry_poller_poll() waits, and fills an array of events with all that
 * is there: bytes or lines, descriptors, connections, ends. docs/channel.md is a guide.
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
 * A poller and its channels are for one thread; ferry_poller_interrupt() alone is for any. There are no
 * callbacks to call these functions in; in callbacks of what else is used in the poller's event_base (a
 * file's, a producer's) they may be called, but those that run the loop are -EBUSY there.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ferry/export.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct event_base;
struct iovec;
struct timeval;

/** What asks for the news of channels. Opaque. */
struct ferry_poller;

/** A transport, or a server: a listening socket. Opaque. */
struct ferry_channel;

/** What an event tells. Kinds may be added: pass over those you do not know. Since 0.1. */
enum ferry_channel_event_kind {
	/** Bytes arrived: `data` and `length`, at least 1. */
	FERRY_CHANNEL_BYTES = 1,
	/** A line: `data` and `length`, without the delimiter. `incomplete`: the peer has ended in the middle
	 *  of it. */
	FERRY_CHANNEL_LINE = 2,
	/** A line is longer than allowed: its first bytes, as many as are allowed. The rest of it is
	 *  dropped, and the next line is a line again, unless the channel is closed. */
	FERRY_CHANNEL_LINE_TOO_LONG = 3,
	/** A descriptor arrived, `fd`; before the bytes, or the line, that it came with. It is the poller's,
	 *  and closed by the next poll, unless ferry_poller_steal_fd() makes it the caller's. */
	FERRY_CHANNEL_FD = 4,
	/** Descriptors were sent and could not be installed here (see ferry_protocol). */
	FERRY_CHANNEL_FDS_LOST = 5,
	/** A server has accepted a connection: `accepted`, a channel that is registered already, with the
	 *  server's settings. */
	FERRY_CHANNEL_ACCEPTED = 6,
	/** Only with ferry_channel_set_half_close(): the peer sends no more. This side still can. */
	FERRY_CHANNEL_END = 7,
	/** ferry_channel_write() was refused, and there is room again. */
	FERRY_CHANNEL_WRITABLE = 8,
	/** The connection is over, after all that it has brought: `reason` is 0, or a negative errno, as
	 *  for a protocol's connection_lost. The channel's last event. Its descriptors are closed; the
	 *  channel waits to be freed. */
	FERRY_CHANNEL_CLOSED = 9
};

/** One piece of news; what does not belong to its kind is NULL, 0, false, and -1 for `fd`. Since 0.1. */
struct ferry_channel_event {
	enum ferry_channel_event_kind kind; /**< what it tells */
	struct ferry_channel *channel;      /**< of what */
	struct ferry_channel *accepted;     /**< the new channel */
	const char *data;                   /**< the poller's, until its next poll */
	size_t length;                      /**< of data, in bytes */
	int fd;                             /**< a descriptor */
	int reason;                         /**< why it is closed */
	bool incomplete;                    /**< a line without an end */
	void *reserved[4];                  /**< NULL, for later versions */
};

/* ---- the poller ---- */

/**
 * Makes a poller. It has an event_base of its own, and holds four descriptors; five in a program that has
 * set up libevent's locking.
 *
 * @param[out] out the poller
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -EMFILE not that many descriptor numbers are free
 * @retval -ENOMEM out of memory, or of what else an event_base needs
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_new(struct ferry_poller **out);

/** Frees a poller: closes at once and frees the channels that are registered, as ferry_channel_free(),
 *  closes descriptors of events that nobody has stolen, and ends the life of all that the events of the
 *  last poll point to. Channels that are not registered stay their owners', to be written to, flushed and
 *  freed. Not in a callback from the poller's event_base. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_poller_free(struct ferry_poller *poller);

/** The poller's event_base, for transports that are made elsewhere and given to
 *  ferry_channel_new_transport(). It stays the poller's, which alone runs it. NULL for NULL. Since 0.1. */
FERRY_EXPORT struct event_base *ferry_poller_get_base(const struct ferry_poller *poller);

/**
 * Has a poller tell the news of a channel. What came before, and while it was not registered, is told
 * first. The poller owns a registered channel as far as ferry_poller_close_all() and ferry_poller_free()
 * go; the caller may free it too.
 *
 * @param poller the poller
 * @param channel a channel that was made with this poller
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or the channel is another poller's
 * @retval -EALREADY it is registered
 * @retval -ENOTCONN it was freed, and waits for the next poll to be gone
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_register(struct ferry_poller *poller, struct ferry_channel *channel);

/**
 * Gives a channel back to the caller: nothing is told of it, read from it or accepted any more, until it is
 * registered again; then nothing is missing. It can be written to meanwhile, and what is queued goes on
 * being sent.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or the channel is another poller's
 * @retval -ENOENT it is not registered
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_unregister(struct ferry_poller *poller,
                                         struct ferry_channel *channel);

/**
 * Accepts connections on a listening socket that came from elsewhere, as ferry_listener_new_fd(), and registers
 * it. Each connection is an event, with a channel that has the settings which the server has then: lines or
 * bytes, half-close, limits.
 *
 * While no descriptor is free for a connection, accepting pauses for a moment again and again, and it
 * waits in the backlog.
 *
 * @param[out] out the server: to be set up, unregistered, freed; may be NULL
 * @param poller the poller
 * @param fd the listening socket; stays the caller's and must stay open as long as the server lives
 * @retval 0 done
 * @retval -EINVAL @p poller is NULL; @p fd does not listen, or is not non-blocking
 * @retval -EBADF, -ENOTSOCK, -EPROTOTYPE, -ENOMEM as ferry_listener_new_fd()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_add_server(struct ferry_channel **out, struct ferry_poller *poller,
                                         int fd);

/**
 * Listens on a unix stream socket, as ferry_listener_new_unix(), and registers that. Freeing the server removes
 * the socket's file.
 *
 * @param[out] out the server; may be NULL
 * @param poller the poller
 * @param path the socket's path, or `@name`
 * @param mode permission bits of the socket file; 0 means 0600
 * @param backlog as in listen(2); 0 means SOMAXCONN
 * @retval 0 done
 * @retval -EINVAL @p poller is NULL, or as ferry_listener_new_unix()
 * @retval other as ferry_listener_new_unix()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_add_unix_server(struct ferry_channel **out,
                                              struct ferry_poller *poller, const char *path,
                                              mode_t mode, int backlog);

/**
 * Waits for news, and tells them: all that is there, as far as there is room in @p events. Those of one
 * channel come in their order; if there is not room for all, each channel is told of in turn, one event
 * after the other, and the rest comes with the next polls, at once.
 *
 * Also sends what is queued. Of one channel no more is read ahead than its read limit
 * (ferry_channel_set_read_limit()) and what one read brings; the peer of a program that does not poll
 * is held up.
 *
 * A signal does not end the wait: its handler runs, and the rest of the time is waited for.
 * ferry_poller_interrupt() does end it.
 *
 * @param poller the poller
 * @param timeout how long to wait for the first event; NULL: for ever; zero: only looks
 * @param[out] events filled; what they point to is valid until the next poll of this poller
 * @param max room in @p events, at least 1
 * @return how many events; 0: the time is over
 * @retval -EINVAL @p poller or @p events is NULL, @p max is not positive, or @p timeout is negative
 * @retval -ENOENT no event can come: nothing is registered, or only channels whose FERRY_CHANNEL_CLOSED
 *         was told
 * @retval -EINTR ferry_poller_interrupt() was called since the last poll, or during this; no event is lost
 * @retval -EBUSY called in a callback from the poller's event_base
 * @retval -ENOMEM out of memory; nothing is lost, and it may be tried again
 * @retval -EIO the event_base has failed
 *
 * Whatever it returns, unless -EINVAL or -EBUSY, what the events of the poll before point to is gone.
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_poll(struct ferry_poller *poller, const struct timeval *timeout,
                                   struct ferry_channel_event *events, int max);

/**
 * Makes the descriptor of an event the caller's, to close.
 *
 * @param poller the poller
 * @param event of the last poll; its `fd` becomes -1
 * @return the descriptor
 * @retval -EINVAL an argument is NULL
 * @retval -ENOENT the event has none, or it was stolen before, or closed by a poll since
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_steal_fd(struct ferry_poller *poller,
                                       struct ferry_channel_event *event);

/** Has the poll, flush or close_all that is under way return -EINTR, or the next one. May be called by signal
 *  handlers and in any thread, as long as the poller is there. -EINVAL: @p poller is NULL. Since 0.1. */
FERRY_EXPORT int ferry_poller_interrupt(struct ferry_poller *poller);

/**
 * Sends what is queued on all registered channels, then closes and frees them, servers too (those first of
 * all: nothing is accepted any more). What they have brought and was not polled is dropped.
 *
 * @param poller the poller
 * @param timeout how long to send; NULL: until all is sent or its connection over; zero: not at all
 * @retval 0 done: all was sent, and none of the connections had failed
 * @retval -EINVAL @p poller is NULL, or @p timeout is negative; nothing is closed
 * @retval -EBUSY called in a callback from the poller's event_base; nothing is closed
 * @retval -EINTR all are closed; ferry_poller_interrupt() ended the sending early
 * @retval -ETIMEDOUT all are closed, and something was not sent
 * @retval -EPIPE all are closed, and the connection of one had failed with output in its queue
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_close_all(struct ferry_poller *poller, const struct timeval *timeout);

/* ---- channels ---- */

/**
 * Makes a channel of a connected stream socket: unix, TCP or another. It is not registered yet; so are those
 * of the next two functions.
 *
 * @param[out] out the channel
 * @param poller the poller that is going to tell of it
 * @param fd the socket, made non-blocking; the channel's if the call succeeds, else the caller's
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -EBADF @p fd is not open
 * @retval -ENOTSOCK, -EPROTOTYPE, -ENOTSUP as ferry_transport_new()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_new_socket(struct ferry_channel **out, struct ferry_poller *poller,
                                          int fd);

/**
 * Makes a channel of two pipes, FIFOs or terminals, or of one.
 *
 * @param[out] out the channel
 * @param poller the poller that is going to tell of it
 * @param faucet where bytes come from; -1: none ever come
 * @param sink where bytes go to; -1: ferry_channel_write() is refused, with -EPIPE. Both are made
 *        non-blocking, and are the channel's if the call succeeds, else the caller's and as they were
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, both descriptors are -1, or one is a regular file or a directory, or
 *         not open in the direction needed
 * @retval -EBADF a descriptor is not open
 * @retval -EMFILE one descriptor is -1, and no number is free for what stands in its place
 * @retval -ENOTSUP as ferry_transport_new()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_new_pipes(struct ferry_channel **out, struct ferry_poller *poller,
                                         int faucet, int sink);

/**
 * Makes a channel of a transport in the poller's event_base. What is in its input is told first.
 *
 * @param[out] out the channel
 * @param poller the poller that is going to tell of it
 * @param transport the channel's if the call succeeds, else the caller's
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or the transport is in another event_base
 * @retval -ENOTCONN its connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_new_transport(struct ferry_channel **out,
                                             struct ferry_poller *poller,
                                             struct ferry_transport *transport);

/**
 * Closes a channel at once, registered or not, and frees it: what is queued is dropped, its descriptors are
 * closed when the call returns (in a callback: soon after).
 *
 * What the events of the last poll tell of it may still be looked at: the object itself goes with the next
 * poll. Until then its functions say -ENOTCONN, and another ferry_channel_free() does nothing. NULL: nothing
 * happens. Since 0.1.
 */
FERRY_EXPORT void ferry_channel_free(struct ferry_channel *channel);

/** Has news told as bytes, as at first; from what was not told yet on. -EINVAL: @p channel is NULL.
 *  Since 0.1. */
FERRY_EXPORT int ferry_channel_set_bytes(struct ferry_channel *channel);

/**
 * Has news told as lines; from what was not told yet on.
 *
 * One poll tells of all lines that are there. Who switches between lines and bytes within a stream
 * polls with room for one event.
 *
 * @param channel a transport's channel, or a server: then those that it will accept
 * @param delimiter what ends a line; copied
 * @param delimiter_length 1 to 16 bytes
 * @param max_length of a line, without its delimiter; 1 to 1 GiB. A longer one is
 *        FERRY_CHANNEL_LINE_TOO_LONG
 * @retval 0 done
 * @retval -EINVAL @p channel or @p delimiter is NULL, or a length is out of range
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_set_lines(struct ferry_channel *channel, const void *delimiter,
                                         size_t delimiter_length, size_t max_length);

/** Whether this side goes on sending when the peer has ended its half: true: FERRY_CHANNEL_END tells of
 *  that, and the channel stays open until ferry_channel_close(). False, as at first: what is queued is
 *  sent, and the channel closed. -EINVAL: @p channel is NULL. Since 0.1. */
FERRY_EXPORT int ferry_channel_set_half_close(struct ferry_channel *channel, bool half_close);

/** Sets how many bytes are read ahead of the polls, about; with lines at least one of the longest. 256 KiB
 *  at first. -EINVAL: @p channel is NULL, or @p limit is 0. Since 0.1. */
FERRY_EXPORT int ferry_channel_set_read_limit(struct ferry_channel *channel, size_t limit);

/** Sets how many queued bytes have ferry_channel_write() refused. 1 MiB at first. -EINVAL: @p channel is
 *  NULL, or @p limit is 0. Since 0.1. */
FERRY_EXPORT int ferry_channel_set_write_limit(struct ferry_channel *channel, size_t limit);

/** Keeps a pointer for the caller. -EINVAL: @p channel is NULL. Since 0.1. */
FERRY_EXPORT int ferry_channel_set_context(struct ferry_channel *channel, void *context);

/** That pointer, or NULL. Since 0.1. */
FERRY_EXPORT void *ferry_channel_get_context(const struct ferry_channel *channel);

/** The descriptor that is read from; the listening one of a server. It stays the channel's: not to be read,
 *  written or closed. -EINVAL: @p channel is NULL. -ENOTCONN: it is closed. Since 0.1. */
FERRY_EXPORT int ferry_channel_get_fd(const struct ferry_channel *channel);

/** The transport below, for files, producers, rate limits and statistics. It stays the channel's: do not
 *  close it, pause its reading or set a protocol. NULL for a server, for a closed channel, and for NULL.
 *  Since 0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_channel_get_transport(const struct ferry_channel *channel);

/**
 * Sends bytes: all of them, sooner or later. As many as the kernel takes leave at once; the rest is copied
 * into the queue, and leaves while there are polls and flushes.
 *
 * @param channel the channel
 * @param data the bytes; may be NULL when @p length is 0
 * @param length how many, also more than the write limit
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL or a server, or @p data is NULL and @p length is not 0
 * @retval -EAGAIN the queue had reached the write limit (ferry_channel_set_write_limit()): nothing was taken.
 *         FERRY_CHANNEL_WRITABLE tells when it has sunk to half of that
 * @retval -EPIPE it is being closed, or its sending half is
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_write(struct ferry_channel *channel, const void *data,
                                     size_t length);

/**
 * The same with bytes from several places, which leave together.
 *
 * @param channel the channel
 * @param parts where they are; may be NULL when @p count is 0
 * @param count how many places
 * @return as ferry_channel_write()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_writev(struct ferry_channel *channel, const struct iovec *parts,
                                      unsigned int count);

/**
 * Queues a descriptor for the next byte that is written, as ferry_transport_send_fd().
 *
 * @retval 0 done
 * @retval -EINVAL @p channel is NULL or a server, or as ferry_transport_send_fd()
 * @retval -ENOTCONN the connection is over
 * @retval other as ferry_transport_send_fd()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_send_fd(struct ferry_channel *channel, int fd,
                                       enum ferry_fd_ownership ownership);

/**
 * Waits until the kernel has all that is queued, files in the stream too. What the poller's channels
 * bring meanwhile waits for the next poll, within their read limits.
 *
 * @param channel the channel, registered or not
 * @param timeout how long; NULL: for ever; zero: only tries
 * @retval 0 all is sent
 * @retval -EINVAL @p channel is NULL or a server, or @p timeout is negative
 * @retval -ETIMEDOUT not yet
 * @retval -EINTR as ferry_poller_poll()
 * @retval -EBUSY called in a callback from the poller's event_base
 * @retval -ENOTCONN it was freed
 * @retval other it is over, and this is why (-EPIPE, -ECONNRESET, …)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_flush(struct ferry_channel *channel, const struct timeval *timeout);

/**
 * Ends the sending half once all that is queued is sent, which needs polls or a flush; the peer reads its
 * end, and can still answer. When it has ended too, FERRY_CHANNEL_CLOSED follows.
 *
 * @retval 0 done, also when called again
 * @retval -EINVAL @p channel is NULL or a server
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_close_write(struct ferry_channel *channel);

/**
 * Closes once all that is queued is sent, which needs polls, while it is registered, or flushes.
 * Nothing is read any more; what was read already is still told, and then FERRY_CHANNEL_CLOSED.
 * ferry_channel_free() closes at once.
 *
 * @retval 0 done, also when called again
 * @retval -EINVAL @p channel is NULL or a server
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_channel_close(struct ferry_channel *channel);

FERRY_END_DECLS

#endif
