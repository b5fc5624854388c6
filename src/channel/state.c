#include "channel/state.h"

#include <stdlib.h>

#include <event2/buffer.h>

enum { READ_LIMIT_DEFAULT = 256 * 1024, WRITE_LIMIT_DEFAULT = 1024 * 1024 };

void channel_init(struct ferry_channel *channel, struct ferry_poller *poller,
                  const struct channel_kind *kind)
{
	channel->kind = kind;
	channel->poller = poller;
	channel->settings.read_limit = READ_LIMIT_DEFAULT;
	channel->settings.write_limit = WRITE_LIMIT_DEFAULT;
	line_scanner_set_delimiter(&channel->in.scanner, "\n", 1);
	STAILQ_INIT(&channel->in.items);
	poller->channels++;
}

void channel_discard(struct ferry_channel *channel)
{
	channel->poller->channels--;
	if (channel->in.buffer != NULL)
		evbuffer_free(channel->in.buffer);
	free(channel);
}

/* The peer's end of file. It is final; bytes and descriptors that came before it are still pending. */
void channel_set_half_ended(struct ferry_channel *channel)
{
	channel->in.half = CHANNEL_HALF_ENDED;
}

/* The transport, or the listener, has done so already. Its state is in here as well, because the kind compares
 * with it after each event: pausing again costs system calls. */
void channel_set_flow(struct ferry_channel *channel, enum channel_flow flow)
{
	channel->in.flow = flow;
}

/* The transport's connection_lost has run, which is its last callback. */
void channel_set_over(struct ferry_channel *channel, int reason)
{
	channel->life = CHANNEL_OVER;
	channel->reason = reason;
	channel->transport = NULL;
}

/* The user has freed the channel. This comes before the transport is closed, which runs stop_producing: the
 * user may free the channel again in there. */
void channel_set_freed(struct ferry_channel *channel)
{
	channel->life = CHANNEL_FREED;
}

/* END comes before CLOSED, and each at most once. After CLOSED the poller need not wait for this channel. */
void channel_set_notified(struct ferry_channel *channel, enum channel_notified notified)
{
	if (notified == CHANNEL_NOTIFIED_CLOSED)
		channel->poller->live--;
	channel->notified = notified;
}
