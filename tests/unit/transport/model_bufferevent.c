#include "model_bufferevent.h"

#include <errno.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "model_sending.h"
#include "model_trace.h"

static struct model_end *enter(void *context, const char *callback)
{
	struct model_end *end = context;

	trace("%s: %s", end->name, callback);
	demand(model_calls == 0, "%s inside a call", callback);
	demand(end->transport != NULL, "%s after ferry_transport_free()", callback);
	demand(end->as_bufferevent, "%s, and a protocol is set", callback);
	model_end_look(end);
	return end;
}

static void act(struct model_end *end)
{
	trace_depth++;
	model_act(end);
	trace_depth--;
}

static void on_readable(struct bufferevent *bev, void *context)
{
	struct model_end *end = enter(context, "the read callback");

	model_end_check_not_paused(end, "the read callback");
	model_end_take_input(end, evbuffer_get_length(bufferevent_get_input(bev)));
	act(end);
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct model_end *end = enter(context, "the callback for descriptors");

	(void)transport;
	model_end_check_not_paused(end, "the callback for descriptors");
	model_end_got_fd(end, fd);
	act(end);
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	struct model_end *end = enter(context, "the event callback");

	(void)bev;
	trace("%s: event %#x", end->name, (unsigned int)what);
	/* With the end comes input that is under the low-water mark, for the event callback to find. */
	model_end_take_input(end, SIZE_MAX);
	if ((what & BEV_EVENT_EOF) != 0) {
		demand(model_end_is_leaving(end->other) || end->other->half_closing || end->half_closing ||
		           end->other->write_timeout != 0, /* whose callback may be to come */
		       "the peer is there");
		end->had_end = true;
	}
	if ((what & BEV_EVENT_TIMEOUT) != 0)
		model_end_check_reason(end, -ETIMEDOUT);
	if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) != 0)
		end->failed = true;
	if ((what & BEV_EVENT_ERROR) != 0)
		demand(model_end_is_leaving(end->other) || end->other->half_closing ||
		           end->other->write_timeout != 0,
		       "the peer is there");
	act(end);
}

void model_bufferevent_begin(struct model_end *end)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(end->transport);

	trace("%s: used as a bufferevent", end->name);
	end->as_bufferevent = true;
	bufferevent_setcb(bev, on_readable, NULL, on_event, end);
	demand(ferry_transport_set_fd_cb(end->transport, on_fd, end) == 0, "set_fd_cb");
	demand(bufferevent_enable(bev, EV_READ) == 0, "enable");
}

void model_bufferevent_finish(struct model_end *end)
{
	if (!end->as_bufferevent || end->transport == NULL)
		return;
	if (end->failed) {
		model_end_free(end);
		return;
	}
	model_end_set_protocol(end, one_in(2));
	if (end->as_bufferevent) { /* it had no protocol whose connection_lost could run */
		demand(end->closing || end->aborted, "the connection is over, and nobody has closed it");
		end->over = true;
		end->reason = -ECONNABORTED;
	}
}
