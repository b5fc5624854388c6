#include "transport/events.h"

#include <errno.h>

#include "libevent/fields.h"
#include "transport/deliver.h"
#include "transport/end.h"
#include "transport/read.h"

/*
 * The bufferevent's callbacks of a transport with a protocol. The steps trigger the bufferevent's read and
 * event callbacks; libevent applies its watermarks and defers them. They lock by themselves: with
 * BEV_OPT_UNLOCK_CALLBACKS libevent calls them without the lock.
 */

static bool is_over_mark(const struct bufferevent *bev)
{
	const size_t high = fields_high_mark(bev);

	return high > 0 && evbuffer_get_length(fields_input(bev)) >= high;
}

void transport_readable(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;

	transport_notice_socket(transport);
	/* libevent may have deferred this call. After a pause, resuming offers the input again. After a pause and
	 * a resume, the pending descriptors go first. */
	if (!transport_is_over(transport) && !transport->in.paused)
		transport_deliver_pending(transport);
	/* If the callback for a descriptor has triggered this, the read step does so again behind the last one. */
	if (!transport->freed && !transport->in.paused && !transport->in.fds_follow) {
		transport_deliver_input(transport);
		transport_settle_eof(transport);
		transport_settle_broken(transport);
	}
	/* Input over the high-water mark stays. While reading is enabled, libevent would run this again at once, for
	 * ever. */
	if (!transport->freed &&
	    (!transport_is_open(transport) || (transport->in.paused && is_over_mark(bev))))
		bufferevent_disable(bev, EV_READ);
}

void transport_on_readable(struct bufferevent *bev, void *argument)
{
	struct ferry_transport *transport = argument;

	(void)transport_lock(transport);
	transport->in.direct |= transport->in.triggering;
	transport_readable(transport);
	bufferevent_unlock(bev);
}

static void on_read_half_ended(struct ferry_transport *transport)
{
	/* First: they may pause reading, and then the end waits for the input; or set another protocol. */
	transport_deliver_rest(transport);
	transport_deliver_made(transport);
	if (transport_is_over(transport))
		return;
	transport_read_half_ended(transport);
	/* A user who enables reading again meets the same end again. */
	if (transport->end_notified)
		return;
	transport_end_notified(transport);
	if (transport->protocol.table->read_connection_lost == NULL) {
		transport_close_with_peer(transport);
		return;
	}
	transport->protocol.table->read_connection_lost(transport, transport->protocol.context);
	/* A half-close waits for no producer whose bytes nobody would read. */
	if (transport->out.half == OUT_CLOSING && transport_peer_has_closed(transport))
		transport_dismiss_watcher(transport);
	transport_settle_close(transport);
}

static void on_write_half_broken(struct ferry_transport *transport, int reason)
{
	transport_write_half_broken(transport, reason);
	transport_start_rest(transport);
	transport_settle_broken(transport);
	/* A connection that is closing delivers nothing more. */
	if (transport->life == TRANSPORT_CLOSING)
		transport_end(transport, reason);
}

/* An error of a read, or of the connection attempt. */
static void on_failure(struct ferry_transport *transport, int reason, bool never_connected)
{
	if (never_connected) {
		transport_connection_made(transport);
		transport_end(transport, reason);
		return;
	}
	/* Deferred callbacks, or a pause, may still have to bring what was read before the error. */
	transport_read_half_ended(transport);
	transport_write_half_broken(transport, reason);
	transport_settle_broken(transport);
	if (transport->life == TRANSPORT_CLOSING)
		transport_end(transport, reason);
}

/* libevent may defer several events and report them as one. */
static void handle_event(struct ferry_transport *transport, short what, int reason)
{
	if ((what & BEV_EVENT_CONNECTED) != 0)
		transport_deliver_made(transport);
	if ((what & BEV_EVENT_EOF) != 0)
		on_read_half_ended(transport);
	if ((what & BEV_EVENT_TIMEOUT) != 0) {
		transport_deliver_rest(transport);
		transport_end(transport, -ETIMEDOUT);
	}
	if ((what & BEV_EVENT_ERROR) == 0 || transport_is_over(transport))
		return;
	if ((what & BEV_EVENT_WRITING) != 0)
		on_write_half_broken(transport, reason);
	else
		on_failure(transport, reason, (what & BEV_EVENT_READING) == 0);
}

void transport_on_event(struct bufferevent *bev, short what, void *argument)
{
	struct ferry_transport *transport = argument;
	int reason = errno != 0 ? -errno : -EIO;

	(void)transport_lock(transport);
	if (!transport_is_over(transport))
		handle_event(transport, what, reason);
	bufferevent_unlock(bev);
}
