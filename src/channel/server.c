#include <errno.h>
#include <stdlib.h>

#include "channel/channel.h"
#include "ferry/listener.h"

/*
 * Connections wait in their server until they are told; nothing is read from them before. As many as
 * there is room for: the others wait in the backlog.
 */

enum { ACCEPTED_MAX = 64 };

struct accepted {
	STAILQ_ENTRY(accepted) link;
	struct ferry_transport *transport;
};

int server_settle_accepting(struct ferry_channel *server, bool idle)
{
	unsigned int high = server->reading || idle ? ACCEPTED_MAX : ACCEPTED_MAX / 2 + 1;
	bool want = server->registered && server->accepted_count < high;

	if (want == server->reading)
		return 0;
	int status =
	    want ? ferry_listener_enable(server->listener) : ferry_listener_disable(server->listener);
	if (status == 0)
		server->reading = want;
	return status;
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	(void)listener;
	struct ferry_channel *server = context;
	struct accepted *accepted = malloc(sizeof(*accepted));

	if (accepted == NULL) {
		ferry_transport_free(transport);
		return;
	}
	accepted->transport = transport;
	STAILQ_INSERT_TAIL(&server->accepted, accepted, link);
	server->accepted_count++;
	poller_wake(server);
	(void)server_settle_accepting(server, false); /* stopping cannot fail */
}

static void copy_settings(struct ferry_channel *channel, const struct ferry_channel *server)
{
	channel->scanner = server->scanner;
	channel->lines = server->lines;
	channel->half_close = server->half_close;
	channel->read_limit = server->read_limit;
	channel->write_limit = server->write_limit;
}

int server_next(struct ferry_channel *server, struct ferry_channel_event *event)
{
	struct accepted *first = STAILQ_FIRST(&server->accepted);
	if (first == NULL)
		return 0;
	struct ferry_channel *channel = channel_allocate(server->poller);
	if (channel == NULL)
		return -ENOMEM;
	(void)channel_attach(channel, first->transport); /* without a protocol no end was noticed */
	copy_settings(channel, server);
	poller_enroll(channel);
	event->kind = FERRY_CHANNEL_ACCEPTED;
	event->accepted = channel;
	STAILQ_REMOVE_HEAD(&server->accepted, link);
	server->accepted_count--;
	free(first);
	return 1;
}

void server_close_down(struct ferry_channel *server)
{
	struct accepted *first;

	while ((first = STAILQ_FIRST(&server->accepted)) != NULL) {
		STAILQ_REMOVE_HEAD(&server->accepted, link);
		ferry_transport_free(first->transport);
		free(first);
	}
	server->accepted_count = 0;
	ferry_listener_free(server->listener);
	server->listener = NULL;
}

/* ---- making ---- */

/* The listener is there, and accepts. */
static void begin(struct ferry_channel **out, struct ferry_channel *server)
{
	server->reading = true;
	poller_enroll(server);
	if (out != NULL)
		*out = server;
}

int ferry_poller_add_server(struct ferry_channel **out, struct ferry_poller *poller, int fd)
{
	if (poller == NULL)
		return -EINVAL;
	struct ferry_channel *server = channel_allocate(poller);
	if (server == NULL)
		return -ENOMEM;
	int status = ferry_listener_new_fd(&server->listener, poller->base, fd, accepted, server);
	if (status == 0)
		begin(out, server);
	else
		channel_discard(server);
	return status;
}

int ferry_poller_add_unix_server(struct ferry_channel **out, struct ferry_poller *poller,
                                 const char *path, mode_t mode, int backlog)
{
	if (poller == NULL)
		return -EINVAL;
	struct ferry_channel *server = channel_allocate(poller);
	if (server == NULL)
		return -ENOMEM;
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	options.mode = mode;
	options.backlog = backlog;
	int status =
	    ferry_listener_new_unix(&server->listener, poller->base, path, &options, accepted, server);
	if (status == 0)
		begin(out, server);
	else
		channel_discard(server);
	return status;
}
