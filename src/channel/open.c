#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "channel/channel.h"
#include "transport/interface.h"

/*
 * The functions that make channels, on a transport, a socket or pipes.
 */

static bool peer_has_ended(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport_lock(transport);
	bool ended = transport_read_has_ended(transport);

	bufferevent_unlock(bev);
	return ended;
}

int ferry_channel_new_transport(struct ferry_channel **out, struct ferry_poller *poller,
                                struct ferry_transport *transport)
{
	if (out == NULL || poller == NULL || transport == NULL ||
	    bufferevent_get_base(ferry_transport_get_bufferevent(transport)) != poller->loop.base)
		return -EINVAL;
	struct ferry_channel *channel = channel_new(poller);
	if (channel == NULL)
		return -ENOMEM;
	int status = channel_attach(channel, transport);
	if (status == 0) {
		if (peer_has_ended(transport))
			channel_set_half_ended(channel);
		*out = channel;
	} else {
		channel_discard(channel);
	}
	return status;
}

int ferry_channel_new_socket(struct ferry_channel **out, struct ferry_poller *poller, int fd)
{
	struct ferry_transport *transport;

	if (out == NULL || poller == NULL)
		return -EINVAL;
	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	struct ferry_channel *channel = channel_new(poller);
	if (channel == NULL)
		return -ENOMEM;
	int status = ferry_transport_new_socket(&transport, poller->loop.base, fd);
	if (status == 0) {
		(void)channel_attach(channel, transport); /* cannot fail: the transport is new */
		channel->owns_socket = true;
		*out = channel;
	} else {
		channel_discard(channel);
	}
	return status;
}

/* Opens a descriptor for the missing pipe. An eventfd that nobody writes to never becomes readable; a missing
 * sink is closed before anything is written to it. */
static int open_stand_in(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

static int attach_pipes(struct ferry_channel *channel, int faucet, int sink)
{
	struct ferry_transport *transport;
	int missing = -1;

	if (faucet < 0 || sink < 0) {
		missing = open_stand_in();
		if (missing < 0)
			return missing;
	}
	int status =
	    ferry_transport_new_pipes(&transport, channel->poller->loop.base,
	                              faucet < 0 ? missing : faucet, sink < 0 ? missing : sink);
	if (status < 0) {
		if (missing >= 0)
			close(missing);
		return status;
	}
	(void)channel_attach(channel, transport); /* cannot fail: the transport is new */
	if (sink < 0)
		ferry_transport_lose_write_connection(transport);
	return 0;
}

int ferry_channel_new_pipes(struct ferry_channel **out, struct ferry_poller *poller, int faucet,
                            int sink)
{
	if (out == NULL || poller == NULL || (faucet == -1 && sink == -1))
		return -EINVAL;
	if (faucet < -1 || sink < -1)
		return -EBADF;
	struct ferry_channel *channel = channel_new(poller);
	if (channel == NULL)
		return -ENOMEM;
	int status = attach_pipes(channel, faucet, sink);
	if (status == 0)
		*out = channel;
	else
		channel_discard(channel);
	return status;
}
