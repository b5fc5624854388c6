#ifndef FERRY_SOCKET_SET_H
#define FERRY_SOCKET_SET_H

/**
 * @file socket_set.h
 * @brief Listening sockets by name: from socket activation, and from an old process to a new one.
 *
 * A daemon that is replaced by a new release of itself hands its listening sockets over: the new process
 * asks for them by name over a unix socket, begins to accept, and says so; only then does the old one
 * stop. At no moment does nobody listen, and no connection is refused. The file of a unix socket, and the
 * lock beside it if there is one, change owner with their socket: whoever owns them last removes them.
 *
 * A set holds the sockets. The listeners that accept on them are the user's: ferry_listener_new_fd(),
 * evconnlistener_new() (without LEV_OPT_CLOSE_ON_FREE, because the set closes), or evhttp on either.
 *
 * @code
 * // The old process, for each connection to its control socket:
 * static void taken_over(struct ferry_takeover *takeover, int status, void *context)
 * {
 *     if (status == 0)
 *         ferry_listener_free(www);     // the new one accepts already
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
 */

#include <stdbool.h>
#include <stddef.h>

#include "ferry/export.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct ferry_listener;

/** Bounds of a set. */
enum {
	FERRY_SOCKET_SET_NAME_MAX = 255 /**< bytes of a name, without the terminating zero */
};

/** Listening sockets with names. Several may have one name: a service's IPv4 and IPv6 sockets. A set
 *  belongs to one thread. Opaque. */
struct ferry_socket_set;

/** Listeners on their way from one process to another: one attempt, at either end. Opaque. */
struct ferry_takeover;

/**
 * Makes an empty set.
 *
 * @param[out] out the set
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_new(struct ferry_socket_set **out);

/** Frees a set: closes its sockets, and removes the files that it owns and that are still theirs. Free
 *  listeners that accept on its descriptors before. With a takeover of it under way: that is withdrawn,
 *  as by ferry_takeover_free(), and ends with -ECANCELED. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_socket_set_free(struct ferry_socket_set *set);

/**
 * Makes a set of the sockets that systemd, or whoever else speaks its protocol, has passed to this
 * process: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3), which does the reading where
 * ferry was built with libsystemd). A socket without a name is called "unknown". All become
 * close-on-exec and non-blocking. Their files stay who passed them's: the set does not own them.
 *
 * @param[out] out the set, which owns the descriptors
 * @param unset whether to remove the variables from the environment, so that no child takes them for its
 *        own; they go on failure too. Not in a process whose other threads use the environment
 * @retval 0 done
 * @retval -ENOENT nothing was passed to this process
 * @retval -EINVAL @p out is NULL; the variables are malformed, or there are not as many names as
 *         descriptors; a socket does not listen (Accept=yes) and is not a datagram socket
 * @retval -EMSGSIZE a name is longer than FERRY_SOCKET_SET_NAME_MAX
 * @retval -EBADF one of the descriptors is not open
 * @retval -ENOTSOCK one of them is not a socket: a process that is passed others too reads the variables
 *         itself, and uses ferry_socket_set_add()
 * @retval -ENOMEM out of memory
 *
 * On failure the descriptors are open and the caller's, but may be close-on-exec and non-blocking.
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_from_environment(struct ferry_socket_set **out, bool unset);

/**
 * Adds a socket, and makes it non-blocking. That flag is shared with every process that has the socket.
 *
 * @param set the set
 * @param name its name, copied; may be "", and may be there already. Bytes that ferry does not look at;
 *        UTF-8 by convention
 * @param fd a socket that listens, of any family, or a datagram socket
 * @param ownership FERRY_FD_TAKE or FERRY_FD_DUP
 * @retval 0 done
 * @retval -EINVAL @p set or @p name is NULL, @p ownership is neither, or @p fd does not listen
 * @retval -EMSGSIZE @p name is longer than FERRY_SOCKET_SET_NAME_MAX
 * @retval -EBADF @p fd is not open
 * @retval -ENOTSOCK @p fd is not a socket
 * @retval -EMFILE FERRY_FD_DUP and no descriptor number is free
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_add(struct ferry_socket_set *set, const char *name, int fd,
                                      enum ferry_fd_ownership ownership);

/**
 * Adds a duplicate of a listener's socket. The file that ferry_listener_new_unix() made, and the lock beside it,
 * are the set's from then on: ferry_listener_free() does not remove them any more, and
 * ferry_socket_set_free() does, unless they have been handed over. The listener accepts as before and stays the caller's.
 *
 * @param set the set
 * @param name as in ferry_socket_set_add()
 * @param listener the listener
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -EMSGSIZE, -EMFILE, -ENOMEM as ferry_socket_set_add()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_add_listener(struct ferry_socket_set *set, const char *name,
                                               struct ferry_listener *listener);

/**
 * Has the set own the file of a unix socket that was bound by other means than ferry_listener_new_unix(): it is
 * removed by ferry_socket_set_free(), or handed over with the socket. For sockets from
 * ferry_socket_set_from_environment() it is not meant: their files are systemd's.
 *
 * Which file it is, is looked up now, by the path that the socket was bound to: relative to the working
 * directory, which must be the same as then.
 *
 * @param set the set
 * @param name of the socket; of several of that name, all that have a file
 * @retval 0 done, also if it is owned already
 * @retval -EINVAL @p set or @p name is NULL
 * @retval -ENOENT there is no such name, none of its sockets is bound to a path, or nothing is there
 * @retval -EADDRINUSE at the path is something that is not a socket
 * @retval -EMFILE no descriptor number is free
 * @retval other what open(2) or fstatat(2) said
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_own_path(struct ferry_socket_set *set, const char *name);

/** How many sockets there are. 0 for NULL. Since 0.1. */
FERRY_EXPORT size_t ferry_socket_set_count(const struct ferry_socket_set *set);

