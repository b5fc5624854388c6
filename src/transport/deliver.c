#include "transport/deliver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/fds.h"
#include "libevent/fields.h"
#include "transport/end.h"

/* ---- the connection ---- */

static void run_connection_made(struct ferry_transport *transport)
{
	const struct ferry_protocol *table = transport->protocol.table;

	transport_connection_made(transport);
	if (table->connection_made != NULL)
		table->connection_made(transport, transport->protocol.context);
}

/* If connection_made sets the next protocol, that one's connection_made runs before anything else of it. */
void transport_deliver_made(struct ferry_transport *transport)
{
	while (transport->protocol.table != NULL && !transport->made && !transport_is_over(transport))
		run_connection_made(transport);
}

void transport_deliver_lost(struct ferry_transport *transport)
{
	if (transport->protocol.table == NULL)
		return;
	if (!transport->made)
		run_connection_made(transport);
	if (!transport->freed && transport->protocol.table->connection_lost != NULL) {
		transport->protocol.table->connection_lost(transport, transport->reason,
		                                           transport->protocol.context);
	}
}

/* ---- bytes ---- */

void transport_deliver_input(struct ferry_transport *transport)
{
	struct evbuffer *input = fields_input(transport->rearm.bev);

	transport_deliver_made(transport);
	/* connection_made may have paused reading: resuming offers the input again. */
	if (!transport_is_open(transport) || transport->protocol.table == NULL ||
	    transport_defers_delivery(transport))
		return;
	incoming_set_undelivered(&transport->in.stream, false);
	if (transport->protocol.table->data_received != NULL && evbuffer_get_length(input) > 0)
		transport->protocol.table->data_received(transport, input, transport->protocol.context);
}

/* Whether bufferevent_trigger() would do nothing but run the callback of a protocol. No getter shows whether a
 * bufferevent defers its callbacks, and that never changes: it is learnt from the first one. */
static bool runs_directly(const struct ferry_transport *transport)
{
	const struct bufferevent *bev = transport->rearm.bev;

	return transport->in.direct && fields_high_mark(bev) == 0 &&
	       fields_read_cb(bev) == transport_steps(transport)->on_readable;
}

/* Like libevent, offers input again that is over a high-water mark which the callback has set. */
static void run_directly(struct ferry_transport *transport)
{
	const struct bufferevent *bev = transport->rearm.bev;

	transport_steps(transport)->readable(transport);
	if (!transport_is_over(transport) && fields_high_mark(bev) > 0 &&
	    evbuffer_get_length(fields_input(bev)) >= fields_high_mark(bev))
		transport_trigger_read_later(transport, false);
}

static bool has_reached_low_mark(const struct bufferevent *bev)
{
	return fields_low_mark(bev) == 0 ||
	       evbuffer_get_length(fields_input(bev)) >= fields_low_mark(bev);
}

void transport_trigger_read(struct ferry_transport *transport, int options)
{
	struct bufferevent *bev = transport->rearm.bev;

	if (transport->in.reader != NULL)
		options |= BEV_TRIG_IGNORE_WATERMARKS;
	if (!runs_directly(transport)) {
		transport->in.triggering = true;
		bufferevent_trigger(bev, EV_READ, options);
		transport->in.triggering = false;
	} else if ((options & BEV_TRIG_IGNORE_WATERMARKS) != 0 || has_reached_low_mark(bev)) {
		run_directly(transport);
	}
}

void transport_trigger_read_later(struct ferry_transport *transport, bool below_mark)
{
	transport->in.trigger_due = true;
	transport->in.trigger_below_mark |= below_mark;
	transport_want_loop(transport);
}

void transport_run_first_offer(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;
	bool due = transport->in.offer_first;

	transport->in.offer_first = false;
	if (due && transport->protocol.table == NULL && !transport_is_over(transport) &&
	    (bufferevent_get_enabled(bev) & EV_READ) != 0 &&
	    evbuffer_get_length(bufferevent_get_input(bev)) > 0)
		transport_trigger_read(transport, 0);
}

void transport_run_triggered(struct ferry_transport *transport)
{
	int options = transport->in.trigger_below_mark ? BEV_TRIG_IGNORE_WATERMARKS : 0;

	if (!transport->in.trigger_due)
		return;
	transport->in.trigger_due = false;
	transport->in.trigger_below_mark = false;
	transport_trigger_read(transport, options);
}

void transport_deliver_rest(struct ferry_transport *transport)
{
	if (transport->in.reader == NULL && !transport_defers_delivery(transport) &&
	    transport->in.stream.undelivered)
		transport_deliver_input(transport);
}

void transport_offer_input(struct ferry_transport *transport)
{
	struct evbuffer *input = fields_input(transport->rearm.bev);

	if (!transport_is_open(transport) || transport_is_connecting(transport) ||
	    transport->in.paused || evbuffer_get_length(input) == 0)
		return;
	incoming_set_undelivered(&transport->in.stream, true);
	/* Without a protocol the caller is in the loop, and no second callback may find an empty input. */
	if (transport->protocol.table != NULL)
		transport_trigger_read_later(transport, false);
	else
		transport_trigger_read(transport, 0);
}

static void offer_paused_input(struct ferry_transport *transport)
{
	struct evbuffer *input = fields_input(transport->rearm.bev);

	transport->in.offer_due = false;
	rearm_release_read_cb(&transport->rearm);
	if (transport->in.half != IN_EOF_UNDELIVERED)
		transport_offer_input(transport);
	else if (evbuffer_get_length(input) > 0)
		/* Nothing follows: less than the low-water mark is offered too. */
		transport_trigger_read_later(transport, true);
	else
		transport_settle_eof(transport);
}

