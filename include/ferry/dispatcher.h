#ifndef FERRY_DISPATCHER_H
#define FERRY_DISPATCHER_H

/**
 * @file dispatcher.h
 * @brief The end of a handoff that gives connections away.
 *
 * A dispatcher gives handoffs (ferry/handoff.h) to workers in other processes (ferry/worker.h), over
 * one channel for each worker. It keeps a copy of the descriptor until the worker has claimed the
 * handoff. When a channel ends, for any reason, the dispatcher first makes further claims impossible,
 * then reads the claims that were made, and gives the other handoffs to another worker. No connection
 * is lost before it is claimed, and none is given to two workers. docs/handoff.md has the protocol.
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base. All callbacks run from the loop, except those of
 * ferry_dispatcher_free().
 */

#include <stdbool.h>
#include <stdint.h>

#include "ferry/export.h"
#include "ferry/handoff.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct timeval;

/** Gives handoffs to workers. Opaque. */
struct ferry_dispatcher;

/** A worker as its dispatcher sees it. Opaque. The dispatcher owns it. It is valid until worker_lost
 *  has returned or ferry_dispatcher_worker_remove() is called. */
struct ferry_dispatcher_worker;

/** The rule by which a worker is chosen among those that have credits. */
enum ferry_dispatch_choice {
	/** The worker with the fewest outstanding handoffs; among several, the one that was chosen longest
	 *  ago. */
	FERRY_DISPATCH_LEAST_OUTSTANDING = 0,
	/** The worker that was chosen longest ago. */
	FERRY_DISPATCH_ROUND_ROBIN = 1,
	/** The same worker for the same key (ferry_handoff_set_key()), while it lives and has credits. When
	 *  a worker comes or goes, only its own share of the keys moves (rendezvous hashing). While it has no
	 *  credits, others that are the same for the same key. If eight have none, or without a key: as
	 *  LEAST_OUTSTANDING. */
	FERRY_DISPATCH_BY_KEY = 2
};

/** The callbacks of a dispatcher. Every member may be NULL. The table must outlive the dispatcher. Each
 *  may call any function, ferry_dispatcher_free() included. Since 0.1. */
struct ferry_dispatcher_callbacks {
	/** The worker's HELLO has arrived. It gets handoffs from now on. */
	void (*worker_ready)(struct ferry_dispatcher *dispatcher,
	                     struct ferry_dispatcher_worker *worker, void *context);

	/** A worker that drains, by ferry_dispatcher_worker_drain() or its own wish, has no outstanding
	 *  handoffs. */
	void (*worker_drained)(struct ferry_dispatcher *dispatcher,
	                       struct ferry_dispatcher_worker *worker, void *context);

	/** The worker's channel has ended. Runs once; @p worker is freed when it returns. @p reason: 0: the
	 *  worker has closed the channel; -ETIMEDOUT: an answer was overdue; -EPROTO: the worker broke the
	 *  format; -EPROTONOSUPPORT: no version in common; -ECANCELED: a supervisor has removed it; otherwise as for a
	 *  protocol's connection_lost. Does not run for a worker that the owner has removed. */
	void (*worker_lost)(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
	                    int reason, void *context);

	/** The queue has become full, or has room again: disable the listener, or enable it. */
	void (*full_changed)(struct ferry_dispatcher *dispatcher, bool full, void *context);

	/** A worker has returned a handoff (ferry_worker_return()): it no longer has the connection. Runs in place
	 *  of the outcome callback. The owner has @p handoff again, with its descriptor, name and key, and with the
	 *  bytes and blob that the worker has given; ferry_handoff_get_info() has the context of the hand-off. Hand it
	 *  off again, or free it. @p worker may have ended since. NULL: workers cannot return handoffs. */
	void (*handoff_returned)(struct ferry_dispatcher *dispatcher,
	                         struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
	                         void *context);

	/** For later versions; leave NULL. */
	void (*reserved[3])(void);
};

/** The counters of one worker, or of a dispatcher and all its workers, including those that have
 *  ended. */
