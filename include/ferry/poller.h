#ifndef FERRY_POLLER_H
#define FERRY_POLLER_H

/**
 * @file poller.h
 * @brief Waits for the events of many channels, in one call and without callbacks.
 *
 * A poller has an event_base of its own and runs it only inside its calls. A program makes channels
 * (ferry/channel.h) with the poller, registers them, and calls ferry_poller_poll() again and again. Between two
 * polls nothing is read or accepted, and so the kernel slows down the peers of a program that is busy.
 *
 * @code
 * // A server: connections become channels, which are registered already.
 * struct ferry_listener *listener; // owns the socket, and removes its file
 * struct ferry_channel *server;
 *
 * ferry_poller_new(&poller);
 * ferry_listener_new_unix(&listener, ferry_poller_get_base(poller), path, NULL, NULL, NULL);
 * ferry_poller_add_server(&server, poller, ferry_listener_get_fd(listener));
 * while ((count = ferry_poller_poll(poller, NULL, events, 64)) > 0)
 *     for (int i = 0; i < count; i++)
 *         handle(&events[i]);
 * ferry_poller_close_all(poller, &five_seconds);
 * ferry_listener_free(listener);
 * ferry_poller_free(poller);
 * @endcode
 *
 * @par Callers
 * Only in the one thread that uses the poller and its channels; those that run the loop not in a callback from it.
 */

#include "ferry/channel.h"
#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct event_base;
struct timeval;

/** The channels of a program, and the loop that waits for their events. Opaque. */
struct ferry_poller;

/**
 * Makes a poller. It uses four descriptors; five in a program that has set up libevent's locking.
 *
 * @param[out] out the poller
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -EMFILE the descriptor limit leaves too few slots
 * @retval -ENOMEM out of memory, or of another resource that an event_base needs
 * @retval other the error of eventfd(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_new(struct ferry_poller **out);

/** Frees a poller. Closes and frees the registered channels, as ferry_channel_free(), and the descriptors of
 *  events that the caller has not stolen. The memory that events of the last poll point to becomes invalid.
 *  Channels that are not registered still belong to the caller, which can write to them, flush and free them.
 *  The `finished` of files that are left runs inside this call, with -ECANCELED. In a callback from the poller's
 *  event_base all channels are closed at once; the poller itself goes when the call that runs the callback
 *  returns, or, if this is a transport's call that runs pause_producing or stop_producing, when this thread next
 *  makes or frees a poller. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_poller_free(struct ferry_poller *poller);

/** Returns the poller's event_base, for transports that become channels by ferry_channel_new_transport(). The
 *  base belongs to the poller; no other code may run it. NULL for NULL. Since 0.1. */
FERRY_EXPORT struct event_base *ferry_poller_get_base(const struct ferry_poller *poller);

