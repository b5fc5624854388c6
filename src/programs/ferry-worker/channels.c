#include "programs/ferry-worker/channels.h"

#include "programs/shared/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum { FIRST_RETRY_MS = 50, LONGEST_RETRY_MS = 2000 };

struct channel {
	struct channels *channels;
	struct channel *next;
	struct ferry_worker *worker;
	unsigned long number;
	bool drained; /* the proxy sends no more */
	bool scarce;  /* no credit is left */
};

struct channels {
	struct event_base *base;
	struct channels_options options;
	const struct channels_callbacks *callbacks;
	void *context;
	struct channel *first;
	unsigned long last_number;
	bool draining; /* channels_drain() was called */

	struct ferry_connector *connector;
	struct event *retry;
	unsigned int retry_ms;
	bool proxy_is_missing; /* and the log has a line about it */
};

static void try_to_connect(struct channels *channels);

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	struct channel *channel = context;
	struct channels *channels = channel->channels;
	struct ferry_handoff_info info;
	ferry_handoff_get_info(handoff, &info);
	struct connection_tag tag = {.channel = channel->number, .id = info.id};
	int status = channels->callbacks->taken(handoff, &tag, channels->context);
	if (status < 0) {
		program_log("a client was dropped: %s", strerror(-status));
		ferry_worker_done(worker, tag.id);
	}
}

static void drain_requested(struct ferry_worker *worker, void *context)
{
	(void)worker;
	struct channel *channel = context;
	struct channels *channels = channel->channels;
	if (channel->drained)
		return;
	channel->drained = true;
	if (channels->options.socket_path != NULL)
		try_to_connect(channels);
	channels->callbacks->changed(channels->context);
}

static void recall_requested(struct ferry_worker *worker, const struct timeval *spread,
                             void *context)
{
	(void)worker;
	struct channel *channel = context;
	channel->channels->callbacks->recalled(channel->number, spread, channel->channels->context);
}

static void return_failed(struct ferry_worker *worker, uint64_t id, struct ferry_handoff *handoff,
                          void *context)
{
	(void)worker;
	struct channel *channel = context;
	struct connection_tag tag = {.channel = channel->number, .id = id};
	channel->channels->callbacks->kept(handoff, &tag, channel->channels->context);
}

static void set_scarce(struct channel *channel, bool scarce)
{
	if (channel->scarce == scarce)
		return;
	channel->scarce = scarce;
	channel->channels->callbacks->scarce(scarce, channel->channels->context);
}

static void credits_scarce(struct ferry_worker *worker, bool scarce, void *context)
{
	(void)worker;
	set_scarce(context, scarce);
}

static void free_channel(struct channel *channel)
{
	set_scarce(channel, false);
	struct channel **link = &channel->channels->first;
	while (*link != channel)
		link = &(*link)->next;
	*link = channel->next;
	ferry_worker_free(channel->worker);
	free(channel);
}

/* The worker keeps the clients that it has claimed. */
static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)worker;
	struct channel *channel = context;
	struct channels *channels = channel->channels;
	bool drained = channel->drained;
	/* By closing the inherited channel a proxy dismisses a worker that it has started. */
	bool dismissed = reason == 0 && channels->options.socket_path == NULL;
	if (!drained && !channels->draining && !dismissed)
		program_log("the proxy is disconnected%s%s", reason != 0 ? ": " : "",
		            reason != 0 ? strerror(-reason) : "");
	free_channel(channel);
	if (channels->options.socket_path != NULL && !drained)
		try_to_connect(channels);
	channels->callbacks->changed(channels->context);
}

/* On success the channel owns the transport. NULL: it is the channel to the proxy that has started this worker. */
static int add_channel(struct channels *channels, struct ferry_transport *transport)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .drain_requested = drain_requested,
	                                                        .recall_requested = recall_requested,
	                                                        .return_failed = return_failed,
	                                                        .credits_scarce = credits_scarce,
	                                                        .dispatcher_lost = dispatcher_lost};
	struct channel *channel = malloc(sizeof(*channel));
	if (channel == NULL)
		return -ENOMEM;
	*channel = (struct channel){.channels = channels, .number = ++channels->last_number};
	int status = transport != NULL
	                 ? ferry_worker_new(&channel->worker, transport, &callbacks, channel)
	                 : ferry_worker_new_from_environment(&channel->worker, channels->base,
	                                                     &callbacks, channel);
	if (status < 0) {
		free(channel);
		return status;
	}
	channel->next = channels->first;
	channels->first = channel;
	status = ferry_worker_set_credits(channel->worker, channels->options.credits);
	if (status < 0)
		program_log("cannot set the number of clients: %s", strerror(-status));
	return 0;
}

