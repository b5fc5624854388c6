#ifndef FERRY_HANDOFF_H
#define FERRY_HANDOFF_H

/**
 * @file handoff.h
 * @brief A descriptor on its way to another process, with what belongs to it.
 *
 * A handoff is an open descriptor, a name (of the listener or service that it came from), the bytes
 * that were already read from it, and a blob of the application's own. One process gives it to a
 * dispatcher (ferry/dispatcher.h), and a worker in another process receives it (ferry/worker.h).
 *
 * Any descriptor that a unix socket carries can be handed off: connections, listening sockets, pipes,
 * terminals, files. The one exception is the channel itself. Of a connection only the socket travels.
 * State above the socket, such as TLS, stays in its process: hand off before the handshake.
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
 *     struct ferry_handoff_info info;
 *     struct bufferevent *bev;
 *     ferry_handoff_get_info(handoff, &info);
 *     if (ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE) == 0)
 *         serve(bev, info.id);   // and ferry_worker_done(worker, info.id) in the end
 * }
 * @endcode
 *
 * @par Callers
 * In every callback. In any thread, an object in one thread at a time; while a dispatcher, a worker or a parking
 * place has the handoff, in the thread of its event_base.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/listener.h>

#include "ferry/descriptor.h"
#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct bufferevent;
struct event_base;
struct ferry_dispatcher;
struct ferry_dispatcher_worker;
struct ferry_transport;

/** The limits of a handoff. */
enum {
	FERRY_HANDOFF_NAME_MAX = 255,    /**< bytes of a name, without the terminating zero */
	FERRY_HANDOFF_BYTES_MAX = 65536, /**< bytes that were read before */
	FERRY_HANDOFF_BLOB_MAX = 65536   /**< bytes of the application's blob */
};

/** A descriptor, its name, bytes and blob. Opaque. */
struct ferry_handoff;

/** How a handoff ended. Since 0.1. */
enum ferry_handoff_outcome {
	FERRY_HANDOFF_DONE = 1,     /**< the worker has served it, and has reported that */
	FERRY_HANDOFF_REJECTED = 2, /**< the worker has refused it */
	FERRY_HANDOFF_EXPIRED = 3,  /**< no worker has taken it, in time or in three attempts */
	/** A worker has taken it, and its channel has ended since. If the worker lives, it still serves the
	 *  handoff; the dispatcher cannot learn the result. */
	FERRY_HANDOFF_KEPT = 4
};

/**
 * Runs once when a handoff has ended; see ferry_dispatcher_hand_off().
 *
 * @p handoff is valid until the callback returns. Its descriptor is open if no worker has claimed it:
 * always when it EXPIRED, and when the worker's library REJECTED it. It may then be stolen, to answer
 * the client. Otherwise it is closed.
 *
 * @p reason is
 * - DONE: 0
 * - REJECTED: the reason that the worker's callback gave; -EBADMSG: the worker received another
 *   descriptor than was sent; -ELOOP: a worker was added after the hand-off, and the descriptor is its
 *   channel
 * - EXPIRED: -ETIMEDOUT: no worker could take it in time; -EHOSTUNREACH: three attempts failed;
 *   -ECANCELED: the dispatcher was freed; -ENOMEM: a worker returned it, and there was no memory for its
 *   bytes; -EMFILE: a worker returned it, and its channel was ended while there was no descriptor slot, so
 *   its descriptor is closed
 * - KEPT: the reason why the channel ended
 *
 * Since 0.1.
 */
typedef void (*ferry_handoff_outcome_cb)(struct ferry_dispatcher *dispatcher,
                                         struct ferry_handoff *handoff,
                                         enum ferry_handoff_outcome outcome, int reason,
                                         void *context);

