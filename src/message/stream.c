#include "message/core.h"

#include <errno.h>
#include <stdlib.h>

#include "kernel/ancillary.h"
#include "libevent/deferred_free.h"
#include "message/receipts.h"
#include "message/receive.h"
#include "message/wire.h"
#include "transport/interface.h"

/*
 * The stream itself: a protocol on a transport, which it owns, and the settings of both directions.
 */

enum { PAYLOAD_DEFAULT = 1024 * 1024 };

/* ---- the transport's protocol ---- */

static void connection_made(struct ferry_transport *transport, void *context)
{
	(void)transport;
	struct ferry_message_stream *stream = context;
	if (stream->callbacks->connection_made != NULL)
		stream->callbacks->connection_made(stream, stream->context);
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport;
	message_receive_input(context, input);
}

static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	(void)transport;
	message_receive_peer_end(context);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct ferry_message_stream *stream = context;

	message_receive_close_fds(stream);
	message_receipts_end(stream, reason);
	if (!stream->freed && stream->callbacks->connection_lost != NULL)
		stream->callbacks->connection_lost(stream, reason, stream->context);
}

static const struct ferry_protocol protocol = {
    .connection_made = connection_made,
    .data_received = data_received,
    .read_connection_lost = read_connection_lost,
    .connection_lost = connection_lost,
};

/* ---- lifetime ---- */

/* As the timer's finaliser it runs in the loop, when no callback of the stream is on the stack. */
static void release_message_stream(struct event *timer, void *argument)
{
	(void)timer;
	struct ferry_message_stream *stream = argument;

	arrivals_close(&stream->arrivals);
	if (stream->partial != NULL)
		evbuffer_free(stream->partial);
	free(stream->receipts);
	free(stream);
}

/* Frees a stream that no callback knows yet. */
static void discard_message_stream(struct ferry_message_stream *stream)
{
	if (stream->timer != NULL)
		event_free(stream->timer);
	release_message_stream(NULL, stream);
}

static struct ferry_message_stream *
allocate_message_stream(struct ferry_transport *transport,
                        const struct ferry_message_callbacks *callbacks, void *context)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	struct ferry_message_stream *stream = calloc(1, sizeof(*stream));
	if (stream == NULL)
		return NULL;
	stream->partial = evbuffer_new();
	stream->timer = event_new(bufferevent_get_base(bev), -1, 0, message_receive_on_timer, stream);
	if (stream->partial == NULL || stream->timer == NULL) {
		discard_message_stream(stream);
		return NULL;
	}
	stream->transport = transport;
	stream->bev = bev;
	stream->callbacks = callbacks;
	stream->context = context;
	stream->max_payload = PAYLOAD_DEFAULT;
	stream->max_fds = ANCILLARY_MAX_FDS;
	return stream;
}

/* The descriptors of a frame leave in one control message, with its first byte and no other's. */
static void set_up_transport(struct ferry_message_stream *stream)
{
	ferry_transport_set_fd_coalescing(stream->transport, false);
	ferry_transport_set_max_fds_per_message(stream->transport, ANCILLARY_MAX_FDS);
	message_receive_start(stream);
}

int ferry_message_stream_new(struct ferry_message_stream **out, struct ferry_transport *transport,
                             const struct ferry_message_callbacks *callbacks, void *context)
{
	if (out == NULL || transport == NULL || callbacks == NULL)
		return -EINVAL;
	struct ferry_message_stream *stream = allocate_message_stream(transport, callbacks, context);
	if (stream == NULL)
		return -ENOMEM;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_own(transport, &protocol, stream, false);
	if (status < 0) {
		discard_message_stream(stream);
	} else {
		set_up_transport(stream);
		*out = stream;
	}
	bufferevent_unlock(bev);
	return status;
}

void ferry_message_stream_free(struct ferry_message_stream *stream)
{
	if (stream == NULL)
		return;
	struct bufferevent *bev = transport_lock(stream->transport);
	if (!stream->freed) {
		stream->freed = true;
		message_receive_close_fds(stream);
		ferry_transport_free(stream->transport);
		message_receipts_free(stream);
		deferred_free(stream->timer, release_message_stream);
	}
	bufferevent_unlock(bev);
}

struct ferry_transport *
ferry_message_stream_get_transport(const struct ferry_message_stream *stream)
{
	return stream != NULL ? stream->transport : NULL;
}

/* ---- the ends of the connection ---- */

int ferry_message_stream_lose_connection(struct ferry_message_stream *stream)
{
	return ferry_transport_lose_connection(ferry_message_stream_get_transport(stream));
}

int ferry_message_stream_lose_write_connection(struct ferry_message_stream *stream)
{
	return ferry_transport_lose_write_connection(ferry_message_stream_get_transport(stream));
}

int ferry_message_stream_abort_connection(struct ferry_message_stream *stream)
{
	return ferry_transport_abort_connection(ferry_message_stream_get_transport(stream));
}

/* ---- settings ---- */

int ferry_message_stream_set_limits(struct ferry_message_stream *stream, size_t max_payload,
                                    unsigned int max_fds)
{
	if (stream == NULL || max_payload > MESSAGE_PAYLOAD_MAX || max_fds > ANCILLARY_MAX_FDS)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	stream->max_payload = max_payload;
	stream->max_fds = max_fds;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_message_stream_set_fd_reserve(struct ferry_message_stream *stream, unsigned int reserve)
{
	if (stream == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	stream->fd_reserve = reserve;
	bufferevent_unlock(bev);
	return 0;
}
