#ifndef FERRY_UPGRADE_H
#define FERRY_UPGRADE_H

/**
 * @file upgrade.h
 * @brief A process replaces itself by a new release of its program, without a refused or a closed connection.
 *
 * The running process starts the program that is on the disk now, its *successor*. The successor takes the listening
 * sockets over (ferry/takeover.h), prepares, and declares that it is ready. From then on it accepts, and the old
 * process, its *predecessor*, gives it the connections that idle and ends. A successor that crashes, hangs or rejects
 * its configuration changes nothing: the old process reports it and goes on. If one of the two is killed at any moment,
 * the other one serves. docs/upgrade.md shows the sequence, and who serves after each death.
 *
 * Every process of the program makes one object, whether it has a predecessor or not:
 *
 * @code
 * static void started(struct ferry_upgrade *upgrade, struct ferry_socket_set *set, void *context)
 * {
 *     if (ferry_socket_set_find(set, "www") < 0)          // there is no predecessor, or it had no such socket
 *         ferry_socket_set_add(set, "www", listen_on(port), FERRY_FD_TAKE);
 *     ferry_listener_new_fd(&www, base, ferry_socket_set_find(set, "www"), accepted, NULL);
 *     ferry_upgrade_ready(upgrade);                       // at once, or when the workers have started
 * }
 * static void replaced(struct ferry_upgrade *upgrade, void *context)
 * {
 *     ferry_listener_free(www);                           // the successor accepts
 *     while (ferry_parking_take_idle(&handoff, parking, NULL) == 0)
 *         if (ferry_upgrade_give(upgrade, handoff) < 0)   // its connection_received runs
 *             ferry_handoff_free(handoff);
 *     ferry_upgrade_finish(upgrade);                      // or when the other connections have ended
 * }
 * static const struct ferry_upgrade_callbacks callbacks = {
 *     .started = started, .replaced = replaced, .finished = finished};
 *
 * struct ferry_upgrade_options options = {.size = sizeof(options), .argv = argv};
 * ferry_upgrade_new(&upgrade, base, &options, &callbacks, NULL);
 * ferry_upgrade_watch_signals(upgrade);                   // SIGUSR2 starts a successor
 * event_base_dispatch(base);
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/time.h>
#include <sys/types.h>

#include "ferry/export.h"
#include "ferry/handoff.h"
#include "ferry/service_manager.h"
#include "ferry/socket_set.h"

FERRY_BEGIN_DECLS

struct evbuffer;
struct event_base;

/** The limits of an upgrade. */
enum {
	FERRY_UPGRADE_STATE_MAX = 1024 * 1024 - 8, /**< bytes of the state that a successor gets */
	FERRY_UPGRADE_OUTPUT_MAX = 4096            /**< bytes of a failed successor's standard error */
};

/** A process's part in upgrades: the successor of the process before, and the predecessor of the next one. Belongs to
 *  the thread of its event_base. Every function may be called in every callback, ferry_upgrade_free() included. In a
 *  child of fork(2) ferry_upgrade_free() does nothing, and the other functions return -ECHILD. Opaque. */
struct ferry_upgrade;

/**
 * The settings of an upgrade. Set `size`; a member of zero has the default.
 *
 * Later versions add members at the end whose default is zero; the library recognises the version by @c size.
 * An older library accepts a larger structure as long as the members that it does not know are zero.
 * Since 0.1.
 */
struct ferry_upgrade_options {
	size_t size; /**< sizeof(struct ferry_upgrade_options), as the caller was compiled */

	/** The arguments of the successor, usually this process's own, ending with NULL. The array and its strings must
	 *  outlive the object. NULL: ferry_upgrade_start() fails with -EINVAL. */
	char *const *argv;

	/** The program. Looked up in $PATH if it has no slash. Must outlive the object. NULL: argv[0]. */
	const char *program;

	/** Changes of the successor's environment, ending with NULL: "NAME=VALUE" sets a variable, "NAME" removes it.
	 *  Must outlive the object. NULL: none. */
	const char *const *environment;

	/** The path of a unix socket at which a predecessor listens (ferry_upgrade_listen()), if somebody else has
	 *  started this process. `@name`: in the abstract namespace. Copied. Ignored if a predecessor has started this
	 *  process. NULL: none. */
	const char *predecessor;

