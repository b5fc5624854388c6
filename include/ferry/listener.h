#ifndef FERRY_LISTENER_H
#define FERRY_LISTENER_H

/**
 * @file listener.h
 * @brief Accepts connections on a unix socket, or on any listening socket, as transports.
 *
 * A path that starts with `@` is a name in Linux's abstract namespace (the rest of the string,
 * without a terminating zero); it has no file. An abstract name holds up to 107 bytes after its
 * `@`. A path may be as long as the system allows, and its last component 107 bytes.
 *
 * Clients need permission to write to the socket file and to search its directory. Mode, owner and group of
 * the file are therefore the first access control of a daemon. ferry_listener_allow_uid(), _allow_gid() and
 * ferry_listener_set_max_connections_per_uid() add to it what a file's mode cannot express. A rule that is
 * set right after ferry_listener_new_unix() holds for every connection, because the listener accepts none before the
 * loop runs. The rules hold for this listener only: another process that accepts on the same socket has its own.
 *
 * @code
 * static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
 *                      void *context)
 * {
 *     ferry_transport_set_protocol(transport, &protocol, context);   // ours to free
 * }
 *
 * struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
 * struct ferry_listener *listener;
 *
 * options.mode = 0660;
 * options.lock = true;
 * ferry_listener_new_unix(&listener, base, "/run/app.sock", &options, accepted, NULL);
 * ferry_listener_set_max_connections_per_uid(listener, 100);
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct event_base;
struct ferry_transport;

/** A listening socket. Opaque. */
struct ferry_listener;

/** Counters of a listener, from the moment that it was made. Since 0.1. */
struct ferry_listener_stats {
	uint64_t accepted;           /**< given to the callback */
	uint64_t refused_peers;      /**< closed: neither the user nor its groups are allowed */
	uint64_t refused_over_limit; /**< closed: the user has as many as it may have */
	uint64_t dropped;      /**< closed: out of memory, or the kernel did not return the user */
	uint64_t pauses;       /**< accepting paused: the descriptor limit was reached, or no memory */
	uint64_t transports;   /**< accepted, and not freed yet */
	uint64_t reserved[10]; /**< for later versions */
};

/** Takes an accepted connection: the callback owns @p transport and frees it in the end. Reading is not enabled
 *  on it until a protocol is set or bufferevent_enable() is called. The callback may call any function,
 *  ferry_listener_free() included. */
typedef void (*ferry_listener_accepted_cb)(struct ferry_listener *listener,
                                           struct ferry_transport *transport, void *context);

/**
 * Options of ferry_listener_new_unix(). Start from FERRY_LISTENER_OPTIONS_INIT and set the members that differ: a
 * structure of zeros asks for the owner root.
 *
 * An abstract name has no file: @c mode, @c owner, @c group and @c lock then have no effect.
 *
 * Later versions add members at the end whose default is zero; the library recognises the version by @c size.
 * An older library accepts a larger structure as long as the members that it does not know are zero.
 * Since 0.1.
 */
struct ferry_listener_options {
	size_t size; /**< sizeof(struct ferry_listener_options), as the caller was compiled */
	mode_t mode; /**< permission bits of the socket file; 0 means 0600 */
	uid_t owner; /**< user that owns the socket file; (uid_t)-1: the caller's effective user */
	gid_t group; /**< group of the socket file; (gid_t)-1: the one that the kernel chooses */
	int backlog; /**< as in listen(2); 0 means SOMAXCONN */
	bool lock;   /**< hold PATH.lock, and replace the socket file of an owner that has died */
};

/** The defaults: mode 0600, owner and group unchanged, the longest backlog, no lock. Since 0.1. */
#define FERRY_LISTENER_OPTIONS_INIT                                              \
	{                                                                            \
		sizeof(struct ferry_listener_options), 0, (uid_t)-1, (gid_t)-1, 0, false \
	}

