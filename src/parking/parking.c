#include "ferry/parking.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/clock.h"
#include "kernel/fd_slots.h"
#include "parking/place.h"
#include "parking/waiting.h"

enum { LIMIT = 10000, FD_RESERVE = 32 };

/* ---- making and freeing ---- */

int ferry_parking_new(struct ferry_parking **out, struct event_base *base,
                      const struct ferry_parking_callbacks *callbacks, void *context)
{
	if (out == NULL || base == NULL || callbacks == NULL)
		return -EINVAL;
	struct ferry_parking *parking = calloc(1, sizeof(*parking));
	if (parking == NULL)
		return -ENOMEM;
	for (int list = 0; list < PARKING_LISTS; list++)
		TAILQ_INIT(&parking->lists[list]);
	parking->base = base;
	parking->callbacks = callbacks;
	parking->context = context;
	parking->limit = LIMIT;
	parking->fd_reserve = FD_RESERVE;
	parking->turn = event_new(base, -1, 0, place_on_turn, parking);
	parking->look = event_new(base, -1, 0, waiting_on_look, parking);
	if (parking->turn != NULL && parking->look != NULL) {
		*out = parking;
		return 0;
	}
	if (parking->turn != NULL)
		event_free(parking->turn);
	if (parking->look != NULL)
		event_free(parking->look);
	free(parking);
	return -ENOMEM;
}

void ferry_parking_free(struct ferry_parking *parking)
{
	if (parking == NULL || parking->freed)
		return;
	parking->freed = true;
	if (!parking->running)
		place_destroy(parking);
}

/* ---- settings ---- */

int ferry_parking_set_limit(struct ferry_parking *parking, unsigned int limit)
{
	if (parking == NULL || limit == 0)
		return -EINVAL;
	parking->limit = limit;
	place_evict_excess(parking);
	return 0;
}

int ferry_parking_set_fd_reserve(struct ferry_parking *parking, unsigned int slots)
{
	if (parking == NULL)
		return -EINVAL;
	parking->fd_reserve = slots;
	return 0;
}

/* ---- parking ---- */

static bool is_full(const struct ferry_parking *parking)
{
	return parking->stats.idle + parking->stats.waiting >= parking->limit;
}

/* libevent waits for no regular file and no directory. */
static int check_wake_fd(int fd)
{
	struct stat status;

	if (fd < 0)
		return 0;
	if (fstat(fd, &status) < 0)
		return -EBADF;
	return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ? -EPERM : 0;
}

static int check(const struct ferry_parking *parking, const struct ferry_handoff *handoff,
                 int wake_fd)
{
	if (parking == NULL || handoff == NULL || handoff->state != HANDOFF_OWN)
		return -EINVAL;
	if (handoff->fd < 0)
		return -EBADF;
	if (handoff->identity.kind != FERRY_DESCRIPTOR_SOCKET)
		return -ENOTSOCK;
	if (parking->freed)
		return -ESHUTDOWN;
	if (is_full(parking) && place_longest_idle(parking) == NULL)
		return -ENOBUFS;
	return check_wake_fd(wake_fd);
}

/* The timeout in microseconds; 0: none; -EINVAL. */
static int64_t read_timeout(const struct timeval *timeout)
{
	if (timeout == NULL)
		return 0;
	int64_t usec = clock_from_timeval(timeout);
	return usec == 0 ? -EINVAL : usec;
}

/* Unread bytes wake a parked connection at once. */
static enum parking_list list_for(const struct ferry_handoff *handoff, enum parking_list wanted)
{
	if (wanted == PARKING_IDLE && handoff->bytes_length > 0)
		return PARKING_PENDING;
	return wanted;
}

static int try_to_arm(struct ferry_handoff *handoff)
{
	int status = 0;

	if (handoff->parked.list == PARKING_PENDING)
		return 0;
	if (handoff->parked.list == PARKING_WAITING)
		status = waiting_watch(handoff->parked.parking);
	return status == 0 ? place_arm(handoff) : status;
}

