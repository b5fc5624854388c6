#include "channel/lifetime.h"

#include <errno.h>
#include <stdlib.h>

#include "channel/ready.h"
#include "channel/sending.h"
#include "ferry/poller.h"

/*
 * A poll runs the poller's own loop until a turn of it has brought events, and takes these out of the channels: one
 * of each in turn, so that with little room for events no channel waits for another.
 */

/* Without an event and without a sleep: other connections may be active for ever. */
enum { TURNS_MAX = 8 };

/* ---- polling ---- */

/* Fills in events until there is no room, or no event. Their number, or -ENOMEM. */
static int fill_events(struct ferry_poller *poller, struct ferry_channel_event *events, int max)
{
	struct ferry_channel *channel;
	int count = 0;

	sending_offer_room(poller);
	while (count < max && (channel = ready_take(poller)) != NULL) {
		struct ferry_channel_event *event = &events[count];
		*event = (struct ferry_channel_event){.channel = channel, .fd = -1};
		int status = channel->kind->next(channel, event);
		if (status > 0)
			count++;
		if (status != 0)
			ready_wake(channel);
		if (status >= 0)
			status = channel->kind->settle(channel, status == 0);
		if (status < 0) {
			ready_wake(channel); /* the next poll tries again */
			return count > 0 ? count : status;
		}
	}
	return count;
}

/* Runs one turn. `*quiet`: no callback was due. */
static int poll_once(struct ferry_poller *poller, struct ferry_channel_event *events, int max,
                     bool *quiet)
{
	int status = wait_turn_and_look(&poller->loop, quiet);
	if (poller->freed)
		return -ECANCELED;
	if (status == 0)
		status = wait_take_interruption(&poller->loop);
	return status == 0 ? fill_events(poller, events, max) : status;
}

/* Takes several turns if need be: an end that has arrived becomes an event in the second. */
static int poll_arrived(struct ferry_poller *poller, struct ferry_channel_event *events, int max)
{
	bool quiet = false;
	int count = 0;

	for (int turns = 0; count == 0 && !quiet && turns < TURNS_MAX; turns++)
		count = poll_once(poller, events, max, &quiet);
	return count;
}

static int wait_for_events(struct ferry_poller *poller, int64_t deadline,
                           struct ferry_channel_event *events, int max)
{
	int status = 0;
	int count = poll_arrived(poller, events, max);

	while (count == 0 && status == 0) {
		if (deadline == 0)
			return 0; /* the loop has run */
		status = wait_run(&poller->loop, deadline);
		if (poller->freed)
			return -ECANCELED;
		if (status == 0)
			count = fill_events(poller, events, max);
		else if (status == -ETIMEDOUT)
			count = poll_arrived(poller, events, max);
	}
	if (count != 0)
		return count;
	return status == -ETIMEDOUT ? 0 : status;
}

int ferry_poller_poll(struct ferry_poller *poller, const struct timeval *timeout,
                      struct ferry_channel_event *events, int max)
{
	int64_t deadline;

	if (poller == NULL || events == NULL || max <= 0 || wait_deadline(timeout, &deadline) < 0)
		return -EINVAL;
	if (wait_is_busy(&poller->loop))
		return -EBUSY;
	batch_clear(&poller->batch);
	ready_clear_freed(poller);
	if (poller->live == 0)
		return -ENOENT;
	int count = wait_for_events(poller, deadline, events, max);
	poller_settle(poller);
	return count;
}

int ferry_poller_steal_fd(struct ferry_poller *poller, struct ferry_channel_event *event)
{
	if (poller == NULL || event == NULL)
		return -EINVAL;
	int fd = event->fd;
	if (event->kind != FERRY_CHANNEL_FD || fd < 0 || batch_steal_fd(&poller->batch, fd) < 0)
		return -ENOENT;
	event->fd = -1;
	return fd;
}

int ferry_poller_interrupt(struct ferry_poller *poller)
{
	if (poller == NULL)
		return -EINVAL;
	wait_interrupt(&poller->loop);
	return 0;
}

/* ---- registering ---- */

int ferry_poller_register(struct ferry_poller *poller, struct ferry_channel *channel)
{
	if (poller == NULL || channel == NULL || channel->poller != poller)
		return -EINVAL;
	if (channel->life == CHANNEL_FREED || poller->freed)
		return -ENOTCONN;
	if (channel->place != CHANNEL_UNREGISTERED)
		return -EALREADY;
	ready_enroll(channel);
	int status = channel->kind->start(channel);
	if (status < 0)
		ready_remove(channel);
	return status;
}

int ferry_poller_unregister(struct ferry_poller *poller, struct ferry_channel *channel)
{
	if (poller == NULL || channel == NULL || channel->poller != poller)
		return -EINVAL;
	if (channel->place == CHANNEL_UNREGISTERED)
		return -ENOENT;
	ready_remove(channel);
	(void)channel->kind->settle(channel, false); /* a pause cannot fail */
	return 0;
}

/* ---- making and freeing ---- */

int ferry_poller_new(struct ferry_poller **out)
{
	if (out == NULL)
		return -EINVAL;
	poller_settle_abandoned();
	struct ferry_poller *poller = calloc(1, sizeof(*poller));
	if (poller == NULL)
		return -ENOMEM;
	TAILQ_INIT(&poller->registered);
	TAILQ_INIT(&poller->ready);
	TAILQ_INIT(&poller->refused);
	TAILQ_INIT(&poller->freed_channels);
	batch_init(&poller->batch);
	int status = wait_open(&poller->loop);
	if (status == 0)
		*out = poller;
	else
		poller_destroy(poller);
	return status;
}

struct event_base *ferry_poller_get_base(const struct ferry_poller *poller)
{
	return poller != NULL ? poller->loop.base : NULL;
}
