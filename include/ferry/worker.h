#ifndef FERRY_WORKER_H
#define FERRY_WORKER_H

/**
 * @file worker.h
 * @brief The end of a handoff that takes connections.
 *
 * A worker stands on a transport over a unix socket; a dispatcher has the other end
 * (ferry/dispatcher.h). It takes one handoff after the other. For each it sends a claim to the
 * dispatcher, and runs the user's callback only once the kernel has taken the claim. Two processes
 * therefore never serve the same connection, and a worker that dies before its claim loses none.
 *
 * @par Callers
 * In every callback. Only in the thread of the transport's event_base.
 */

#include <stdbool.h>
#include <stdint.h>

#include "ferry/export.h"
#include "ferry/handoff.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct event_base;
struct timeval;

/** One end of a channel to a dispatcher. Opaque. */
struct ferry_worker;

/** The callbacks of a worker. Every member may be NULL. The table must outlive the worker. Each may
 *  call any function, ferry_worker_free() included. Since 0.1. */
struct ferry_worker_callbacks {
	/** This process now owns a connection, a listener or another descriptor. @p handoff is valid until
	 *  the callback returns, even if the callback frees the worker. Steal its descriptor, or make a
	 *  bufferevent or listener of it, and store its id for ferry_worker_done(). If the descriptor is
	 *  not stolen, it is closed when the callback returns, and the handoff is DONE. */
	void (*handoff_received)(struct ferry_worker *worker, struct ferry_handoff *handoff,
	                         void *context);

	/** The dispatcher sends no more handoffs (ferry_dispatcher_worker_drain()). Serve the received ones
	 *  to their end. */
	void (*drain_requested)(struct ferry_worker *worker, void *context);

	/** The dispatcher asks for connections that are idle (ferry_dispatcher_worker_recall()): return each at its
	 *  next idle point, spread over @p spread. */
	void (*recall_requested)(struct ferry_worker *worker, const struct timeval *spread,
	                         void *context);

	/** The channel has ended before the kernel had taken all of a return (ferry_worker_return()). The
	 *  connection is still this process's: serve it on, or free @p handoff. Runs before dispatcher_lost.
	 *  Without this callback the handoff is freed, and the connection closed. */
	void (*return_failed)(struct ferry_worker *worker, uint64_t id, struct ferry_handoff *handoff,
	                      void *context);

	/** The channel is over. Runs once. @p reason is that of a protocol's connection_lost, or -EPROTO:
	 *  the dispatcher broke the format; -EPROTONOSUPPORT: no version in common; -ENOMEM: out of memory
	 *  for an answer that the dispatcher needs. Received handoffs that were not claimed are closed.
	 *  This process still owns the claimed ones. */
	void (*dispatcher_lost)(struct ferry_worker *worker, int reason, void *context);

