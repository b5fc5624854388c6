#ifndef FERRY_WORKER_H
#define FERRY_WORKER_H

/**
 * @file worker.h
 * @brief The end of a handoff that takes connections.
 *
 * A worker stands on a transport over a unix socket whose other end a dispatcher has
 * (ferry/dispatcher.h). It takes one handoff after the other: it tells the dispatcher that it takes
 * this one, and only when the kernel has that answer runs the user's callback. So no two processes
 * are ever given the same connection, and none is lost with a worker that dies before.
 *
 * All functions are for the thread of the transport's event_base, and legal in callbacks.
 */

#include <stdint.h>

#include "ferry/export.h"
#include "ferry/handoff.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

/** One end of a channel to a dispatcher. Opaque. */
struct ferry_worker;

/** What a worker is told. Every member may be NULL, the table must outlive the worker. Each may call any
 *  function, ferry_worker_free() included. Since 0.1. */
struct ferry_worker_callbacks {
	/** A connection, listener or other descriptor is this process's now. @p handoff is valid until the
	 *  callback returns, also when it frees the worker; steal its descriptor or make something of it,
	 *  and remember its id for ferry_worker_done(). What is not stolen is closed on return, and the
	 *  handoff is DONE. */
	void (*handoff_received)(struct ferry_worker *worker, struct ferry_handoff *handoff,
	                         void *context);

	/** The dispatcher sends no more handoffs (ferry_dispatcher_worker_drain()): what was received is to
	 *  be served to its end. */
	void (*drain_requested)(struct ferry_worker *worker, void *context);

	/** The channel is over, once; the reasons of a protocol's connection_lost, and -EPROTO: the
	 *  dispatcher broke the format, -EPROTONOSUPPORT: it has no version in common with us,
	 *  -ENOMEM: out of memory for an answer that it would have waited for in vain. What was
	 *  received and not yet claimed is closed; what was claimed is this process's still. */
	void (*dispatcher_lost)(struct ferry_worker *worker, int reason, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/** What a worker has counted since its start. */
struct ferry_worker_stats {
	uint64_t received;    /**< handoffs that came, with or without their descriptors */
	uint64_t claimed;     /**< that the callback was given */
	uint64_t done;        /**< that were said to be done */
	uint64_t rejected;    /**< by ferry_handoff_reject() */
	uint64_t refused;     /**< unclaimed: the descriptor was not what the dispatcher had said */
	uint64_t lost;        /**< descriptors that did not arrive: no number was free */
	uint64_t unclaimed;   /**< closed because the dispatcher was gone before they were claimed */
	uint64_t waited;      /**< claims that had to wait for room in the channel */
	uint64_t ignored;     /**< messages of a type that we do not know */
	uint64_t reserved[7]; /**< for later versions */
};

/**
 * Makes a worker on a transport, which is the worker's from then on and goes with it.
 *
 * @param[out] out the worker
 * @param transport on a connected unix stream socket
 * @param callbacks what is told; must outlive the worker
 * @param context handed to each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p transport or @p callbacks is NULL
 * @retval -EOPNOTSUPP the transport carries no descriptors
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * On failure the transport is the caller's. Since 0.1.
 */
FERRY_EXPORT int ferry_worker_new(struct ferry_worker **out, struct ferry_transport *transport,
                                  const struct ferry_worker_callbacks *callbacks, void *context);

/** Frees the worker and closes its channel; no callback follows. What was claimed and not said to be
 *  done is KEPT for the dispatcher. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_worker_free(struct ferry_worker *worker);

/**
 * States how many handoffs this worker takes at once, counted from their arrival to
 * ferry_worker_done(); 256 at first. Fewer than it has now: it gets no more until it has fewer. 0: none
 * for now.
 *
 * When descriptors are lost for want of free numbers (RLIMIT_NOFILE), the worker states 0 by itself until
 * there are some.
 *
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL
 * @retval -ENOTCONN the dispatcher is gone
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_set_credits(struct ferry_worker *worker, unsigned int credits);

/** Says that this worker wants no more handoffs, for good; those under way still come. The errors of
 *  ferry_worker_set_credits(). Since 0.1. */
FERRY_EXPORT int ferry_worker_drain(struct ferry_worker *worker);

/**
 * Says that a handoff was served to its end. Once for each; the dispatcher ignores and counts others.
 *
 * @param worker the worker
 * @param id of struct ferry_handoff_info
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL
 * @retval -ENOTCONN the dispatcher is gone
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_done(struct ferry_worker *worker, uint64_t id);

/** Copies the counters. -EINVAL: an argument is NULL. Since 0.1. */
FERRY_EXPORT int ferry_worker_get_stats(const struct ferry_worker *worker,
                                        struct ferry_worker_stats *stats);

/** The transport below, for statistics and settings. It stays the worker's. NULL for NULL. Since 0.1. */
FERRY_EXPORT struct ferry_transport *ferry_worker_get_transport(const struct ferry_worker *worker);

FERRY_END_DECLS

#endif
