#ifndef FERRY_ENDPOINT_H
#define FERRY_ENDPOINT_H

/**
 * @file endpoint.h
 * @brief Where transports come from: listening and connecting unix sockets, adopted listeners.
 *
 * A path that starts with `@` is a name in Linux's abstract namespace (the rest of the string,
 * without a terminating zero); it has no file and no mode. A path holds up to 107 bytes, an
 * abstract name as many after its `@`.
 *
 * What stands between a daemon and its clients is the socket file's mode first, and that of the directory.
 * ferry_listener_allow_uid(), _allow_gid() and ferry_listener_set_max_connections_per_uid() add to it what
 * a mode cannot say. They, and every other call on a listener, are made in the thread of its event_base;
 * what is set right after listening holds for every connection, because none is accepted before the loop
 * runs. They hold for this listener: another process that accepts on the same socket has its own.
 *
 * @code
 * static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
 *                      void *context)
 * {
 *     ferry_transport_set_protocol(transport, &protocol, context);   // ours to free
 * }
 *
 * struct ferry_listener *listener;
 * ferry_listen_unix_locked(&listener, base, "/run/app.sock", 0660, 0, accepted, NULL);
 * ferry_listener_set_max_connections_per_uid(listener, 100);
 * @endcode
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct event_base;
struct ferry_transport;
struct timeval;

/** A listening socket. Opaque. */
struct ferry_listener;

/** A connection attempt. Opaque. */
struct ferry_connector;

/** What has become of the connections of a listener, since it was made. Since 0.1. */
struct ferry_listener_stats {
	uint64_t accepted;           /**< given to the callback */
	uint64_t refused_peers;      /**< closed: neither the user nor its groups are allowed */
	uint64_t refused_over_limit; /**< closed: the user has as many as it may have */
	uint64_t dropped;      /**< closed: out of memory, or the kernel would not say who it is */
	uint64_t pauses;       /**< accepting paused: no descriptor number was free, or no memory */
	uint64_t reserved[11]; /**< for later versions */
};

/** Takes an accepted connection: @p transport is the callback's, to free in the end. Reading is not
 *  enabled on it until a protocol is set or bufferevent_enable() called. May call any function,
 *  ferry_listener_free() included. */
typedef void (*ferry_accepted_cb)(struct ferry_listener *listener,
                                  struct ferry_transport *transport, void *context);

/** Is told how a connection attempt ended, exactly once, from the loop. @p status 0:
 *  @p transport is the callback's. Else a negative errno and @p transport is NULL; -ETIMEDOUT: the
 *  listener's backlog was full until the deadline. ferry frees the connector when the callback
 *  returns; ferry_connector_free() in the callback changes nothing about that. */
typedef void (*ferry_connected_cb)(struct ferry_connector *connector, int status,
                                   struct ferry_transport *transport, void *context);

