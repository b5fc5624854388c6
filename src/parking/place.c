#include "parking/place.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/clock.h"
#include "kernel/socket.h"

/* Callbacks of one turn; then the loop's other events run. */
enum { CALLBACKS_PER_TURN = 64 };

/* ---- the events of one connection ---- */

static struct event *event_of(struct ferry_handoff *handoff)
{
	return (struct event *)(void *)handoff->parked.event;
}

static int wake_fd_of(const struct ferry_handoff *handoff)
{
	return handoff->parked.wake != NULL ? event_get_fd(handoff->parked.wake) : -1;
}

/* Adds an event. An error of epoll_ctl(2) is in errno; without one, memory was short. */
static int add_event(struct event *event, const struct timeval *timeout)
{
	errno = 0;
	if (event_add(event, timeout) == 0)
		return 0;
	return errno == EPERM ? -EPERM : -ENOMEM;
}

static void disarm(struct ferry_handoff *handoff)
{
	event_del(event_of(handoff));
	if (handoff->parked.wake != NULL)
		event_del(handoff->parked.wake);
}

int place_arm(struct ferry_handoff *handoff)
{
	struct handoff_parked *parked = &handoff->parked;
	struct timeval remaining, *timeout = NULL;
	int status = 0;

	if (parked->timeout > 0) {
		int64_t left = parked->since + parked->timeout - clock_now();
		remaining = clock_to_timeval(left > 0 ? left : 0);
		timeout = &remaining;
	}
	if (parked->list == PARKING_IDLE || timeout != NULL)
		status = add_event(event_of(handoff), timeout);
	if (status == 0 && parked->list == PARKING_IDLE && parked->wake != NULL)
		status = add_event(parked->wake, NULL);
	if (status < 0)
		disarm(handoff);
	return status;
}

/* ---- the lists ---- */

static void count(struct ferry_parking *parking, enum parking_list list, int change)
{
	struct ferry_parking_stats *stats = &parking->stats;

	if (list == PARKING_IDLE)
		stats->idle += (uint64_t)change;
	else if (list == PARKING_WAITING)
		stats->waiting += (uint64_t)change;
	else
		stats->pending += (uint64_t)change;
	if (stats->idle > stats->idle_max)
		stats->idle_max = stats->idle;
}

void place_insert(struct ferry_handoff *handoff)
{
	struct ferry_parking *parking = handoff->parked.parking;
	enum parking_list list = handoff->parked.list;

	TAILQ_INSERT_TAIL(&parking->lists[list], handoff, link);
	count(parking, list, 1);
	if (list == PARKING_PENDING)
		event_active(parking->turn, EV_READ, 0);
}

static void remove_from_list(struct ferry_handoff *handoff)
{
	struct ferry_parking *parking = handoff->parked.parking;

	TAILQ_REMOVE(&parking->lists[handoff->parked.list], handoff, link);
	count(parking, handoff->parked.list, -1);
}

static void move_to_list(struct ferry_handoff *handoff, enum parking_list list)
{
	remove_from_list(handoff);
	handoff->parked.list = (uint8_t)list;
	place_insert(handoff);
}

void place_make_pending(struct ferry_handoff *handoff, enum ferry_parking_reason reason, int error)
{
	disarm(handoff);
	handoff->parked.reason = (uint8_t)reason;
	handoff->parked.error = error;
	move_to_list(handoff, PARKING_PENDING);
}

int place_leave(struct ferry_handoff *handoff)
{
	struct event *wake = handoff->parked.wake;
	int wake_fd = wake_fd_of(handoff);

	disarm(handoff);
	event_debug_unassign(event_of(handoff));
	if (wake != NULL)
		event_free(wake);
	handoff_reset(handoff);
	return wake_fd;
}

/* 0 if it has waited for a worker. */
static int64_t idle_time(const struct handoff_parked *parked)
{
	bool waited = parked->list == PARKING_WAITING ||
	              (parked->list == PARKING_PENDING && parked->reason == FERRY_PARKING_ENDED);

	return waited ? 0 : clock_now() - parked->since;
}

int place_take(struct ferry_handoff *handoff)
{
	int64_t idle_usec = idle_time(&handoff->parked);
	int wake_fd;

	remove_from_list(handoff);
	wake_fd = place_leave(handoff);
	handoff->idle_usec = idle_usec;
	return wake_fd;
}