/** The descriptor of the socket of that name, of several the first; it stays the set's. -EINVAL: an
 *  argument is NULL. -ENOENT: there is none. Since 0.1. */
FERRY_EXPORT int ferry_socket_set_find(const struct ferry_socket_set *set, const char *name);

/** The descriptor of the socket at that place, from 0, in the order in which they were added; it stays
 *  the set's. -EINVAL: @p set is NULL. -ENOENT: there are not so many. Since 0.1. */
FERRY_EXPORT int ferry_socket_set_get_fd(const struct ferry_socket_set *set, size_t index);

/** The name of the socket at that place; it stays the set's. NULL: there is none. Since 0.1. */
FERRY_EXPORT const char *ferry_socket_set_get_name(const struct ferry_socket_set *set,
                                                   size_t index);

/** What a takeover tells its owner. The table must outlive it. Each may call any ferry function,
 *  ferry_takeover_free() included. Since 0.1. */
struct ferry_takeover_callbacks {
	/** New process only: all that was asked for is here, once. @p set is the callback's, to free after
	 *  the takeover has ended. Both processes have the sockets now, and the old one accepts. Begin to
	 *  accept, here or later, and call ferry_takeover_commit(); or give up with
	 *  ferry_takeover_free() and leave everything to the old one. */
	void (*received)(struct ferry_takeover *takeover, struct ferry_socket_set *set, void *context);

	/**
	 * It is over, exactly once, and nothing more is told. Must not be NULL.
	 *
	 * @p status 0, in the old process: the new one accepts. What it has taken is not in the set any more,
	 * and its files are the new one's. The descriptors are closed when the callback returns: free, in
	 * it, the listeners that accept on them. The new process is told after that.
	 *
	 * @p status 0, in the new process: the old one has stopped, or has died, and the files are the set's.
	 *
	 * Else nothing has changed hands. In the old process everything is as it was; in the new one, if
	 * `received` has run, stop accepting and free the set: the old one goes on.
	 * - -ECONNRESET, -EPIPE: the other process went. In the old process only when the new one had not
	 *   yet said that it accepts; in the new one only before `received`.
	 * - -ECANCELED: the old process has withdrawn.
	 * - -ENOENT: a name that was asked for is not in the set.
	 * - -EMFILE: a descriptor did not arrive, because the new process has no number free; or the old
	 *   one had none.
	 * - -EPROTO: the other process says what it must not. -EPROTONOSUPPORT: no version in common.
	 * - -ENOMEM: out of memory, at either end.
	 */
	void (*ended)(struct ferry_takeover *takeover, int status, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/**
 * Old process: lets the process at the other end of a transport take listeners over.
 *
 * Only a process of this one's effective user, or of root, as the kernel tells it of the connection
 * (SO_PEERCRED), is heard. There is no deadline: have a timer of your own call ferry_takeover_free(), and
 * set no timeouts on the transport.
 *
 * @param[out] out the takeover
 * @param set the set, which stays the caller's; one takeover at a time
 * @param transport a transport on a unix socket, which is the takeover's from then on
 * @param callbacks what is told
 * @param context handed to each callback
 * @retval 0 done
 * @retval -EINVAL an argument other than @p context is NULL, or @p callbacks has no `ended`
 * @retval -EBUSY a takeover of the set is under way, or it was received and is not owned yet
 * @retval -EOPNOTSUPP the transport does not stand on a unix socket
 * @retval -EACCES the other process is another user's
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_takeover_serve(struct ferry_takeover **out, struct ferry_socket_set *set,
                                      struct ferry_transport *transport,
                                      const struct ferry_takeover_callbacks *callbacks,
                                      void *context);

/**
 * New process: asks for listeners.
 *
 * @param[out] out the takeover
 * @param transport a transport on a unix socket that the old process serves at its other end; it is the
 *        takeover's from then on
 * @param names which ones, copied; may be NULL when @p count is 0. Of several sockets with one name all
 *        are given
 * @param count how many names; 0: all that the old process has
 * @param callbacks what is told; needs `received`
 * @param context handed to each callback
 * @retval 0 done
 * @retval -EINVAL an argument other than @p context is NULL, a name is, or @p callbacks lacks one
 * @retval -EOPNOTSUPP the transport does not stand on a unix socket
 * @retval -EMSGSIZE a name is longer than FERRY_SOCKET_SET_NAME_MAX, or all together than a message
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
 * New process: says that it accepts on what it has received; the old one stops then. `ended` follows, with
 * 0 also if the old one has died by now, or dies before it can answer: a dead process removes no file.
 *
 * @retval 0 done
 * @retval -EINVAL @p takeover is NULL or the old process's, `received` has not run, or it was said before
 * @retval -ENOTCONN it has ended
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_takeover_commit(struct ferry_takeover *takeover);

/**
 * Frees a takeover, at any time; `ended` does not run any more. Its connection ends.
 *
 * Before it has ended this gives it up. The old process then goes on with everything, and tells the new
 * one (`ended` with -ECANCELED); if the kernel does not take those bytes, nobody can know whether the new
 * one takes the files for its own: then the set does not own them any more, and they may stay behind. The
 * new process, once it has called ferry_takeover_commit(), leaves the files to nobody in the same way.
 * NULL: nothing happens.
 *
 * Since 0.1.
 */
FERRY_EXPORT void ferry_takeover_free(struct ferry_takeover *takeover);

FERRY_END_DECLS

#endif
