#include "transport/loop.h"

#include "libevent/fields.h"
#include "transport/deliver.h"
#include "transport/end.h"
#include "transport/read.h"
#include "transport/write.h"

/*
 * Work that must run from the loop and not inside the call that caused it: connection_made and
 * connection_lost, the callbacks of stopped files, pending descriptors, the bufferevent's callbacks, and another
 * write when the kernel was out of memory.
 */

static void run_connection_lost(struct ferry_transport *transport)
{
	transport_dismiss_watcher(transport);
	while (!transport->freed && marks_notify(transport->out.stream.marks))
		continue;
	if (transport->freed)
		return;
	transport_advance_life(transport, TRANSPORT_ENDED);
	transport_deliver_lost(transport);
}

/* libevent adds the write event when the suspension ends. The event is for queued output; the user asked for no
 * write callback. */
static void end_suspension(struct ferry_transport *transport)
{
	bool waiting = rearm_open_write_gate(&transport->rearm);
	transport_rejoin_group(transport);
	if (!waiting)
		transport_stop_waiting(transport);
	if (!outgoing_is_sent(&transport->out.stream))
		transport_want_write(transport);
}

static void run_loop_work(struct ferry_transport *transport)
{
	if (transport->rearm.write_gate != NULL)
		end_suspension(transport);
	if (!transport_is_connecting(transport))
		transport_deliver_made(transport);
	if (transport->watch_due)
		transport_arm_watch(transport);
	transport_settle_close_due(transport);
	if (!transport_is_over(transport))
		transport_deliver_pending(transport);
	if (!transport->freed)
		transport_run_first_offer(transport);
	if (!transport->freed)
		transport_run_triggered(transport);
	if (!transport_is_over(transport))
		transport_notify_flushed(transport);
	/* The last file may have been stopped while writing is disabled. */
	transport_settle_close(transport);
	/* Nothing can be sent any more, but what the peer has sent is still to be delivered. */
	if (transport->out.half == OUT_BROKEN && transport->protocol.table != NULL)
		transport_dismiss_watcher(transport);
	transport_settle_broken(transport);
	if (!transport_is_over(transport) && transport->out.step.out_of_memory &&
	    (fields_enabled(transport->rearm.bev) & EV_WRITE) != 0)
		transport_write_step(transport, true);
	if (!transport->freed && transport->life == TRANSPORT_LOST)
		run_connection_lost(transport);
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
