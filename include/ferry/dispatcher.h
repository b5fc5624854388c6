#ifndef FERRY_DISPATCHER_H
#define FERRY_DISPATCHER_H

/**
 * @file dispatcher.h
 * @brief The end of a handoff that gives connections away.
 *
 * A dispatcher gives handoffs (ferry/handoff.h) to workers in other processes (ferry/worker.h), one
 * channel for each. It keeps a copy of the descriptor until the worker has claimed it. When a channel
 * ends, for whatever reason, the dispatcher makes sure that the worker can claim no more, reads all that
 * it had claimed, and gives the others to another worker: no connection is lost before it is claimed, and
 * none is given out twice. docs/handoff.md has the protocol.
 *
 * Nothing of the user's runs inside one of these calls but ferry_dispatcher_free(): all callbacks come
 * from the loop. All functions are for the thread of the event_base, and legal in callbacks.
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

/** A worker as its dispatcher sees it. Opaque; the dispatcher's, valid until worker_lost has returned or
 *  ferry_dispatcher_worker_remove() is called. */
struct ferry_dispatcher_worker;

/** How a worker is chosen among those that have credits. */
enum ferry_dispatch_choice {
	FERRY_DISPATCH_LEAST_OUTSTANDING = 0, /**< the one with the fewest handoffs in hand; of several
	                                           such, the one whose turn was longest ago */
	FERRY_DISPATCH_ROUND_ROBIN = 1,
	FERRY_DISPATCH_BY_KEY =
	    2 /**< the same for the same key (ferry_handoff_set_key()) while it lives
	                               and has credits; when workers come or go, only their own share of
	                               the keys moves (rendezvous hashing). Without a key: as
	                               LEAST_OUTSTANDING */
};

/** What a dispatcher tells. Every member may be NULL, the table must outlive the dispatcher. Each may
 *  call any function, ferry_dispatcher_free() included. Since 0.1. */
struct ferry_dispatcher_callbacks {
	/** The worker has said hello: it gets handoffs from now on. */
	void (*worker_ready)(struct ferry_dispatcher *dispatcher,
	                     struct ferry_dispatcher_worker *worker, void *context);

	/** The worker was to be drained, or asked for it, and has nothing in hand any more. */
	void (*worker_drained)(struct ferry_dispatcher *dispatcher,
	                       struct ferry_dispatcher_worker *worker, void *context);

	/** The worker's channel has ended, once; the worker is out. @p reason: 0 it has closed it;
	 *  -ETIMEDOUT it gave no answer in time; -EPROTO it broke the format; -EPROTONOSUPPORT it has no
	 *  version in common with us; else as a protocol's connection_lost. */
	void (*worker_lost)(struct ferry_dispatcher *dispatcher, struct ferry_dispatcher_worker *worker,
	                    int reason, void *context);

