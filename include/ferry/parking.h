#ifndef FERRY_PARKING_H
#define FERRY_PARKING_H

/**
 * @file parking.h
 * @brief A place for connections that nobody serves.
 *
 * Between two requests a kept connection needs no worker. A worker returns it (ferry_worker_return()), and the
 * dispatcher's owner parks it here: one event, no bufferevent and no buffers, at most 400 bytes of heap beside the
 * blob. The connection wakes when its peer sends something or ends, when a second descriptor of the
 * application's becomes readable, or at its deadline. The owner then has the handoff again, and hands it off to the
 * next worker, answers it, or frees it.
 *
 * A connection for which no worker has room can wait here too (ferry_parking_wait()). It wakes for no input then, so
 * that the loop does not spin; the end of its peer is noticed.
 *
 * A place has a bound. When connections, descriptor slots or memory run short, the connection that was idle longest
 * leaves first, and the owner gets it with the reason.
 *
 * Free a place before its event_base.
 *
 * @code
 * static void woken(struct ferry_parking *parking, struct ferry_handoff *handoff,
 *                   const struct ferry_parking_event *event, void *context)
 * {
 *     struct server *server = context;
 *     if (event->reason != FERRY_PARKING_INPUT ||
 *         ferry_dispatcher_hand_off(server->dispatcher, handoff, outcome, server) < 0)
 *         ferry_handoff_free(handoff); // the peer has ended, or the time is over: close
 * }
 *
 * static void returned(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
 *                      struct ferry_handoff *handoff, void *context)
 * {
 *     struct server *server = context;
 *     if (ferry_parking_park(server->parking, handoff, -1, &(struct timeval){60, 0}, server) < 0)
 *         ferry_handoff_free(handoff);
 * }
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base. All callbacks run from the loop.
 */

#include <stdint.h>

#include "ferry/export.h"
#include "ferry/handoff.h"

FERRY_BEGIN_DECLS

struct event_base;
struct timeval;

/** A place for connections. Opaque. */
struct ferry_parking;

/** The cause of a wake-up. Since 0.1. */
enum ferry_parking_reason {
	FERRY_PARKING_INPUT = 1,   /**< the peer has sent something, or the handoff has unread bytes */
	FERRY_PARKING_ENDED = 2,   /**< the peer has ended, and has sent nothing before */
	FERRY_PARKING_WAKE_FD = 3, /**< the second descriptor is readable */
	FERRY_PARKING_TIMEOUT = 4, /**< the deadline has passed */
	FERRY_PARKING_EVICTED = 5  /**< it was idle longest when there was a shortage */
};

/** The decision of a filter. Since 0.1. */
enum ferry_parking_verdict {
	FERRY_PARKING_WAKE = 0, /**< handoff_woken runs now */
	FERRY_PARKING_STAY =
	    1, /**< it stays, and its deadline and its turn to be evicted stay as they were */
	FERRY_PARKING_RENEW = 2 /**< it stays as if it had just been parked */
};

/** A wake-up; see struct ferry_parking_callbacks. Since 0.1. */
struct ferry_parking_event {
	enum ferry_parking_reason reason; /**< the cause */
	/** INPUT, WAKE_FD: 0. ENDED: 0 if the peer has closed the connection, else a negative errno value, such as
	 *  -ECONNRESET. TIMEOUT: -ETIMEDOUT. EVICTED: -ENOBUFS: the place was full; -EMFILE: descriptor slots were
	 *  short; -ENOMEM: memory was short; -ECANCELED: ferry_parking_evict(). */
	int error;
	int wake_fd;          /**< the second descriptor; -1: there is none */
	uint64_t reserved[2]; /**< for later versions */
};

/** The callbacks of a place. Every member may be NULL. The table must outlive the place. Each may call any function,
 *  ferry_parking_free() included. Since 0.1. */
struct ferry_parking_callbacks {
	/**
	 * Decides about a parked connection with the reason INPUT or WAKE_FD, before it wakes. The filter may read from
	 * the descriptors and write to them: to answer a ping, for example. It may set bytes, blob, name and key of the
	 * handoff, so that what it has read and not served goes along at the next wake-up; it cannot steal the
	 * descriptor. The handoff is the place's, and valid until the filter returns.
	 *
	 * A filter that lets a connection stay must have read all that it found: when there is more, the connection
	 * wakes all the same. NULL: each connection wakes.
	 */
	enum ferry_parking_verdict (*filter)(struct ferry_parking *parking,
	                                     struct ferry_handoff *handoff,
	                                     const struct ferry_parking_event *event, void *context);

	/** A connection leaves the place. The callback owns the handoff, whose descriptor is registered with no event loop
	 *  any more, and the second descriptor of @p event. Hand it off, make a bufferevent of it, park it again, or free
	 *  it. NULL: it is closed. */
	void (*handoff_woken)(struct ferry_parking *parking, struct ferry_handoff *handoff,
	                      const struct ferry_parking_event *event, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[2])(void);
};

/** The counters of a place. Since 0.1. */
struct ferry_parking_stats {
	uint64_t idle;          /**< connections that are parked now */
	uint64_t idle_max;      /**< the most that were parked at once */
	uint64_t waiting;       /**< connections that wait now */
	uint64_t pending;       /**< connections whose wake-up is pending now */
	uint64_t parked;        /**< accepted by ferry_parking_park() */
	uint64_t waited;        /**< accepted by ferry_parking_wait() */
	uint64_t input;         /**< woken by input */
	uint64_t wake_fd;       /**< woken by their second descriptor */
	uint64_t ended;         /**< woken by the end of their peer */
	uint64_t ended_waiting; /**< the same while they waited */
	uint64_t expired;       /**< woken at their deadline, parked or waiting */
	uint64_t evicted;       /**< evicted by a shortage or ferry_parking_evict() */
	uint64_t taken;  /**< taken by ferry_parking_take_idle() and ferry_parking_take_waiting() */
	uint64_t stayed; /**< left in their place by the filter */
	uint64_t reserved[5]; /**< for later versions */
};

