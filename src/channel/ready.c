#include "channel/ready.h"

#include <stdlib.h>

/* ---- place ---- */

static void set_place(struct ferry_channel *channel, enum channel_place place)
{
	if (channel->place == CHANNEL_READY)
		TAILQ_REMOVE(&channel->poller->ready, channel, ready_link);
	if (place == CHANNEL_READY)
		TAILQ_INSERT_TAIL(&channel->poller->ready, channel, ready_link);
	channel->place = place;
}

void ready_wake(struct ferry_channel *channel)
{
	if (channel->place == CHANNEL_IDLE)
		set_place(channel, CHANNEL_READY);
}

struct ferry_channel *ready_take(struct ferry_poller *poller)
{
	struct ferry_channel *channel = TAILQ_FIRST(&poller->ready);

	if (channel != NULL)
		set_place(channel, CHANNEL_IDLE);
	return channel;
}

void ready_enroll(struct ferry_channel *channel)
{
	struct ferry_poller *poller = channel->poller;

	TAILQ_INSERT_TAIL(&poller->registered, channel, link);
	poller->live += channel->notified != CHANNEL_NOTIFIED_CLOSED;
	set_place(channel, CHANNEL_READY);
}

void ready_remove(struct ferry_channel *channel)
{
	struct ferry_poller *poller = channel->poller;

	if (channel->place == CHANNEL_UNREGISTERED)
		return;
	TAILQ_REMOVE(&poller->registered, channel, link);
	poller->live -= channel->notified != CHANNEL_NOTIFIED_CLOSED;
	set_place(channel, CHANNEL_UNREGISTERED);
}

/* ---- out ---- */

void ready_set_out(struct ferry_channel *channel, enum channel_out out)
{
	if (channel->out == out)
		return;
	if (channel->out == CHANNEL_OUT_REFUSED)
		TAILQ_REMOVE(&channel->poller->refused, channel, refused_link);
	if (out == CHANNEL_OUT_REFUSED)
		TAILQ_INSERT_TAIL(&channel->poller->refused, channel, refused_link);
	channel->out = out;
}

/* ---- the freed ---- */

void ready_add_freed(struct ferry_channel *channel)
{
	TAILQ_INSERT_TAIL(&channel->poller->freed_channels, channel, link);
	channel->poller->channels--;
}

void ready_clear_freed(struct ferry_poller *poller)
{
	struct ferry_channel *channel;

	while ((channel = TAILQ_FIRST(&poller->freed_channels)) != NULL) {
		TAILQ_REMOVE(&poller->freed_channels, channel, link);
		free(channel);
	}
}