	/** The queue has become full, or has room again: when to disable the listener, and enable it. */
	void (*full_changed)(struct ferry_dispatcher *dispatcher, bool full, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/** What was counted; of one worker, or of a dispatcher and all its workers, those that are gone
 *  included. */
struct ferry_dispatcher_stats {
	uint64_t accepted;  /**< handoffs taken by ferry_dispatcher_hand_off() */
	uint64_t sent;      /**< handoffs that were written to a channel, each time */
	uint64_t claimed;   /**< that a worker took */
	uint64_t done;      /**< outcomes */
	uint64_t rejected;  /**< outcomes */
	uint64_t expired;   /**< outcomes */
	uint64_t kept;      /**< outcomes */
	uint64_t lost;      /**< that came back because the descriptor did not arrive */
	uint64_t fenced;    /**< that came back because the channel ended before the claim */
	uint64_t retried;   /**< that were written again */
	uint64_t stale;     /**< answers about what is not, or no longer, or not yet with that worker */
	uint64_t malformed; /**< messages that were no answer; each cost a worker its channel */
	uint64_t workers_lost; /**< channels that have ended */
	uint64_t queued;       /**< now in the queue; not of a worker */
	uint64_t queued_max;   /**< the most there were; not of a worker */
	uint64_t outstanding;  /**< sent and without their outcome, now */
	uint64_t unclaimed;    /**< of these, not yet claimed */
	uint64_t credits;      /**< how many workers take at once, now */
	uint64_t workers;      /**< that are there, now */
	uint64_t reserved[5];  /**< for later versions */
};

/**
 * Makes a dispatcher.
 *
 * @param[out] out the dispatcher
 * @param base its event_base
 * @param callbacks what is told; may be NULL; must outlive the dispatcher
 * @param context handed to each callback
 * @retval 0 done
 * @retval -EINVAL @p out or @p base is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_new(struct ferry_dispatcher **out, struct event_base *base,
                                      const struct ferry_dispatcher_callbacks *callbacks,
                                      void *context);

/** Frees the dispatcher. Its channels are fenced and closed, and every handoff has its outcome inside this
 *  call: KEPT what was claimed, EXPIRED with -ECANCELED what was not. Called in a callback, it takes
 *  effect when that returns. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_dispatcher_free(struct ferry_dispatcher *dispatcher);

/** How workers are chosen; FERRY_DISPATCH_LEAST_OUTSTANDING at first. -EINVAL. Since 0.1. */
FERRY_EXPORT int ferry_dispatcher_set_choice(struct ferry_dispatcher *dispatcher,
                                             enum ferry_dispatch_choice choice);

/** How many handoffs wait when no worker has credits; 1024 at first. The queue is full at @p limit, and
 *  has room again at half of it. Each may hold up to 128 KiB besides its descriptor. -EINVAL:
 *  @p dispatcher is NULL or @p limit is 0. Since 0.1. */
FERRY_EXPORT int ferry_dispatcher_set_queue_limit(struct ferry_dispatcher *dispatcher,
                                                  unsigned int limit);

/**
 * Sets the deadlines; both 5 seconds at first.
 *
 * @param dispatcher the dispatcher
 * @param queue how long after ferry_dispatcher_hand_off() a handoff may wait in the queue, those in it
 *        now included. One that is with a worker then is not taken back; if it must be tried again, and
 *        nobody takes it at once, it expires.
 * @param answer how long a worker that owes an answer may give none. Then its channel is fenced. A
 *        worker that answers is not late, however much there is in front of a handoff; nor one whose
 *        handoffs the kernel has no room for (ETOOMANYREFS, ENOBUFS).
 * @retval 0 done
 * @retval -EINVAL @p dispatcher is NULL, or a time is NULL, negative or zero
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_set_timeouts(struct ferry_dispatcher *dispatcher,
                                               const struct timeval *queue,
                                               const struct timeval *answer);

/**
 * Adds a worker: the other end of the transport belongs to a ferry_worker. It gets handoffs once it has
 * said hello, which is due within the answer's deadline.
 *
 * @param[out] out the worker; may be NULL
 * @param dispatcher the dispatcher
 * @param transport on a connected unix stream socket, of the dispatcher's event_base; on success the
 *        dispatcher's
 * @param name for hashing keys: a worker that replaces another under the same name gets its keys; NULL
 *        for a name of its own. Copied
 * @retval 0 done
 * @retval -EINVAL @p dispatcher or @p transport is NULL, or of another event_base
 * @retval -EOPNOTSUPP the transport carries no descriptors
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * On failure the transport is the caller's. Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_add_worker(struct ferry_dispatcher_worker **out,
                                             struct ferry_dispatcher *dispatcher,
                                             struct ferry_transport *transport, const char *name);

/** Gives a worker no more handoffs and tells it so; worker_drained comes when it has nothing in hand any
 *  more, at once perhaps, but from the loop. -EINVAL: @p worker is NULL. -ENOMEM: out of memory;
 *  nothing was told. Since 0.1. */
FERRY_EXPORT int ferry_dispatcher_worker_drain(struct ferry_dispatcher_worker *worker);

/** Fences a worker's channel and closes it; no worker_lost follows, the outcomes do. What it has claimed
 *  stays its own. @p worker is gone. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_dispatcher_worker_remove(struct ferry_dispatcher_worker *worker);

/** A place for the owner's own pointer, NULL at first. Since 0.1. */
FERRY_EXPORT void ferry_dispatcher_worker_set_context(struct ferry_dispatcher_worker *worker,
                                                      void *context);

/** What was put there. Since 0.1. */
FERRY_EXPORT void *
ferry_dispatcher_worker_get_context(const struct ferry_dispatcher_worker *worker);

/** The transport to a worker; it stays the dispatcher's. For looking at only: SO_PEERCRED, statistics.
 *  NULL for NULL. Since 0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_dispatcher_worker_get_transport(const struct ferry_dispatcher_worker *worker);

/** Copies the counters of one worker. -EINVAL: an argument is NULL. Since 0.1. */
FERRY_EXPORT int ferry_dispatcher_worker_get_stats(const struct ferry_dispatcher_worker *worker,
                                                   struct ferry_dispatcher_stats *stats);

/**
 * Hands a descriptor off.
 *
 * @param dispatcher the dispatcher
 * @param handoff on success the dispatcher's
 * @param outcome is told how it ended; may be NULL
 * @param context handed to @p outcome
 * @retval 0 done: @p outcome will run
 * @retval -EINVAL @p dispatcher or @p handoff is NULL, or the handoff was received or handed off already
 * @retval -EBADF its descriptor was stolen
 * @retval -ELOOP it is the channel to one of the workers
 * @retval -ESHUTDOWN the dispatcher is being freed
 * @retval -ENOBUFS the queue is full
 * @retval -ENOMEM out of memory
 *
 * On failure the handoff is the caller's. Since 0.1.
 */
FERRY_EXPORT int ferry_dispatcher_hand_off(struct ferry_dispatcher *dispatcher,
                                           struct ferry_handoff *handoff,
                                           ferry_handoff_outcome_cb outcome, void *context);

/** Whether the queue is full: it was, and has not come down to half of its limit since. False for NULL.
 *  Since 0.1. */
FERRY_EXPORT bool ferry_dispatcher_is_full(const struct ferry_dispatcher *dispatcher);

/** Copies the counters of the dispatcher and all its workers. -EINVAL: an argument is NULL. Since 0.1. */
FERRY_EXPORT int ferry_dispatcher_get_stats(const struct ferry_dispatcher *dispatcher,
                                            struct ferry_dispatcher_stats *stats);

FERRY_END_DECLS

#endif