/** The properties of a handoff; see ferry_handoff_get_info(). Since 0.1. */
struct ferry_handoff_info {
	/** The kind of the descriptor. Once that was stolen or closed, a memfd is a FILE, a terminal a
	 *  DEVICE, and a descriptor without a file system (eventfd, epoll, …) OTHER. */
	enum ferry_descriptor_kind kind;
	/** The number of this attempt, from 1; 0 before the handoff is sent. */
	unsigned int attempt;
	/** The argument of ferry_worker_done(). No other handoff of this channel has it. 0 before the
	 *  handoff is sent. */
	uint64_t id;
	/** The name, "" if it has none. The handoff owns the string. */
	const char *name;
	/** For the outcome callback: the worker that has, or had, the handoff. NULL: no worker had it, or
	 *  it came back from one and was not sent again. */
	struct ferry_dispatcher_worker *worker;
	/** Number of times that workers have returned it to this dispatcher. */
	unsigned int returned;
	/** The last argument of the latest ferry_dispatcher_hand_off() or ferry_parking_park(): the owner's own
	 *  record of the connection. NULL before. */
	void *context;
	/** The milliseconds for which it was parked, since ferry_parking_park() or the filter's FERRY_PARKING_RENEW, when it
	 *  left that place. Who parks it elsewhere, in the next release for example, subtracts them from the timeout. 0: it
	 *  has left no place since it was made or handed off. */
	uint64_t idle_msec;
	/** Whether the descriptor is a non-blocking stream of IPv4 or IPv6 for certain:
	 *  ferry_handoff_set_inet_stream() was called, here or where it comes from, or it was a transport. Of a returned
	 *  handoff, the worker has stated it: it may have made the socket blocking. */
	bool inet_stream;
	uint64_t reserved[2]; /**< for later versions */
};

/**
 * Makes a handoff of a descriptor.
 *
 * @param[out] out the handoff
 * @param fd the descriptor; on success the handoff owns it. It must no longer be registered with an event
 *        loop, and a connection must be non-blocking.
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
 * Makes a handoff of a plain socket bufferevent's connection: its descriptor, which leaves the event
 * loop, and its unread input. The caller still owns the bufferevent, which has no descriptor and no
 * input afterwards, and is disabled.
 *
 * @param[out] out the handoff
 * @param bev made by bufferevent_socket_new(); without a transport on it
 * @retval 0 done
 * @retval -EINVAL @p out or @p bev is NULL, @p bev is a filter, a pair or TLS, has no descriptor, or
 *         has a transport on it (see ferry_handoff_from_transport())
 * @retval -EMSGSIZE its input is longer than FERRY_HANDOFF_BYTES_MAX
 * @retval -EBUSY its output is not empty, and would be lost
 * @retval -ENOTCONN bufferevent_socket_connect() is still connecting it
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
 * Makes a handoff of a transport's connection: its socket, which leaves the event loop, and its unread input. The
 * transport and its bufferevent are freed, as by ferry_transport_free(); the socket stays open, with or without
 * BEV_OPT_CLOSE_ON_FREE: the handoff owns it.
 *
 * Only the socket and the input travel. Protocol, limits, timeouts and counters are this process's, and end here.
 * Descriptors that the peer sends from now on are in the socket, for the next process. A half that was shut down stays
 * shut down; an end of the peer that was read before is read there again.
 *
 * @param[out] out the handoff
 * @param transport on a socket; on success it is freed
 * @retval 0 done
 * @retval -EINVAL @p out or @p transport is NULL, or @p transport uses pipes
 * @retval -EBUSY bytes, descriptors or files are queued; received descriptors are pending because of a pause, or
 *         behind the one whose callback runs; a producer is registered; the connection or its sending half is
 *         closing; or a line stream, a message stream, a channel, a dispatcher, a worker or a takeover owns
 *         @p transport
 * @retval -EMSGSIZE its input is longer than FERRY_HANDOFF_BYTES_MAX
 * @retval -ENOTCONN the connection is over, or is still being made
 * @retval -EBADF, -EOPNOTSUPP as ferry_handoff_new()
 * @retval -ENOMEM out of memory
 *
 * On failure nothing has changed, and the caller still owns the transport. Legal in the transport's own callbacks.
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_from_transport(struct ferry_handoff **out,
                                              struct ferry_transport *transport);

/**
 * Makes a handoff of a duplicate of a listener's descriptor: libevent does not release the original. The
 * listener is disabled, and the caller still owns it.
 *
 * @param[out] out the handoff
 * @param listener the listener
 * @retval 0 done
 * @retval -EINVAL @p out or @p listener is NULL
 * @retval -EBADF its descriptor is not open
 * @retval -EMFILE no descriptor slot is free
 * @retval -ENOMEM out of memory
 *
 * On failure nothing has changed. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_from_listener(struct ferry_handoff **out,
                                             struct evconnlistener *listener);

/** Frees a handoff, and closes its descriptor unless that was stolen. Not for a handoff that a
 *  dispatcher has, nor for one that a callback was given. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_handoff_free(struct ferry_handoff *handoff);

/* Set name, bytes, blob, key and the kind of stream before the handoff is given to a dispatcher. Afterwards, and for a
 * received handoff, these calls return -EINVAL. */

