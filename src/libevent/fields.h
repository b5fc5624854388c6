#ifndef FERRY_LIBEVENT_FIELDS_H
#define FERRY_LIBEVENT_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_struct.h>
#include <event2/event.h>

/*
 * The fields of a socket bufferevent that each step reads. Each of libevent's getters is a call into another library
 * that locks the bufferevent once more.
 *
 * The caller has locked the bufferevent, and rearm_examine() has accepted it: its layout is that of the build.
 */

static inline struct evbuffer *fields_input(const struct bufferevent *bev)
{
	return bev->input;
}

static inline struct evbuffer *fields_output(const struct bufferevent *bev)
{
	return bev->output;
}

/* The same as bufferevent_getfd(). */
static inline int fields_fd(const struct bufferevent *bev)
{
	return bev->ev_read.ev_fd;
}

/* The directions that the user has enabled. */
static inline short fields_enabled(const struct bufferevent *bev)
{
	return bev->enabled;
}

/* The water marks of the input. */
static inline size_t fields_low_mark(const struct bufferevent *bev)
{
	return bev->wm_read.low;
}

static inline size_t fields_high_mark(const struct bufferevent *bev)
{
	return bev->wm_read.high;
}

/* The user's read callback. */
static inline bufferevent_data_cb fields_read_cb(const struct bufferevent *bev)
{
	return bev->readcb;
}

/* The callback of the read event. */
static inline event_callback_fn fields_read_step(const struct bufferevent *bev)
{
	return bev->ev_read.ev_evcallback.evcb_cb_union.evcb_callback;
}

/* What event_pending() returns for all kinds of events, without the lock of the base. That lock keeps away the loop's
 * thread alone, and only until event_pending() returns: what the loop does next is as late for a caller with it. */
static inline int fields_pending(const struct event *event)
{
	const short flags = event->ev_evcallback.evcb_flags;
	int pending = 0;

	if ((flags & EVLIST_INSERTED) != 0)
		pending = event->ev_events & (EV_READ | EV_WRITE);
	if ((flags & (EVLIST_ACTIVE | EVLIST_ACTIVE_LATER)) != 0)
		pending |= event->ev_res;
	return (flags & EVLIST_TIMEOUT) != 0 ? pending | EV_TIMEOUT : pending;
}

#endif
