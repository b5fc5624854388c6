#include <errno.h>
#include <stdlib.h>

#include "channel/channel.h"
#include "channel/messages.h"
#include "channel/ready.h"
#include "ferry/listener.h"
#include "ferry/poller.h"
#include "transport/interface.h"

/*
 * A channel on a listening socket. Accepted connections wait in their server until a poll returns them, and
 * nothing is read from them before. Further ones wait in the backlog.
 */

enum { ACCEPTED_MAX = 64 };

struct accepted {
	STAILQ_ENTRY(accepted) link;
	struct ferry_transport *transport;
};

struct server {
	struct ferry_channel channel; /* first: the channel's address is the server's */
	struct ferry_listener *listener;
	STAILQ_HEAD(accepted_list, accepted) accepted;
	unsigned int accepted_count;
};

static struct server *server_of(struct ferry_channel *channel)
{
	return (struct server *)channel;
}

static int settle_accepting(struct ferry_channel *channel, bool idle)
{
	(void)idle; /* then none is accepted */
	struct server *server = server_of(channel);
	unsigned int high = channel->in.flow == CHANNEL_FLOWING ? ACCEPTED_MAX : ACCEPTED_MAX / 2 + 1;
	bool accepts = channel->place != CHANNEL_UNREGISTERED && server->accepted_count < high;

	/* Without effect, and without a system call, if nothing changes. */
	int status = accepts ? ferry_listener_enable(server->listener)
	                     : ferry_listener_disable(server->listener);
	if (status == 0)
		channel_set_flow(channel, accepts ? CHANNEL_FLOWING : CHANNEL_PAUSED);
	return status;
}

static int start_accepting(struct ferry_channel *channel)
{
	return settle_accepting(channel, true);
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	(void)listener;
	struct server *server = context;
	struct accepted *accepted = malloc(sizeof(*accepted));

	if (accepted == NULL) {
		ferry_transport_free(transport);
		return;
	}
	accepted->transport = transport;
	STAILQ_INSERT_TAIL(&server->accepted, accepted, link);
	server->accepted_count++;
	ready_wake(&server->channel);
	(void)settle_accepting(&server->channel, false); /* a pause cannot fail */
}

static struct ferry_transport *take_accepted(struct server *server)
{
	struct accepted *first = STAILQ_FIRST(&server->accepted);
	struct ferry_transport *transport = first->transport;

	STAILQ_REMOVE_HEAD(&server->accepted, link);
	server->accepted_count--;
	free(first);
	return transport;
}

/* -ENOMEM. A transport notices no end before it has a protocol. */
static int attach_accepted(struct ferry_channel *channel, struct ferry_transport *transport)
{
	return channel->settings.messages ? channel_use_messages(channel, transport)
	                                  : channel_attach(channel, transport);
}

static int next_accepted(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	struct server *server = server_of(channel);
	if (server->accepted_count == 0)
		return 0;
	struct ferry_channel *accepted = channel_new(channel->poller);
	if (accepted == NULL)
		return -ENOMEM;
	accepted->settings = channel->settings;
	accepted->in.scanner = channel->in.scanner;
	int status = attach_accepted(accepted, STAILQ_FIRST(&server->accepted)->transport);
	if (status < 0) {
		channel_discard(accepted);
		return status;
	}
	(void)take_accepted(server);
	accepted->owns_socket = true;
	ready_enroll(accepted);
	event->kind = FERRY_CHANNEL_ACCEPTED;
	event->accepted = accepted;
	return 1;
}

static int get_listening_fd(const struct ferry_channel *channel)
{
	const struct server *server = (const struct server *)channel;

	return server->listener != NULL ? ferry_listener_get_fd(server->listener) : -ENOTCONN;
}

static void stop_serving(struct ferry_channel *channel)
{
	struct server *server = server_of(channel);

	while (server->accepted_count > 0) {
		struct ferry_transport *transport = take_accepted(server);
		transport_close_socket(transport); /* the program may never poll again */
		ferry_transport_free(transport);
	}
	ferry_listener_free(server->listener);
	server->listener = NULL;
}

static const struct channel_kind server_kind = {
    .sends = false,
    .next = next_accepted,
    .settle = settle_accepting,
    .start = start_accepting,
    .get_fd = get_listening_fd,
    .close_down = stop_serving,
};

int ferry_poller_add_server(struct ferry_channel **out, struct ferry_poller *poller, int fd)
{
	if (poller == NULL)
		return -EINVAL;
	struct server *server = calloc(1, sizeof(*server));
	if (server == NULL)
		return -ENOMEM;
	channel_init(&server->channel, poller, &server_kind);
	STAILQ_INIT(&server->accepted);
	int status = ferry_listener_new_fd(&server->listener, poller->loop.base, fd, accepted, server);
	if (status < 0) {
		channel_discard(&server->channel);
		return status;
	}
	channel_set_flow(&server->channel, CHANNEL_FLOWING); /* a new listener accepts */
	ready_enroll(&server->channel);
	if (out != NULL)
		*out = &server->channel;
	return 0;
}