/**
 * Sets the name of the listener or service that it came from. Copied.
 *
 * @param name a string of UTF-8
 * @retval 0 done
 * @retval -EINVAL @p handoff or @p name is NULL, or @p name is not valid UTF-8
 * @retval -EMSGSIZE longer than FERRY_HANDOFF_NAME_MAX
 * @retval -ENOMEM out of memory
 *
 * On failure the old name stays. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_set_name(struct ferry_handoff *handoff, const char *name);

/**
 * Sets the bytes that were already read from the descriptor. Copied.
 *
 * @param bytes the bytes; may be NULL when @p length is 0
 * @param length their number
 * @retval 0 done
 * @retval -EINVAL @p handoff is NULL, or @p bytes is NULL and @p length is not 0
 * @retval -EMSGSIZE longer than FERRY_HANDOFF_BYTES_MAX
 * @retval -ENOMEM out of memory
 *
 * On failure the old bytes stay. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_set_bytes(struct ferry_handoff *handoff, const void *bytes,
                                         size_t length);

/**
 * Sets the application's blob, which ferry does not interpret. Copied.
 *
 * @param blob the bytes; may be NULL when @p length is 0
 * @param length their number
 * @retval 0 done
 * @retval other as ferry_handoff_set_bytes()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_set_blob(struct ferry_handoff *handoff, const void *blob,
                                        size_t length);

/**
 * Sets the key by which FERRY_DISPATCH_BY_KEY chooses, for example a client's address. The handoff has only a hash
 * of it, which does not travel.
 *
 * @param key the bytes; may be NULL when @p length is 0
 * @param length their number
 * @retval 0 done
 * @retval -EINVAL @p handoff is NULL, or @p key is NULL and @p length is not 0
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_set_key(struct ferry_handoff *handoff, const void *key,
                                       size_t length);

/**
 * States that the descriptor is a non-blocking stream of IPv4 or IPv6, such as accept4(2) with SOCK_NONBLOCK
 * returns from a listening socket of TCP. The statement travels, and ferry_handoff_to_transport() then asks the
 * kernel nothing about the socket, which saves three system calls. It is not to be made of a connection with TLS
 * in the kernel, whose records would be taken for data; a transport on such a socket becomes a handoff without it.
 * A transport on a socket that is otherwise blocks, or refuses descriptors.
 *
 * @retval 0 done
 * @retval -EINVAL @p handoff is NULL
 * @retval -ENOTSOCK it is no socket
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_set_inet_stream(struct ferry_handoff *handoff);

/**
 * Returns the descriptor, which the handoff still owns.
 *
 * @return the descriptor
 * @retval -EINVAL @p handoff is NULL
 * @retval -ENOENT it was stolen or closed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_get_fd(const struct ferry_handoff *handoff);

/**
 * Takes the descriptor out of the handoff and returns it: the caller owns it from then on.
 *
 * @return the descriptor
 * @retval -EINVAL as ferry_handoff_get_fd()
 * @retval -ENOENT it was stolen or closed, or the handoff was rejected
 * @retval -EBUSY a dispatcher has the handoff
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_steal_fd(struct ferry_handoff *handoff);

/**
 * Fills in @p info. For a descriptor that is open and neither a socket nor a pipe, the kind costs a system call.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_get_info(const struct ferry_handoff *handoff,
                                        struct ferry_handoff_info *info);

/** Returns the bytes that were already read, never NULL. The handoff owns them. @p length, which may be
 *  NULL, gets their number. Since 0.1. */
