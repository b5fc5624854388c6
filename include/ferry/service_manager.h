#ifndef FERRY_SERVICE_MANAGER_H
#define FERRY_SERVICE_MANAGER_H

/**
 * @file service_manager.h
 * @brief Notifications to systemd, or to another service manager with its protocol (sd_notify(3)).
 *
 * A service manager that waits for notifications passes NOTIFY_SOCKET to the process that it starts. The object below
 * sends them, without libsystemd. No call blocks: a message that the manager has no room for waits in the process, and
 * is sent from the event loop, in order. Without NOTIFY_SOCKET every call succeeds and sends nothing, so that a daemon
 * needs no case of its own for a start by hand.
 *
 * @code
 * ferry_service_manager_new(&manager, base, true);
 * ferry_service_manager_start_watchdog(manager);      // if the unit has WatchdogSec=
 * // Open the sockets.
 * ferry_service_manager_ready(manager);
 *
 * ferry_service_manager_reloading(manager);           // SIGHUP; Type=notify-reload
 * // Read the configuration again.
 * ferry_service_manager_ready(manager);
 *
 * ferry_service_manager_stopping(manager);            // SIGTERM
 * @endcode
 *
 * ferry/upgrade.h sends MAINPID and READY when one process replaces another. docs/upgrade.md has a unit file.
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base, and in the process that has made the object: in a child
 * of fork(2) every notification fails with -ECHILD, and ferry_service_manager_free() is legal.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/types.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct event_base;

/** The limits of a service manager. */
enum {
	/** Messages that wait for room at the manager. */
	FERRY_SERVICE_MANAGER_WAITING_MAX = 64,
	/** Bytes of the name of a stored descriptor, without the terminating zero. */
	FERRY_SERVICE_MANAGER_NAME_MAX = 255
};

/** The process's service manager. Opaque. */
struct ferry_service_manager;

/**
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. NOTIFY_SOCKET is a path, or `@name` in the abstract namespace.
 *
 * @param[out] out the object
 * @param base the event_base that sends messages which must wait, and watchdog messages
 * @param unset whether to remove the three variables from the environment, on failure too, so that no child takes them
 *        for its own. Not in a process whose other threads use the environment
 * @retval 0 done, also if there is no NOTIFY_SOCKET
 * @retval -EINVAL @p out or @p base is NULL; NOTIFY_SOCKET is malformed or too long for a socket address
 * @retval -EAFNOSUPPORT NOTIFY_SOCKET has an address family that ferry does not support, such as vsock
 * @retval -EMFILE, -ENFILE no descriptor slot is free
 * @retval -ENOMEM out of memory
 * @retval other the error of socket(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_new(struct ferry_service_manager **out,
                                           struct event_base *base, bool unset);

/** Frees the object. Messages that wait are tried once more, and those that the manager has no room for are dropped.
 *  NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_service_manager_free(struct ferry_service_manager *manager);

/** Whether there is a NOTIFY_SOCKET. false for NULL. Since 0.1. */
FERRY_EXPORT bool ferry_service_manager_is_present(const struct ferry_service_manager *manager);

/** Returns how many messages wait for room at the manager. 0 for NULL. Since 0.1. */
FERRY_EXPORT size_t ferry_service_manager_get_waiting(const struct ferry_service_manager *manager);

