#ifndef FERRY_IN_FLIGHT_H
#define FERRY_IN_FLIGHT_H

/**
 * @file in_flight.h
 * @brief The bound on descriptors in flight: sent over unix sockets, and not yet received.
 *
 * A descriptor in flight is open in the kernel, and in no process. Linux counts them for each user, over all
 * processes and sockets of that user. While there are more than the soft RLIMIT_NOFILE of a sender, each of its
 * sendmsg(2) with descriptors fails with ETOOMANYREFS, unless the process has CAP_SYS_RESOURCE or CAP_SYS_ADMIN.
 * ferry waits then, and loses nothing; but one peer that does not read could stop all processes of the user.
 *
 * ferry therefore limits what its own transports have in flight. The limit holds for the process, because the
 * kernel's does: the transports of all event_bases in all threads share it. At the limit a transport keeps its
 * messages with descriptors in its queue, in order, until peers have read; messages without descriptors before
 * these have left.
 *
 * A transport that has descriptors in flight may have half of what the other transports leave of the limit, so that
 * one peer that stops reading does not stop the others. A transport that has none may send one message of any size
 * while the process is under the limit. What is in flight is therefore at most the limit and 252 descriptors, and
 * a limit below 506 may be used up by one message. Several peers that stop reading use up any limit, ten of them one of
 * 512: set a write timeout, which ends their connections. Transports of one thread that have nothing in flight go on
 * in the order in which they began to wait.
 *
 * @code
 * ferry_in_flight_set_limit(256); // RLIMIT_NOFILE is 1024, and three such processes of one user run
 * @endcode
 *
 * @par Callers
 * In every callback and in every thread.
 */

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** What the transports of this process have in flight; see ferry_in_flight_get_info(). Since 0.1. */
struct ferry_in_flight_info {
	unsigned int limit; /**< of the process, in descriptors */
	/** Descriptors in flight: at most so many. Those that a peer has read since ferry asked the kernel last still
	 *  count. Those of other processes do not, nor those of transports that were freed or detached, once the loop
	 *  has run. */
	unsigned int fds;
	unsigned int transports; /**< the transports that sent them */

	unsigned int reserved[5]; /**< zero, for later versions */
};

/**
 * Sets how many descriptors the transports of this process may have in flight together.
 *
 * A lower limit closes nothing that is in flight. After a higher one, transports that wait go on within 0.1 s.
 * Pipes and TCP carry no descriptors, and never wait for it.
 *
 * @param fds the limit, in descriptors. 0, the default: half of the soft RLIMIT_NOFILE, which is read in this call,
 *        or when a descriptor is first sent; at least 1. UINT_MAX: none
 *
 * Since 0.1.
 */
FERRY_EXPORT void ferry_in_flight_set_limit(unsigned int fds);

/**
 * Returns what is in flight, as far as ferry knows; it asks the kernel for nothing. `fds_in_flight` of
 * ferry_transport_get_stats() is the part of one transport.
 *
 * @param[out] info filled in
 * @retval 0 done
 * @retval -EINVAL @p info is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_in_flight_get_info(struct ferry_in_flight_info *info);

FERRY_END_DECLS

#endif