/**
 * Listens on a unix stream socket.
 *
 * The socket file never has more permissions than @c options->mode, whatever the umask. If @c owner or
 * @c group is given, the file has no permissions at all until it belongs to them. Only a privileged process
 * (CAP_CHOWN and CAP_FOWNER) can give the file to another user; other processes can choose a group that they
 * are a member of.
 *
 * ferry_listener_free() removes the file if it is still the one made here, also after chdir(2). For that the
 * listener holds a second descriptor, of the file's directory. Accepted sockets are non-blocking and
 * close-on-exec. If accepting fails for want of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM), the
 * listener pauses for a moment and the connections wait in the backlog.
 *
 * A path that is longer than a unix address holds is bound by way of its directory's descriptor. getsockname(2)
 * then returns `/proc/self/fd/N/NAME`, whose N means something in this process only. If /proc is not mounted, a
 * thread with a working directory of its own binds the name, for which the sandbox must allow unshare(2); the
 * address is then `NAME` alone. Without /proc a mode that the umask cuts, or an owner or a group, needs Linux 6.6,
 * or a directory in which no other user can replace the file.
 *
 * If @p accepted is NULL, the listener accepts nothing: it owns the socket, its file and its lock, and other
 * code accepts on the descriptor of ferry_listener_get_fd(), such as a poller (ferry/poller.h) or the
 * receiver of a socket set (ferry/socket_set.h). ferry_listener_enable() and the calls that decide who may
 * connect then fail with -EOPNOTSUPP.
 *
 * With @c options->lock the process holds a lock by flock(2) on the file PATH.lock for as long as the listener
 * lives; the kernel releases it when the process ends, however that ends. The process that wins the lock
 * removes the socket file of its predecessor, if that is a socket of this user or of @c owner and nobody
 * listens on it; root removes that of any user, and replaces a PATH.lock that another user has left. Of several
 * processes that start at once, one therefore gets the path, and a daemon that was killed can start again at once. The
 * lock's file contains the process id of its holder, for people to read. ferry_listener_free() removes the socket file,
 * then PATH.lock; a killed process leaves both.
 *
 * A child made by fork(2) shares the lock, as it shares the socket, until it closes them, executes another
 * program or ends. If the socket file changes hands, by ferry_socket_set_add_listener() or a takeover
 * (ferry/takeover.h), the lock goes with it.
 *
 * All processes that use a path should use the lock. If one does not, its path is not taken while it accepts
 * connections: ferry connects to find out, and that process sees a connection that ends at once. A process
 * that has bound its socket and does not listen yet looks like a dead one.
 *
 * @param[out] out the listener
 * @param base the event_base to accept in
 * @param path the socket's path, or `@name`
 * @param options see above; copied. NULL means FERRY_LISTENER_OPTIONS_INIT
 * @param accepted takes the connections; NULL: the listener accepts nothing
 * @param context handed to @p accepted
 * @retval 0 done
 * @retval -EINVAL @p out, @p base or @p path is NULL, @p path is empty or `@`; @c size is smaller than the
 *         first version of the structure, or larger than this version and members that this version does not
 *         know are not zero; @c mode has other than permission bits; @c backlog is negative; the user namespace
 *         has no such @c owner or @c group
 * @retval -ENAMETOOLONG an abstract name, or the last component of a path, is longer than a unix address holds;
 *         or the path is longer than the system allows
 * @retval -EISDIR @p path is longer than a unix address holds, and ends with a slash
 * @retval -EOPNOTSUPP /proc is not mounted, and the sandbox or the kernel has no other way: see above
 * @retval -EADDRINUSE without the lock: the path exists, whatever it is, or the name is taken. With it: another
 *         process, or another listener of this one, has the path; or the path is something else than a socket
 *         that may be removed, which is left
 * @retval -EPERM the process may not give the socket file to @c owner or @c group, or may not set its mode;
 *         or PATH.lock belongs to another user and this one is not root, has several names (hard links), is no regular
 *         file or contains what ferry does not write
 * @retval -ELOOP PATH.lock is a symbolic link
 * @retval -EACCES PATH.lock cannot be made or opened for writing; or from bind(2)
 * @retval -EMFILE the descriptor limit is reached
 * @retval -ENOMEM out of memory
 * @retval other from socket(2), bind(2), fchownat(2), chmod(2) or listen(2): -ENOENT, -EROFS, …
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_new_unix(struct ferry_listener **out, struct event_base *base,
                                         const char *path,
                                         const struct ferry_listener_options *options,
                                         ferry_listener_accepted_cb accepted, void *context);

/**
 * Accepts on a listening stream socket of any family that the caller has. The listener does not change the
 * socket: neither its options nor its mode nor its path. ferry_listener_free() does not shut it down, does not
 * close it and removes no file.
 *
 * @param[out] out the listener
 * @param base the event_base to accept in
 * @param fd the listening socket; it stays the caller's and must stay open as long as the listener lives
 * @param accepted takes the connections
 * @param context handed to @p accepted
 * @retval 0 done
 * @retval -EINVAL @p out, @p base or @p accepted is NULL; @p fd does not listen, or is not non-blocking (the
 *         caller has to set that flag, because every process that has the socket shares it)
 * @retval -EBADF @p fd is not open
 * @retval -ENOTSOCK @p fd is not a socket
 * @retval -EPROTOTYPE @p fd is not a stream socket
 * @retval -ENOMEM out of memory
 * @retval other the error of fcntl(2) or getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_new_fd(struct ferry_listener **out, struct event_base *base, int fd,
                                       ferry_listener_accepted_cb accepted, void *context);

/**
 * Stops accepting, without closing: connections wait in the backlog. If the listener has stopped already, nothing
 * happens.
 *
 * @retval 0 done
 * @retval -EINVAL @p listener is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_disable(struct ferry_listener *listener);

/**
 * Accepts again.
 *
 * @retval 0 done
 * @retval -EINVAL @p listener is NULL
 * @retval -EOPNOTSUPP the listener was made without a callback
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_enable(struct ferry_listener *listener);

/**
 * Returns the listening descriptor, which stays the listener's.
 *
 * @return the descriptor
 * @retval -EINVAL @p listener is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_get_fd(const struct ferry_listener *listener);

/**
 * Allows a user to connect. Once a user or a group is allowed, the listener refuses all others, root included.
 * Without a call of this or of ferry_listener_allow_gid(), every user may connect that the file's mode admits.
 *
 * The user is the effective one of the client, as the kernel has recorded it at connect(2) (SO_PEERCRED). The
 * listener checks it before a byte is read. It closes and counts refused connections, and logs at most one line
 * a second about them. In a container, users of other user namespaces that have no id in this one all have the
 * overflow id, 65534: do not allow that.
 *
 * @param listener on a unix socket
 * @param uid the user
 * @retval 0 done, also if it was allowed already
 * @retval -EINVAL @p listener is NULL, or @p uid is -1
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket, or the listener was made without a callback
 * @retval -ENOMEM out of memory
 * @retval other the error of getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_allow_uid(struct ferry_listener *listener, uid_t uid);

/**
 * Allows a group to connect: processes with this effective group, or with this group among their supplementary
 * groups (SO_PEERGROUPS, Linux 4.13), as the kernel has recorded them at connect(2). See
 * ferry_listener_allow_uid().
 *
 * @param listener on a unix socket
 * @param gid the group
 * @retval 0 done, also if it was allowed already
 * @retval -EINVAL @p listener is NULL, or @p gid is -1
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket, or the listener was made without a callback
 * @retval -ENOMEM out of memory
 * @retval other the error of getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_allow_gid(struct ferry_listener *listener, gid_t gid);

/**
 * Limits the connections that each user has at once, so that no user can take all descriptor slots of a daemon.
 * The listener closes and counts the connections above the limit, and logs at most one line a second about them.
 *
 * A connection counts for the user that made it, even if another user gets the descriptor later, and counts until
 * its transport is freed. Connections that were accepted before the first call of this do not count. Each
 * listener counts its own.
 *
 * @param listener on a unix socket
 * @param max the limit; 0: none, as without a call. Connections that exist already stay
 * @retval 0 done
 * @retval -EINVAL @p listener is NULL
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket, or the listener was made without a callback
 * @retval -ENOMEM out of memory
 * @retval other the error of getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_set_max_connections_per_uid(struct ferry_listener *listener,
                                                            unsigned int max);

/**
 * Sets whether clients may send descriptors (SO_PASSRIGHTS). Refuse descriptors if the protocol has no use for
 * them: sendmsg(2) of a client then fails with EPERM, and no descriptor is in flight to this process.
 *
 * The option is set on the listening socket too, because connections inherit it from there before they are
 * accepted. This changes the socket for every process that has it, also if it was adopted. Descriptors that were
 * sent before this call still arrive; a transport without a callback for them closes and counts them.
 *
 * @param listener on a unix socket
 * @param pass false: refuse descriptors; true: take them, as is the kernel's default
 * @retval 0 done
 * @retval -EINVAL @p listener is NULL
 * @retval -EOPNOTSUPP the listener's socket is not a unix socket
 * @retval -ENOPROTOOPT the kernel cannot refuse descriptors: it is older than Linux 6.16
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_set_pass_rights(struct ferry_listener *listener, bool pass);

/** Gets one of a listener's transports, which still belongs to its owner. Since 0.1. */
typedef void (*ferry_listener_transport_cb)(struct ferry_listener *listener,
                                            struct ferry_transport *transport, void *context);