static void try_again_later(struct channels *channels)
{
	struct timeval delay = {.tv_sec = (time_t)channels->retry_ms / 1000,
	                        .tv_usec = (suseconds_t)(channels->retry_ms % 1000) * 1000};
	if (channels->draining)
		return;
	if (event_add(channels->retry, &delay) < 0) {
		/* Without the timer the worker would idle for ever. */
		program_log("no memory to connect to the proxy again");
		event_base_loopbreak(channels->base);
	}
	channels->retry_ms =
	    channels->retry_ms * 2 < LONGEST_RETRY_MS ? channels->retry_ms * 2 : LONGEST_RETRY_MS;
}

static void proxy_connected(struct ferry_connector *connector, int status,
                            struct ferry_transport *transport, void *context)
{
	(void)connector;
	struct channels *channels = context;
	channels->connector = NULL;
	if (status == 0) {
		status = add_channel(channels, transport);
		if (status < 0)
			ferry_transport_free(transport);
	}
	if (status < 0) {
		try_again_later(channels);
		return;
	}
	channels->retry_ms = FIRST_RETRY_MS;
	channels->proxy_is_missing = false;
}

static void try_to_connect(struct channels *channels)
{
	if (channels->draining || channels->connector != NULL ||
	    event_pending(channels->retry, EV_TIMEOUT, NULL))
		return;
	int status =
	    ferry_connector_new_unix(&channels->connector, channels->base,
	                             channels->options.socket_path, NULL, proxy_connected, channels);
	if (status == 0)
		return;
	if (!channels->proxy_is_missing)
		program_log("no proxy at %s yet: %s", channels->options.socket_path, strerror(-status));
	channels->proxy_is_missing = true;
	channels->connector = NULL;
	try_again_later(channels);
}

static void retry_connect(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	try_to_connect(context);
}

int channels_new(struct channels **out, struct event_base *base,
                 const struct channels_options *options, const struct channels_callbacks *callbacks,
                 void *context)
{
	struct channels *channels = calloc(1, sizeof(*channels));
	if (channels == NULL)
		return -ENOMEM;
	*channels = (struct channels){.base = base,
	                              .options = *options,
	                              .callbacks = callbacks,
	                              .context = context,
	                              .retry_ms = FIRST_RETRY_MS};
	channels->retry = evtimer_new(base, retry_connect, channels);
	int status = channels->retry != NULL ? 0 : -ENOMEM;
	if (status == 0 && options->socket_path == NULL)
		status = add_channel(channels, NULL);
	if (status < 0) {
		channels_free(channels);
		return status;
	}
	if (options->socket_path != NULL)
		try_to_connect(channels);
	*out = channels;
	return 0;
}

/* The worker on a channel; NULL: the channel has ended. */
static struct ferry_worker *worker_of(const struct channels *channels,
                                      const struct connection_tag *tag)
{
	for (const struct channel *channel = channels->first; channel != NULL; channel = channel->next)
		if (channel->number == tag->channel)
			return channel->worker;
	return NULL;
}

void channels_done(struct channels *channels, const struct connection_tag *tag)
{
	struct ferry_worker *worker = worker_of(channels, tag);
	int status = worker != NULL ? ferry_worker_done(worker, tag->id) : 0;
	if (status < 0 && status != -ENOTCONN)
		program_log("a proxy gets no answer for a client that has ended: %s", strerror(-status));
}

long channels_proxy(const struct channels *channels, const struct connection_tag *tag)
{
	const struct ferry_worker *worker = worker_of(channels, tag);
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	if (worker == NULL)
		return 0;
	struct bufferevent *bev = ferry_transport_get_bufferevent(ferry_worker_get_transport(worker));
	if (getsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return 0;
	return (long)peer.pid;
}

bool channels_can_return(const struct channels *channels, const struct connection_tag *tag)
{
	return ferry_worker_can_return(worker_of(channels, tag));
}

int channels_return(struct channels *channels, const struct connection_tag *tag,
                    struct ferry_handoff *handoff)
{
	struct ferry_worker *worker = worker_of(channels, tag);
	return worker != NULL ? ferry_worker_return(worker, tag->id, handoff) : -ENOTCONN;
}

void channels_drain(struct channels *channels)
{
	channels->draining = true;
	event_del(channels->retry);
	ferry_connector_free(channels->connector);
	channels->connector = NULL;
	for (struct channel *channel = channels->first; channel != NULL; channel = channel->next)
		ferry_worker_drain(channel->worker);
}

bool channels_are_drained(const struct channels *channels)
{
	if (channels->draining)
		return true;
	return channels->options.socket_path == NULL &&
	       (channels->first == NULL || channels->first->drained);
}

bool channels_are_over(const struct channels *channels)
{
	return channels->first == NULL && channels_are_drained(channels);
}

void channels_free(struct channels *channels)
{
	if (channels == NULL)
		return;
	ferry_connector_free(channels->connector);
	struct channel *next;
	for (struct channel *channel = channels->first; channel != NULL; channel = next) {
		next = channel->next;
		ferry_worker_free(channel->worker);
		free(channel);
	}
	if (channels->retry != NULL)
		event_free(channels->retry);
	free(channels);
}