/* Adds the events. If memory is short, that of the connection that was idle longest may do. */
static int arm(struct ferry_handoff *handoff)
{
	int status = try_to_arm(handoff);

	if (status == -ENOMEM && place_evict(handoff->parked.parking, -ENOMEM))
		status = try_to_arm(handoff);
	return status;
}

/* Makes room for one more. */
static void make_room(struct ferry_parking *parking, int fd)
{
	if (is_full(parking))
		place_evict(parking, -ENOBUFS);
	else if (!fd_slots_are_free(fd, parking->fd_reserve))
		place_evict(parking, -EMFILE);
}

static int enter(struct ferry_parking *parking, struct ferry_handoff *handoff, int wake_fd,
                 int64_t timeout, enum parking_list list)
{
	int status = place_enter(parking, handoff, wake_fd, list_for(handoff, list));

	if (status < 0)
		return status;
	handoff->parked.timeout = timeout;
	handoff->parked.since = clock_now();
	handoff->parked.reason = FERRY_PARKING_INPUT;
	status = arm(handoff);
	if (status < 0) {
		place_leave(handoff);
		return status;
	}
	make_room(parking, handoff->fd);
	place_insert(handoff);
	return 0;
}

static int park(struct ferry_parking *parking, struct ferry_handoff *handoff, int wake_fd,
                const struct timeval *timeout, void *context, enum parking_list list)
{
	int status = check(parking, handoff, wake_fd);
	if (status < 0)
		return status;
	int64_t usec = read_timeout(timeout);
	if (usec < 0)
		return -EINVAL;
	status = enter(parking, handoff, wake_fd, usec, list);
	if (status == 0)
		handoff->context = context;
	return status;
}

int ferry_parking_park(struct ferry_parking *parking, struct ferry_handoff *handoff, int wake_fd,
                       const struct timeval *timeout, void *context)
{
	int status = park(parking, handoff, wake_fd, timeout, context, PARKING_IDLE);

	if (status == 0)
		parking->stats.parked++;
	return status;
}

int ferry_parking_wait(struct ferry_parking *parking, struct ferry_handoff *handoff, int wake_fd,
                       const struct timeval *timeout, void *context)
{
	int status = park(parking, handoff, wake_fd, timeout, context, PARKING_WAITING);

	if (status == 0)
		parking->stats.waited++;
	return status;
}

/* ---- taking and evicting ---- */

static void take(struct ferry_handoff **out, struct ferry_parking *parking,
                 struct ferry_handoff *handoff, int *wake_fd)
{
	int fd = place_take(handoff);

	if (wake_fd != NULL)
		*wake_fd = fd;
	else if (fd >= 0)
		close(fd);
	parking->stats.taken++;
	*out = handoff;
}

int ferry_parking_take_waiting(struct ferry_handoff **out, struct ferry_parking *parking,
                               int *wake_fd)
{
	if (out == NULL || parking == NULL)
		return -EINVAL;
	struct ferry_handoff *handoff = TAILQ_FIRST(&parking->lists[PARKING_WAITING]);
	if (handoff == NULL)
		return -ENOENT;
	take(out, parking, handoff, wake_fd);
	return 0;
}

int ferry_parking_take_idle(struct ferry_handoff **out, struct ferry_parking *parking, int *wake_fd)
{
	if (out == NULL || parking == NULL)
		return -EINVAL;
	struct ferry_handoff *handoff = place_longest_idle(parking);
	if (handoff == NULL)
		handoff = TAILQ_FIRST(&parking->lists[PARKING_PENDING]);
	if (handoff == NULL)
		return -ENOENT;
	take(out, parking, handoff, wake_fd);
	return 0;
}

int ferry_parking_evict(struct ferry_parking *parking, unsigned int count)
{
	int evicted = 0;

	if (parking == NULL)
		return -EINVAL;
	while ((unsigned int)evicted < count && evicted < INT_MAX && place_evict(parking, -ECANCELED))
		evicted++;
	return evicted;
}

int ferry_parking_get_stats(const struct ferry_parking *parking, struct ferry_parking_stats *stats)
{
	if (parking == NULL || stats == NULL)
		return -EINVAL;
	*stats = parking->stats;
	return 0;
}