struct ferry_handoff *place_longest_idle(const struct ferry_parking *parking)
{
	struct ferry_handoff *handoff = TAILQ_FIRST(&parking->lists[PARKING_IDLE]);

	if (handoff != NULL && handoff == parking->filtered)
		handoff = TAILQ_NEXT(handoff, link);
	return handoff;
}

bool place_evict(struct ferry_parking *parking, int error)
{
	struct ferry_handoff *handoff = place_longest_idle(parking);

	if (handoff == NULL)
		return false;
	place_make_pending(handoff, FERRY_PARKING_EVICTED, error);
	return true;
}

void place_evict_excess(struct ferry_parking *parking)
{
	while (parking->stats.idle + parking->stats.waiting > parking->limit)
		if (!place_evict(parking, -ENOBUFS))
			return;
}

/* ---- the wake-up ---- */

/* The look alone makes the end of a peer a pending wake-up: the connection was waiting. */
static void count_wake_up(struct ferry_parking *parking, enum ferry_parking_reason reason,
                          enum parking_list list)
{
	struct ferry_parking_stats *stats = &parking->stats;

	switch (reason) {
	case FERRY_PARKING_INPUT:
		stats->input++;
		break;
	case FERRY_PARKING_ENDED:
		if (list == PARKING_PENDING)
			stats->ended_waiting++;
		else
			stats->ended++;
		break;
	case FERRY_PARKING_WAKE_FD:
		stats->wake_fd++;
		break;
	case FERRY_PARKING_TIMEOUT:
		stats->expired++;
		break;
	case FERRY_PARKING_EVICTED:
		stats->evicted++;
		break;
	}
}

static void begin_callback(struct ferry_parking *parking)
{
	parking->running = true;
}

/* False: the callback has freed the place. */
static bool end_callback(struct ferry_parking *parking)
{
	parking->running = false;
	if (!parking->freed)
		return true;
	place_destroy(parking);
	return false;
}

static void close_both(struct ferry_handoff *handoff, int wake_fd)
{
	handoff_destroy(handoff);
	if (wake_fd >= 0)
		close(wake_fd);
}

/* Gives it to the user. False: the callback has freed the place. */
static bool wake(struct ferry_handoff *handoff, enum ferry_parking_reason reason, int error)
{
	struct ferry_parking *parking = handoff->parked.parking;
	struct ferry_parking_event event = {.reason = reason, .error = error};

	count_wake_up(parking, reason, handoff->parked.list);
	event.wake_fd = place_take(handoff);
	if (parking->callbacks->handoff_woken == NULL) {
		close_both(handoff, event.wake_fd);
		return true;
	}
	begin_callback(parking);
	parking->callbacks->handoff_woken(parking, handoff, &event, parking->context);
	return end_callback(parking);
}

/* ---- the filter ---- */

/* Whether the filter has left something to read. An end wakes the connection by its event. */
static bool has_more(const struct ferry_handoff *handoff)
{
	struct pollfd wake_fd = {.fd = wake_fd_of(handoff), .events = POLLIN};
	int error;

	return socket_look(handoff->fd, &error) == SOCKET_INPUT ||
	       (wake_fd.fd >= 0 && socket_poll_now(&wake_fd, 1) > 0);
}

/* Parks it again. False: it has to wake. */
static bool stay(struct ferry_handoff *handoff, enum ferry_parking_verdict verdict)
{
	struct ferry_parking *parking = handoff->parked.parking;

	if (verdict == FERRY_PARKING_RENEW)
		handoff->parked.since = clock_now();
	if (has_more(handoff) || place_arm(handoff) < 0)
		return false;
	parking->stats.stayed++;
	if (verdict == FERRY_PARKING_RENEW)
		move_to_list(handoff, PARKING_IDLE);
	place_evict_excess(parking);
	return true;
}

/* An event with no time left might not fire as long as the peer sends. */
static bool is_expired(const struct ferry_handoff *handoff)
{
	const struct handoff_parked *parked = &handoff->parked;

	return parked->timeout > 0 && parked->since + parked->timeout <= clock_now();
}

