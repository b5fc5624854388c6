#ifndef FERRY_CONNECTOR_H
#define FERRY_CONNECTOR_H

/**
 * @file connector.h
 * @brief Connects to a unix socket, and waits for room in a full backlog.
 *
 * A path that starts with `@` is a name in Linux's abstract namespace (the rest of the string,
 * without a terminating zero); it has no file. An abstract name holds up to 107 bytes after its
 * `@`. A path may be as long as the system allows, and its last component 107 bytes.
 *
 * @code
 * static void connected(struct ferry_connector *connector, int status,
 *                       struct ferry_transport *transport, void *context)
 * {
 *     if (status == 0)
 *         ferry_transport_set_protocol(transport, &protocol, context);   // ours to free
 * }
 *
 * ferry_connector_new_unix(NULL, base, "/run/app.sock", NULL, connected, NULL);
 * @endcode
 *
 * To connect by TCP, call bufferevent_socket_connect() of libevent, and then ferry_transport_new(), which takes a
 * bufferevent that is still connecting.
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base.
 */

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct event_base;
struct ferry_transport;
struct timeval;

/** A connection attempt. Opaque. */
struct ferry_connector;

/** Runs exactly once, from the loop, when a connection attempt has ended. If @p status is 0, the callback owns
 *  @p transport. Otherwise @p status is a negative errno and @p transport is NULL; -ETIMEDOUT means that the
 *  listener's backlog was full until the deadline. ferry frees the connector when the callback returns;
 *  ferry_connector_free() in the callback has no effect. */
typedef void (*ferry_connector_connected_cb)(struct ferry_connector *connector, int status,
                                             struct ferry_transport *transport, void *context);

/**
 * Connects to a unix stream socket. If the listener's backlog is full, ferry tries again until the deadline.
 *
 * @param[out] out the attempt, to cancel it; may be NULL
 * @param base the event_base to work in
 * @param path the socket's path, or `@name`
 * @param timeout how long to try while the backlog is full; NULL means 5 seconds
 * @param connected runs when the attempt has ended
 * @param context handed to @p connected
 * @retval 0 done: @p connected will run, unless ferry_connector_free() is called first
 * @retval -EINVAL @p base, @p path or @p connected is NULL, @p path is empty or `@`, or
 *         @p timeout is negative or has 1,000,000 or more in its tv_usec
 * @retval -ENAMETOOLONG an abstract name, or the last component of a path, is longer than a unix address holds;
 *         or the path is longer than the system allows
 * @retval -EISDIR @p path is longer than a unix address holds, and ends with a slash
 * @retval -EOPNOTSUPP @p path is longer than a unix address holds, /proc is not mounted, and the sandbox forbids
 *         unshare(2)
 * @retval -ENOENT, -ECONNREFUSED, -EACCES, … the first connect(2) failed with this error: nobody listens
 *         there, or the user may not connect
 * @retval -EMFILE the descriptor limit is reached
 * @retval -ENOMEM out of memory
 * @retval other the error of socket(2), connect(2) or open(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_connector_new_unix(struct ferry_connector **out, struct event_base *base,
                                          const char *path, const struct timeval *timeout,
                                          ferry_connector_connected_cb connected, void *context);

/** Cancels a connection attempt: its callback does not run. Must not be called after the callback has returned,
 *  because the connector is freed then. In the callback it has no effect. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_connector_free(struct ferry_connector *connector);

FERRY_END_DECLS

#endif