FERRY_EXPORT const void *ferry_handoff_get_bytes(const struct ferry_handoff *handoff,
                                                 size_t *length);

/** Returns the application's blob, never NULL. The handoff owns it. @p length, which may be NULL, gets its number of
 *  bytes. Since 0.1. */
FERRY_EXPORT const void *ferry_handoff_get_blob(const struct ferry_handoff *handoff,
                                                size_t *length);

/**
 * Makes a bufferevent of a handoff, with the bytes already read in its input. On success the
 * bufferevent owns the descriptor, which becomes non-blocking.
 *
 * The loop calls the read callback for those bytes once reading is enabled, if they reach the read
 * low-water mark; set the callback before that. A transport on the bufferevent delivers them to its
 * protocol. A read high-water mark below their number suspends reading, as always in libevent, if it is
 * set in a later turn of the loop and before reading is enabled.
 *
 * @param[out] out the bufferevent, made by bufferevent_socket_new()
 * @param handoff a handoff of a connected stream socket
 * @param base the event_base
 * @param options BEV_OPT_…; without BEV_OPT_CLOSE_ON_FREE the caller closes the descriptor
 * @retval 0 done
 * @retval -EINVAL @p out, @p handoff or @p base is NULL
 * @retval -ENOENT the descriptor was stolen or closed
 * @retval -EBUSY a dispatcher has the handoff
 * @retval -ENOTSOCK it is not a socket
 * @retval -ENOTSUP as ferry_handoff_from_bufferevent(), where there are bytes
 * @retval -ENOMEM out of memory, or BEV_OPT_THREADSAFE without libevent's locks
 *
 * On failure nothing has changed. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_to_bufferevent(struct bufferevent **out,
                                              struct ferry_handoff *handoff,
                                              struct event_base *base, int options);

/**
 * Makes a transport of a handoff, on a bufferevent that ferry_handoff_to_bufferevent() makes. The bytes already read
 * are the first that the protocol receives, once it is set.
 *
 * @param[out] out the transport, which the caller owns
 * @param handoff a handoff of a connected stream socket
 * @param base the event_base
 * @param options BEV_OPT_… of the bufferevent; without BEV_OPT_CLOSE_ON_FREE the caller closes the descriptor
 * @retval 0 done: the transport has the descriptor
 * @retval -EPROTOTYPE it is a socket of another type
 * @retval -EINVAL, -ENOENT, -EBUSY, -ENOTSOCK, -ENOTSUP, -ENOMEM as ferry_handoff_to_bufferevent()
 *
 * On failure the handoff is unchanged, and has its descriptor; the socket may have become non-blocking. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_to_transport(struct ferry_transport **out,
                                            struct ferry_handoff *handoff, struct event_base *base,
                                            int options);

/**
 * Makes a listener of a handoff. The socket becomes non-blocking; nothing else about it changes.
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
 * On failure nothing has changed. Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_to_listener(struct evconnlistener **out,
                                           struct ferry_handoff *handoff, struct event_base *base,
                                           evconnlistener_cb callback, void *context,
                                           unsigned int flags);

/**
 * Refuses a handoff, inside handoff_received only. Its outcome is FERRY_HANDOFF_REJECTED, and the
 * descriptor is closed when the callback returns. The worker has claimed the handoff, so no other
 * worker gets it. To give the client an answer, write to the descriptor before.
 *
 * @param handoff the argument of handoff_received
 * @param reason for the dispatcher's outcome callback; the application's own
 * @retval 0 done
 * @retval -EINVAL @p handoff is NULL, or no worker's callback has it now
 * @retval -ENOENT its descriptor was stolen
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_handoff_reject(struct ferry_handoff *handoff, int reason);

FERRY_END_DECLS

#endif
