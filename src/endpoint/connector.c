#include "ferry/connector.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "endpoint/address.h"
#include "endpoint/connection.h"
#include "kernel/clock.h"

/* connect(2) on a unix socket succeeds or fails at once, with one exception: EAGAIN, if the listener's backlog
 * is full. The kernel does not notify when there is room again (the socket polls writable all the time), so a
 * timer tries again, soon at first and then less often, until the deadline.
 *
 *              connected, or out of time
 *   the call ------------------------------> outcome known ---> callback, from the loop
 *      |                                          ^
 *      '--- EAGAIN ---> waiting --- any but EAGAIN '
 *                        ^   |
 *                        '---' EAGAIN
 */

enum {
	TIMEOUT_DEFAULT = 5 * CLOCK_SECOND,
	FIRST_RETRY = CLOCK_SECOND / 1000, /* 1 ms; it doubles */
	LAST_RETRY = 64 * FIRST_RETRY
};

struct ferry_connector {
	struct event_base *base;
	struct address address;
	int fd;
	int status;       /* -EAGAIN: waiting; otherwise the outcome */
	int64_t deadline; /* of clock_now() */
	int64_t retry;    /* microseconds until the next attempt */
	struct event *turn;
	bool calling_back;
	ferry_connector_connected_cb connected;
	void *context;
};

static void connector_destroy(struct ferry_connector *connector)
{
	if (connector->turn != NULL)
		event_free(connector->turn);
	if (connector->fd >= 0)
		close(connector->fd);
	address_close(&connector->address);
	free(connector);
}

/* After EAGAIN: schedules the next attempt, or sets the outcome if there is none. */
static void wait_for_room(struct ferry_connector *connector)
{
	const int64_t left = connector->deadline - clock_now();
	const int64_t wait = connector->retry < left ? connector->retry : left;
	const struct timeval time = clock_to_timeval(wait > 0 ? wait : 0);

	if (left <= 0)
		connector->status = -ETIMEDOUT;
	else if (event_add(connector->turn, &time) < 0)
		connector->status = -ENOMEM;
	else if (connector->retry < LAST_RETRY)
		connector->retry *= 2;
}

static void attempt_connection(struct ferry_connector *connector)
{
	do
		connector->status = address_connect(&connector->address, connector->fd);
	while (connector->status == -EINTR);
	if (connector->status == -EAGAIN)
		wait_for_room(connector);
}

static void finish_attempt(struct ferry_connector *connector)
{
	struct ferry_transport *transport = NULL;
	int status = connector->status;

	if (status == 0) {
		status = connection_to_transport(&transport, connector->base, connector->fd);
		connector->fd = -1;
	}
	connector->calling_back = true;
	connector->connected(connector, status, status == 0 ? transport : NULL, connector->context);
	connector_destroy(connector);
}

static void on_attempt(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_connector *connector = argument;
	(void)fd, (void)what;

	if (connector->status == -EAGAIN)
		attempt_connection(connector);
	if (connector->status != -EAGAIN)
		finish_attempt(connector);
}

/* Makes the first attempt. 0: the loop will notify the user of the outcome. */
static int start_connecting(struct ferry_connector *connector)
{
	connector->turn = event_new(connector->base, -1, 0, on_attempt, connector);
	if (connector->turn == NULL)
		return -ENOMEM;
	connector->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connector->fd < 0)
		return -errno;

	attempt_connection(connector);
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

	if (base == NULL || connected == NULL)
		return -EINVAL;
	const int64_t length = timeout != NULL ? clock_from_timeval(timeout) : TIMEOUT_DEFAULT;
	if (length < 0)
		return (int)length;
	int status = address_open(&address, path);
	if (status != 0)
		return status;

	struct ferry_connector *connector = calloc(1, sizeof(*connector));
	if (connector == NULL) {
		address_close(&address);
		return -ENOMEM;
	}
	connector->base = base;
	connector->address = address;
	connector->fd = -1;
	connector->deadline = clock_now() + length;
	connector->retry = FIRST_RETRY;
	connector->connected = connected;
	connector->context = context;

	status = start_connecting(connector);
	if (status != 0)
		connector_destroy(connector);
	else if (out != NULL)
		*out = connector;
	return status;
}

void ferry_connector_free(struct ferry_connector *connector)
{
	/* Inside its own callback, finish_attempt() frees the connector when the callback returns. */
	if (connector != NULL && !connector->calling_back)
		connector_destroy(connector);
}
