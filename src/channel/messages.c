#include "channel/messages.h"

#include <errno.h>
#include <stdlib.h>

#include "channel/channel.h"
#include "ferry/message.h"
#include "kernel/ancillary.h"
#include "message/kept.h"
#include "message/receive.h"
#include "message/wire.h"
#include "transport/interface.h"

/*
 * A channel of messages. In the place of the channel's protocol, a stream of messages is on the transport. Its messages
 * become items in the channel's queue, with their descriptors.
 */

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	struct ferry_channel *channel = context;
	struct channel_item *item = malloc(sizeof(*item));
	struct ferry_message *kept = item != NULL ? message_keep(message) : NULL;

	if (kept == NULL) {
		free(item);
		message_stream_end(stream, -ENOMEM);
		return;
	}
	*item = (struct channel_item){.fd = -1, .message = kept};
	channel_add_item(channel, item);
}

static void read_connection_lost(struct ferry_message_stream *stream, void *context)
{
	(void)stream;
	channel_peer_ended(context);
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream;
	channel_lost(context, reason);
}

int channel_use_messages(struct ferry_channel *channel, struct ferry_transport *transport)
{
	static const struct ferry_message_callbacks callbacks = {
	    .message_received = message_received,
	    .read_connection_lost = read_connection_lost,
	    .connection_lost = connection_lost,
	};

	int status = ferry_transport_pause_reading(transport);
	if (status == 0)
		status = ferry_message_stream_new(&channel->messages, transport, &callbacks, channel);
	if (status < 0)
		return status;
	channel->transport = transport;
	return ferry_message_stream_set_limits(channel->messages, channel->settings.max_payload,
	                                       channel->settings.max_fds);
}

/* Whether the channel has read nothing yet, as bytes or lines. */
static bool is_unused(const struct ferry_channel *channel)
{
	return channel->place == CHANNEL_UNREGISTERED && channel->in.received == 0 &&
	       channel->in.item_count == 0 && !channel->in.fds_lost;
}

/* The stream of messages becomes the owner of the transport, in the place of the channel. */
static int change_to_messages(struct ferry_channel *channel)
{
	struct ferry_transport *transport = channel->transport;

	if (!is_unused(channel))
		return -EBUSY;
	struct bufferevent *bev = transport_lock(transport);
	transport_set_owned(transport, false);
	int status = channel_use_messages(channel, transport);
	if (status < 0)
		transport_set_owned(transport, true);
	bufferevent_unlock(bev);
	return status;
}

int ferry_channel_set_messages(struct ferry_channel *channel, size_t max_payload,
                               unsigned int max_fds)
{
	if (channel == NULL || max_payload > MESSAGE_PAYLOAD_MAX || max_fds > ANCILLARY_MAX_FDS)
		return -EINVAL;
	const struct channel_settings before = channel->settings;
	if (channel->kind->sends && channel->transport == NULL)
		return -ENOTCONN;
	channel->settings.lines = false;
	channel->settings.messages = true;
	channel->settings.max_payload = max_payload;
	channel->settings.max_fds = max_fds;
	if (!channel->kind->sends)
		return 0;
	int status = channel->messages != NULL
	                 ? ferry_message_stream_set_limits(channel->messages, max_payload, max_fds)
	                 : change_to_messages(channel);
	if (status < 0)
		channel->settings = before;
	return status;
}
