#ifndef FERRY_LIBEVENT_REARM_H
#define FERRY_LIBEVENT_REARM_H

#include <stdbool.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

/*
 * Re-arming: the two I/O events of a plain socket bufferevent become ours, and are given back.
 *
 * A socket bufferevent is two events, two buffers and bookkeeping. Only what the events do when they
 * fire needs to change for a stream that carries descriptors and files; everything else (watermarks,
 * rate limits, timeouts, deferred callbacks, locking) stays libevent's. This is the one file that
 * knows the layout of a bufferevent (event2/bufferevent_struct.h).
 *
 * Everything here wants the bufferevent locked.
 */

struct rearm {
	struct bufferevent *bev;
	event_callback_fn on_read, on_write; /* ours */
	void *argument;                      /* of ours */
	int write_fd;                        /* -1: the same as the bufferevent's */
	event_callback_fn stock_read, stock_write;
	struct evbuffer_cb_entry *output_cb;
	struct bufferevent_rate_limit_group *hold; /* see rearm_release_hold() */
	struct ev_token_bucket_cfg *hold_limit;
	bool connecting; /* libevent has a connect(2) under way on it */
};

/*
 * Whether `bev` can be taken over. `rearm` must have bev and on_read set.
 *   -EINVAL   not a socket bufferevent, or it has no base or no descriptor
 *   -EALREADY its events are ours
 *   -ENOTSUP  the libevent at run time is not the one we know
 *   -ENOMEM
 */
int rearm_examine(const struct rearm *rearm);

/* Whether `bev` is a socket bufferevent as libevent made it. The errors are those of rearm_examine();
 * -EINVAL also: somebody has its events. */
int rearm_examine_stock(struct bufferevent *bev);

/* Whether libevent has a connect(2) under way on it. */
bool rearm_is_connecting(struct bufferevent *bev);

/*
 * Has the read callback run for what was put into the input by hand: from the loop in this turn, if
 * reading is enabled by then; else as soon as it is. Watermarks count as ever. Holds a reference for the
 * rest of the turn. Errors as rearm_examine_stock(): nothing will happen.
 */
int rearm_offer_input(struct bufferevent *bev);

/*
 * Takes over `bev`, which has been examined. `rearm` must have bev, on_read, on_write, argument and
 * write_fd set; `on_output` is called with `argument` when the output buffer changes. Holds a
 * reference to `bev`. -ENOMEM: `bev` is as it was.
 */
int rearm_attach(struct rearm *rearm, evbuffer_cb_func on_output);

/* Gives the events back, without arming them, and drops the user's callbacks. */
void rearm_detach(struct rearm *rearm);

/* Frees the detached bufferevent. From the loop, when nothing of ours is on the stack. */
void rearm_free(struct rearm *rearm);

/* Makes the bufferevent forget a descriptor that somebody is about to close: that of EV_READ, of
 * EV_WRITE, or both. */
void rearm_forget_fds(struct rearm *rearm, short what);

/* bufferevent_setfd() and bufferevent_socket_connect() put libevent's own callbacks back. Takes the
 * events again if that happened, and says so. The bufferevent may have left its rate limit group. */
bool rearm_check(struct rearm *rearm);

/* Attached inside the bufferevent's own "connected" callback, or noticing there, libevent would go on
 * to write the output itself once that returns. The bufferevent's writing is suspended until the loop
 * has come round and calls this. Meanwhile it is out of its rate limit group. True if libevent was
 * not in its write step: the write event was armed, for a write callback too, and still is. */
bool rearm_release_hold(struct rearm *rearm);

/* Where the write event stands. */
int rearm_write_fd(const struct rearm *rearm);

/* Has the write step run once in this turn of the loop, without a system call. */
void rearm_run_write(struct rearm *rearm);

/* Has the write step run when the socket is writable, under the user's write timeout; or no more. */
int rearm_wait_writable(struct rearm *rearm);
void rearm_stop_waiting(struct rearm *rearm);

/* Whether reading is enabled and nothing (rate limit, watermark) suspends it. */
bool rearm_is_reading(const struct rearm *rearm);

/* Takes the read event out of the loop, without disabling reading; bufferevent_enable() adds it. */
void rearm_stop_reading(struct rearm *rearm);

/* Whether a timeout that came for EV_READ or EV_WRITE is one that the user has unset since. Such a
 * timer is removed. libevent leaves it armed. */
bool rearm_timeout_is_stale(struct rearm *rearm, short what);

/* The write step while connecting: lets libevent finish, which reports BEV_EVENT_CONNECTED or
 * BEV_EVENT_ERROR to the user, whose callback may have freed things. True if it is connected now;
 * rearm->connecting is false afterwards if it is over either way. */
bool rearm_finish_connecting(struct rearm *rearm, evutil_socket_t fd);

#endif