struct ferry_dispatcher_stats {
	uint64_t accepted; /**< handoffs accepted by ferry_dispatcher_hand_off(); not of a worker */
	uint64_t sent;     /**< handoffs written to a channel, each time */
	uint64_t claimed;  /**< handoffs claimed by a worker */
	uint64_t done;     /**< outcomes DONE */
	uint64_t rejected; /**< outcomes REJECTED */
	uint64_t expired;  /**< outcomes EXPIRED; not of a worker */
	uint64_t kept;     /**< outcomes KEPT */
	uint64_t lost;     /**< handoffs back in the queue because the descriptor did not arrive */
	uint64_t fenced;   /**< handoffs back in the queue because the channel ended before the claim */
	uint64_t retried;  /**< handoffs written once more */
	uint64_t stale;    /**< answers about handoffs that the worker did not have */
	uint64_t malformed;    /**< malformed messages; each ends a worker's channel */
	uint64_t workers_lost; /**< channels that have ended */
	uint64_t queued;       /**< now in the queue; not of a worker */
	uint64_t queued_max;   /**< the longest that the queue was; not of a worker */
	uint64_t outstanding;  /**< now sent and without their outcome */
	uint64_t unclaimed;    /**< of these, not yet claimed */
	uint64_t credits;      /**< the sum of the workers' credits now */
	uint64_t workers;      /**< workers with a channel now */
	uint64_t returned;     /**< handoffs that workers have returned */
	uint64_t refused;      /**< handoffs back in the queue because the worker did not claim them */
	uint64_t reserved[3];  /**< for later versions */
};

/**
 * Makes a dispatcher.
 *
 * @param[out] out the dispatcher
 * @param base its event_base
 * @param callbacks the table; may be NULL; must outlive the dispatcher
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out or @p base is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_new(struct ferry_dispatcher **out, struct event_base *base,
                                      const struct ferry_dispatcher_callbacks *callbacks,
                                      void *context);

/** Frees the dispatcher. It fences and closes its channels, and runs the outcome callback of every
 *  handoff inside this call: KEPT for a claimed one, EXPIRED with -ECANCELED for the others. In a
 *  callback, the call takes effect when the callback returns. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_dispatcher_free(struct ferry_dispatcher *dispatcher);

/**
 * Sets the rule by which workers are chosen; FERRY_DISPATCH_LEAST_OUTSTANDING at first.
 *
 * @param choice the rule
 * @retval 0 done
 * @retval -EINVAL @p dispatcher is NULL, or @p choice is unknown
 * @retval -ENOMEM out of memory for the table of the keys (256 KiB); the rule stays
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_set_choice(struct ferry_dispatcher *dispatcher,
                                             enum ferry_dispatch_choice choice);

/**
 * Sets the length of the queue, in which handoffs wait when no worker has credits; 1024 at first. The queue is
 * full at @p limit, and has room again at half of it. Each handoff takes up to 128 KiB besides its descriptor.
 *
 * @retval 0 done
 * @retval -EINVAL @p dispatcher is NULL, or @p limit is 0
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_set_queue_limit(struct ferry_dispatcher *dispatcher,
                                                  unsigned int limit);

/**
 * Sets how many handoffs one worker may have that it has not claimed, whatever its credits; 256 at first. A worker
 * that does not read gets no more.
 *
 * @param limit handoffs, at least 1
 * @retval 0 done
 * @retval -EINVAL @p dispatcher is NULL, or @p limit is 0
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_set_unclaimed_limit(struct ferry_dispatcher *dispatcher,
                                                      unsigned int limit);

/**
 * Sets the deadlines; both 5 seconds at first.
 *
 * @param dispatcher the dispatcher
 * @param queue the time for which a handoff may wait in the queue; holds for the handoffs that are in it now too. A
 *        handoff that comes back from a worker may wait as long again, three times at most. The time of a handoff
 *        whose descriptor did not arrive, at a worker that has no descriptor slot, goes on.
 * @param answer the time for which a worker that owes an answer may send none. After it the channel is
 *        fenced. Every answer restarts it, so that a worker with many handoffs in front of one is not
 *        late. It does not run while the oldest handoff that the worker has not claimed cannot be sent: the
 *        kernel has no room (ETOOMANYREFS, ENOBUFS), or the process is at its limit of descriptors in flight
 *        (ferry/in_flight.h).
 * @retval 0 done
 * @retval -EINVAL @p dispatcher is NULL, or a time is NULL, negative, zero or longer than 68 years
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_set_timeouts(struct ferry_dispatcher *dispatcher,
                                               const struct timeval *queue,
                                               const struct timeval *answer);

/**
 * Adds a worker: a ferry_worker has the other end of the transport. It gets handoffs once its HELLO has
 * arrived, which must come within the answer's deadline. A supervisor adds its workers itself; for these the
 * @c start_timeout of the supervisor is the deadline.
 *
 * @param[out] out the worker; may be NULL
 * @param dispatcher the dispatcher
 * @param transport on a connected unix stream socket, of the dispatcher's event_base; on success the
 *        dispatcher owns it
 * @param name for hashing keys, copied: a worker that replaces another under the same name gets its
 *        keys. NULL: a name of its own
 * @retval 0 done
 * @retval -EINVAL @p dispatcher or @p transport is NULL, or @p transport is of another event_base
 * @retval -EBUSY another object owns the transport already: a stream, a channel, a dispatcher, a worker or a takeover
 * @retval -EOPNOTSUPP the transport carries no descriptors
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * On failure the caller still owns the transport. Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_add_worker(struct ferry_dispatcher_worker **out,
                                             struct ferry_dispatcher *dispatcher,
                                             struct ferry_transport *transport, const char *name);

/**
 * Gives a worker no more handoffs, and sends it DRAIN. worker_drained runs from the loop when it has no
 * outstanding handoffs, which may be in the next turn.
 *
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL
 * @retval -ENOMEM out of memory; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_worker_drain(struct ferry_dispatcher_worker *worker);

/**
 * Sends RECALL to a worker: return what is idle. Its recall_requested callback runs.
 *
 * @param worker the worker
 * @param spread the time over which the worker should spread its returns
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or @p spread is negative or longer than 49 days
 * @retval -ENOTCONN its channel has ended
 * @retval -EOPNOTSUPP its HELLO has not arrived yet, or cannot return handoffs, or the dispatcher has no
 *         handoff_returned
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_worker_recall(struct ferry_dispatcher_worker *worker,
                                                const struct timeval *spread);

/** Fences a worker's channel and closes it. The outcome callbacks follow, worker_lost does not. The
 *  worker keeps the handoffs that it has claimed. @p worker is not valid any more. NULL: nothing
 *  happens. Since 0.1. */