/**
 * Runs a callback inside this call for each transport that the listener has accepted and that is not freed yet, the
 * oldest first. It does not matter who owns the transport by now: a stream, a relay, a dispatcher. A transport leaves
 * the list by ferry_transport_free(), ferry_transport_detach() and ferry_handoff_from_transport(), and by whatever
 * calls them.
 *
 * The callback may free its transport, other ones, which are then left out, and the listener, which ends the call. It
 * may call this function again.
 *
 * @param listener the listener
 * @param callback the callback
 * @param context handed to @p callback
 * @return the number of calls of @p callback
 * @retval -EINVAL @p listener or @p callback is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_for_each_transport(struct ferry_listener *listener,
                                                   ferry_listener_transport_cb callback,
                                                   void *context);

/**
 * Closes all connections of a listener when their queues are sent: ferry_transport_lose_connection() on each transport.
 * The transports still belong to their owners, who free them in connection_lost. The listener goes on accepting; a
 * server that ends calls ferry_listener_disable() or ferry_listener_free() too, this function first.
 *
 * A close waits for a registered producer: the server first unregisters those that do not end by themselves
 * (ferry_transport_unregister_producer()). ferry_transport_set_close_timeout() bounds the time.
 * ferry_listener_get_stats() has the number of transports that are not freed yet.
 *
 * @param listener the listener
 * @return the number of connections that are closing
 * @retval -EINVAL @p listener is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_lose_connections(struct ferry_listener *listener);

/**
 * Ends all connections of a listener at once: ferry_transport_abort_connection() on each transport.
 *
 * @param listener the listener
 * @return the number of connections that it has ended
 * @retval -EINVAL @p listener is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_abort_connections(struct ferry_listener *listener);

/**
 * Copies the listener's counters.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_listener_get_stats(const struct ferry_listener *listener,
                                          struct ferry_listener_stats *stats);

/** Stops listening. Closes the socket, removes its file if that is still the one that ferry_listener_new_unix()
 *  made, and then removes the lock. Accepted transports live on. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_listener_free(struct ferry_listener *listener);

FERRY_END_DECLS

#endif
