#ifndef FERRY_HANDOFF_H
#define FERRY_HANDOFF_H

/**
 * @file handoff.h
 * @brief A descriptor on its way to another process, with what belongs to it.
 *
 * A handoff is an open descriptor, a name (of the listener or service that it came from), the bytes
 * that were already read from it, and a blob of the application's own. The one process gives it to a
 * dispatcher (ferry/dispatcher.h), a worker in another process receives it (ferry/worker.h).
 *
 * Socket connections, listening sockets, pipes, terminals, files: what can be sent over a unix socket
 * can be handed off, but for the channel itself. Of a connection only the socket travels: state above
 * it, such as TLS, stays in the process that has it, so hand off before the handshake.
 *
 * @code
 * // In the dispatcher: the head was read from a client.
 * struct ferry_handoff *handoff;
 * if (ferry_handoff_from_bufferevent(&handoff, bev) == 0) {
 *     bufferevent_free(bev);
 *     ferry_handoff_set_name(handoff, "www");
 *     if (ferry_dispatcher_hand_off(dispatcher, handoff, outcome, NULL) < 0)
 *         ferry_handoff_free(handoff);
 * }
 *
 * // In the worker: a bufferevent, with what was read in its input.
 * static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff, void *context)
 * {
 *     struct bufferevent *bev;
 *     if (ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE) == 0)
 *         serve(bev, ferry_handoff_get_id(handoff));   // and ferry_worker_done(worker, id) in the end
 * }
 * @endcode
 */

#include <stddef.h>
#include <stdint.h>

#include <event2/listener.h>

#include "ferry/descriptor.h"
#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct bufferevent;
struct event_base;

/** Bounds of what a handoff carries. */
enum {
	FERRY_HANDOFF_NAME_MAX = 255,    /**< bytes of a name, without the terminating zero */
	FERRY_HANDOFF_BYTES_MAX = 65536, /**< bytes that were already read */
	FERRY_HANDOFF_BLOB_MAX = 65536   /**< bytes of the application's blob */
};

/** A descriptor and what goes with it. Opaque. */
struct ferry_handoff;

/** Why a worker did not take a handoff, or how one ended: see ferry/dispatcher.h. */
enum ferry_handoff_outcome {
	FERRY_HANDOFF_DONE = 1,     /**< the worker has served it and said so */
	FERRY_HANDOFF_REJECTED = 2, /**< the worker refused it: its reason */
	FERRY_HANDOFF_EXPIRED = 3,  /**< nobody took it, in time or in three attempts */
	FERRY_HANDOFF_KEPT = 4 /**< a worker took it, and its channel has ended since: if it lives, it
	                                 serves it still; how that ends is not to be known */
};

/**
 * Makes a handoff of a descriptor.
 *
 * @param[out] out the handoff
 * @param fd the descriptor; on success it is the handoff's. It must not be registered with an event
 *        loop any more, and a connection is to be non-blocking.
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -EBADF @p fd is not open
 * @retval -EOPNOTSUPP the kernel sends no such descriptor (io_uring)
 * @retval -ENOMEM out of memory
 *
 * On failure the descriptor is the caller's. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_new(struct ferry_handoff **out, int fd);

/**
 * Makes a handoff of a plain socket bufferevent's connection: its descriptor, taken out of the event
 * loop the right way, and its unread input. The bufferevent stays the caller's to free, without a
 * descriptor, with empty input, and disabled.
 *
 * @param[out] out the handoff
 * @param bev made by bufferevent_socket_new(); without a transport on it
 * @retval 0 done
 * @retval -EINVAL @p out or @p bev is NULL, @p bev is a filter, a pair or TLS, has no descriptor or has
 *         a transport on it (whose ferry_transport_free() comes too late: take the descriptor before)
 * @retval -EMSGSIZE its input is longer than FERRY_HANDOFF_BYTES_MAX
 * @retval -EBUSY its output is not empty: those bytes would be lost
 * @retval -ENOTCONN it is being connected by bufferevent_socket_connect(): wait for the end of that
 * @retval -EBADF its descriptor is not open
 * @retval -EOPNOTSUPP as ferry_handoff_new()
 * @retval -ENOTSUP the libevent at run time has another major.minor version than the one ferry was
 *         compiled with
 * @retval -ENOMEM out of memory
 *
 * On failure nothing has changed. Legal in the bufferevent's own callbacks. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_from_bufferevent(struct ferry_handoff **out,
                                                struct bufferevent *bev);

/**
 * Makes a handoff of a listener's socket; its descriptor is duplicated, because libevent does not give
 * it away, and the listener is disabled and stays the caller's to free.
 *
 * @param[out] out the handoff
 * @param listener the listener
 * @retval 0 done
 * @retval -EINVAL @p out or @p listener is NULL
 * @retval -EBADF it has no descriptor that is open
 * @retval -EMFILE no descriptor number is free
 * @retval -ENOMEM out of memory
 *
 * On failure the listener is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_from_listener(struct ferry_handoff **out,
                                             struct evconnlistener *listener);

/** Frees a handoff and closes its descriptor, if that was not stolen. Not for one that a dispatcher has
 *  taken or that a callback was given. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_handoff_free(struct ferry_handoff *handoff);

/* Name, bytes, blob and key are set before the handoff is given to a dispatcher; afterwards, and for one
 * that was received, setting them is -EINVAL. */

/** Names the listener or service that it came from. Copied. -EINVAL: @p handoff or @p name is NULL, or
 *  it is not valid UTF-8. -EMSGSIZE: longer than FERRY_HANDOFF_NAME_MAX. -ENOMEM. On failure the old
 *  name stays. Since 0.1. */
FERRY_EXPORT int ferry_handoff_set_name(struct ferry_handoff *handoff, const char *name);

