#include <errno.h>

#include "channel/lifetime.h"
#include "channel/ready.h"
#include "channel/sending.h"
#include "ferry/poller.h"

/*
 * The ends of channels and of the poller. A channel that is freed is closed at once, but its object lives until
 * the next poll: events of the last poll may still point to it.
 */

static void dismiss(struct ferry_channel *channel)
{
	if (channel->life == CHANNEL_FREED)
		return;
	channel_set_freed(channel);
	ready_remove(channel);
	ready_set_out(channel, CHANNEL_OUT_OPEN);
	channel->kind->close_down(channel);
	ready_add_freed(channel);
}

static void dismiss_registered(struct ferry_poller *poller)
{
	struct ferry_channel *channel;

	while ((channel = TAILQ_FIRST(&poller->registered)) != NULL)
		dismiss(channel);
}

/* ---- freeing ---- */

void ferry_channel_free(struct ferry_channel *channel)
{
	if (channel == NULL || channel->life == CHANNEL_FREED)
		return;
	struct ferry_poller *poller = channel->poller;
	dismiss(channel);
	poller_settle(poller);
}

void ferry_poller_free(struct ferry_poller *poller)
{
	poller_settle_abandoned();
	if (poller == NULL || poller->freed)
		return;
	poller->freed = true;
	dismiss_registered(poller);
	batch_destroy(&poller->batch);
	poller_settle(poller);
}

/* ---- closing all ---- */

static void dismiss_servers(struct ferry_poller *poller)
{
	struct ferry_channel *channel = TAILQ_FIRST(&poller->registered), *next;

	for (; channel != NULL; channel = next) {
		next = TAILQ_NEXT(channel, link);
		if (!channel->kind->sends)
			dismiss(channel);
	}
}

static size_t start_draining_all(struct ferry_poller *poller)
{
	struct ferry_channel *channel;
	size_t count = 0;

	TAILQ_FOREACH (channel, &poller->registered, link)
		count += sending_start_draining(channel);
	return count;
}

static size_t count_draining(struct ferry_poller *poller, int *status)
{
	struct ferry_channel *channel;
	size_t count = 0;

	TAILQ_FOREACH (channel, &poller->registered, link)
		count += sending_is_draining(channel, status);
	return count;
}

int ferry_poller_close_all(struct ferry_poller *poller, const struct timeval *timeout)
{
	int64_t deadline;
	int status = 0, failure = 0;

	if (poller == NULL || wait_deadline(timeout, &deadline) < 0)
		return -EINVAL;
	if (wait_is_busy(&poller->loop))
		return -EBUSY;
	dismiss_servers(poller);
	size_t draining = start_draining_all(poller);
	while (draining > 0 && status == 0) {
		status = wait_run(&poller->loop, deadline);
		draining = count_draining(poller, &failure);
	}
	if (status == -ETIMEDOUT && draining == 0)
		status = 0;
	dismiss_registered(poller);
	(void)wait_turn(&poller->loop); /* finalises the transports */
	if (poller->freed) {
		poller_settle(poller);
		return -ECANCELED;
	}
	return status != 0 ? status : failure;
}