/**
 * Listens on a unix stream socket.
 *
 * The socket file has its mode from the first moment (never a wider one), whatever the umask, and
 * is removed by ferry_listener_free() if it is still the one made here, also after chdir(2). For
 * that the listener holds a second descriptor, of the file's directory. Accepted sockets are
 * non-blocking and close-on-exec. When accepting fails for want of descriptors or memory (EMFILE,
 * ENFILE, ENOBUFS, ENOMEM), accepting pauses for a moment and the connections wait in the backlog.
 *
 * @param[out] out the listener
 * @param base the event_base to accept in
 * @param path the socket's path, or `@name`
 * @param mode permission bits of the socket file; 0 means 0600
 * @param backlog as in listen(2); 0 means SOMAXCONN
 * @param accepted takes the connections
 * @param context handed to @p accepted
 * @retval 0 done
 * @retval -EINVAL @p out, @p base, @p path or @p accepted is NULL, @p path is empty or `@`, @p mode
 *         has other than permission bits, or @p backlog is negative
 * @retval -ENAMETOOLONG @p path is longer than a unix address holds
 * @retval -EADDRINUSE the path exists, whatever it is, or the name is taken: ferry_listen_unix_locked()
 *         takes the place of a dead owner
 * @retval -EPERM bits that the umask took away could not be added: the file is not this user's
 * @retval -EMFILE no descriptor number is free
 * @retval -ENOMEM out of memory
 * @retval other what socket(2), bind(2) or listen(2) said: -EACCES, -ENOENT, -EROFS, …
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listen_unix(struct ferry_listener **out, struct event_base *base,
                                   const char *path, mode_t mode, int backlog,
                                   ferry_accepted_cb accepted, void *context);

/**
 * Listens as ferry_listen_unix() does, and takes the place of an owner that has died.
 *
 * Beside the path is a lock, the file PATH.lock: this process holds it by flock(2) as long as the listener
 * lives, and it ends with the process, however that ends. Who wins it removes the socket file that its
 * predecessor left, if that is a socket of this user on which nobody listens. So of several processes that
 * start at once one gets the path, and a daemon that was killed starts again at once. In the lock is the
 * number of the process that took it, for people. ferry_listener_free() removes the socket file, then the
 * lock; both are left by a process that is killed.
 *
 * A child made by fork(2) has the lock, as it has the socket, until it closes them, executes another
 * program or ends. Where the file of the socket changes hands, by ferry_socket_set_add_listener() or a
 * takeover (ferry/socket_set.h), the lock goes with it. An abstract name has no file and needs no lock: this
 * is then the same as ferry_listen_unix().
 *
 * All processes at a path should use the lock. From one that does not, the path is not taken while it
 * accepts connections: whether it does is tried by connecting, which it sees as a connection that ends at
 * once. But one that has bound its socket and does not listen yet cannot be told from a dead one.
 *
 * @param[out] out the listener
 * @param base, path, mode, backlog, accepted, context as in ferry_listen_unix()
 * @retval 0 done
 * @retval -EADDRINUSE another process, or another listener of this one, has the path; or at the path is
 *         something else than a socket of this user, which is left
 * @retval -EPERM PATH.lock is another user's, has several names (hard links), is no regular file or holds
 *         what ferry does not write; or as ferry_listen_unix()
 * @retval -ELOOP PATH.lock is a symbolic link
 * @retval -EACCES PATH.lock cannot be made or opened for writing; or as ferry_listen_unix()
 * @retval -EINVAL, -ENAMETOOLONG, -EMFILE, -ENOMEM, other as ferry_listen_unix()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listen_unix_locked(struct ferry_listener **out, struct event_base *base,
                                          const char *path, mode_t mode, int backlog,
                                          ferry_accepted_cb accepted, void *context);

/**
 * Accepts on a listening stream socket of any family that came from elsewhere, and changes nothing
 * about it: not its options, its mode or its path, and ferry_listener_free() neither shuts it down
 * nor closes it nor removes a file.
 *
 * @param[out] out the listener
 * @param base the event_base to accept in
 * @param fd the listening socket; stays the caller's and must stay open as long as the listener
 *        lives
 * @param accepted takes the connections
 * @param context handed to @p accepted
 * @retval 0 done
 * @retval -EINVAL @p out, @p base or @p accepted is NULL; @p fd does not listen, or is not
 *         non-blocking (that flag is shared with every process that has the socket: it is the
 *         caller's to set)
 * @retval -EBADF @p fd is not open
 * @retval -ENOTSOCK @p fd is not a socket
 * @retval -EPROTOTYPE @p fd is not a stream socket
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_new_fd(struct ferry_listener **out, struct event_base *base, int fd,
                                       ferry_accepted_cb accepted, void *context);

/** Stops accepting, without closing: connections wait in the backlog. Nothing happens when it is
 *  stopped already. -EINVAL: @p listener is NULL. Since 0.1. */
FERRY_EXPORT int ferry_listener_disable(struct ferry_listener *listener);

/** Accepts again. -EINVAL: @p listener is NULL. -ENOMEM: out of memory. Since 0.1. */
FERRY_EXPORT int ferry_listener_enable(struct ferry_listener *listener);

/** The listening descriptor; it stays the listener's. -EINVAL: @p listener is NULL. Since 0.1. */
FERRY_EXPORT int ferry_listener_get_fd(const struct ferry_listener *listener);

/**
 * Allows a user to connect, and refuses all who are not allowed, by this or by ferry_listener_allow_gid();
 * without a call of either, everybody may whom the file's mode lets in. Root is not allowed unless it is
 * named.
 *
 * Who it is the kernel has written down at connect(2): the effective user (SO_PEERCRED). It is looked at
 * before a byte is read. Those who are refused are closed and counted, with a line in the log, at most one
 * a second. In a container, users of other user namespaces without a number in this one all have the
 * overflow number, 65534: do not allow that.
 *
 * @param listener on a unix socket
 * @param uid the user
 * @retval 0 done, also if it is allowed already
 * @retval -EINVAL @p listener is NULL, or @p uid is -1
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket
 * @retval -ENOMEM out of memory
 *
 * May be called in callbacks. Since 0.1.
 */
