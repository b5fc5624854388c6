#include "transport/transport.h"

#include <errno.h>

/*
 * A protocol on top of the bufferevent's callbacks. The transport's steps call the bufferevent's read
 * and event callbacks, with libevent's watermarks and deferring between; these are what it finds
 * there when a protocol is set. They lock by themselves: BEV_OPT_UNLOCK_CALLBACKS calls them without.
 */

static void run_made(struct ferry_transport *transport)
{
	if (transport->made)
		return;
	transport->made = true;
	if (transport->protocol->connection_made != NULL)
		transport->protocol->connection_made(transport, transport->protocol_context);
}

void protocol_begin(struct ferry_transport *transport)
{
	if (transport->protocol != NULL && !transport_is_over(transport))
		run_made(transport);
}

void protocol_end(struct ferry_transport *transport)
{
	if (transport->protocol == NULL)
		return;
	run_made(transport);
	if (!transport->freed && transport->protocol->connection_lost != NULL) {
		transport->protocol->connection_lost(transport, transport->reason,
		                                     transport->protocol_context);
	}
}

void protocol_offer_input(struct ferry_transport *transport)
{
	struct evbuffer *input = bufferevent_get_input(transport->rearm.bev);

	protocol_begin(transport);
	if (transport->freed || transport->state != TRANSPORT_OPEN || transport->protocol == NULL)
		return;
	if (transport->protocol->data_received != NULL && evbuffer_get_length(input) > 0)
		transport->protocol->data_received(transport, input, transport->protocol_context);
}

void protocol_end_holding_back(struct ferry_transport *transport)
{
	if (!transport->held_back || transport_is_over(transport))
		return;
	transport->held_back = transport_holds_back(transport) &&
	                       evbuffer_get_length(bufferevent_get_input(transport->rearm.bev)) > 0;
	transport_settle_close(transport);
}

void protocol_on_readable(struct bufferevent *bev, void *argument)
{
	struct ferry_transport *transport = argument;

	(void)transport_lock(transport);
	/* Deferred by libevent, it may come after a pause, and resuming offers the input again; or before
	 * the descriptors that a pause kept, when that is over. */
	if (!transport_is_over(transport) && !transport->reading_paused)
		transport_deliver_kept(transport);
	if (!transport->freed && !transport->reading_paused) {
		protocol_offer_input(transport);
		protocol_end_holding_back(transport);
	}
	bufferevent_unlock(bev);
}

void protocol_leave_with_peer(struct ferry_transport *transport)
{
	/* What is queued is still sent, but more is not waited for: a producer that has nothing to say
	 * would never unregister. */
	transport_dismiss_watcher(transport);
	if (!transport_is_over(transport))
		transport_close(transport);
}

static void read_side_ended(struct ferry_transport *transport)
{
	transport->read_ended = true;
	transport->held_back = transport->reading_paused &&
	                       evbuffer_get_length(bufferevent_get_input(transport->rearm.bev)) > 0;
	protocol_begin(transport);
	if (transport_is_over(transport))
		return;
	if (transport->protocol->read_connection_lost == NULL) {
		protocol_leave_with_peer(transport);
		return;
	}
	transport->protocol->read_connection_lost(transport, transport->protocol_context);
	transport_settle_close(transport);
}

/* The peer is gone, but what it sent before is still here; also what a pause kept back. */
static void deliver_held_back(struct ferry_transport *transport)
{
	if (!transport->reading_paused)
		return;
	transport->reading_paused = false;
	transport_deliver_kept(transport);
	protocol_offer_input(transport);
}

void protocol_end_broken(struct ferry_transport *transport)
{
	int reason = transport->broken;

	if ((reason == -EPIPE || reason == -ECONNRESET) && !transport->read_ended &&
	    !transport_read_rest(transport))
		return; /* the reader has it go on when it can, and the read step comes here again */
	transport_end(transport, reason);
}

static void write_side_broken(struct ferry_transport *transport, int reason)
{
	if (transport->broken == 0)
		transport->broken = reason;
	deliver_held_back(transport);
	if (!transport_is_over(transport))
		protocol_end_broken(transport);
}

static void fail(struct ferry_transport *transport, int reason, bool never_connected)
{
	if (never_connected)
		transport->made = true; /* and so it will not be */
	/* Read before the error came, by deferred callbacks. */
	if (transport->broken == 0)
		transport->broken = reason;
	if (!never_connected)
		deliver_held_back(transport);
	transport_end(transport, reason);
}

/* Deferred by libevent, several events may come as one. */
static void hear_event(struct ferry_transport *transport, short what, int reason)
{
	if ((what & BEV_EVENT_CONNECTED) != 0)
		protocol_begin(transport);
	if ((what & BEV_EVENT_EOF) != 0)
		read_side_ended(transport);
	if ((what & BEV_EVENT_TIMEOUT) != 0)
		transport_end(transport, -ETIMEDOUT);
	if ((what & BEV_EVENT_ERROR) == 0 || transport_is_over(transport))
		return;
	if ((what & BEV_EVENT_WRITING) != 0)
		write_side_broken(transport, transport->broken != 0 ? transport->broken : reason);
	else
		fail(transport, reason, (what & BEV_EVENT_READING) == 0);
}

void protocol_on_event(struct bufferevent *bev, short what, void *argument)
{
	struct ferry_transport *transport = argument;
	int reason = errno != 0 ? -errno : -EIO;

	(void)transport_lock(transport);
	if (!transport_is_over(transport))
		hear_event(transport, what, reason);
	bufferevent_unlock(bev);
}
