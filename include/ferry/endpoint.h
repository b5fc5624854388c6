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
 * @code
 * static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
 *                      void *context)
 * {
 *     ferry_transport_set_protocol(transport, &protocol, context);   // ours to free
 * }
 *
 * struct ferry_listener *listener;
 * ferry_listen_unix(&listener, base, "/run/app.sock", 0600, 0, accepted, NULL);
 * @endcode
 */

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
 * @retval -EADDRINUSE the path exists or the name is taken
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
FERRY_EXPORT int ferry_listen_fd(struct ferry_listener **out, struct event_base *base, int fd,
                                 ferry_accepted_cb accepted, void *context);

/** Stops accepting, without closing: connections wait in the backlog. Nothing happens when it is
 *  stopped already. -EINVAL: @p listener is NULL. Since 0.1. */
FERRY_EXPORT int ferry_listener_disable(struct ferry_listener *listener);

/** Accepts again. -EINVAL: @p listener is NULL. -ENOMEM: out of memory. Since 0.1. */
FERRY_EXPORT int ferry_listener_enable(struct ferry_listener *listener);

/** The listening descriptor; it stays the listener's. -EINVAL: @p listener is NULL. Since 0.1. */
FERRY_EXPORT int ferry_listener_get_fd(const struct ferry_listener *listener);

/** Stops listening: closes the socket, and removes its file if it is still the one that
 *  ferry_listen_unix() made. Accepted transports live on. NULL: nothing happens. Since 0.1. */
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
FERRY_EXPORT int ferry_connect_unix(struct ferry_connector **out, struct event_base *base,
                                    const char *path, const struct timeval *timeout,
                                    ferry_connected_cb connected, void *context);

/** Cancels a connection attempt: its callback does not run. Not after the callback has run, because
 *  the connector is gone then; in the callback it is harmless. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_connector_free(struct ferry_connector *connector);

FERRY_END_DECLS

#endif