/**
 * Makes a place for connections.
 *
 * @param[out] out the place
 * @param base its event_base
 * @param callbacks the table; must outlive the place
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p base or @p callbacks is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_parking_new(struct ferry_parking **out, struct event_base *base,
                                   const struct ferry_parking_callbacks *callbacks, void *context);

/** Frees the place, and closes the connections in it and their second descriptors. No callback follows: to keep a
 *  connection, take it before (ferry_parking_take_idle(), ferry_parking_take_waiting()). In a callback, the call takes
 *  effect when the callback returns. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_parking_free(struct ferry_parking *parking);

/**
 * Sets how many connections the place has at most, parked and waiting together; 10000 at first. When it is full,
 * each further one evicts the one that was idle longest. If there are more now, the excess is evicted.
 *
 * @param limit connections, at least 1
 * @retval 0 done
 * @retval -EINVAL @p parking is NULL, or @p limit is 0
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_parking_set_limit(struct ferry_parking *parking, unsigned int limit);

/**
 * Sets how many descriptor slots (RLIMIT_NOFILE) shall stay free; 32 at first. If fewer are free when a connection
 * is parked, the one that was idle longest is evicted. 0: slots are not counted. The count takes about 1 µs.
 *
 * @param slots descriptor slots
 * @retval 0 done
 * @retval -EINVAL @p parking is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_parking_set_fd_reserve(struct ferry_parking *parking, unsigned int slots);

/**
 * Parks a connection, until it wakes. A handoff with unread bytes wakes in the next turn of the loop, and so does a
 * connection with unread input.
 *
 * @param parking the place
 * @param handoff a handoff of a connected socket; on success the place owns it
 * @param wake_fd a second descriptor, of the application's, that wakes the connection when it is readable: an eventfd,
 *        a pipe; -1: none; on success the place owns it. It takes about 200 bytes more.
 * @param timeout the time after which the connection wakes at the latest; NULL: none
 * @param context the owner's record of the connection, for struct ferry_handoff_info
 * @retval 0 done
 * @retval -EINVAL @p parking or @p handoff is NULL, the handoff was received or is a dispatcher's or a place's, or
 *         @p timeout is negative or zero
 * @retval -EBADF the descriptor of the handoff was stolen, or @p wake_fd is not open
 * @retval -ENOTSOCK the descriptor of the handoff is not a socket
 * @retval -EPERM libevent cannot wait for @p wake_fd, for example a regular file
 * @retval -ENOBUFS the place is full of connections that wait
 * @retval -ESHUTDOWN the place is being freed
 * @retval -ENOMEM out of memory; the connection that was idle longest has been evicted
 *
 * On failure the caller still owns the handoff and @p wake_fd. Since 0.1.
 */
FERRY_EXPORT int ferry_parking_park(struct ferry_parking *parking, struct ferry_handoff *handoff,
                                    int wake_fd, const struct timeval *timeout, void *context);

/**
 * Lets a connection wait until there is room for it, which ferry_parking_take_waiting() ends: for a dispatcher
 * whose queue is full. Input does not wake it, nor does the second descriptor. If its peer closes or resets the
 * connection meanwhile, it wakes with FERRY_PARKING_ENDED: the place looks every 0.1 to 1.6 seconds. A TCP peer
 * that has closed and a peer that has ended only its own half look the same; if such a peer has sent something
 * before, the connection goes on waiting. The filter does not run. The arguments are those of
 * ferry_parking_park().
 *
 * @retval 0 done
 * @retval other as ferry_parking_park()
 *
 * Waiting connections are not evicted. Since 0.1.
 */
FERRY_EXPORT int ferry_parking_wait(struct ferry_parking *parking, struct ferry_handoff *handoff,
                                    int wake_fd, const struct timeval *timeout, void *context);

/**
 * Takes the connection that has waited longest.
 *
 * @param[out] out the handoff, which is the caller's
 * @param parking the place
 * @param[out] wake_fd its second descriptor, which is the caller's, or -1. NULL: it is closed
 * @retval 0 done
 * @retval -EINVAL @p out or @p parking is NULL
 * @retval -ENOENT no connection waits
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_parking_take_waiting(struct ferry_handoff **out,
                                            struct ferry_parking *parking, int *wake_fd);

/**
 * Takes the parked connection that was idle longest; if there is none, one whose wake-up is pending. To give all
 * of them to another process, call it until it returns -ENOENT. The arguments are those of
 * ferry_parking_take_waiting().
 *
 * @retval 0 done
 * @retval other as ferry_parking_take_waiting()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_parking_take_idle(struct ferry_handoff **out, struct ferry_parking *parking,
                                         int *wake_fd);

/**
 * Evicts up to @p count connections, those first that were idle longest: when accept(2) fails with EMFILE, for
 * example. handoff_woken runs for each from the loop.
 *
 * @return the number of those that are evicted
 * @retval -EINVAL @p parking is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_parking_evict(struct ferry_parking *parking, unsigned int count);

/**
 * Copies the counters.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_parking_get_stats(const struct ferry_parking *parking,
                                         struct ferry_parking_stats *stats);

FERRY_END_DECLS

#endif
