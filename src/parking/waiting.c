#include "parking/waiting.h"

#include <errno.h>
#include <poll.h>

#include "kernel/clock.h"
#include "kernel/socket.h"

/*
 * A connection that waits has unread input, so that an event for it would run in every turn of the loop. The place
 * asks the kernel instead, less and less often, which of the peers are gone. One poll(2) looks at many.
 */

enum { LOOK_USEC_MIN = 100 * 1000, LOOK_USEC_MAX = 1600 * 1000, PEERS_PER_POLL = 256 };

/* Whether the peer is gone. POLLHUP and POLLERR: it has closed or reset the connection. POLLRDHUP: it may still read,
 * and gets an answer if it has asked for one. */
static bool is_gone(const struct ferry_handoff *handoff, short events, int *error)
{
	*error = 0;
	if ((events & (POLLHUP | POLLERR)) != 0) {
		*error = socket_get_error(handoff->fd);
		return true;
	}
	return (events & POLLRDHUP) != 0 && handoff->bytes_length == 0 &&
	       socket_look(handoff->fd, error) == SOCKET_ENDED;
}

/* Looks at up to PEERS_PER_POLL connections from `first` on, and returns the next one. */
static struct ferry_handoff *look_at_some(struct ferry_handoff *first)
{
	struct pollfd peers[PEERS_PER_POLL];
	struct ferry_handoff *handoff = first, *next;
	nfds_t count = 0;
	int error;

	for (; handoff != NULL && count < PEERS_PER_POLL; handoff = TAILQ_NEXT(handoff, link))
		peers[count++] = (struct pollfd){.fd = handoff->fd, .events = POLLRDHUP};
	if (socket_poll_now(peers, count) <= 0)
		return handoff;
	handoff = first;
	for (nfds_t i = 0; i < count; i++, handoff = next) {
		next = TAILQ_NEXT(handoff, link);
		if (peers[i].revents != 0 && is_gone(handoff, peers[i].revents, &error))
			place_make_pending(handoff, FERRY_PARKING_ENDED, error);
	}
	return handoff;
}

static int schedule(struct ferry_parking *parking)
{
	const struct timeval interval = clock_to_timeval(parking->look_usec);

	return event_add(parking->look, &interval) == 0 ? 0 : -ENOMEM;
}

void waiting_on_look(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_parking *parking = argument;
	struct ferry_handoff *handoff = TAILQ_FIRST(&parking->lists[PARKING_WAITING]);

	while (handoff != NULL)
		handoff = look_at_some(handoff);
	if (TAILQ_EMPTY(&parking->lists[PARKING_WAITING]))
		return;
	if (parking->look_usec < LOOK_USEC_MAX)
		parking->look_usec *= 2;
	/* Without memory, the next connection that waits starts it again. */
	schedule(parking);
}

int waiting_watch(struct ferry_parking *parking)
{
	if (event_pending(parking->look, EV_TIMEOUT, NULL) && parking->look_usec == LOOK_USEC_MIN)
		return 0;
	parking->look_usec = LOOK_USEC_MIN;
	return schedule(parking);
}
