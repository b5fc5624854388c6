#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "channel/channel.h"
#include "kernel/fd_slots.h"

/*
 * A poll runs the poller's own loop until it is quiet, and then takes out what the channels have: one event
 * of each in turn, so that with little room none waits for another.
 *
 *   registered channels:  idle  ----- something has come ---->  ready (a list, in turn)
 *                               <---- no event left ----------
 *
 * The loop swallows EINTR, and a signal that comes just before it sleeps would not wake it in any case: a
 * descriptor that is readable, which ferry_poller_interrupt() makes it, does.
 */

enum {
	TURNS_MAX = 64, /* of one look: peers that never pause must not hold the poll up */
	MICROSECONDS = 1000000,
	BASE_FDS = 3 /* of an event_base: epoll's, and two for signals */
};
static const int64_t longest_wait = (int64_t)3600 * MICROSECONDS; /* of one run of the loop */

/* ---- the loop ---- */

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * MICROSECONDS + time.tv_nsec / 1000;
}

int poller_deadline(const struct timeval *timeout, int64_t *deadline)
{
	*deadline = INT64_MAX;
	if (timeout == NULL)
		return 0;
	if (timeout->tv_sec < 0 || timeout->tv_usec < 0 || timeout->tv_usec >= MICROSECONDS)
		return -EINVAL;
	if (timeout->tv_sec == 0 && timeout->tv_usec == 0)
		*deadline = 0; /* without a look at the clock */
	else if (timeout->tv_sec < INT64_MAX / MICROSECONDS / 4)
		*deadline = now() + (int64_t)timeout->tv_sec * MICROSECONDS + timeout->tv_usec;
	return 0;
}

/* One event at least is active or will be, so the loop comes back. */
static int run_loop(struct ferry_poller *poller)
{
	poller->running = true;
	int status = event_base_loop(poller->base, EVLOOP_ONCE);
	poller->running = false;
	return status < 0 ? -EIO : 0;
}

