#ifndef FERRY_TAKEOVER_H
#define FERRY_TAKEOVER_H

/**
 * @file takeover.h
 * @brief Listening sockets from an old process to a new one, without a refused connection.
 *
 * A daemon that a new release replaces hands its listening sockets over. The new process asks for them
 * by name over a unix socket, begins to accept, and commits; only then does the old process stop. At
 * each moment a process listens, and no connection is refused. The file of a unix socket, and the lock
 * beside it, change their owner with the socket. The last owner removes the file.
 *
 * The sockets are in a set at both ends (ferry/socket_set.h). docs/handoff.md describes the protocol.
 *
 * @code
 * // The old process, for each connection to its control socket:
 * static void taken_over(struct ferry_takeover *takeover, int status, void *context)
 * {
 *     if (status == 0)
 *         ferry_listener_free(www);     // the new process accepts already
 *     ferry_takeover_free(takeover);
 * }
 * static const struct ferry_takeover_callbacks old_callbacks = {.ended = taken_over};
 * ferry_takeover_serve(&takeover, set, transport, &old_callbacks, NULL);
 *
 * // The new process, connected to that socket:
 * static void received(struct ferry_takeover *takeover, struct ferry_socket_set *set, void *context)
 * {
 *     ferry_listener_new_fd(&www, base, ferry_socket_set_find(set, "www"), accepted, NULL);
 *     ferry_takeover_commit(takeover);
 * }
 * static const struct ferry_takeover_callbacks new_callbacks = {.received = received, .ended = ended};
 * ferry_takeover_request(&takeover, transport, NULL, 0, &new_callbacks, NULL);   // all of them
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base.
 */

#include <stddef.h>

#include "ferry/export.h"
#include "ferry/socket_set.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

/** One attempt to take sockets over, at either end. Opaque. */
struct ferry_takeover;

/** The callbacks of a takeover. The table must outlive it. Each may call any ferry function,
 *  ferry_takeover_free() included. Since 0.1. */
struct ferry_takeover_callbacks {
	/** New process only: all sockets of the request have arrived. Runs once. Free @p set after
	 *  the takeover has ended. Both processes have the sockets now, and the old one
	 *  accepts. Begin to accept, in the callback or later, and call ferry_takeover_commit(); or
	 *  withdraw with ferry_takeover_free(), and leave everything to the old process. */
	void (*received)(struct ferry_takeover *takeover, struct ferry_socket_set *set, void *context);

	/**
	 * The takeover is over. Runs once, as the last callback. Must not be NULL.
	 *
	 * @p status 0, in the old process: the new process accepts. The sockets that it has taken are no
	 * longer in the set, and it owns their files. Their descriptors are closed when the callback
	 * returns: free, inside the callback, the listeners that accept on them. The new process is
	 * notified after that.
	 *
	 * @p status 0, in the new process: the old process has stopped or died, and the set owns the files.
	 *
	 * Any other status: nothing has changed hands. In the old process everything is as before. In the
	 * new process, if `received` has run, stop accepting and free the set: the old process goes on.
	 * - -ECONNRESET, -EPIPE: the other process has ended the connection. In the old process only before
	 *   the new one has committed; in the new process only before `received`.
	 * - -ECANCELED: the old process has withdrawn.
	 * - -ENOENT: a requested name is not in the set.
	 * - -EMFILE: a descriptor did not arrive, because the new process has no free descriptor slot; or
	 *   the old process had none.
	 * - -EPROTO: the other process has broken the protocol. -EPROTONOSUPPORT: no version in common.
	 * - -ENOMEM: out of memory, at either end.
	 */
	void (*ended)(struct ferry_takeover *takeover, int status, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/**
 * Old process: lets the process at the other end of a transport take sockets over.
 *
 * The other process must run as this process's effective user or as root, by the credentials of the
 * connection (SO_PEERCRED). There is no deadline: call ferry_takeover_free() from a timer of your own,
 * and set no timeouts on the transport.
 *
 * @param[out] out the takeover
 * @param set the set, which the caller still owns; one takeover at a time
 * @param transport a transport on a unix socket; on success the takeover owns it, and its byte limit
 *        (ferry_transport_set_byte_limit()) is off: the sockets bound what is queued
 * @param callbacks the table; must outlive the takeover
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL an argument other than @p context is NULL, or @p callbacks has no `ended`
 * @retval -EBUSY a takeover of the set is under way, or the set was received and that takeover has not
 *         ended; or another object owns the transport already
 * @retval -EOPNOTSUPP the transport does not stand on a unix socket
 * @retval -EACCES the other process runs as another user
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 * @retval other the error of getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_takeover_serve(struct ferry_takeover **out, struct ferry_socket_set *set,
                                      struct ferry_transport *transport,
                                      const struct ferry_takeover_callbacks *callbacks,
                                      void *context);

/**
 * New process: asks for sockets.
 *
 * @param[out] out the takeover
 * @param transport a transport on a unix socket whose other end the old process serves; on success the
 *        takeover owns it, and its byte limit is off
 * @param names of the sockets, copied; may be NULL when @p count is 0. If several sockets have one
 *        name, all of them are sent
 * @param count how many names; 0: all sockets of the old process
 * @param callbacks the table, with `received`; must outlive the takeover
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL an argument other than @p context is NULL, a name is NULL, or @p callbacks lacks a
 *         callback
 * @retval -EBUSY another object owns the transport already: a stream, a channel, a dispatcher, a worker or a takeover
 * @retval -EOPNOTSUPP the transport does not stand on a unix socket
 * @retval -EMSGSIZE a name is longer than FERRY_SOCKET_SET_NAME_MAX, or all names together exceed a
 *         message
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_takeover_request(struct ferry_takeover **out,
                                        struct ferry_transport *transport, const char *const *names,
                                        size_t count,
                                        const struct ferry_takeover_callbacks *callbacks,
                                        void *context);

/**
 * New process: declares that it accepts on the received sockets; the old process then stops. `ended`
 * follows, also with 0 if the old process has died before, or dies before it can answer: a dead process
 * removes no file.
 *
 * @retval 0 done
 * @retval -EINVAL @p takeover is NULL or the old process's, `received` has not run, or this is the
 *         second call
 * @retval -ENOTCONN it has ended
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_takeover_commit(struct ferry_takeover *takeover);

/**
 * Frees a takeover, at any time. Its connection ends, and `ended` does not run any more.
 *
 * A takeover that has not ended is withdrawn. The old process then goes on with everything, and
 * notifies the new one (`ended` with -ECANCELED). If the kernel does not take that message, the old
 * process cannot know whether the new one will own the files: its set disowns them, and they may stay
 * behind. If the new process frees the takeover after ferry_takeover_commit() and before the end, neither
 * process owns the files. NULL: nothing happens.
 *
 * Since 0.1.
 */
FERRY_EXPORT void ferry_takeover_free(struct ferry_takeover *takeover);

FERRY_END_DECLS

#endif