/** Sets the bytes that were already read from the descriptor. Copied. -EINVAL: @p handoff is NULL, or
 *  @p bytes with a length. -EMSGSIZE: longer than FERRY_HANDOFF_BYTES_MAX. -ENOMEM. On failure the old
 *  ones stay. Since 0.1. */
FERRY_EXPORT int ferry_handoff_set_bytes(struct ferry_handoff *handoff, const void *bytes,
                                         size_t length);

/** Sets the application's blob, which ferry does not look at. As ferry_handoff_set_bytes(). Since 0.1. */
FERRY_EXPORT int ferry_handoff_set_blob(struct ferry_handoff *handoff, const void *blob,
                                        size_t length);

/** Sets the key that FERRY_DISPATCH_BY_KEY chooses by, a client's address for example. It does not
 *  travel. Not kept, but for a hash. -EINVAL: @p handoff is NULL, or @p key with a length. Since 0.1. */
FERRY_EXPORT int ferry_handoff_set_key(struct ferry_handoff *handoff, const void *key,
                                       size_t length);

/** The descriptor, which stays the handoff's. -ENOENT: it was stolen, or is gone. Since 0.1. */
FERRY_EXPORT int ferry_handoff_get_fd(const struct ferry_handoff *handoff);

/** Takes the descriptor: it is the caller's from then on. -ENOENT as above. -EBUSY: a dispatcher has the
 *  handoff. Since 0.1. */
FERRY_EXPORT int ferry_handoff_steal_fd(struct ferry_handoff *handoff);

/** What the descriptor is. Once it was stolen or is gone, a memfd is a FILE, a terminal a DEVICE, and what
 *  has no file system (eventfd, epoll, …) OTHER. Since 0.1. */
FERRY_EXPORT enum ferry_descriptor_kind ferry_handoff_get_kind(const struct ferry_handoff *handoff);

/** The name, "" if it has none; the handoff's. Since 0.1. */
FERRY_EXPORT const char *ferry_handoff_get_name(const struct ferry_handoff *handoff);

/** The bytes already read, the handoff's; @p length, which may be NULL, gets their number. Since 0.1. */
FERRY_EXPORT const void *ferry_handoff_get_bytes(const struct ferry_handoff *handoff,
                                                 size_t *length);

/** The application's blob, in the same way. Since 0.1. */
FERRY_EXPORT const void *ferry_handoff_get_blob(const struct ferry_handoff *handoff,
                                                size_t *length);

/** What a worker names it by in ferry_worker_done(). No other handoff of this channel has it. 0 as long
 *  as it was not sent. Since 0.1. */
FERRY_EXPORT uint64_t ferry_handoff_get_id(const struct ferry_handoff *handoff);

/** Which attempt this is, from 1. 0 as long as it was not sent. Since 0.1. */
FERRY_EXPORT unsigned int ferry_handoff_get_attempt(const struct ferry_handoff *handoff);

/**
 * Makes a bufferevent of a handoff, with the bytes already read in its input. The descriptor is the
 * bufferevent's from then on, and is made non-blocking if it is not.
 *
 * The loop calls the read callback for those bytes as soon as reading is enabled, now or later, if they
 * reach the read low-water mark; that callback must be set by then. A transport on the bufferevent offers
 * them to the protocol that it is given. A read high-water mark below their number, set before reading is
 * enabled and in a later turn of the loop, keeps reading suspended, as libevent has it.
 *
 * @param[out] out the bufferevent, made by bufferevent_socket_new()
 * @param handoff a handoff of a connected stream socket
 * @param base the event_base
 * @param options BEV_OPT_…; without BEV_OPT_CLOSE_ON_FREE closing is the caller's affair
 * @retval 0 done
 * @retval -EINVAL @p out, @p handoff or @p base is NULL
 * @retval -ENOENT the descriptor was stolen, or is gone
 * @retval -EBUSY a dispatcher has the handoff
 * @retval -ENOTSOCK it is not a socket
 * @retval -ENOTSUP as ferry_handoff_from_bufferevent(), where there are bytes
 * @retval -ENOMEM out of memory, or BEV_OPT_THREADSAFE without libevent's locks
 *
 * On failure the handoff is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_to_bufferevent(struct bufferevent **out,
                                              struct ferry_handoff *handoff,
                                              struct event_base *base, int options);

/**
 * Makes a listener of a handoff. Nothing but non-blocking is changed about the socket.
 *
 * @param[out] out the listener, made by evconnlistener_new() with a backlog of 0
 * @param handoff a handoff of a listening socket
 * @param base the event_base
 * @param callback as in evconnlistener_new()
 * @param context handed to @p callback
 * @param flags LEV_OPT_…
 * @retval 0 done
 * @retval -EINVAL @p out, @p handoff or @p base is NULL, or the socket does not listen
 * @retval -ENOENT, -EBUSY, -ENOTSOCK, -ENOMEM as ferry_handoff_to_bufferevent()
 *
 * On failure the handoff is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_to_listener(struct evconnlistener **out,
                                           struct ferry_handoff *handoff, struct event_base *base,
                                           evconnlistener_cb callback, void *context,
                                           unsigned int flags);

/**
 * Refuses a handoff, inside handoff_received only: its outcome is FERRY_HANDOFF_REJECTED, and the
 * descriptor is closed when the callback returns. It has been claimed by then, so that no other worker
 * gets it; to have the client told why, write to the descriptor before.
 *
 * @param handoff what handoff_received was given
 * @param reason for the dispatcher's outcome; the application's own
 * @retval 0 done
 * @retval -EINVAL @p handoff is NULL, or not one that a worker's callback has now
 * @retval -ENOENT its descriptor was stolen: it was taken
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_reject(struct ferry_handoff *handoff, int reason);

FERRY_END_DECLS

#endif