	/** All credits are used (@p scarce is true): no handoff comes until one is reported or returned. Return what
	 *  is idle at once, instead of keeping it for its client's next request. False: a quarter of the credits is
	 *  free again, or the channel has ended; dispatcher_lost follows. */
	void (*credits_scarce)(struct ferry_worker *worker, bool scarce, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/** The counters of a worker since its start, unless the text has "now". */
struct ferry_worker_stats {
	uint64_t received;  /**< handoffs that have arrived, with or without their descriptors */
	uint64_t claimed;   /**< handoffs claimed and passed to the callback */
	uint64_t done;      /**< handoffs reported as done */
	uint64_t rejected;  /**< handoffs rejected by ferry_handoff_reject() */
	uint64_t refused;   /**< not claimed: another descriptor arrived than the dispatcher had sent */
	uint64_t lost;      /**< descriptors that did not arrive: no descriptor slot was free */
	uint64_t unclaimed; /**< closed because the channel ended before the claim */
	uint64_t waited;    /**< claims that waited for room in the channel */
	uint64_t ignored;   /**< messages of unknown types */
	uint64_t returned;  /**< connections that are the dispatcher's again */
	uint64_t
	    outstanding;  /**< now claimed, and not reported, rejected or returned: credits in use */
	uint64_t credits; /**< now; see ferry_worker_set_credits() */
	uint64_t reserved[4]; /**< for later versions */
};

/**
 * Makes a worker on a transport. On success the worker owns the transport, and frees it with itself.
 *
 * @param[out] out the worker
 * @param transport on a connected unix stream socket
 * @param callbacks the table; must outlive the worker
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p transport or @p callbacks is NULL
 * @retval -EBUSY another object owns the transport already: a stream, a channel, a dispatcher, a worker or a takeover
 * @retval -EOPNOTSUPP the transport carries no descriptors
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * On failure the caller still owns the transport. Since 0.1.
 */
FERRY_EXPORT int ferry_worker_new(struct ferry_worker **out, struct ferry_transport *transport,
                                  const struct ferry_worker_callbacks *callbacks, void *context);

/**
 * Makes a worker on the channel that a supervisor (ferry/supervisor.h) has given to this program. The environment
 * variable FERRY_WORKER has the descriptor and the process id for which it is meant, "3:4711". On success the channel
 * is close-on-exec, and the variable is unset: programs that this one starts do not take the channel for theirs. Call
 * it before other threads use the environment.
 *
 * @param[out] out the worker
 * @param base its event_base
 * @param callbacks the table; must outlive the worker
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p base or @p callbacks is NULL, or the variable is malformed
 * @retval -ENOENT there is no such variable, or it is meant for another process
 * @retval -EBADF the descriptor is not open
 * @retval -ENOTSOCK the descriptor is no socket
 * @retval -EOPNOTSUPP the socket carries no descriptors
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * On failure nothing has changed. Since 0.1.
 */
FERRY_EXPORT int ferry_worker_new_from_environment(struct ferry_worker **out,
                                                   struct event_base *base,
                                                   const struct ferry_worker_callbacks *callbacks,
                                                   void *context);

/** Frees the worker and closes its channel. No callback follows. What was reported or returned before is still
 *  sent, while the loop runs and the dispatcher reads; a return that the kernel does not take closes its connection.
 *  The dispatcher's outcome of handoffs that were claimed and not reported as done is KEPT. NULL: nothing happens.
 *  Since 0.1. */
FERRY_EXPORT void ferry_worker_free(struct ferry_worker *worker);

/**
 * Sets how many handoffs this worker takes at once, counted from their arrival to ferry_worker_done();
 * 256 at first. With more than that now, it gets no handoff until it has fewer. 0: no handoffs for now.
 *
 * When a descriptor does not arrive because no descriptor slot is free (RLIMIT_NOFILE), the worker
 * itself states 0 credits to the dispatcher until slots are free.
 *
 * @param credits handoffs
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL
 * @retval -ENOTCONN the dispatcher is gone
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_set_credits(struct ferry_worker *worker, unsigned int credits);

/**
 * Sends DRAIN: the dispatcher gives this worker no more handoffs. Those that are on their way still arrive.
 *
 * @retval 0 done
 * @retval other as ferry_worker_set_credits()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_drain(struct ferry_worker *worker);

/**
 * Reports that a handoff was served to its end. Once for each; the dispatcher ignores and counts
 * further reports. The report leaves at the end of the loop's turn, or with the next claim. If the loop ends before
 * that, by event_base_loopbreak() or event_base_loopexit(), the report leaves when the worker's callback returns; and
 * at once if the loop has ended already. A process that ends otherwise, with _exit(2) in a callback for example, calls
 * ferry_worker_free() first, which sends it, or ferry_transport_flush().
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

/**
 * Reports the same as ferry_worker_done(), but the report may wait for the next claim or return, and then leaves with
 * it; after 100 milliseconds it leaves in any case. For servers of many short connections: a report of its own costs a
 * system call here, and wakes the dispatcher up. Until the dispatcher has the report, it counts the handoff as
 * outstanding, and a death of this process makes its outcome KEPT.
 *
 * The report leaves as that of ferry_worker_done() if more than half of the credits are used, reports that wait
 * included; if this worker is drained (ferry_worker_is_drained()); or if 16 others wait. When the worker is drained or
 * freed, its credits are set, or its callback ends the loop, those that wait leave as if they were reported at that
 * moment. If something else ends the loop, they leave with ferry_worker_free(), or when the loop runs again.
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
FERRY_EXPORT int ferry_worker_done_later(struct ferry_worker *worker, uint64_t id);

/**
 * Returns a connection to the dispatcher, in place of ferry_worker_done(): with its descriptor, the bytes that were
 * read from it and not served, and a blob of the application's state. The connection changes hands when the kernel
 * has taken the last byte of the return, usually inside this call. The copy here is closed then.
 *
 * @param worker the worker
 * @param id of struct ferry_handoff_info
 * @param handoff made of the same connection, by ferry_handoff_new(), ferry_handoff_from_bufferevent() or
 *        ferry_handoff_from_transport(), with bytes and blob; name and key do not travel: the dispatcher has them. On
 *        success the worker owns it
 * @retval 0 the kernel has taken it, or return_failed will run if it does not
 * @retval -EINVAL @p worker or @p handoff is NULL, or the handoff was received or given away before
 * @retval -EBADF its descriptor was stolen
 * @retval -EOPNOTSUPP the dispatcher takes no returns
 * @retval -ENOTCONN the dispatcher is gone
 * @retval -ENOBUFS more bytes would be queued than ferry_transport_set_byte_limit() permits
 * @retval -ENOMEM out of memory
 *
 * On failure the caller still owns the handoff and the connection. Since 0.1.
 */
FERRY_EXPORT int ferry_worker_return(struct ferry_worker *worker, uint64_t id,
                                     struct ferry_handoff *handoff);

/** Returns whether ferry_worker_return() can succeed now: the channel stands, the dispatcher's HELLO has arrived, and
 *  the dispatcher takes returns. A server that ends asks this before it tells a client that its connection closes.
 *  False for NULL. Since 0.1. */
FERRY_EXPORT bool ferry_worker_can_return(const struct ferry_worker *worker);

/** Returns whether no more handoffs come but those on their way: the dispatcher has drained this worker, or
 *  ferry_worker_drain() was called. The end of the channel is then no surprise. False for NULL. Since 0.1. */
FERRY_EXPORT bool ferry_worker_is_drained(const struct ferry_worker *worker);

/**
 * Copies the counters.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_get_stats(const struct ferry_worker *worker,
                                        struct ferry_worker_stats *stats);

/** Returns the transport, for statistics and settings. The worker still owns it. NULL for NULL. Since
 *  0.1. */
FERRY_EXPORT struct ferry_transport *ferry_worker_get_transport(const struct ferry_worker *worker);

FERRY_END_DECLS

#endif