FERRY_EXPORT void ferry_dispatcher_worker_remove(struct ferry_dispatcher_worker *worker);

/** Stores a pointer of the owner's with the worker; NULL at first. Since 0.1. */
FERRY_EXPORT void ferry_dispatcher_worker_set_context(struct ferry_dispatcher_worker *worker,
                                                      void *context);

/** Returns that pointer. NULL for NULL. Since 0.1. */
FERRY_EXPORT void *
ferry_dispatcher_worker_get_context(const struct ferry_dispatcher_worker *worker);

/** Returns the transport to a worker, which the dispatcher still owns, for statistics, settings and
 *  ferry_transport_get_peer_credentials(). Bytes of others break its protocol. The callbacks of a producer
 *  there run inside the calls on the dispatcher, and may call any function. NULL for NULL, and once the
 *  channel has ended. Since 0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_dispatcher_worker_get_transport(const struct ferry_dispatcher_worker *worker);

/**
 * Copies the counters of one worker.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_worker_get_stats(const struct ferry_dispatcher_worker *worker,
                                                   struct ferry_dispatcher_stats *stats);

/**
 * Hands a descriptor off.
 *
 * @param dispatcher the dispatcher
 * @param handoff the handoff; on success the dispatcher owns it
 * @param outcome runs when the handoff has ended; may be NULL
 * @param context the last argument of @p outcome
 * @retval 0 done: @p outcome will run
 * @retval -EINVAL @p dispatcher or @p handoff is NULL, or the handoff was received or handed off before
 * @retval -EBADF its descriptor was stolen
 * @retval -ELOOP its descriptor is the channel to one of the workers
 * @retval -ESHUTDOWN the dispatcher is being freed
 * @retval -ENOBUFS the queue is full
 * @retval -ENOMEM out of memory
 *
 * On failure the caller still owns the handoff. Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_hand_off(struct ferry_dispatcher *dispatcher,
                                           struct ferry_handoff *handoff,
                                           ferry_handoff_outcome_cb outcome, void *context);

/** Returns whether the queue is full: it has reached its limit, and not come down to half of it since.
 *  False for NULL. Since 0.1. */
FERRY_EXPORT bool ferry_dispatcher_is_full(const struct ferry_dispatcher *dispatcher);

/**
 * Copies the counters of the dispatcher and all its workers.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_get_stats(const struct ferry_dispatcher *dispatcher,
                                            struct ferry_dispatcher_stats *stats);

FERRY_END_DECLS

#endif
