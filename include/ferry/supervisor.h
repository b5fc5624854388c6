#ifndef FERRY_SUPERVISOR_H
#define FERRY_SUPERVISOR_H

/**
 * @file supervisor.h
 * @brief Keeps a number of worker processes of a program running.
 *
 * Each worker process is started by exec, with one end of a channel. The program finds it by
 * ferry_worker_new_from_environment() (ferry/worker.h). The other end goes to a dispatcher
 * (ferry/dispatcher.h), or to the owner. A process that ends is started again after a pause; all can be
 * replaced by a new generation without a connection lost.
 *
 * A supervisor has a fixed number of places, each with one process, or with two while it is replaced:
 *
 * @code{.unparsed}
 *                ready                 asked to leave, or its channel has ended
 *    STARTING ----------> READY ----------------------------------------------> LEAVING ----> ended
 *        |                                                                         ^
 *        +-------------------------------------------------------------------------+
 * @endcode
 *
 * A process that is LEAVING has no place any more: the next one starts while it serves its connections to the end.
 * After the drain timeout it gets SIGTERM, and then SIGKILL. docs/supervisor.md has the details.
 *
 * A process may retire, after a number of connections for example: it calls ferry_worker_drain(). Its place gets
 * another one at once, and this is no crash.
 *
 * The supervisor installs no signal handler, unless ferry_supervisor_handle_signals() is called, and waits for its own
 * children only. The program may have a SIGCHLD handler and call system(3). If the program waits for any child, or
 * ignores SIGCHLD, statuses are FERRY_SUPERVISOR_STATUS_UNKNOWN; everything else holds.
 *
 * @par Callers
 * In every callback. Only in the thread of the event_base. All callbacks run from the loop.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/types.h>

#include "ferry/dispatcher.h"
#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct event_base;
struct ferry_transport;

/** Keeps worker processes running. Opaque. */
struct ferry_supervisor;

/** One worker process. Opaque. The supervisor owns it. It is valid until worker_ended has returned. */
struct ferry_supervisor_worker;

/** The status of a process that other code has waited for, or that does not exist. */
#define FERRY_SUPERVISOR_STATUS_UNKNOWN (-1)

/** The states of a supervisor. */
enum ferry_supervisor_state {
	FERRY_SUPERVISOR_RUNNING = 0,  /**< it keeps its processes running */
	FERRY_SUPERVISOR_FAILING = 1,  /**< it does, and too many of them have ended unasked lately */
	FERRY_SUPERVISOR_STOPPING = 2, /**< it starts no more, and its processes are to end */
	FERRY_SUPERVISOR_STOPPED = 3   /**< no process is left, and none will be started */
};

/** The states of a place and of a process. */
enum ferry_supervisor_worker_state {
	FERRY_SUPERVISOR_WAITING = 0,  /**< no process: the next one is started after a pause */
	FERRY_SUPERVISOR_STARTING = 1, /**< the process runs, and is not ready */
	FERRY_SUPERVISOR_READY = 2,    /**< the process serves */
	FERRY_SUPERVISOR_LEAVING = 3   /**< the process gets nothing new, and has no place */
};

/** How processes are stopped; each is harder than the one before. */
enum ferry_supervisor_stop {
	/** RECALL and DRAIN by the dispatcher. SIGTERM follows after the drain timeout. */
	FERRY_SUPERVISOR_DRAIN = 1,
	/** SIGTERM. SIGKILL follows after the drain timeout, or after the kill timeout if the process drains already. */
	FERRY_SUPERVISOR_TERMINATE = 2,
	FERRY_SUPERVISOR_KILL = 3 /**< SIGKILL */
};

/** What is known of a process. */
struct ferry_supervisor_worker_info {
	unsigned int place;                       /**< from 0 */
	enum ferry_supervisor_worker_state state; /**< not WAITING */
	pid_t pid;                                /**< of the process */
	int pidfd;              /**< which the supervisor owns; -1: the kernel has none */
	bool asked;             /**< it is to end by its own wish, its owner's or the supervisor's */
	bool has_place;         /**< false: it is LEAVING, or waits for the others of its step */
	uint64_t generation;    /**< from 1; ferry_supervisor_replace() begins the next one */
	struct timeval started; /**< on the wall clock */
	/** NULL: there is no dispatcher, or the channel has ended. The dispatcher owns it. */
	struct ferry_dispatcher_worker *dispatcher_worker;
	uint64_t reserved[4]; /**< for later versions */
};

