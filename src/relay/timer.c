#include "relay/timer.h"

#include <errno.h>

#include <event2/bufferevent.h>

#include "kernel/clock.h"
#include "kernel/send_queue.h"
#include "relay/ending.h"

enum { RESET_LOOKS = CLOCK_SECOND / 100 };

void relay_want_timer(struct ferry_relay *relay)
{
	event_active(relay->timer, EV_TIMEOUT, 0);
}

/* ---- the idle timeout ---- */

/* Changes when a peer sends, or takes bytes from the transport or from the kernel. */
static uint64_t see_movement(const struct relay_end *end)
{
	struct ferry_transport_stats stats;

	if (ferry_transport_get_stats(end->transport, &stats) < 0)
		return 0;
	int fd = bufferevent_getfd(ferry_transport_get_bufferevent(end->transport));
	int queue = end->lost ? 0 : send_queue_length(fd);
	return (stats.bytes_sent + stats.bytes_received) * 1000003 + (uint64_t)(queue > 0 ? queue : 0);
}

void relay_note_movement(struct ferry_relay *relay)
{
	relay->idle_since = clock_now();
	relay->movement = see_movement(&relay->ends[0]) * 31 + see_movement(&relay->ends[1]);
}

/* The time until the next look, or 0: nothing has moved for too long. */
static int64_t look_for_movement(struct ferry_relay *relay, int64_t now)
{
	uint64_t movement = see_movement(&relay->ends[0]) * 31 + see_movement(&relay->ends[1]);

	if (movement != relay->movement) {
		relay->movement = movement;
		relay->idle_since = now;
	}
	int64_t left = relay->idle_since + relay->idle_timeout - now;
	int64_t look = relay->idle_timeout / 4 + 1;
	return left <= 0 ? 0 : left < look ? left : look;
}

/* ---- the turn ---- */

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The time until the next turn; INT64_MAX: none is needed; 0: a timeout has come. */
static int64_t find_wait(struct ferry_relay *relay, int64_t now)
{
	int64_t wait = INT64_MAX;

	for (int i = 0; i < 2; i++)
		if (relay_is_resetting(&relay->ends[i], now))
			wait = RESET_LOOKS;
	if (relay->closing_since != 0 && relay->close_timeout != 0) {
		int64_t left = relay->closing_since + relay->close_timeout - now;
		wait = sooner(wait, left > 0 ? left : 0);
	}
	if (relay->idle_timeout != 0 && relay->ends[FERRY_RELAY_SERVER].transport != NULL)
		wait = sooner(wait, look_for_movement(relay, now));
	return wait;
}

/* The client may have ended before the server was set. */
static void pass_early_end(struct ferry_relay *relay)
{
	struct relay_end *client = &relay->ends[FERRY_RELAY_CLIENT];

	if (client->end_passed)
		return;
	if (client->lost)
		relay_pass_loss(client);
	else if (client->half_ended)
		relay_pass_end(client);
}

void relay_on_timer(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_relay *relay = argument;
	(void)fd, (void)what;

	if (!relay->notified)
		pass_early_end(relay);
	if (!relay->freed && !relay->notified)
		relay_settle(relay);
	if (relay->freed || relay->notified)
		return;
	int64_t wait = find_wait(relay, clock_now());
	if (wait == 0) {
		relay_abort(relay, FERRY_RELAY_CLIENT, -ETIMEDOUT);
	} else if (wait < INT64_MAX) {
		struct timeval time = clock_to_timeval(wait);
		if (event_add(relay->timer, &time) < 0)
			relay_abort(relay, FERRY_RELAY_CLIENT, -ENOMEM);
	}
}
