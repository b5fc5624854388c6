#ifndef FERRY_WORKER_CLIENT_H
#define FERRY_WORKER_CLIENT_H

/**
 * @file worker_client.h
 * @brief Keeps a process connected to the dispatchers that it works for.
 *
 * A worker (ferry/worker.h) has one channel and ends with it. A worker client connects to the unix sockets of one or
 * several dispatchers, makes a worker on each channel, and connects again when a dispatcher dies, or drains its workers
 * because another process replaces it. All workers have the same callbacks, which are those of ferry/worker.h.
 *
 * @code
 * struct ferry_worker_client *client;
 *
 * ferry_worker_client_new(&client, base, &worker_callbacks, NULL);
 * ferry_worker_client_allow_uid(client, 0);
 * ferry_worker_client_add_unix(client, "/run/proxy.sock");
 * event_base_dispatch(base);
 * @endcode
 *
 * A worker belongs to the client. It is valid until its callback dispatcher_lost has returned: the connections that are
 * served on have no dispatcher any more. If its last credits_scarce was true, one with false comes before that.
 * ferry_worker_free() ends one channel; the client connects again. ferry_worker_drain() drains one: the client connects
 * again when that channel has ended.
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base.
 */

#include <sys/time.h>
#include <sys/types.h>

#include "ferry/export.h"
#include "ferry/worker.h"

FERRY_BEGIN_DECLS

struct event_base;

/** The channels of a process to its dispatchers. Opaque. */
struct ferry_worker_client;

/** The states of a worker client. */
enum ferry_worker_client_state {
	FERRY_WORKER_CLIENT_RUNNING = 0, /**< more handoffs may come */
	FERRY_WORKER_CLIENT_DRAINED =
	    1, /**< no more come, but those on their way; a dispatcher waits for reports */
	FERRY_WORKER_CLIENT_OVER = 2 /**< no channel is left, and none will be made */
};

/** No connection to the socket at @p path, or it was closed: @p reason is -EPERM if its owner is not allowed
 *  (ferry_worker_client_allow_uid()), otherwise an error of connect(2), or of ferry_connector_new_unix() or
 *  ferry_worker_new(). The client tries again. Runs from the loop, once until a dispatcher answers there, and once more
 *  when the reason changes. It may call any function, ferry_worker_client_free() included. */
typedef void (*ferry_worker_client_failed_cb)(struct ferry_worker_client *client, const char *path,
                                              int reason, void *context);

/**
 * Makes a client without channels.
 *
 * @param[out] out the client
 * @param base its event_base
 * @param callbacks of all its workers; must outlive the client
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p base or @p callbacks is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_new(struct ferry_worker_client **out, struct event_base *base,
                                         const struct ferry_worker_callbacks *callbacks,
                                         void *context);

/** Closes all channels as ferry_worker_free() does, and frees the client. No callback follows. NULL: nothing happens.
 *  Since 0.1. */
FERRY_EXPORT void ferry_worker_client_free(struct ferry_worker_client *client);

/**
 * Keeps a channel to the dispatcher that listens on a unix socket. The loop makes the first attempt. Nobody has to
 * listen there yet. A path that is added twice has two channels.
 *
 * @param client the client
 * @param path the socket's path, or `@name` in the abstract namespace; copied
 * @retval 0 done
 * @retval -EINVAL @p client or @p path is NULL, or @p path is empty or `@`
 * @retval -ENAMETOOLONG no unix address can hold @p path
 * @retval -ESHUTDOWN ferry_worker_client_drain() was called
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_add_unix(struct ferry_worker_client *client, const char *path);

/**
 * Makes a worker on the channel that a supervisor has given to this program. It is not replaced when it ends.
 *
 * @retval 0 done
 * @retval other as ferry_worker_new_from_environment()
 * @retval -ESHUTDOWN ferry_worker_client_drain() was called
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_add_from_environment(struct ferry_worker_client *client);

/**
 * Allows a user to be the dispatcher on a socket. Once one is allowed, the client closes the channels to all others,
 * before a byte is read. Without a call of this, every user may be that could make the socket.
 *
 * The user is the effective one of the process that called listen(2) (SO_PEERCRED). A dispatcher that was started as
 * root and has changed its user since is therefore root. Applies to connections that are made from now on.
 *
 * @param uid the user
 * @retval 0 done, also if it was allowed already
 * @retval -EINVAL @p client is NULL, or @p uid is -1
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_allow_uid(struct ferry_worker_client *client, uid_t uid);

/**
 * Sets how many handoffs each dispatcher may have with this process at once, now and on later channels; 256 at
 * first. See ferry_worker_set_credits().
 *
 * @param credits handoffs
 * @retval 0 done
 * @retval -EINVAL @p client is NULL
 * @retval -ENOMEM a channel has kept its old number
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_set_credits(struct ferry_worker_client *client,
                                                 unsigned int credits);

/**
 * Sets the time from one attempt to the next on the same socket: 50 milliseconds and 2 seconds at first. It begins with
 * @p first, doubles up to @p longest, and is each time up to a quarter longer, so that workers do not connect in step.
 * If a dispatcher has answered and its channel stood for longer than the pause, the client connects at once, and the
 * pause is @p first again. A pause that has begun becomes @p first, counted from the last attempt.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, a time is negative or has 1,000,000 or more in its tv_usec, or @p first is zero
 *         or longer than @p longest
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_set_pauses(struct ferry_worker_client *client,
                                                const struct timeval *first,
                                                const struct timeval *longest);

/**
 * Sets the callback for failed attempts, or none (NULL).
 *
 * @param failed the callback, or NULL
 * @retval 0 done
 * @retval -EINVAL @p client is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_set_failed_cb(struct ferry_worker_client *client,
                                                   ferry_worker_client_failed_cb failed,
                                                   void *context);

/**
 * Asks all dispatchers for no more handoffs (ferry_worker_drain()), and connects no more. The channels stay, for
 * the reports and returns of what was received, until the dispatchers or ferry_worker_client_free() end them.
 *
 * @retval 0 done
 * @retval -EINVAL @p client is NULL
 * @retval -ENOMEM a dispatcher was not asked; call again
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_worker_client_drain(struct ferry_worker_client *client);

/** Returns the state, which is up to date in the callbacks drain_requested and dispatcher_lost. DRAINED: by
 *  ferry_worker_client_drain(), or there is no socket to connect to, and the dispatchers of all channels have drained
 *  them. OVER for NULL, and before anything is added. Since 0.1. */
FERRY_EXPORT enum ferry_worker_client_state
ferry_worker_client_get_state(const struct ferry_worker_client *client);

FERRY_END_DECLS

#endif