	/** Notified of READY, RELOADING and MAINPID. Must outlive the object. NULL: nobody is. */
	struct ferry_service_manager *service_manager;

	/** The time from the start of a successor to ferry_upgrade_ready(). 60 seconds. */
	struct timeval timeout;

	/** The time for which a replaced process stays at least, to start a successor again that is killed. 1 second. Not
	 *  for a successor that somebody else has started. */
	struct timeval probation;
};

/** The cause of a failed upgrade. Valid until the callback returns. Since 0.1. */
struct ferry_upgrade_failure {
	/** -ECHILD: the successor has ended. -ETIMEDOUT: it was not ready in time. -ECONNRESET, -EPIPE: it has closed the
	 *  channel. -EPROTO, -EPROTONOSUPPORT: it has broken the protocol, or has another version. -EMFILE, -ENOMEM: one
	 *  of the two has run out of descriptors or memory. */
	int status;
	pid_t pid; /**< the successor, which has ended; or was started by somebody else */
	/** As waitpid(2) has it: WIFEXITED() and its like. -1: unknown, or the process was started by somebody else. */
	int wait_status;
	/** The last lines of its standard error, up to FERRY_UPGRADE_OUTPUT_MAX bytes, with a zero at the end. "": it has
	 *  written nothing, or was started by somebody else. */
	const char *output;
	uint64_t reserved[4]; /**< for later versions */
};

/** The callbacks of an upgrade. The table must outlive the object. Since 0.1. */
struct ferry_upgrade_callbacks {
	/**
	 * Runs first, from the loop. @p set has the sockets of the predecessor; without one, those of socket activation
	 * (ferry_socket_set_from_environment()) or none. Those of activation are closed if there is a predecessor: it has
	 * them already, if both belong to one service. The object owns it; names that begin with a dot are ferry's.
	 *
	 * Add the sockets that are missing, begin to accept, and call ferry_upgrade_ready(), here or later. Until then
	 * the predecessor accepts too. To give up, end the process, or call ferry_upgrade_free(). A predecessor that has
	 * died before it could give its sockets is like none. Must not be NULL.
	 */
	void (*started)(struct ferry_upgrade *upgrade, struct ferry_socket_set *set, void *context);

	/** After ferry_upgrade_ready(): this process serves, its predecessor has stopped accepting or there was none, and
	 *  the set owns the files of its sockets. A successor can be started from now on. */
	void (*serving)(struct ferry_upgrade *upgrade, void *context);

	/** The predecessor goes on, and this process must end. @p status: -ECANCELED: the predecessor
	 *  has withdrawn, at its deadline for example. -ETIMEDOUT: it does not answer. Other: as the `ended` of a takeover
	 *  has it, or the error of connect(2). After ferry_upgrade_ready(), the predecessor takes connections that this
	 *  process has accepted meanwhile: ferry_upgrade_give(). NULL: nothing happens. */
	void (*rejected)(struct ferry_upgrade *upgrade, int status, void *context);

	/** A connection of a predecessor's. The callback owns the handoff: it has the name, the bytes and the blob that
	 *  the predecessor has set, and can be parked or handed off again. NULL: such connections
	 *  are closed. */
	void (*connection_received)(struct ferry_upgrade *upgrade, struct ferry_handoff *handoff,
	                            void *context);

	/** A successor asks for the sockets: append to @p state what it shall know, up to FERRY_UPGRADE_STATE_MAX
	 *  bytes. More is an upgrade that fails with -EMSGSIZE. NULL: nothing. */
	void (*state_requested)(struct ferry_upgrade *upgrade, struct evbuffer *state, void *context);

	/** An upgrade has failed, and its successor has ended. This process goes on as before, and may start another one.
	 *  After `replaced`: the successor has died, and could not be started again. NULL: a line in the log. */
	void (*failed)(struct ferry_upgrade *upgrade, const struct ferry_upgrade_failure *failure,
	               void *context);

