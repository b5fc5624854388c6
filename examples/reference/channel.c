/* Short pieces for the reference: channels and pollers. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

struct ferry_channel *open_socket(struct ferry_poller *poller, int fd)
{
	struct ferry_channel *channel = NULL;

	if (ferry_channel_new_socket(&channel, poller, fd) < 0)
		return NULL; /* fd is still the caller's */
	if (ferry_channel_set_limits(channel, 65536, 1 << 20) < 0 ||
	    ferry_channel_set_half_close(channel, true) < 0 ||
	    ferry_poller_register(poller, channel) < 0) {
		ferry_channel_free(channel);
		return NULL;
	}
	return channel;
}

struct ferry_channel *open_standard_streams(struct ferry_poller *poller)
{
	struct ferry_channel *channel = NULL;

	if (ferry_channel_new_pipes(&channel, poller, STDIN_FILENO, STDOUT_FILENO) == 0)
		ferry_poller_register(poller, channel);
	return channel;
}

/* The transport of a listener or a connector on the poller's event_base. */
struct ferry_channel *open_transport(struct ferry_poller *poller, struct ferry_transport *transport)
{
	struct ferry_channel *channel = NULL;

	if (ferry_channel_new_transport(&channel, poller, transport) < 0)
		ferry_transport_free(transport);
	else
		ferry_poller_register(poller, channel);
	return channel;
}

/* Nothing is read from a client while its request is served by somebody else. */
void suspend(struct ferry_poller *poller, struct ferry_channel *channel)
{
	ferry_poller_unregister(poller, channel);
}

int save_descriptor(struct ferry_poller *poller, struct ferry_channel_event *event)
{
	if (event->kind != FERRY_CHANNEL_FD)
		return -ENOENT;
	return ferry_poller_steal_fd(poller, event); /* else the next poll closes it */
}

int answer_with_descriptor(struct ferry_channel *channel, int fd)
{
	int status = ferry_channel_send_fd(channel, fd, FERRY_FD_DUP);

	return status < 0 ? status
	                  : ferry_channel_write(channel, "\n", 1); /* the byte that it travels with */
}

/* Sends the answer before the program goes on, and no request after it. */
int say_goodbye(struct ferry_channel *channel)
{
	const struct timeval second = {.tv_sec = 1};

	ferry_channel_write(channel, "bye\n", 4);
	if (ferry_channel_flush(channel, &second) == -ETIMEDOUT)
		return ferry_channel_close(channel);   /* the loop sends the rest */
	return ferry_channel_close_write(channel); /* the peer may still send */
}

void describe(const struct ferry_channel *channel)
{
	struct ferry_peer_credentials peer;

	printf("descriptor %d\n", ferry_channel_get_fd(channel));
	if (ferry_transport_get_peer_credentials(ferry_channel_get_transport(channel), &peer) == 0)
		printf("user %ld\n", (long)peer.uid);
}

enum { STORE = 1, MOST_BYTES = 65536, MOST_FDS = 1 };

/* A connection of messages. It sends one with a file. */
struct ferry_channel *open_messages(struct ferry_poller *poller, int fd, int file)
{
	struct ferry_channel *channel = NULL;

	if (ferry_channel_new_socket(&channel, poller, fd) < 0)
		return NULL;
	if (ferry_channel_set_messages(channel, MOST_BYTES, MOST_FDS) < 0 ||
	    ferry_channel_send_message(channel, STORE, "log", 3, &file, 1, FERRY_FD_DUP) < 0 ||
	    ferry_poller_register(poller, channel) < 0) {
		ferry_channel_free(channel);
		return NULL;
	}
	return channel;
}
