/* A worker for the tests of supervisors. It serves each handoff as an echo, until the client's end. "returns" as an
 * argument: it returns what is idle when it is recalled. "once": it ends after the first client. "retires": it takes no handoff
 * after its first. "useless": it takes none. */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/ferry.h"

struct client {
	struct client *next, **link;
	struct bufferevent *bev;
	uint64_t id;
};

static struct event_base *base;
static struct ferry_worker *worker;
static struct client *clients;
static bool returns, once, retires;

static void end_if_done(void)
{
	if (clients == NULL && worker == NULL)
		event_base_loopbreak(base);
}

static void forget(struct client *client)
{
	*client->link = client->next;
	if (client->next != NULL)
		client->next->link = client->link;
	free(client);
}

static void on_read(struct bufferevent *bev, void *context)
{
	(void)context;
	bufferevent_write_buffer(bev, bufferevent_get_input(bev));
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	struct client *client = context;

	(void)what;
	bufferevent_free(bev);
	ferry_worker_done(worker, client->id);
	forget(client);
	if (once)
		exit(0);
	end_if_done();
}

static void handoff_received(struct ferry_worker *from, struct ferry_handoff *handoff,
                             void *context)
{
	struct client *client = calloc(1, sizeof(*client));
	struct ferry_handoff_info info;

	(void)context;
	if (retires)
		ferry_worker_drain(from);
	if (client == NULL ||
	    ferry_handoff_to_bufferevent(&client->bev, handoff, base, BEV_OPT_CLOSE_ON_FREE) < 0)
		abort();
	ferry_handoff_get_info(handoff, &info);
	client->id = info.id;
	client->next = clients;
	client->link = &clients;
	if (clients != NULL)
		clients->link = &client->next;
	clients = client;
	bufferevent_setcb(client->bev, on_read, NULL, on_event, client);
	bufferevent_enable(client->bev, EV_READ);
}

static void recall_requested(struct ferry_worker *from, const struct timeval *spread, void *context)
{
	struct client *next;

	(void)spread, (void)context;
	for (struct client *client = clients; returns && client != NULL; client = next) {
		struct ferry_handoff *handoff;
		next = client->next;
		if (evbuffer_get_length(bufferevent_get_input(client->bev)) +
		            evbuffer_get_length(bufferevent_get_output(client->bev)) >
		        0 ||
		    ferry_handoff_from_bufferevent(&handoff, client->bev) < 0)
			continue;
		bufferevent_free(client->bev);
		if (ferry_worker_return(from, client->id, handoff) < 0)
			abort();
		forget(client);
	}
}

static void dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(from);
	worker = NULL;
	end_if_done();
}

int main(int argc, char **argv)
{
	bool useless = false;
	static const struct ferry_worker_callbacks callbacks = {
	    .handoff_received = handoff_received,
	    .recall_requested = recall_requested,
	    .dispatcher_lost = dispatcher_lost,
	};

	for (int i = 1; i < argc; i++) {
		returns = returns || strcmp(argv[i], "returns") == 0;
		once = once || strcmp(argv[i], "once") == 0;
		retires = retires || strcmp(argv[i], "retires") == 0;
		useless = useless || strcmp(argv[i], "useless") == 0;
	}
	base = event_base_new();
	int status = ferry_worker_new_from_environment(&worker, base, &callbacks, NULL);
	if (status < 0)
		return -status;
	if (getenv("FERRY_WORKER") != NULL)
		return 100;
	if (useless)
		ferry_worker_drain(worker);
	event_base_dispatch(base);
	for (int i = 0; i < 4; i++) /* what was freed */
		event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
	return 0;
}