	/** The successor accepts. Stop accepting: free the listeners on the sockets of the set before the callback
	 *  returns. Give the successor the connections that idle, and finish the others. Then call ferry_upgrade_finish().
	 *  Must not be NULL if options have `argv` or ferry_upgrade_listen() is called. */
	void (*replaced)(struct ferry_upgrade *upgrade, void *context);

	/** After ferry_upgrade_finish(): the successor has what was given, and this process may end. The last callback. */
	void (*finished)(struct ferry_upgrade *upgrade, void *context);

	/** After ferry_upgrade_watch_signals(): SIGHUP, SIGINT, SIGQUIT or SIGTERM has arrived. */
	void (*signalled)(struct ferry_upgrade *upgrade, int signal_number, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/**
 * Begins this process's part: looks for a predecessor, or for the sockets of activation. `started` or `rejected` runs
 * from the loop.
 *
 * A predecessor that has started this process is found by the variable FERRY_UPGRADE, which has the process id: no
 * other process takes it for its own. The call removes it, and the variables of socket activation, from the
 * environment. Call it early, in the first thread: what was written to the standard error before
 * `ferry_upgrade_ready()` is what the predecessor reports.
 *
 * @param[out] out the object
 * @param base its event_base
 * @param options the settings
 * @param callbacks the table; must outlive the object
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p base, @p options or @p callbacks is NULL, a callback that must not be NULL is NULL, a
 *         time is negative, or @c size is smaller than the first version of the structure, or larger than this version
 *         and members that this version does not know are not zero
 * @retval -ENOENT, -ECONNREFUSED, -EACCES, -ENAMETOOLONG, … nobody listens at the path of the predecessor: the errors
 *         of ferry_connector_new_unix()
 * @retval -EPROTO the descriptors that belong to the variable are missing
 * @retval -ENOTSOCK, -EBADF, -EMSGSIZE the sockets of activation: the errors of ferry_socket_set_from_environment()
 * @retval -EMFILE no descriptor slot is free
 * @retval -ENOMEM out of memory
 * @retval other the error of socket(2) or connect(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_new(struct ferry_upgrade **out, struct event_base *base,
                                   const struct ferry_upgrade_options *options,
                                   const struct ferry_upgrade_callbacks *callbacks, void *context);

/**
 * Frees the object and its set: the sockets are closed, and the files of unix sockets removed if this process owns
 * them. A successor that is not ready yet is killed. Connections that were given and that no successor has are closed.
 * As a successor that is not ready, withdraws: the predecessor goes on. In a child of fork(2): nothing happens. NULL:
 * nothing happens. Since 0.1.
 */
FERRY_EXPORT void ferry_upgrade_free(struct ferry_upgrade *upgrade);

/** Returns the sockets of this process, which the object owns. NULL: `started` has not run, the successor has the
 *  sockets, or @p upgrade is NULL. Since 0.1. */
FERRY_EXPORT struct ferry_socket_set *ferry_upgrade_get_set(const struct ferry_upgrade *upgrade);

/** Returns the state that the predecessor has passed on; the object owns it. @p length, which may be NULL, becomes its
 *  length. Never NULL, and empty if there is none. Since 0.1. */
FERRY_EXPORT const void *ferry_upgrade_get_state(const struct ferry_upgrade *upgrade,
                                                 size_t *length);

/** Returns how many processes were before this one, each the predecessor of the next. 0 for NULL. Since 0.1. */
FERRY_EXPORT unsigned long ferry_upgrade_get_generation(const struct ferry_upgrade *upgrade);

/** Returns the process id of the successor: of the one under way, or after `replaced` of the one that serves. 0: there
 *  is none, or it is not known. Since 0.1. */
FERRY_EXPORT pid_t ferry_upgrade_get_successor(const struct ferry_upgrade *upgrade);

/**
 * Returns the descriptor that programs get as their standard error which this process starts: until
 * ferry_upgrade_ready() that of the predecessor's standard error, then STDERR_FILENO. A program that writes to
 * this process's own before would write to the predecessor. Still the object's. STDERR_FILENO for NULL.
 *
 * @return the descriptor
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_get_error_output(const struct ferry_upgrade *upgrade);

/**
 * Declares that this process accepts on its sockets. The predecessor stops then, and `serving` runs from the loop.
 * The standard error, which led to the predecessor, becomes the predecessor's own. What programs write that were
 * started before with this process's own is read from the loop.
 *
 * @retval 0 done
 * @retval -EINVAL @p upgrade is NULL, `started` has not run, or this is the second call
 * @retval -ENOTCONN the predecessor goes on: `rejected` follows or has run
 * @retval -ECHILD this process is a child of the one that has made the object
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_ready(struct ferry_upgrade *upgrade);

/**
 * Starts a successor. `failed` or `replaced` follows.
 *
 * The successor has the standard input and output of this process, default actions for all signals, and no other
 * descriptor of this process. Its standard error is a pipe, which this process passes on to its own, and which never
 * blocks the successor: lines that this process does not read in time are lost.
 *
 * @retval 0 done
 * @retval -EINVAL @p upgrade is NULL, or there are no arguments
 * @retval -EALREADY an upgrade is under way, which goes on: two at once are one
 * @retval -EAGAIN this process does not serve yet
 * @retval -ESHUTDOWN a successor has replaced this process
 * @retval -ECHILD this process is a child of the one that has made the object
 * @retval -ENOENT, -EACCES, -ENOEXEC, … the error of execve(2): nothing was started, and no callback follows
 * @retval -EMFILE no descriptor slot is free
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_start(struct ferry_upgrade *upgrade);

/**
 * Lets processes that somebody else starts replace this one: accepts them on a unix socket of the set, as soon as this
 * process serves. The other process runs as the same user or as root, and has the path as `predecessor`.
 *
 * @param upgrade the upgrade
 * @param name of the socket in the set
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or there is no callback `replaced`
 * @retval -ENOENT the set has no such socket
 * @retval -EBUSY there is such a socket already
 * @retval -ESHUTDOWN a successor has replaced this process
 * @retval -ECHILD this process is a child of the one that has made the object
 * @retval other the errors of ferry_listener_new_fd()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_listen(struct ferry_upgrade *upgrade, const char *name);

/**
 * After `replaced`, or `rejected`: gives the process that serves a connection, for its `connection_received`. If the
 * successor dies before it has the connection, the next one gets it.
 *
 * @param upgrade the upgrade
 * @param handoff a handoff of a connection; on success the object owns it. Name, bytes and blob arrive as they are
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -ENOTCONN this process was not replaced; or its successor has not taken the socket for
 *         connections over, or has gone and was started by somebody else
 * @retval -ECHILD this process is a child of the one that has made the object
 * @retval other the errors of ferry_dispatcher_hand_off()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_give(struct ferry_upgrade *upgrade, struct ferry_handoff *handoff);

/** Whether this process may end: the successor has all that was given, or nobody would take it, and its probation is
 *  over. true for NULL. Since 0.1. */
FERRY_EXPORT bool ferry_upgrade_is_settled(const struct ferry_upgrade *upgrade);

/** The connections that a replaced process has given. Since 0.1. */
struct ferry_upgrade_stats {
	uint64_t given;       /**< accepted by ferry_upgrade_give() */
	uint64_t taken;       /**< the successor has them */
	uint64_t received;    /**< from predecessors */
	uint64_t reserved[5]; /**< for later versions */
};

/**
 * Copies the counters.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_get_stats(const struct ferry_upgrade *upgrade,
                                         struct ferry_upgrade_stats *stats);

/**
 * After `replaced` or `rejected`: this process has nothing left to give or to serve. `finished` runs from the loop
 * when the successor has what was given.
 *
 * @retval 0 done
 * @retval -EINVAL @p upgrade is NULL
 * @retval -ENOTCONN it was not replaced
 * @retval -ECHILD as ferry_upgrade_start()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_finish(struct ferry_upgrade *upgrade);

/**
 * Handles signals in the loop: SIGUSR2 is ferry_upgrade_start(), with a line in the log if that fails; SIGHUP,
 * SIGINT, SIGQUIT (nginx's word for a graceful end) and SIGTERM run `signalled`. Without this call no signal is
 * touched.
 *
 * @retval 0 done
 * @retval -EINVAL @p upgrade is NULL
 * @retval -ECHILD as ferry_upgrade_start()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_upgrade_watch_signals(struct ferry_upgrade *upgrade);

FERRY_END_DECLS

#endif
