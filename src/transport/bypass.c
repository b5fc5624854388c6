#include "transport/bypass.h"

#include "transport/end.h"
#include "transport/write.h"

static bool is_unlimited(const struct ferry_transport *transport)
{
	return (transport->out.stream.framing == OUTGOING_SEGMENTS ||
	        transport->out.stream.carries_fds) &&
	       transport->life == TRANSPORT_OPEN && !transport->freed &&
	       !transport_is_connecting(transport) && transport->rate_limit_group == NULL &&
	       transport->rearm.write_gate == NULL &&
	       rearm_get_timeout(&transport->rearm, EV_READ) == NULL &&
	       rearm_get_timeout(&transport->rearm, EV_WRITE) == NULL &&
	       bufferevent_get_token_bucket_cfg(transport->rearm.bev) == NULL;
}

/* Whether bytes can be told from bytes with descriptors without a copy. */
static bool shows_descriptors(const struct ferry_transport *transport)
{
	return !transport->out.stream.carries_fds ||
	       (transport->in.stream.way == INCOMING_EXACT &&
	        transport->in.stream.part->positions.support == FD_AHEAD_FREE);
}

bool transport_input_is_bypassable(const struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;

	return is_unlimited(transport) && shows_descriptors(transport) &&
	       transport->in.half == IN_OPEN && !transport->in.paused && transport->in.reader == NULL &&
	       transport->out.half != OUT_BROKEN && (bufferevent_get_enabled(bev) & EV_READ) != 0 &&
	       evbuffer_get_length(bufferevent_get_input(bev)) == 0;
}

bool transport_output_is_bypassable(const struct ferry_transport *transport)
{
	return is_unlimited(transport) && transport->out.half == OUT_OPEN &&
	       !transport->out.step.out_of_memory &&
	       (bufferevent_get_enabled(transport->rearm.bev) & EV_WRITE) != 0 &&
	       outgoing_is_sent(&transport->out.stream) &&
	       marks_count(transport->out.stream.marks) == 0;
}

ssize_t transport_count_bypassable(struct ferry_transport *transport, size_t max)
{
	struct incoming *stream = &transport->in.stream;

	if (!transport->out.stream.carries_fds)
		return (ssize_t)max;
	incoming_set_way(stream, stream->way); /* the transport no longer knows where it reads on */
	ssize_t length = fd_ahead_count_clear(bufferevent_getfd(transport->rearm.bev));
	return length > (ssize_t)max ? (ssize_t)max : length;
}

void transport_count_bypassed(struct ferry_transport *from, struct ferry_transport *to,
                              size_t length)
{
	from->out.stream.stats.bytes_received += length;
	to->out.stream.stats.bytes_sent += length;
}

void transport_report_bypassed_error(struct ferry_transport *transport, short what, int error)
{
	struct bufferevent *bev = transport_lock(transport);

	if (!transport_is_over(transport) && what == EV_WRITE)
		transport_write_failed(transport, error);
	else if (!transport_is_over(transport))
		transport_report_event(transport, BEV_EVENT_READING | BEV_EVENT_ERROR, -error);
	bufferevent_unlock(bev);
}
