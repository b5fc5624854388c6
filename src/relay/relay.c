#include "ferry/relay.h"

#include <errno.h>
#include <stdlib.h>

#include <event2/bufferevent.h>

#include "kernel/clock.h"
#include "relay/ending.h"
#include "relay/flow.h"
#include "relay/timer.h"

/* ---- making ---- */

static struct event_base *base_of(const struct ferry_transport *transport)
{
	return bufferevent_get_base(ferry_transport_get_bufferevent(transport));
}

static void discard(struct ferry_relay *relay)
{
	if (relay->filtered != NULL)
		evbuffer_free(relay->filtered);
	if (relay->timer != NULL)
		event_free(relay->timer);
	free(relay);
}

static struct ferry_relay *allocate(struct event_base *base,
                                    const struct ferry_relay_callbacks *callbacks, void *context)
{
	static const struct ferry_relay_callbacks none;
	struct ferry_relay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL)
		return NULL;
	relay->callbacks = callbacks != NULL ? callbacks : &none;
	relay->context = context;
	for (int i = 0; i < 2; i++)
		relay->ends[i] = (struct relay_end){
		    .relay = relay, .other = &relay->ends[1 - i], .side = (enum ferry_relay_side)i};
	relay->timer = event_new(base, -1, 0, relay_on_timer, relay);
	bool filters = relay->callbacks->filter_bytes != NULL;
	if (filters)
		relay->filtered = evbuffer_new();
	if (relay->timer != NULL && (!filters || relay->filtered != NULL))
		return relay;
	discard(relay);
	return NULL;
}

/* The transports' protocols are set last: only that calls the relay, and only from the loop. */
static int join(struct ferry_relay *relay, struct ferry_transport *client,
                struct ferry_transport *server)
{
	struct relay_end *ends = relay->ends;

	if (server == NULL)
		ends[FERRY_RELAY_CLIENT].pauses = RELAY_PAUSE_NO_SERVER;
	int status = relay_prepare(&ends[FERRY_RELAY_CLIENT], client);
	if (status == 0 && server != NULL)
		status = relay_prepare(&ends[FERRY_RELAY_SERVER], server);
	if (status == 0)
		status = relay_start(&ends[FERRY_RELAY_CLIENT]);
	if (status == 0 && server != NULL)
		status = relay_start(&ends[FERRY_RELAY_SERVER]);
	if (status < 0) {
		relay_undo(&ends[FERRY_RELAY_SERVER]);
		relay_undo(&ends[FERRY_RELAY_CLIENT]);
	}
	return status;
}

int ferry_relay_new(struct ferry_relay **out, struct ferry_transport *client,
                    struct ferry_transport *server, const struct ferry_relay_callbacks *callbacks,
                    void *context)
{
	if (out == NULL || client == NULL || client == server)
		return -EINVAL;
	if (server != NULL && base_of(server) != base_of(client))
		return -EINVAL;
	struct ferry_relay *relay = allocate(base_of(client), callbacks, context);
	if (relay == NULL)
		return -ENOMEM;
	int status = join(relay, client, server);
	if (status < 0) {
		discard(relay);
		return status;
	}
	relay_note_movement(relay);
	*out = relay;
	return 0;
}

int ferry_relay_set_server(struct ferry_relay *relay, struct ferry_transport *server)
{
	if (relay == NULL || server == NULL)
		return -EINVAL;
	struct relay_end *client = &relay->ends[FERRY_RELAY_CLIENT];
	struct relay_end *end = &relay->ends[FERRY_RELAY_SERVER];
	if (server == client->transport || base_of(server) != base_of(client->transport))
		return -EINVAL;
	if (end->transport != NULL)
		return -EALREADY;
	if (relay->closing)
		return -ECANCELED;
	int status = relay_prepare(end, server);
	if (status == 0)
		status = relay_start(end);
	if (status == 0)
		status = relay_resume(client, RELAY_PAUSE_NO_SERVER);
	if (status < 0) {
		relay_undo(end);
		return status;
	}
	relay_note_movement(relay);
	relay_want_timer(relay);
	return 0;
}

/* ---- ending ---- */

void ferry_relay_free(struct ferry_relay *relay)
{
	if (relay != NULL)
		relay_free(relay);
}

int ferry_relay_close(struct ferry_relay *relay)
{
	if (relay == NULL)
		return -EINVAL;
	relay_close(relay);
	return 0;
}

int ferry_relay_abort(struct ferry_relay *relay, int reason)
{
	if (relay == NULL || reason >= 0)
		return -EINVAL;
	relay_abort(relay, FERRY_RELAY_CLIENT, reason);
	return 0;
}

/* ---- settings ---- */

/* NULL is none: 0. A time of 0 is none that anybody could mean. */
static int set_timeout(struct ferry_relay *relay, int64_t *out, const struct timeval *timeout)
{
	int64_t usec = timeout != NULL ? clock_from_timeval(timeout) : 0;

	if (timeout != NULL && usec <= 0)
		return -EINVAL;
	*out = usec;
	relay_note_movement(relay);
	relay_want_timer(relay);
	return 0;
}

int ferry_relay_set_idle_timeout(struct ferry_relay *relay, const struct timeval *timeout)
{
	return relay != NULL ? set_timeout(relay, &relay->idle_timeout, timeout) : -EINVAL;
}

int ferry_relay_set_close_timeout(struct ferry_relay *relay, const struct timeval *timeout)
{
	return relay != NULL ? set_timeout(relay, &relay->close_timeout, timeout) : -EINVAL;
}

/* ---- what there is ---- */

struct ferry_transport *ferry_relay_get_transport(const struct ferry_relay *relay,
                                                  enum ferry_relay_side side)
{
	if (relay == NULL || (side != FERRY_RELAY_CLIENT && side != FERRY_RELAY_SERVER))
		return NULL;
	return relay->ends[side].transport;
}

int ferry_relay_get_stats(const struct ferry_relay *relay, struct ferry_relay_stats *stats)
{
	if (relay == NULL || stats == NULL)
		return -EINVAL;
	*stats = (struct ferry_relay_stats){.from = {relay->ends[0].flow, relay->ends[1].flow}};
	return 0;
}