/**
 * Sends a message: lines of the form NAME=VALUE, which sd_notify(3) lists, with descriptors for those that need some.
 * The functions below make the usual ones.
 *
 * @param manager the service manager
 * @param text the lines
 * @param fds descriptors, duplicated if the message must wait; may be NULL when @p count is 0
 * @param count how many, at most 253
 * @retval 0 the kernel has the message, or it waits; or there is no service manager
 * @retval -EINVAL @p manager or @p text is NULL, @p text is empty, or @p fds is NULL and @p count is not 0
 * @retval -ECHILD this process is a child of the one that has made the object
 * @retval -EBADF a descriptor is not open
 * @retval -ENOBUFS FERRY_SERVICE_MANAGER_WAITING_MAX messages wait
 * @retval -ENOENT, -ECONNREFUSED the manager's socket does not exist any more
 * @retval -EACCES, -EPERM the process may not write to the socket
 * @retval -EMSGSIZE the text is too long for a datagram
 * @retval -E2BIG @p count is too large
 * @retval -EMFILE the message must wait, and no descriptor slot is free
 * @retval -ENOMEM the message must wait, and memory is out
 * @retval other the error of sendmsg(2)
 *
 * A message that waits can fail later: a line in the log reports it. Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_notify(struct ferry_service_manager *manager,
                                              const char *text, const int *fds, size_t count);

/**
 * READY=1: the service has started, or has finished a reload.
 *
 * @retval 0 done
 * @retval other as ferry_service_manager_notify()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_ready(struct ferry_service_manager *manager);

/**
 * RELOADING=1 with MONOTONIC_USEC, which Type=notify-reload demands in the same message: a reload begins, and
 * ferry_service_manager_ready() ends it, also if the reload has failed.
 *
 * @retval 0 done
 * @retval other as ferry_service_manager_notify()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_reloading(struct ferry_service_manager *manager);

/**
 * STOPPING=1: the service begins to end.
 *
 * @retval 0 done
 * @retval other as ferry_service_manager_notify()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_stopping(struct ferry_service_manager *manager);

/**
 * STATUS=: one line for people.
 *
 * @param text the line, without a newline
 * @retval 0 done
 * @retval -EINVAL @p text has a newline
 * @retval other as ferry_service_manager_notify()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_set_status(struct ferry_service_manager *manager,
                                                  const char *text);

/**
 * MAINPID=: another process of the service is its main process from now on. systemd accepts it from the main
 * process, or from every process of the service with NotifyAccess=all.
 *
 * @param pid the process
 * @retval 0 done
 * @retval -EINVAL @p pid is not positive
 * @retval other as ferry_service_manager_notify()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_set_main_pid(struct ferry_service_manager *manager,
                                                    pid_t pid);

/**
 * FDSTORE=1: the manager keeps duplicates of descriptors while the service restarts, and passes them to the next
 * process as those of socket activation, by name. The unit needs FileDescriptorStoreMax=.
 *
 * @param name the name, without a colon or a control character
 * @param fds the descriptors; the caller still owns them
 * @param count how many, 1 to 253
 * @retval 0 done, as ferry_service_manager_notify()
 * @retval -EINVAL @p name is NULL or empty, has a colon or a control character, or @p count is 0
 * @retval -EMSGSIZE @p name is longer than FERRY_SERVICE_MANAGER_NAME_MAX
 * @retval other as ferry_service_manager_notify()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_store_fds(struct ferry_service_manager *manager,
                                                 const char *name, const int *fds, size_t count);

/**
 * FDSTOREREMOVE=1: the manager closes the descriptors that it keeps by that name.
 *
 * @param name that of ferry_service_manager_store_fds()
 * @retval 0 done
 * @retval other as ferry_service_manager_store_fds()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_remove_fds(struct ferry_service_manager *manager,
                                                  const char *name);

/** Returns the time within which the manager expects a sign of life, in microseconds (WATCHDOG_USEC). 0: it expects
 *  none from this process, or @p manager is NULL. Since 0.1. */
FERRY_EXPORT uint64_t
ferry_service_manager_get_watchdog(const struct ferry_service_manager *manager);

/**
 * Sends WATCHDOG=1 from the event loop, now and twice in each interval, as long as the loop turns.
 *
 * @retval 0 done, also if it runs already, or the manager expects no sign of life
 * @retval -EINVAL @p manager is NULL
 * @retval -ECHILD as ferry_service_manager_notify()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_service_manager_start_watchdog(struct ferry_service_manager *manager);

FERRY_END_DECLS

#endif
