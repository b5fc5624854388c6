#ifndef FERRY_SOCKET_SET_H
#define FERRY_SOCKET_SET_H

/**
 * @file socket_set.h
 * @brief Listening sockets with names: from socket activation, for a takeover.
 *
 * A set owns the sockets of a daemon, each under a name. It is filled from socket activation (systemd)
 * or socket by socket, and a new release of the daemon can take the sockets over (ferry/takeover.h).
 *
 * The listeners that accept on the sockets belong to the caller: ferry_listener_new_fd(),
 * evconnlistener_new() (without LEV_OPT_CLOSE_ON_FREE, because the set closes the sockets), or evhttp
 * on either.
 *
 * @code
 * struct ferry_socket_set *set;
 * if (ferry_socket_set_from_environment(&set, true) < 0)   // not started by socket activation
 *     ferry_socket_set_new(&set);
 * int fd = ferry_socket_set_find(set, "www");
 * if (fd >= 0)
 *     ferry_listener_new_fd(&www, base, fd, accepted, NULL);
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base whose listeners accept on its sockets.
 */

#include <stdbool.h>
#include <stddef.h>

#include "ferry/export.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct ferry_listener;

/** The limits of a set. */
enum {
	FERRY_SOCKET_SET_NAME_MAX = 255 /**< bytes of a name, without the terminating zero */
};

/** Listening sockets with names. Several sockets may have one name, for example those of a service on
 *  IPv4 and on IPv6. A set belongs to one thread. Opaque. */
struct ferry_socket_set;

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

/** Frees a set: closes its sockets, and removes the files that it owns, unless another file is at the
 *  path now. Free the listeners on its descriptors before. If a takeover of the set is under way, it is
 *  withdrawn as by ferry_takeover_free(), and ends with -ECANCELED. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_socket_set_free(struct ferry_socket_set *set);

/**
 * Makes a set of the sockets that systemd, or another program with its protocol, has passed to this
 * process in LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3), which reads them if ferry was
 * built with libsystemd). A socket without a name gets the name "unknown". All descriptors become
 * close-on-exec and non-blocking. The socket files still belong to the process that passed the sockets;
 * the set does not remove them.
 *
 * @param[out] out the set, which owns the descriptors
 * @param unset whether to remove the variables from the environment, on failure too, so that no child
 *        takes them for its own. Not in a process whose other threads use the environment
 * @retval 0 done
 * @retval -ENOENT nothing was passed to this process
 * @retval -EINVAL @p out is NULL; the variables are malformed; the numbers of names and descriptors
 *         differ; a socket does not listen (Accept=yes) and is not a datagram socket
 * @retval -EMSGSIZE a name is longer than FERRY_SOCKET_SET_NAME_MAX
 * @retval -EBADF one of the descriptors is not open
 * @retval -ENOTSOCK one of them is not a socket: a process that is passed other descriptors too reads
 *         the variables itself, and calls ferry_socket_set_add()
 * @retval -ENOMEM out of memory
 * @retval other the error of getsockopt(2) or fcntl(2)
 *
 * On failure the descriptors are open and the caller's, but may be close-on-exec and non-blocking.
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_from_environment(struct ferry_socket_set **out, bool unset);

/**
 * Adds a socket, and makes it non-blocking. All processes that have the socket share that flag.
 *
 * @param set the set
 * @param name its name, copied; may be "", and may be in the set already. ferry does not interpret the
 *        bytes; UTF-8 by convention
 * @param fd a listening socket of any family, or a datagram socket
 * @param ownership FERRY_FD_TAKE or FERRY_FD_DUP
 * @retval 0 done
 * @retval -EINVAL @p set or @p name is NULL, @p ownership is neither, or @p fd does not listen
 * @retval -EMSGSIZE @p name is longer than FERRY_SOCKET_SET_NAME_MAX
 * @retval -EBADF @p fd is not open
 * @retval -ENOTSOCK @p fd is not a socket
 * @retval -EMFILE FERRY_FD_DUP, and no descriptor slot is free
 * @retval -ENOMEM out of memory
 * @retval other the error of getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_add(struct ferry_socket_set *set, const char *name, int fd,
                                      enum ferry_fd_ownership ownership);

/**
 * Adds a duplicate of a listener's socket. From then on the set owns the file that
 * ferry_listener_new_unix() has made, and the lock beside it. ferry_socket_set_free() removes the file,
 * unless it was handed over, and ferry_listener_free() does not. The listener goes on accepting, and
 * still belongs to the caller.
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
 * Gives the set the file of a unix socket that was not bound by ferry_listener_new_unix():
 * ferry_socket_set_free() removes it, unless it was handed over with the socket. Not for sockets of
 * ferry_socket_set_from_environment(), whose files belong to systemd.
 *
 * The call looks the file up by the path that the socket was bound to. If that is a relative path, the
 * working directory must still be the same.
 *
 * @param set the set
 * @param name of the socket; if several have it, all of them that have a file
 * @retval 0 done, also if the set owns the file already
 * @retval -EINVAL @p set or @p name is NULL
 * @retval -ENOENT no socket has that name, none of them is bound to a path, no file is there, or the path is one
 *         of /proc/self/fd, which leads elsewhere in another process
 * @retval -EADDRINUSE the file at the path is not a socket
 * @retval -EMFILE no descriptor slot is free
 * @retval other the error of open(2) or fstatat(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_own_path(struct ferry_socket_set *set, const char *name);

/**
 * Removes all sockets of a name: closes them, and removes the files that the set owns. Free the listeners on them
 * before. The name may be that of ferry_socket_set_get_name(), and is freed then.
 *
 * @param name the name
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -ENOENT no socket has that name
 * @retval -EBUSY a takeover of the set is under way
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_remove(struct ferry_socket_set *set, const char *name);

/** Returns how many sockets there are. 0 for NULL. Since 0.1. */
FERRY_EXPORT size_t ferry_socket_set_count(const struct ferry_socket_set *set);

/**
 * Returns the descriptor of the first socket of that name. The set still owns it.
 *
 * @param name the name
 * @return the descriptor
 * @retval -EINVAL an argument is NULL
 * @retval -ENOENT no socket has that name
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_find(const struct ferry_socket_set *set, const char *name);

/**
 * Returns the descriptor of the socket at that index, from 0, in the order of adding. The set still owns it.
 *
 * @param index from 0
 * @return the descriptor
 * @retval -EINVAL @p set is NULL
 * @retval -ENOENT the index is not below ferry_socket_set_count()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_socket_set_get_fd(const struct ferry_socket_set *set, size_t index);

/** Returns the name of the socket at @p index, from 0. The set owns the string. NULL: there is no such socket.
 *  Since 0.1. */
FERRY_EXPORT const char *ferry_socket_set_get_name(const struct ferry_socket_set *set,
                                                   size_t index);

FERRY_END_DECLS

#endif
