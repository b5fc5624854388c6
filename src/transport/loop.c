#include "transport/transport.h"

#include <errno.h>

/*
 * What must run from the loop, and not inside the call that caused it: connection_made and
 * connection_lost, files that were stopped, descriptors that a pause kept, and another try when the
 * kernel was short of memory.
 */

void transport_want_loop(struct ferry_transport *transport)
{
	/* Not as EV_TIMEOUT: the retry timer, set later, would take that back. */
	event_active(transport->loop_event, EV_READ, 0);
}

void transport_report_event(struct ferry_transport *transport, short what, int error)
{
	struct bufferevent *bev = transport->rearm.bev;

	bufferevent_disable(bev, (what & BEV_EVENT_READING) != 0 ? EV_READ : EV_WRITE);
	errno = error; /* the callback reads it */
	bufferevent_trigger_event(bev, what, 0);
}

void transport_disable_ended(struct ferry_transport *transport, short what)
{
	if (transport->freed)
		return;
	bufferevent_disable(transport->rearm.bev, what);
	/* While connecting, libevent keeps the write event. */
	rearm_stop_waiting(&transport->rearm);
}

static void run_lost(struct ferry_transport *transport)
{
	transport_dismiss_watcher(transport);
	while (!transport->freed && outgoing_report(&transport->outgoing))
		continue;
	if (transport->freed)
		return;
	transport->state = TRANSPORT_ENDED;
	protocol_end(transport);
}

/* libevent adds the write event when the suspension ends. It is for what waits, not for a write
 * callback that nobody asked for. */
static void end_hold(struct ferry_transport *transport)
{
	bool waiting = rearm_release_hold(&transport->rearm);
	transport_rejoin_group(transport);
	if (!waiting)
		transport_stop_waiting(transport);
	if (!outgoing_is_sent(&transport->outgoing))
		transport_want_write(transport);
}

static void run_loop_work(struct ferry_transport *transport)
{
	if (transport->rearm.hold != NULL)
		end_hold(transport);
	if (!transport->rearm.connecting)
		protocol_begin(transport);
	if (!transport_is_over(transport))
		transport_deliver_kept(transport);
	if (!transport_is_over(transport))
		transport_tell(transport, false);
	/* The last file may have been stopped while writing is disabled. */
	transport_settle_close(transport);
	if (!transport_is_over(transport) && transport->starved &&
	    (bufferevent_get_enabled(transport->rearm.bev) & EV_WRITE) != 0)
		transport_write_step(transport, true);
	if (!transport->freed && transport->state == TRANSPORT_LOST)
		run_lost(transport);
}

void transport_on_loop(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (!transport->freed)
		run_loop_work(transport);
	bufferevent_unlock(bev);
}