static void wake_up(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

int poller_turn(struct ferry_poller *poller)
{
	event_active(poller->timer, EV_TIMEOUT, 0);
	return run_loop(poller);
}

static int take_interruption(struct ferry_poller *poller)
{
	bool interrupted = poller->interrupted;
	poller->interrupted = false;
	return interrupted ? -EINTR : 0;
}

int poller_run(struct ferry_poller *poller, int64_t deadline)
{
	if (poller->running)
		return -EBUSY;
	int64_t left = deadline == 0 || deadline == INT64_MAX ? deadline : deadline - now();
	int status;

	if (left > longest_wait)
		left = longest_wait;
	if (left <= 0) {
		status = poller_turn(poller);
	} else {
		struct timeval wait = {(time_t)(left / MICROSECONDS), (suseconds_t)(left % MICROSECONDS)};
		if (event_add(poller->timer, &wait) < 0)
			return -ENOMEM;
		status = run_loop(poller);
		event_del(poller->timer);
	}
	if (status == 0)
		status = take_interruption(poller);
	return status == 0 && left <= 0 ? -ETIMEDOUT : status;
}

/* Lets the loop do what can be done without waiting. That a turn was quiet shows in the number of events
 * that were active in it: but for the timer none. */
static int look(struct ferry_poller *poller)
{
	int status = 0, active = 2;

	for (int turns = 0; status == 0 && active > 1 && turns < TURNS_MAX; turns++) {
		event_base_get_max_events(poller->base, EVENT_BASE_COUNT_ACTIVE, 1);
		status = poller_turn(poller);
		active = event_base_get_max_events(poller->base, EVENT_BASE_COUNT_ACTIVE, 0);
	}
	return status;
}

/* ---- which channels have something ---- */

void poller_wake(struct ferry_channel *channel)
{
	if (!channel->registered || channel->ready)
		return;
	channel->ready = true;
	TAILQ_INSERT_TAIL(&channel->poller->ready, channel, ready_link);
}

void poller_note_refused(struct ferry_channel *channel)
{
	if (channel->refused)
		return;
	channel->refused = true;
	TAILQ_INSERT_TAIL(&channel->poller->refused, channel, refused_link);
}

static void accept_writes(struct ferry_channel *channel)
{
	channel->refused = false;
	TAILQ_REMOVE(&channel->poller->refused, channel, refused_link);
}

static void look_for_room(struct ferry_poller *poller)
{
	struct ferry_channel *channel = TAILQ_FIRST(&poller->refused), *next;

	for (; channel != NULL; channel = next) {
		next = TAILQ_NEXT(channel, refused_link);
		if (channel->transport == NULL) {
			accept_writes(channel); /* its end tells enough */
		} else if (channel->registered && channel_queued(channel) <= channel->write_limit / 2) {
			accept_writes(channel);
			channel->writable = true;
			poller_wake(channel);
		}
	}
}

/* Fills in events until there is no room, or no event. How many, or -ENOMEM. */
static int give(struct ferry_poller *poller, struct ferry_channel_event *events, int max)
{
	struct ferry_channel *channel;
	int count = 0;

	look_for_room(poller);
	while (count < max && (channel = TAILQ_FIRST(&poller->ready)) != NULL) {
		TAILQ_REMOVE(&poller->ready, channel, ready_link);
		channel->ready = false;
		int status = channel_next(channel, &events[count]);
		if (status > 0)
			count++;
		if (status != 0)
			poller_wake(channel);
		if (status >= 0)
			status = channel_settle_reading(channel, status == 0);
		if (status < 0) {
			poller_wake(channel); /* the next poll tries again */
			return count > 0 ? count : status;
		}
	}
	return count;
}

/* ---- polling ---- */

static void release_freed(struct ferry_poller *poller)
{
	struct ferry_channel *channel;

	while ((channel = TAILQ_FIRST(&poller->freed_channels)) != NULL) {
		TAILQ_REMOVE(&poller->freed_channels, channel, link);
		free(channel);
	}
}

static int poll_once(struct ferry_poller *poller, struct ferry_channel_event *events, int max)
{
	int status = look(poller);
	if (status == 0)
		status = take_interruption(poller);
	return status == 0 ? give(poller, events, max) : status;
}

int ferry_poller_poll(struct ferry_poller *poller, const struct timeval *timeout,
                      struct ferry_channel_event *events, int max)
{
	int64_t deadline;

	if (poller == NULL || events == NULL || max <= 0 || poller_deadline(timeout, &deadline) < 0)
		return -EINVAL;
	if (poller->running)
		return -EBUSY;
	held_release(&poller->held);
	release_freed(poller);
	if (poller->live == 0)
		return -ENOENT;

	int status = 0;
	int count = poll_once(poller, events, max);
	while (count == 0 && status == 0) {
		if (deadline == 0)
			return 0; /* it was looked at */
		status = poller_run(poller, deadline);
		if (status == 0 || status == -ETIMEDOUT)
			count = poll_once(poller, events, max);
	}
	if (count != 0)
		return count;
	return status == -ETIMEDOUT ? 0 : status;
}

int ferry_poller_steal_fd(struct ferry_poller *poller, struct ferry_channel_event *event)
{
	if (poller == NULL || event == NULL)
		return -EINVAL;
	int fd = event->fd;
	if (event->kind != FERRY_CHANNEL_FD || fd < 0 || held_steal(&poller->held, fd) < 0)
		return -ENOENT;
	event->fd = -1;
	return fd;
}

int ferry_poller_interrupt(struct ferry_poller *poller)
{
	if (poller == NULL)
		return -EINVAL;
	const uint64_t one = 1;
	const int error = errno; /* a signal handler leaves it as it was */
	/* It fails when there are 2^64 - 2 interruptions already. */
	(void)!write(poller->interruption_fd, &one, sizeof(one));
	errno = error;
	return 0;
}

static void hear_interruption(evutil_socket_t fd, short what, void *argument)
{
	(void)what;
	struct ferry_poller *poller = argument;
	uint64_t count;

	if (read((int)fd, &count, sizeof(count)) > 0)
		poller->interrupted = true;
}

/* ---- registering ---- */

void poller_enroll(struct ferry_channel *channel)
{
	struct ferry_poller *poller = channel->poller;

	channel->registered = true;
	TAILQ_INSERT_TAIL(&poller->registered, channel, link);
	poller->live += !channel->closed_told;
	poller_wake(channel);
}

static void forget(struct ferry_channel *channel)
{
	struct ferry_poller *poller = channel->poller;

	if (!channel->registered)
		return;
	channel->registered = false;
	TAILQ_REMOVE(&poller->registered, channel, link);
	poller->live -= !channel->closed_told;
	if (channel->ready)
		TAILQ_REMOVE(&poller->ready, channel, ready_link);
	channel->ready = false;
}

int ferry_poller_register(struct ferry_poller *poller, struct ferry_channel *channel)
{
	if (poller == NULL || channel == NULL || channel->poller != poller)
		return -EINVAL;
	if (channel->freed)
		return -ENOTCONN;
	if (channel->registered)
		return -EALREADY;
	poller_enroll(channel);
	int status = channel_settle_reading(channel, true);
	if (status < 0)
		forget(channel);
	else
		channel_settle_end(channel);
	return status;
}

int ferry_poller_unregister(struct ferry_poller *poller, struct ferry_channel *channel)
{
	if (poller == NULL || channel == NULL || channel->poller != poller)
		return -EINVAL;
	if (!channel->registered)
		return -ENOENT;
	forget(channel);
	(void)channel_settle_reading(channel, false); /* stopping cannot fail */
	return 0;
}

/* ---- lifetime ---- */

static void destroy(struct ferry_poller *poller)
{
	if (poller->timer != NULL)
		event_free(poller->timer);
	if (poller->interruption != NULL)
		event_free(poller->interruption);
	if (poller->interruption_fd >= 0)
		close(poller->interruption_fd);
	if (poller->base != NULL)
		event_base_free(poller->base);
	held_destroy(&poller->held);
	free(poller);
}

static int begin(struct ferry_poller *poller)
{
	poller->interruption_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (poller->interruption_fd < 0)
		return -errno;
	if (!fd_slots_are_free(poller->interruption_fd, BASE_FDS))
		return -EMFILE; /* without them libevent ends the process */
	poller->base = event_base_new();
	if (poller->base == NULL)
		return -ENOMEM;
	poller->timer = event_new(poller->base, -1, 0, wake_up, NULL);
	poller->interruption = event_new(poller->base, poller->interruption_fd, EV_READ | EV_PERSIST,
	                                 hear_interruption, poller);
	if (poller->timer == NULL || poller->interruption == NULL ||
	    event_add(poller->interruption, NULL) < 0)
		return -ENOMEM;
	return 0;
}

int ferry_poller_new(struct ferry_poller **out)
{
	if (out == NULL)
		return -EINVAL;
	struct ferry_poller *poller = calloc(1, sizeof(*poller));
	if (poller == NULL)
		return -ENOMEM;
	TAILQ_INIT(&poller->registered);
	TAILQ_INIT(&poller->ready);
	TAILQ_INIT(&poller->refused);
	TAILQ_INIT(&poller->freed_channels);
	held_init(&poller->held);
	int status = begin(poller);
	if (status == 0)
		*out = poller;
	else
		destroy(poller);
	return status;
}

struct event_base *ferry_poller_get_base(const struct ferry_poller *poller)
{
	return poller != NULL ? poller->base : NULL;
}

/* The object stays until the next poll. */
static void dismiss(struct ferry_channel *channel)
{
	struct ferry_poller *poller = channel->poller;

	forget(channel);
	if (channel->refused)
		accept_writes(channel);
	channel_close_down(channel);
	TAILQ_INSERT_TAIL(&poller->freed_channels, channel, link);
	poller->channels--;
}

/* What was closed is finalised by the loop, its descriptors too. */
static void finish_closing(struct ferry_poller *poller)
{
	if (poller->running)
		return;
	(void)poller_turn(poller);
	if (!poller->freed)
		return;
	release_freed(poller);
	if (poller->channels == 0)
		destroy(poller);
}

void ferry_channel_free(struct ferry_channel *channel)
{
	if (channel == NULL || channel->freed)
		return;
	dismiss(channel);
	finish_closing(channel->poller);
}

void ferry_poller_free(struct ferry_poller *poller)
{
	struct ferry_channel *channel;

	if (poller == NULL)
		return;
	while ((channel = TAILQ_FIRST(&poller->registered)) != NULL)
		dismiss(channel);
	held_destroy(&poller->held);
	poller->freed = true;
	finish_closing(poller);
}

/* ---- closing all ---- */

static void dismiss_servers(struct ferry_poller *poller)
{
	struct ferry_channel *channel = TAILQ_FIRST(&poller->registered), *next;

	for (; channel != NULL; channel = next) {
		next = TAILQ_NEXT(channel, link);
		if (channel->listener != NULL)
			dismiss(channel);
	}
}

/* Has a channel close once its queue is sent. Whether it has one. */
static bool start_closing(struct ferry_channel *channel)
{
	if (channel->transport == NULL)
		return false;
	channel->sending = channel_queued(channel) > 0;
	ferry_transport_lose_connection(channel->transport);
	return channel->sending;
}

/* Whether it is still sending; `status` becomes how it has ended, if that was badly. */
static bool is_sending(struct ferry_channel *channel, int *status)
{
	if (!channel->sending)
		return false;
	if (channel->transport != NULL)
		return channel_queued(channel) > 0;
	channel->sending = false;
	if (channel->reason < 0)
		*status = -EPIPE;
	return false;
}

static size_t start_closing_all(struct ferry_poller *poller)
{
	struct ferry_channel *channel;
	size_t count = 0;

	TAILQ_FOREACH (channel, &poller->registered, link)
		count += start_closing(channel);
	return count;
}

static size_t count_sending(struct ferry_poller *poller, int *status)
{
	struct ferry_channel *channel;
	size_t count = 0;

	TAILQ_FOREACH (channel, &poller->registered, link)
		count += is_sending(channel, status);
	return count;
}

int ferry_poller_close_all(struct ferry_poller *poller, const struct timeval *timeout)
{
	struct ferry_channel *channel;
	int64_t deadline;
	int status = 0, sent = 0;

	if (poller == NULL || poller_deadline(timeout, &deadline) < 0)
		return -EINVAL;
	if (poller->running)
		return -EBUSY;
	dismiss_servers(poller);
	size_t sending = start_closing_all(poller);
	while (sending > 0 && status == 0) {
		status = poller_run(poller, deadline);
		sending = count_sending(poller, &sent);
	}
	if (status == -ETIMEDOUT && sending == 0)
		status = 0;
	while ((channel = TAILQ_FIRST(&poller->registered)) != NULL)
		dismiss(channel);
	finish_closing(poller);
	return status != 0 ? status : sent;
}