FERRY_EXPORT int ferry_listener_allow_uid(struct ferry_listener *listener, uid_t uid);

/**
 * Allows a group: processes whose effective group it is, or that have it among their supplementary groups
 * (SO_PEERGROUPS, Linux 4.13), as they were at connect(2). See ferry_listener_allow_uid().
 *
 * @param listener on a unix socket
 * @param gid the group
 * @retval 0 done, also if it is allowed already
 * @retval -EINVAL @p listener is NULL, or @p gid is -1
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket
 * @retval -ENOMEM out of memory
 *
 * May be called in callbacks. Since 0.1.
 */
FERRY_EXPORT int ferry_listener_allow_gid(struct ferry_listener *listener, gid_t gid);

/**
 * Limits how many connections each user has at once; one more is closed and counted, with a line in the
 * log, at most one a second. So that no user can take all the descriptor numbers of a daemon.
 *
 * A connection counts from its acceptance until its transport is freed, for the user that made it, whoever
 * uses it later; and if it was accepted after the first call of this. Those of other listeners count apart.
 *
 * @param listener on a unix socket
 * @param max how many; 0: no limit, which is what it is without a call. Those there are stay
 * @retval 0 done
 * @retval -EINVAL @p listener is NULL
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket
 * @retval -ENOMEM out of memory
 *
 * May be called in callbacks. Since 0.1.
 */
FERRY_EXPORT int ferry_listener_set_max_connections_per_uid(struct ferry_listener *listener,
                                                            unsigned int max);

/**
 * Whether clients may send descriptors (SO_PASSRIGHTS). Refuse them for a protocol that has no use for any:
 * their sendmsg(2) then fails with EPERM, and no descriptor is in flight to this process.
 *
 * The listening socket is changed as well, an adopted one too, for every process that has it, because
 * connections get it from there before they are accepted. What was sent before this call arrives, and is
 * closed and counted by a transport without a callback for it.
 *
 * @param listener on a unix socket
 * @param pass false: refuse them; true: take them, as sockets do by themselves
 * @retval 0 done
 * @retval -EINVAL @p listener is NULL
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket
 * @retval -ENOPROTOOPT the kernel cannot refuse them: it is older than Linux 6.16
 *
 * May be called in callbacks. Since 0.1.
 */
FERRY_EXPORT int ferry_listener_set_pass_rights(struct ferry_listener *listener, bool pass);

/** The listener's counters. -EINVAL: an argument is NULL. Since 0.1. */
FERRY_EXPORT int ferry_listener_get_stats(const struct ferry_listener *listener,
                                          struct ferry_listener_stats *stats);

/** Stops listening: closes the socket, and removes its file if it is still the one that
 *  ferry_listen_unix() made, and the lock after it. Accepted transports live on. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_listener_free(struct ferry_listener *listener);

/**
 * Connects to a unix stream socket. A full backlog is tried again until the deadline.
 *
 * @param[out] out the attempt, to cancel it; may be NULL
 * @param base the event_base to work in
 * @param path the socket's path, or `@name`
 * @param timeout how long to try while the backlog is full; NULL means 5 seconds
 * @param connected is told how it ended
 * @param context handed to @p connected
 * @retval 0 done: @p connected will run, unless ferry_connector_free() comes first
 * @retval -EINVAL @p base, @p path or @p connected is NULL, @p path is empty or `@`, or
 *         @p timeout is negative
 * @retval -ENAMETOOLONG as ferry_listen_unix()
 * @retval -ENOENT, -ECONNREFUSED, -EACCES, … what connect(2) said at the first try: nobody
 *         listens there
 * @retval -EMFILE no descriptor number is free
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_connector_new_unix(struct ferry_connector **out, struct event_base *base,
                                          const char *path, const struct timeval *timeout,
                                          ferry_connected_cb connected, void *context);

/** Cancels a connection attempt: its callback does not run. Not after the callback has run, because
 *  the connector is gone then; in the callback it is harmless. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_connector_free(struct ferry_connector *connector);

FERRY_END_DECLS

#endif