/** What is known of a place. If it has no process but one that a replacement has started, that one counts as its
 *  own. */
struct ferry_supervisor_place_info {
	enum ferry_supervisor_worker_state state; /**< not LEAVING */
	struct ferry_supervisor_worker *worker;   /**< NULL: WAITING */
	pid_t pid;                                /**< 0: WAITING */
	uint64_t generation;                      /**< of the process */
	uint64_t starts;                          /**< processes that were started for this place */
	int last_status;        /**< of the process that ended last, as that of waitpid(2) */
	struct timeval started; /**< of the process, on the wall clock; 0: WAITING */
	struct timeval pause;   /**< WAITING: until the next start */
	struct ferry_dispatcher_stats stats; /**< the sums over all processes of this place */
	uint64_t reserved[4];                /**< for later versions */
};

/** The counters of a supervisor since its start, unless the text has "now". */
struct ferry_supervisor_stats {
	enum ferry_supervisor_state state; /**< now */
	unsigned int places;               /**< now */
	unsigned int ready;                /**< processes that are READY now */
	unsigned int leaving;              /**< processes that are LEAVING now */
	uint64_t generation;               /**< now */
	uint64_t starts;                   /**< processes that were started */
	uint64_t failed_starts;            /**< starts that failed before the program ran */
	uint64_t crashes;                  /**< processes that have ended unasked, by whatever status */
	uint64_t killed;                   /**< processes that got SIGKILL from the supervisor */
	uint64_t replacements;             /**< replacements that succeeded */
	uint64_t reserved[6];              /**< for later versions */
};

/** The callbacks of a supervisor. Every member may be NULL, but channel_opened if there is no dispatcher. The table
 *  must outlive the supervisor. Each may call any function, ferry_supervisor_free() included. Since 0.1. */
struct ferry_supervisor_callbacks {
	/** A process was started. The dispatcher, if there is one, has its channel. */
	void (*worker_started)(struct ferry_supervisor *supervisor,
	                       struct ferry_supervisor_worker *worker, void *context);

	/** Without a dispatcher, after worker_started: the callee owns @p transport, the supervisor's end of the channel. It
	 *  calls ferry_supervisor_worker_ready() when the process is ready. */
	void (*channel_opened)(struct ferry_supervisor *supervisor,
	                       struct ferry_supervisor_worker *worker,
	                       struct ferry_transport *transport, void *context);

	/** The process is ready: its HELLO has arrived, or the owner has said so. */
	void (*worker_ready)(struct ferry_supervisor *supervisor,
	                     struct ferry_supervisor_worker *worker, void *context);

	/** The process is LEAVING, because it is drained or its channel has ended. Without a dispatcher, the owner asks it
	 *  to end now. It may be gone already. */
	void (*worker_leaving)(struct ferry_supervisor *supervisor,
	                       struct ferry_supervisor_worker *worker, void *context);

	/** The process has ended. Runs once for each worker_started, unless the supervisor is freed before. @p status is as
	 *  that of waitpid(2), or FERRY_SUPERVISOR_STATUS_UNKNOWN. The supervisor has removed its worker from the dispatcher.
	 *  @p worker is freed when this returns. */
	void (*worker_ended)(struct ferry_supervisor *supervisor,
	                     struct ferry_supervisor_worker *worker, int status, void *context);

	/** A process could not be started in a place: @p error is a negative errno, of execve(2) (-ENOENT, -EACCES), or for
	 *  want of something (-EAGAIN, -EMFILE, -ENOMEM). The next attempt follows after a pause. */
	void (*start_failed)(struct ferry_supervisor *supervisor, unsigned int place, int error,
	                     void *context);