/**
 * Registers a channel: polls return its events. The first ones are those of input that arrived before, or while
 * the channel was not registered. ferry_poller_close_all() and ferry_poller_free() free registered channels;
 * the caller may free them too.
 *
 * @param poller the poller
 * @param channel a channel that was made with this poller
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or the channel was made with another poller
 * @retval -EALREADY the channel is registered
 * @retval -ENOTCONN the channel was freed, and the next poll frees its memory; or the poller is being freed
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_register(struct ferry_poller *poller, struct ferry_channel *channel);

/**
 * Unregisters a channel, which belongs to the caller again. Until it is registered the next time, the channel
 * has no events, reads nothing and accepts nothing, but loses nothing either. The caller can write to it, and
 * the loop goes on sending its queue.
 *
 * @param channel the channel
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or the channel was made with another poller
 * @retval -ENOENT the channel is not registered
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_unregister(struct ferry_poller *poller,
                                         struct ferry_channel *channel);

/**
 * Makes a server on a listening stream socket, and registers it. The server accepts connections, and each of
 * them is an event with a channel. The new channel gets the settings of the server at this moment: lines or
 * bytes, half-close, limits.
 *
 * The socket may come from socket(2) and listen(2), from a socket set (ferry/socket_set.h), or from
 * ferry_listener_new_unix() without a callback; that listener owns path, lock and socket, and must be freed
 * after the server. The rules of a listener for its peers, as ferry_listener_allow_uid(), do not apply to a
 * server: only the permissions of the socket file do.
 *
 * If no descriptor slot is free for a connection, the connection stays in the backlog, and the server tries
 * again ten times a second.
 *
 * @param[out] out the server: for settings, ferry_poller_unregister() and ferry_channel_free(); may be NULL
 * @param poller the poller
 * @param fd the listening socket; belongs to the caller, who closes it after the server is freed
 * @retval 0 done
 * @retval -EINVAL @p poller is NULL; @p fd does not listen, or is not non-blocking
 * @retval -EBADF, -ENOTSOCK, -EPROTOTYPE, -ENOMEM as ferry_listener_new_fd()
 * @retval other as ferry_listener_new_fd()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_add_server(struct ferry_channel **out, struct ferry_poller *poller,
                                         int fd);

/**
 * Waits until there are events, and returns all that have arrived by then, as far as @p events has room. The
 * events of one channel come in the order of its stream. If there is too little room, the channels take turns,
 * one event each; the next polls return the others at once.
 *
 * A poll also sends queued output. Each channel reads no further ahead than its read limit
 * (ferry_channel_set_limits()) and one read; if a program does not poll, the kernel stops its peers.
 *
 * A signal does not end the wait: its handler runs, and the poll waits for the rest of the time.
 * ferry_poller_interrupt() ends it.
 *
 * @param poller the poller
 * @param timeout how long to wait for the first event; NULL: for ever; zero: does not wait
 * @param[out] events filled in; the memory that they point to is valid until the next poll of this poller
 * @param max room in @p events, at least 1
 * @return the number of events; 0: the time is over
 * @retval -EINVAL @p poller or @p events is NULL, @p max is not positive, or @p timeout is negative
 * @retval -ENOENT no event can come: no channel is registered, or each has had its FERRY_CHANNEL_CLOSED
 * @retval -EINTR ferry_poller_interrupt() was called since the last poll, or during this one; no event is lost
 * @retval -EBUSY called in a callback from the poller's event_base, or in pause_producing or stop_producing
 * @retval -ECANCELED a callback has freed the poller
 * @retval -ENOMEM out of memory; nothing is lost, and the next poll tries again
 * @retval -EIO the event_base has failed
 *
 * Every result but -EINVAL and -EBUSY invalidates the memory that the events of the last poll point to.
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_poll(struct ferry_poller *poller, const struct timeval *timeout,
                                   struct ferry_channel_event *events, int max);

/**
 * Gives the descriptor of an event to the caller, who closes it.
 *
 * @param poller the poller
 * @param event an event of the last poll; its `fd` becomes -1
 * @return the descriptor
 * @retval -EINVAL an argument is NULL
 * @retval -ENOENT the event has no descriptor, or it was stolen before, or a later poll has closed it
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_steal_fd(struct ferry_poller *poller,
                                       struct ferry_channel_event *event);

/**
 * Interrupts a poll, flush or close_all: the one that runs returns -EINTR, or else the next one.
 *
 * @retval 0 done
 * @retval -EINVAL @p poller is NULL
 *
 * @par Callers
 * In every callback, in signal handlers and in any thread while the poller exists.
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_interrupt(struct ferry_poller *poller);

/**
 * Frees all servers, sends the queues of all registered channels, then closes and frees these channels. Drops
 * input that no poll has returned.
 *
 * @param poller the poller
 * @param timeout how long to send; NULL: until each queue is empty or its connection over; zero: not at all
 * @retval 0 done: everything was sent, and no connection had failed
 * @retval -EINVAL @p poller is NULL, or @p timeout is negative; no channel is closed
 * @retval -EBUSY called in a callback from the poller's event_base; no channel is closed
 * @retval -ECANCELED a callback has freed the poller
 * @retval -EINTR all are closed; ferry_poller_interrupt() ended the sending early
 * @retval -ETIMEDOUT all are closed, and some output was not sent
 * @retval -EPIPE all are closed, and a connection had failed with output in its queue
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_poller_close_all(struct ferry_poller *poller, const struct timeval *timeout);

FERRY_END_DECLS

#endif
