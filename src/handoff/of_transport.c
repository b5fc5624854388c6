#include "handoff/handoff.h"

#include <errno.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/transport.h"
#include "transport/interface.h"

/*
 * A transport becomes a handoff, and a handoff a transport. What travels is the socket and the unread input. All else
 * that a transport has is either the reason for a refusal, because it would be lost, or a setting of this process.
 */

/* What ferry_transport_detach() does not refuse: it leaves bytes in the output. */
static int check_transport(const struct ferry_transport *transport, struct bufferevent *bev)
{
	if (transport_is_over(transport) || transport_is_connecting(transport))
		return -ENOTCONN;
	if (evbuffer_get_length(bufferevent_get_output(bev)) > 0)
		return -EBUSY;
	if (evbuffer_get_length(bufferevent_get_input(bev)) > FERRY_HANDOFF_BYTES_MAX)
		return -EMSGSIZE;
	return 0;
}

/* The caller has the bufferevent locked, and frees it after success. */
static int take_transport(struct ferry_handoff **out, struct ferry_transport *transport,
                          struct bufferevent *bev)
{
	bool inet_stream = transport_is_known_inet(transport);
	int status = check_transport(transport, bev);
	if (status == 0)
		status = handoff_new_with_input(out, bev);
	if (status < 0)
		return status;
	status = ferry_transport_detach(transport, &bev);
	if (status < 0) {
		handoff_free_without_fd(*out);
		return status;
	}
	(*out)->inet_stream = inet_stream;
	handoff_empty_bufferevent(bev);
	return 0;
}

int ferry_handoff_from_transport(struct ferry_handoff **out, struct ferry_transport *transport)
{
	struct ferry_handoff *handoff = NULL;

	if (out == NULL || transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = take_transport(&handoff, transport, bev);
	bufferevent_unlock(bev);
	if (status < 0)
		return status;
	bufferevent_free(bev);
	*out = handoff;
	return 0;
}

int ferry_handoff_to_transport(struct ferry_transport **out, struct ferry_handoff *handoff,
                               struct event_base *base, int options)
{
	struct bufferevent *bev = NULL;

	if (out == NULL || handoff == NULL || base == NULL)
		return -EINVAL;
	int status = handoff_to_bufferevent(&bev, handoff, base, options);
	if (status < 0)
		return status;
	status = transport_new_on_new(out, bev, handoff->inet_stream);
	if (status < 0)
		handoff_take_fd_back(handoff, bev);
	return status;
}