	/** A replacement has ended. @p status: 0: the new processes have all places; -ECHILD: a new process has ended, was
	 *  stopped, was killed too often, or was not ready in time, and the old ones stay; -ECANCELED: the supervisor is
	 *  stopped; or the error of a start that failed, and the old ones stay. */
	void (*replaced)(struct ferry_supervisor *supervisor, int status, void *context);

	/** The state has changed. */
	void (*state_changed)(struct ferry_supervisor *supervisor, enum ferry_supervisor_state state,
	                      void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/** A descriptor that the program gets: @c number there, a copy of @c fd. */
struct ferry_supervisor_fd {
	int number;      /**< 4 or more; 3 is the channel */
	int fd;          /**< of this process */
	int reserved[2]; /**< zero, for later versions */
};

/** No limit, whatever the size of RLIM_INFINITY in the program. Since 0.1. */
#define FERRY_SUPERVISOR_UNLIMITED UINT64_MAX

/** A limit that holds for each process, as in setrlimit(2). */
struct ferry_supervisor_limit {
	int resource;  /**< RLIMIT_NOFILE, … */
	uint64_t soft; /**< the limit, in the unit of the resource; FERRY_SUPERVISOR_UNLIMITED: none */
	uint64_t hard; /**< the highest soft limit that the process may set */
	uint64_t reserved[2]; /**< zero, for later versions */
};

/** For a standard descriptor: that of this process, or /dev/null if it has none, or one that is close-on-exec. */
#define FERRY_SUPERVISOR_FD_INHERIT (-1)
/** For a standard descriptor: /dev/null. */
#define FERRY_SUPERVISOR_FD_NULL (-2)

/**
 * Options of ferry_supervisor_new(). Start from FERRY_SUPERVISOR_OPTIONS_INIT and set the members that differ. Times of
 * zero are the defaults in parentheses.
 *
 * Later versions add members at the end whose default is zero; the library recognises the version by @c size.
 * Since 0.1.
 */
struct ferry_supervisor_options {
	size_t size;      /**< sizeof(struct ferry_supervisor_options), as the caller was compiled */
	const char *name; /**< for log lines and for keys: place 0 is "NAME-1"; NULL: the program's */
	const char *program;     /**< looked up in $PATH if it has no slash; NULL: argv[0] */
	const char *const *argv; /**< ends with NULL */
	const char *const
	    *environment;     /**< "NAME=VALUE" sets, "NAME" removes; ends with NULL; may be NULL */
	unsigned int workers; /**< the number of places; may be 0 */
	/** Gets the workers. It must outlive the supervisor, or be freed after ferry_supervisor_stop(). NULL: the owner gets
	 *  the channels. */
	struct ferry_dispatcher *dispatcher;
	int standard_fds
	    [3]; /**< of the program; FERRY_SUPERVISOR_FD_INHERIT, _NULL, or one that is copied */
	const struct ferry_supervisor_fd *fds;       /**< more descriptors; they are copied */
	size_t fd_count;                             /**< the number of them */
	const struct ferry_supervisor_limit *limits; /**< for each process */
	size_t limit_count;                          /**< the number of them */
	uid_t user;                                  /**< (uid_t)-1: that of this process */
	gid_t group;         /**< (gid_t)-1, with @c user: that of this process */
	const gid_t *groups; /**< with @c user: all supplementary groups; there may be none */
	size_t group_count;  /**< the number of them */
	bool shares_group;   /**< no process group of its own: the terminal's Ctrl-C is for both */
	unsigned int replace_step;    /**< the places that are replaced at a time; 0: all */
	unsigned int crash_limit;     /**< so many crashes within crash_window are FAILING; 0: 10 */
	struct timeval crash_window;  /**< (60 s) */
	struct timeval first_pause;   /**< before a start, after a process has ended unasked (0.1 s) */
	struct timeval longest_pause; /**< after many that ended soon (10 s) */
	struct timeval long_life;     /**< a process that has lived so long has not ended soon (10 s) */
	struct timeval start_timeout; /**< until a process is ready (60 s) */
	struct timeval drain_timeout; /**< until SIGTERM (30 s) */
	struct timeval kill_timeout;  /**< from that SIGTERM until SIGKILL (5 s) */
	struct timeval recall_spread; /**< of ferry_dispatcher_worker_recall() (0.2 s) */
};

/** The defaults: no name, no program, one worker, the standard descriptors and the user of this process. Since 0.1. */
#define FERRY_SUPERVISOR_OPTIONS_INIT                                                             \
	{                                                                                             \
		sizeof(struct ferry_supervisor_options), NULL, NULL, NULL, NULL, 1, NULL,                 \
		    {FERRY_SUPERVISOR_FD_INHERIT, FERRY_SUPERVISOR_FD_INHERIT,                            \
		     FERRY_SUPERVISOR_FD_INHERIT},                                                        \
		    NULL, 0, NULL, 0, (uid_t)-1, (gid_t)-1, NULL, 0, false, 0, 0, {0, 0}, {0, 0}, {0, 0}, \
		    {0, 0}, {0, 0}, {0, 0}, {0, 0},                                                       \
		{                                                                                         \
			0, 0                                                                                  \
		}                                                                                         \
	}

/**
 * Makes a supervisor. The loop starts the processes.
 *
 * @param[out] out the supervisor
 * @param base its event_base
 * @param options see above; copied, with all that they point to
 * @param callbacks the table; may be NULL if there is a dispatcher; must outlive the supervisor
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p base, @p options or its @c argv is NULL; there is no program; there is neither a
 *         dispatcher nor channel_opened; the dispatcher is of another event_base; a number of a descriptor is below 4
 *         or there twice; a reserved member is not zero; a time is negative; there is a group without a user;
 *         @c crash_limit is above 100000; @c size is smaller than the first version of the structure, or larger than
 *         this version and members that this version does not know are not zero
 * @retval -EBADF a descriptor is not open
 * @retval -EMFILE no descriptor slot is free for the copies
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_new(struct ferry_supervisor **out, struct event_base *base,
                                      const struct ferry_supervisor_options *options,
                                      const struct ferry_supervisor_callbacks *callbacks,
                                      void *context);

/** Kills all processes, waits for their ends, and frees the supervisor; no callback follows. In a callback, the call
 *  takes effect when the callback returns. To let the processes serve to the end, call ferry_supervisor_stop() and wait
 *  for STOPPED. In a forked child of this process, which has called event_reinit() before (docs/fork.md), only memory
 *  and descriptors are freed. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_supervisor_free(struct ferry_supervisor *supervisor);

/**
 * Installs handlers for SIGHUP (ferry_supervisor_replace()), and for SIGTERM and SIGINT (ferry_supervisor_stop()
 * with DRAIN, and with TERMINATE and KILL the next times), as events of the event_base.
 *
 * @retval 0 done
 * @retval -EINVAL @p supervisor is NULL
 * @retval -ENOMEM out of memory, or another event_base has handlers
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_handle_signals(struct ferry_supervisor *supervisor);

/**
 * Sets the number of places. The last ones are drained if there are fewer.
 *
 * @param workers processes that run at once
 * @retval 0 done
 * @retval -EINVAL @p supervisor is NULL
 * @retval -ESHUTDOWN it is stopped
 * @retval -ENOMEM out of memory, or more than 16777216 places; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_set_workers(struct ferry_supervisor *supervisor,
                                              unsigned int workers);

/**
 * Sets the arguments of the processes that are started from now on. The program stays the same, and those that run
 * keep theirs.
 *
 * @param supervisor the supervisor
 * @param argv ends with NULL; copied
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or @p argv is empty
 * @retval -ENOMEM out of memory; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_set_argv(struct ferry_supervisor *supervisor,
                                           const char *const *argv);

/**
 * Sets a standard descriptor of the processes that are started from now on. Those that run keep theirs.
 *
 * @param supervisor the supervisor
 * @param number 0, 1 or 2
 * @param fd FERRY_SUPERVISOR_FD_INHERIT, FERRY_SUPERVISOR_FD_NULL, or a descriptor, which is copied
 * @retval 0 done
 * @retval -EINVAL @p supervisor is NULL, or @p number is another one
 * @retval -EBADF @p fd is not open; nothing has changed
 * @retval -EMFILE no descriptor slot is free for the copy; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_set_standard_fd(struct ferry_supervisor *supervisor, int number,
                                                  int fd);

/**
 * Replaces all processes by a new generation: starts new ones, for @c replace_step places at a time; once these are
 * ready, they have the places and the old ones are drained. If a new one fails, the new ones of this step are
 * drained, the old ones stay, and the replacement ends. If somebody else kills a new one with SIGKILL, as the kernel
 * does without memory, another one is started, as often in a replacement as there are places. The callback replaced
 * runs at the end. A call during a replacement has another one follow, also if the first one fails.
 *
 * @retval 0 done
 * @retval -EINVAL @p supervisor is NULL
 * @retval -ESHUTDOWN it is stopped
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_replace(struct ferry_supervisor *supervisor);

/**
 * Starts no more processes, and stops all. Later calls can only be harder. state_changed reports STOPPING and
 * STOPPED.
 *
 * @param how how hard
 * @retval 0 done
 * @retval -EINVAL @p supervisor is NULL, or @p how is unknown
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_stop(struct ferry_supervisor *supervisor,
                                       enum ferry_supervisor_stop how);

/**
 * Sends a signal to each process, those that are LEAVING included: SIGUSR1, for example, by which many programs open
 * their logs anew. To end processes, use ferry_supervisor_stop(), which makes no crash of it. A process that is
 * STARTING may not have its handler yet; the signal may end it.
 *
 * @param supervisor the supervisor
 * @param signal_number of the signal
 * @retval 0 done; a process that has ended meanwhile gets nothing
 * @retval -EINVAL @p supervisor is NULL, or there is no such signal
 * @retval -EPERM a process has changed its user, and gets nothing. The others have the signal
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_signal(struct ferry_supervisor *supervisor, int signal_number);

/**
 * Copies the counters.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_get_stats(const struct ferry_supervisor *supervisor,
                                            struct ferry_supervisor_stats *stats);

/**
 * Describes a place.
 *
 * @param place from 0
 * @retval 0 done
 * @retval -EINVAL a pointer is NULL, or there is no such place
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_get_place(const struct ferry_supervisor *supervisor,
                                            unsigned int place,
                                            struct ferry_supervisor_place_info *info);

/** Returns the process to which @p worker of the dispatcher belongs. NULL: another code has added the worker, or an
 *  argument is NULL. Since 0.1. */
FERRY_EXPORT struct ferry_supervisor_worker *
ferry_supervisor_find_worker(const struct ferry_supervisor *supervisor,
                             const struct ferry_dispatcher_worker *worker);

/**
 * Describes a process.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_worker_get_info(const struct ferry_supervisor_worker *worker,
                                                  struct ferry_supervisor_worker_info *info);

/**
 * Notes that a process is ready; for supervisors without a dispatcher. Again, or while it is LEAVING: nothing
 * happens.
 *
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL, or there is a dispatcher
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_worker_ready(struct ferry_supervisor_worker *worker);

/**
 * Notes that a process has served something: if it ends, the next one is started after the first pause. With a
 * dispatcher, the supervisor notes it itself.
 *
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_worker_served(struct ferry_supervisor_worker *worker);

/**
 * Stops one process; its place gets another one at once. Later calls can only be harder.
 *
 * @param how how hard
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL, or @p how is unknown
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_worker_stop(struct ferry_supervisor_worker *worker,
                                              enum ferry_supervisor_stop how);

/**
 * Sends a signal to one process, and to no other that has its number later.
 *
 * @param signal_number of signal(7)
 * @retval 0 done
 * @retval -EINVAL @p worker is NULL, or there is no such signal
 * @retval -ESRCH it has ended
 * @retval -EPERM it has changed its user
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_supervisor_worker_signal(struct ferry_supervisor_worker *worker,
                                                int signal_number);

/** Stores a pointer of the owner's with the process; NULL at first. Since 0.1. */
FERRY_EXPORT void ferry_supervisor_worker_set_context(struct ferry_supervisor_worker *worker,
                                                      void *context);

/** Returns that pointer. NULL for NULL. Since 0.1. */
FERRY_EXPORT void *
ferry_supervisor_worker_get_context(const struct ferry_supervisor_worker *worker);

FERRY_END_DECLS

#endif
