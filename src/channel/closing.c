#include <errno.h>

#include "channel/poller.h"
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

/* The loop finalises closed transports, and closes their descriptors. */
static void finish_closing(struct ferry_poller *poller)
{
	if (poller->loop.running)
		return;
	(void)wait_turn(&poller->loop);
	if (!poller->freed)
		return;
	ready_clear_freed(poller);
	if (poller->channels == 0)
		poller_destroy(poller);
}

void ferry_channel_free(struct ferry_channel *channel)
{
	if (channel == NULL || channel->life == CHANNEL_FREED)
		return;
	dismiss(channel);
	finish_closing(channel->poller);
}

void ferry_poller_free(struct ferry_poller *poller)
{
	if (poller == NULL)
		return;
	dismiss_registered(poller);
	batch_destroy(&poller->batch);
	poller->freed = true;
	finish_closing(poller);
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
	if (poller->loop.running)
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
	finish_closing(poller);
	return status != 0 ? status : failure;
}