/* Asks the filter about a connection that has no event now, and wakes it or lets it stay. False: a callback has freed
 * the place. */
static bool filter(struct ferry_handoff *handoff, enum ferry_parking_reason reason)
{
	struct ferry_parking *parking = handoff->parked.parking;
	const struct ferry_parking_event event = {.reason = reason, .wake_fd = wake_fd_of(handoff)};
	enum ferry_parking_verdict verdict;

	if (parking->callbacks->filter == NULL)
		return wake(handoff, reason, 0);
	handoff->state = HANDOFF_FILTERED;
	parking->filtered = handoff;
	begin_callback(parking);
	verdict = parking->callbacks->filter(parking, handoff, &event, parking->context);
	parking->filtered = NULL;
	handoff->state = HANDOFF_PARKED;
	if (!end_callback(parking))
		return false;
	if (verdict == FERRY_PARKING_STAY && is_expired(handoff) && !has_more(handoff))
		return wake(handoff, FERRY_PARKING_TIMEOUT, -ETIMEDOUT);
	if (verdict != FERRY_PARKING_WAKE && stay(handoff, verdict))
		return true;
	return wake(handoff, reason, 0);
}

/* ---- what the loop calls ---- */

static void on_input(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_handoff *handoff = argument;
	int error = 0;

	(void)fd;
	disarm(handoff);
	if ((what & EV_READ) == 0) {
		wake(handoff, FERRY_PARKING_TIMEOUT, -ETIMEDOUT);
		return;
	}
	switch (socket_look(handoff->fd, &error)) {
	case SOCKET_INPUT:
		filter(handoff, FERRY_PARKING_INPUT);
		break;
	case SOCKET_ENDED:
		wake(handoff, FERRY_PARKING_ENDED, error);
		break;
	case SOCKET_QUIET: /* another process has read it */
		if (place_arm(handoff) < 0)
			wake(handoff, FERRY_PARKING_EVICTED, -ENOMEM);
		break;
	}
}

static void on_wake_fd(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	disarm(argument);
	filter(argument, FERRY_PARKING_WAKE_FD);
}

/* Returns it to the list IDLE without an event, for the filter. */
static bool wake_pending(struct ferry_handoff *handoff)
{
	enum ferry_parking_reason reason = handoff->parked.reason;

	if (reason != FERRY_PARKING_INPUT)
		return wake(handoff, reason, handoff->parked.error);
	move_to_list(handoff, PARKING_IDLE);
	return filter(handoff, reason);
}

void place_on_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_parking *parking = argument;
	struct handoff_list *pending = &parking->lists[PARKING_PENDING];

	for (unsigned int i = 0; i < CALLBACKS_PER_TURN && !TAILQ_EMPTY(pending); i++)
		if (!wake_pending(TAILQ_FIRST(pending)))
			return;
	/* After the loop's other events. Without memory for the timer: before them. */
	if (!TAILQ_EMPTY(pending) && event_add(parking->turn, &(struct timeval){0}) < 0)
		event_active(parking->turn, EV_READ, 0);
}

/* ---- coming and going ---- */

int place_enter(struct ferry_parking *parking, struct ferry_handoff *handoff, int wake_fd,
                enum parking_list list)
{
	struct event *wake = NULL;

	if (wake_fd >= 0) {
		wake = event_new(parking->base, wake_fd, EV_READ, on_wake_fd, handoff);
		if (wake == NULL)
			return -ENOMEM;
	}
	handoff->state = HANDOFF_PARKED;
	handoff->parked =
	    (struct handoff_parked){.parking = parking, .wake = wake, .list = (uint8_t)list};
	if (list == PARKING_WAITING)
		event_assign(event_of(handoff), parking->base, -1, 0, on_input, handoff);
	else
		event_assign(event_of(handoff), parking->base, handoff->fd, EV_READ, on_input, handoff);
	return 0;
}

void place_destroy(struct ferry_parking *parking)
{
	struct ferry_handoff *handoff;

	for (int list = 0; list < PARKING_LISTS; list++)
		while ((handoff = TAILQ_FIRST(&parking->lists[list])) != NULL) {
			int wake_fd = place_take(handoff);
			close_both(handoff, wake_fd);
		}
	event_free(parking->turn);
	event_free(parking->look);
	free(parking);
}
