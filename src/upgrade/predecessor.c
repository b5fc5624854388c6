#include "upgrade/predecessor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "ferry/connector.h"
#include "ferry/takeover.h"

#include "endpoint/connection.h"
#include "takeover/takeover.h"
#include "upgrade/succeeded.h"
#include "util/log.h"

struct predecessor {
	struct event_base *base;
	const struct predecessor_callbacks *callbacks;
	void *context;
	struct timeval timeout;
	struct ferry_connector *connector;
	struct ferry_takeover *takeover;
	struct event *deadline;
	int token;                 /* of succeeded.h; -1: none */
	struct event *token_event; /* the predecessor has ended */
	bool committed;
};

static void end(struct predecessor *predecessor, int status)
{
	event_del(predecessor->deadline);
	predecessor->callbacks->ended(status, predecessor->context);
}

static void drop_token(struct predecessor *predecessor)
{
	if (predecessor->token_event != NULL)
		event_free(predecessor->token_event);
	if (predecessor->token >= 0)
		close(predecessor->token);
	predecessor->token_event = NULL;
	predecessor->token = -1;
}

static void on_token(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	drop_token(argument);
}

/* From now on the predecessor sends nothing more. Without memory for the event the token stays. */
static void watch_token(struct predecessor *predecessor)
{
	if (predecessor->token < 0)
		return;
	predecessor->token_event =
	    event_new(predecessor->base, predecessor->token, EV_READ, on_token, predecessor);
	if (predecessor->token_event != NULL)
		(void)event_add(predecessor->token_event, NULL);
}

static void on_ended(struct ferry_takeover *takeover, int status, void *context)
{
	struct predecessor *predecessor = context;

	predecessor->takeover = NULL;
	ferry_takeover_free(takeover);
	if (status == 0)
		watch_token(predecessor);
	end(predecessor, status);
}

static void on_received(struct ferry_takeover *takeover, struct ferry_socket_set *set,
                        void *context)
{
	struct predecessor *predecessor = context;
	size_t length;
	void *state = takeover_steal_state(takeover, &length);

	event_del(predecessor->deadline);
	predecessor->callbacks->received(set, state, length, predecessor->context);
}

static int request(struct predecessor *predecessor, struct ferry_transport *transport)
{
	static const struct ferry_takeover_callbacks callbacks = {.received = on_received,
	                                                          .ended = on_ended};
	const int status =
	    ferry_takeover_request(&predecessor->takeover, transport, NULL, 0, &callbacks, predecessor);

	if (status != 0)
		ferry_transport_free(transport);
	return status;
}

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)connector;
	struct predecessor *predecessor = context;

	predecessor->connector = NULL;
	if (status == 0)
		status = request(predecessor, transport);
	if (status != 0)
		end(predecessor, status);
}

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct predecessor *predecessor = argument;

	if (predecessor->committed) {
		log_line(FERRY_LOG_WARNING, "the old process does not answer; this one accepts, and waits");
		return;
	}
	ferry_connector_free(predecessor->connector);
	predecessor->connector = NULL;
	ferry_takeover_free(predecessor->takeover);
	predecessor->takeover = NULL;
	end(predecessor, -ETIMEDOUT);
}

/* NULL: out of memory. */
static struct predecessor *make(struct event_base *base, const struct timeval *timeout,
                                const struct predecessor_callbacks *callbacks, void *context)
{
	struct predecessor *predecessor = calloc(1, sizeof(*predecessor));
	if (predecessor == NULL)
		return NULL;
	*predecessor = (struct predecessor){
	    .base = base, .callbacks = callbacks, .context = context, .timeout = *timeout, .token = -1};
	predecessor->deadline = evtimer_new(base, on_deadline, predecessor);
	if (predecessor->deadline == NULL || event_add(predecessor->deadline, timeout) < 0) {
		predecessor_free(predecessor);
		return NULL;
	}
	return predecessor;
}

int predecessor_inherit(struct predecessor **out, struct event_base *base, int channel,
                        const struct timeval *timeout,
                        const struct predecessor_callbacks *callbacks, void *context)
{
	struct ferry_transport *transport;
	struct predecessor *predecessor = make(base, timeout, callbacks, context);
	int status = predecessor != NULL ? 0 : -ENOMEM;

	if (status == 0) {
		predecessor->token = fcntl(channel, F_DUPFD_CLOEXEC, 0);
		status = predecessor->token < 0 ? -errno : 0;
	}
	if (status != 0)
		close(channel);
	else
		status = connection_to_transport(&transport, base, channel);
	if (status == 0)
		status = request(predecessor, transport);
	if (status != 0)
		predecessor_free(predecessor);
	else
		*out = predecessor;
	return status;
}

int predecessor_connect(struct predecessor **out, struct event_base *base, const char *path,
                        const struct timeval *timeout,
                        const struct predecessor_callbacks *callbacks, void *context)
{
	struct predecessor *predecessor = make(base, timeout, callbacks, context);
	if (predecessor == NULL)
		return -ENOMEM;
	const int status = ferry_connector_new_unix(&predecessor->connector, base, path, timeout,
	                                            on_connected, predecessor);
	if (status != 0) {
		predecessor->connector = NULL;
		predecessor_free(predecessor);
	} else {
		*out = predecessor;
	}
	return status;
}

/* The deadline only leaves a line in the log: the predecessor may be stopped, and this process accepts. */
int predecessor_commit(struct predecessor *predecessor)
{
	if (predecessor->takeover == NULL)
		return -ENOTCONN;
	const int status = ferry_takeover_commit(predecessor->takeover);
	if (status != 0)
		return status;
	predecessor->committed = true;
	(void)event_add(predecessor->deadline, &predecessor->timeout);
	return 0;
}

void predecessor_notify_of_successor(struct predecessor *predecessor)
{
	if (predecessor != NULL && predecessor->token >= 0)
		succeeded_send(predecessor->token);
}

void predecessor_free(struct predecessor *predecessor)
{
	if (predecessor == NULL)
		return;
	ferry_connector_free(predecessor->connector);
	ferry_takeover_free(predecessor->takeover);
	if (predecessor->deadline != NULL)
		event_free(predecessor->deadline);
	drop_token(predecessor);
	free(predecessor);
}
