#ifndef FERRY_LIBEVENT_REARM_H
#define FERRY_LIBEVENT_REARM_H

#include <stdbool.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

/*
 * Re-arming: ferry replaces the callbacks of the two I/O events of a plain socket bufferevent, and restores them later.
 *
 * A socket bufferevent is two events, two buffers and bookkeeping. A stream that carries descriptors and
 * files needs other callbacks of these events. Everything else (watermarks, rate limits, timeouts,
 * deferred callbacks, locking) stays libevent's. Only rearm.c, and fields.h for what is read alone, know the layout of a
 * bufferevent (event2/bufferevent_struct.h).
 *
 * The caller has locked the bufferevent. "The stock callbacks" are libevent's own.
 */

struct rearm_gate;   /* private: a closed write gate */
struct rearm_before; /* private: the settings of a bufferevent before ferry took it */

/* ferry's callbacks of the two events. Their argument, and that of `on_output`, is the struct rearm. */
struct rearm_steps {
	event_callback_fn on_read, on_write;
};

struct rearm {
	struct bufferevent *bev;
	const struct rearm_steps *steps;
	struct evbuffer_cb_entry *output_cb;
	struct rearm_gate *write_gate; /* see rearm_open_write_gate(); NULL: open */
	bufferevent_data_cb held_read_cb;
	struct rearm_before *before; /* NULL: as those of a new bufferevent */
	int write_fd;                /* -1: the same as the bufferevent's */
	short enabled_before;
	bool connecting; /* libevent has a connect(2) under way */
	bool given_back; /* the user owns the bufferevent again */
};

/*
 * Whether `bev` can be taken over. `rearm` must have bev and steps set.
 *   -EINVAL   it is not a socket bufferevent, or has no base or no descriptor
 *   -EALREADY its events already have ferry's callbacks
 *   -EBUSY    it is in a rate limit group
 *   -ENOTSUP  the libevent at run time has another major.minor version than the one at build time
 *   -ENOMEM
 */
int rearm_examine(const struct rearm *rearm);
/* The same for one that was just made, and that nobody has used: -EINVAL, -ENOTSUP or -ENOMEM. */
int rearm_examine_new(struct bufferevent *bev);

/* Whether `bev` is a socket bufferevent with the stock callbacks. As rearm_examine(); -EINVAL also for others. */
int rearm_examine_stock(struct bufferevent *bev);

/* Whether libevent has a connect(2) under way on `bev`. */
bool rearm_is_connecting(struct bufferevent *bev);

/*
 * Schedules the read callback for bytes that ferry has added to the input itself. The callback runs from
 * the loop in this turn if reading is enabled by then, else as soon as it is. The watermarks apply.
 * `bev` is referenced for the rest of the turn. After an error (those of rearm_examine_stock()) no
 * callback runs.
 */
int rearm_offer_input(struct bufferevent *bev);

/*
 * Replaces the callbacks of `bev`, which has been examined, and references it. `rearm` must have bev,
 * steps and write_fd set. `on_output` is called when the output
 * buffer changes. -ENOMEM: `bev` is unchanged.
 */
int rearm_attach(struct rearm *rearm, evbuffer_cb_func on_output);

/* The same for one that rearm_examine_new() has examined. */
int rearm_attach_new(struct rearm *rearm, evbuffer_cb_func on_output);

/* Sets the limits of one read and one write, except those that the user had set before. */
void rearm_set_limits(struct rearm *rearm, size_t max_read, size_t max_write);

/* Restores the stock callbacks, without arming the events, and drops the user's callbacks. */
void rearm_detach(struct rearm *rearm);

/* Restores the stock callbacks and the settings that the bufferevent had before, and takes it out of its rate
 * limit group; the user owns it again. Its read callback runs from the loop if the input has bytes. -ENOMEM: nothing has changed. */
int rearm_give_back(struct rearm *rearm);

/* Frees the detached bufferevent, unless it was given back. Call it from the loop, when no callback of
 * ferry's is on the stack. */
void rearm_free(struct rearm *rearm);

/* Removes a descriptor that is about to be closed from the bufferevent: that of EV_READ, of EV_WRITE,
 * or both. */
void rearm_forget_fds(struct rearm *rearm, short what);

/* Takes the descriptor out of a bufferevent with the stock callbacks, and out of the loop; nothing is enabled then. */
void rearm_take_fd(struct bufferevent *bev);

/* bufferevent_setfd() and bufferevent_socket_connect() restore the stock callbacks. If one of them was
 * called, replaces the callbacks again and returns true; the bufferevent may have left its rate limit
 * group. */
bool rearm_check(struct rearm *rearm);

/* The write gate. If ferry replaces the callbacks inside the bufferevent's own "connected" callback,
 * libevent's write step is on the stack, and would write the output itself after that callback. The gate
 * suspends writing until the loop comes round and opens it with this call. Meanwhile the bufferevent is
 * not in the user's rate limit group. Returns true if libevent's write step was not on the stack: the
 * write event was armed, perhaps only for a write callback, and still is. */
bool rearm_open_write_gate(struct rearm *rearm);

/* The descriptor of the write event. */
int rearm_write_fd(const struct rearm *rearm);

/* Schedules the write step once in this turn of the loop, without a system call. */
void rearm_run_write(struct rearm *rearm);
/* Waits until the socket is writable, under the user's write timeout, and then runs the write step; or stops. */
int rearm_wait_writable(struct rearm *rearm);
void rearm_stop_waiting(struct rearm *rearm);

/* Takes the user's read callback away: nothing runs it, not even a pending deferred call; and gives it back, unless
 * the user has set another meanwhile. */
void rearm_hold_read_cb(struct rearm *rearm);
void rearm_release_read_cb(struct rearm *rearm);

/* Whether the write event is armed or active. */
bool rearm_awaits_write(const struct rearm *rearm);

/* Whether reading is enabled and neither a rate limit nor a watermark suspends it. */
bool rearm_is_reading(const struct rearm *rearm);

/* Removes the read event, or its timeout alone, without disabling reading; bufferevent_enable() adds it again. */
void rearm_stop_reading(struct rearm *rearm);
void rearm_stop_read_timeout(struct rearm *rearm);

/* The user's timeout for EV_READ or EV_WRITE, or NULL. */
const struct timeval *rearm_get_timeout(const struct rearm *rearm, short what);

/* Lets the whole write timeout run from now on. -ENOMEM: the old one runs. */
int rearm_restart_write_timeout(struct rearm *rearm);

/* Whether a timeout of EV_READ or EV_WRITE fired that the user has unset since: libevent leaves its timer
 * armed. Removes such a timer. */
bool rearm_timeout_is_stale(struct rearm *rearm, short what);

/* The write step while connecting. libevent finishes the attempt and reports BEV_EVENT_CONNECTED or
 * BEV_EVENT_ERROR to the user, whose callback may free the transport. Returns true if the bufferevent is
 * now connected. rearm->connecting is false afterwards if the attempt has ended, in either way. */
bool rearm_finish_connecting(struct rearm *rearm, evutil_socket_t fd);

#endif
