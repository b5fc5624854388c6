#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "endpoint/address.h"
#include "endpoint/connection.h"
#include "ferry/connector.h"

/* connect(2) on a unix socket is over at once: it stands, or it failed. One answer is between:
 * EAGAIN, the listener's backlog is full. Nothing tells when there is room again (the socket polls
 * writable all the time), so a timer tries again, soon at first and then less often, until the
 * deadline.
 *
 *              connected, or out of time
 *   the call ------------------------------> outcome known ---> callback, from the loop
 *      |                                          ^
 *      '--- EAGAIN ---> waiting --- any but EAGAIN '
 *                        ^   |
 *                        '---' EAGAIN
 */

enum { TIMEOUT_DEFAULT = 5, FIRST_RETRY_MICROSECONDS = 1000, LAST_RETRY_MICROSECONDS = 64000 };

/* Beyond that, deadlines need not be exact, but must not overflow. */
static const int64_t timeout_max_seconds = INT64_C(1) << 32;

struct ferry_connector {
	struct event_base *base;
	struct address address;
	int fd;
	int status;       /* -EAGAIN: waiting; else the outcome */
	int64_t deadline; /* microseconds of the monotonic clock */
	int64_t retry_microseconds;
	struct event *turn;
	bool calling_back;
	ferry_connector_connected_cb connected;
	void *context;
};

static int64_t microseconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t deadline_after(const struct timeval *timeout)
{
	int64_t seconds = TIMEOUT_DEFAULT;
	int64_t microseconds = 0;

	if (timeout != NULL) {
		seconds = timeout->tv_sec < timeout_max_seconds ? timeout->tv_sec : timeout_max_seconds;
		microseconds = timeout->tv_usec < 1000000 ? timeout->tv_usec : 1000000;
	}
	return microseconds_now() + seconds * 1000000 + microseconds;
}

static void release(struct ferry_connector *connector)
{
	if (connector->turn != NULL)
		event_free(connector->turn);
	if (connector->fd >= 0)
		close(connector->fd);
	free(connector);
}

static void try_to_connect(struct ferry_connector *connector)
{
	int result;
	do
		result = connect(connector->fd, (const struct sockaddr *)&connector->address.un,
		                 connector->address.length);
	while (result < 0 && errno == EINTR);
	connector->status = result < 0 ? -errno : 0;
}

/* After EAGAIN: has the loop try again, or settles that it will not. */
static void wait_for_room(struct ferry_connector *connector)
{
	const int64_t left = connector->deadline - microseconds_now();
	const int64_t wait =
	    connector->retry_microseconds < left ? connector->retry_microseconds : left;

	if (left <= 0)
		connector->status = -ETIMEDOUT;
	else if (event_add(connector->turn, &(struct timeval){.tv_usec = (suseconds_t)wait}) < 0)
		connector->status = -ENOMEM;
	else if (connector->retry_microseconds < LAST_RETRY_MICROSECONDS)
		connector->retry_microseconds *= 2;
}

static void tell_outcome(struct ferry_connector *connector)
{
	struct ferry_transport *transport = NULL;
	int status = connector->status;

	if (status == 0) {
		status = connection_to_transport(&transport, connector->base, connector->fd);
		connector->fd = -1;
	}
	connector->calling_back = true;
	connector->connected(connector, status, status == 0 ? transport : NULL, connector->context);
	release(connector);
}

static void on_turn(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_connector *connector = argument;
	(void)fd, (void)what;

	if (connector->status == -EAGAIN) {
		try_to_connect(connector);
		if (connector->status == -EAGAIN)
			wait_for_room(connector);
	}
	if (connector->status != -EAGAIN)
		tell_outcome(connector);
}

/* The first try: 0 when the loop will tell the rest. */
static int start(struct ferry_connector *connector)
{
	connector->turn = event_new(connector->base, -1, 0, on_turn, connector);
	if (connector->turn == NULL)
		return -ENOMEM;
	connector->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connector->fd < 0)
		return -errno;

	try_to_connect(connector);
	if (connector->status == -EAGAIN)
		wait_for_room(connector);
	if (connector->status == 0 || connector->status == -ETIMEDOUT)
		event_active(connector->turn, EV_TIMEOUT, 0);
	else if (connector->status != -EAGAIN)
		return connector->status;
	return 0;
}

int ferry_connector_new_unix(struct ferry_connector **out, struct event_base *base,
                             const char *path, const struct timeval *timeout,
                             ferry_connector_connected_cb connected, void *context)
{
	struct address address;

	if (base == NULL || connected == NULL ||
	    (timeout != NULL && (timeout->tv_sec < 0 || timeout->tv_usec < 0)))
		return -EINVAL;
	int status = address_from_string(&address, path);
	if (status != 0)
		return status;

	struct ferry_connector *connector = calloc(1, sizeof(*connector));
	if (connector == NULL)
		return -ENOMEM;
	connector->base = base;
	connector->address = address;
	connector->fd = -1;
	connector->deadline = deadline_after(timeout);
	connector->retry_microseconds = FIRST_RETRY_MICROSECONDS;
	connector->connected = connected;
	connector->context = context;

	status = start(connector);
	if (status != 0)
		release(connector);
	else if (out != NULL)
		*out = connector;
	return status;
}

void ferry_connector_free(struct ferry_connector *connector)
{
	/* In its own callback: tell_outcome() releases it when that returns. */
	if (connector != NULL && !connector->calling_back)
		release(connector);
}