/* The user's own read callback runs from the loop too, and does not overtake the descriptors. */
void transport_offer_deferred(struct ferry_transport *transport)
{
	transport->in.offer_due = transport->in.pending_count > 0 || transport->in.loss_pending ||
	                          transport->protocol.table == NULL;
	if (transport->in.offer_due)
		transport_want_loop(transport);
	else
		offer_paused_input(transport);
}

void transport_settle_eof(struct ferry_transport *transport)
{
	if (transport->in.half != IN_EOF_UNDELIVERED || transport_is_over(transport))
		return;
	transport_read_half_ended(transport);
	transport_settle_close(transport);
}

/* ---- descriptors ---- */

/* Whether a descriptor, or a loss, is delivered now. The callback for the one before may have set another
 * protocol, and connection_made may pause reading. */
static bool is_ready_for_fd(struct ferry_transport *transport)
{
	transport_deliver_made(transport);
	return !transport_defers_delivery(transport);
}

static void deliver_fd(struct ferry_transport *transport, int fd)
{
	const struct ferry_protocol *table = transport->protocol.table;
	const struct transport_fd_cbs *cbs = transport->fd_cbs;
	bool open = transport_is_open(transport);

	if (open && table != NULL && table->file_descriptor_received != NULL) {
		table->file_descriptor_received(transport, fd, transport->protocol.context);
	} else if (open && table == NULL && cbs != NULL && cbs->received != NULL) {
		cbs->received(transport, fd, cbs->received_context);
	} else {
		transport_count_unclaimed_fds(transport, 1);
		close(fd);
	}
}

static void deliver_loss(struct ferry_transport *transport)
{
	const struct transport_fd_cbs *cbs = transport->fd_cbs;

	transport->out.stream.stats.fds_lost++;
	if (!transport_is_open(transport))
		return;
	if (transport->protocol.table != NULL) {
		if (transport->protocol.table->file_descriptors_lost != NULL)
			transport->protocol.table->file_descriptors_lost(transport,
			                                                 transport->protocol.context);
		else
			transport_end(transport, -EMSGSIZE);
	} else if (cbs != NULL && cbs->lost != NULL) {
		cbs->lost(transport, cbs->lost_context);
	} else {
		transport_end(transport, -EMSGSIZE);
		transport_report_event(transport, BEV_EVENT_READING | BEV_EVENT_ERROR, EMSGSIZE);
	}
}

/* Without memory to keep them, the descriptors are closed, and their loss is pending. */
static void add_pending(struct ferry_transport *transport, const int *fds, unsigned int count)
{
	unsigned int total = transport->in.pending_count + count;
	int *memory = realloc(transport->in.pending_fds, total * sizeof(*memory));

	if (memory == NULL) {
		fds_close(fds, count);
		transport->in.loss_pending = true;
		return;
	}
	memcpy(memory + transport->in.pending_count, fds, count * sizeof(*fds));
	transport->in.pending_fds = memory;
	transport->in.pending_count = total;
}

static void hand_to_reader(struct ferry_transport *transport, const struct ancillary *ancillary,
                           ssize_t length)
{
	transport->out.stream.stats.fds_lost += ancillary->truncated;
	if (ancillary->count > 0 || ancillary->truncated)
		transport->in.reader->received(transport->in.reader_argument, ancillary->fds,
		                               ancillary->count, ancillary->truncated,
		                               length > 0 ? (size_t)length : 0);
}

void transport_deliver_fds(struct ferry_transport *transport, const struct ancillary *ancillary,
                           ssize_t length)
{
	unsigned int next = 0;

	transport->out.stream.stats.fds_received += ancillary->count;
	transport->out.stream.stats.controls_ignored += ancillary->ignored;
	if (transport->in.reader != NULL && transport_is_open(transport)) {
		hand_to_reader(transport, ancillary, length);
		return;
	}
	while (next < ancillary->count && is_ready_for_fd(transport)) {
		transport->in.fds_follow = next + 1 < ancillary->count || ancillary->truncated;
		deliver_fd(transport, ancillary->fds[next++]);
	}
	transport->in.fds_follow = false;
	if (next < ancillary->count)
		add_pending(transport, ancillary->fds + next, ancillary->count - next);
	if (ancillary->truncated && is_ready_for_fd(transport))
		deliver_loss(transport);
	else if (ancillary->truncated)
		transport->in.loss_pending = true;
}

static bool is_ready_for_pending(struct ferry_transport *transport)
{
	if (!transport->in.paused)
		transport_deliver_made(transport);
	return !transport->in.paused && !transport->freed;
}

void transport_deliver_all_pending(struct ferry_transport *transport)
{
	struct transport_in *in = &transport->in;

	while (in->pending_count > 0 && is_ready_for_pending(transport)) {
		int fd = in->pending_fds[0];
		in->pending_count--;
		memmove(in->pending_fds, in->pending_fds + 1, in->pending_count * sizeof(*in->pending_fds));
		deliver_fd(transport, fd);
	}
	if (in->loss_pending && is_ready_for_pending(transport)) {
		in->loss_pending = false;
		deliver_loss(transport);
	}
	if (in->pending_count == 0) {
		free(in->pending_fds);
		in->pending_fds = NULL;
	}
	if (in->offer_due && !in->paused && transport_is_open(transport))
		offer_paused_input(transport);
}
