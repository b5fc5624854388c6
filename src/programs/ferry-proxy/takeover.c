#include "programs/ferry-proxy/takeover.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <ferry/ferry.h>

/* The time in which the old proxy has to answer, and the workers of this one have to be ready. */
static const struct timeval patience = {.tv_sec = 60};

/* The time in which the old proxy sees the end of the first attempt. */
static const struct timeval second_attempt = {.tv_usec = 200000};

struct takeover {
	struct event_base *base;
	const char *path;
	struct listeners *wanted;
	const struct takeover_callbacks *callbacks;
	void *context;
	struct ferry_connector *connector;
	struct ferry_takeover *takeover;
	struct event *deadline;
	struct event *again;
	/* The wanted sockets that the old proxy has; empty until that is known. */
	const char *names[LISTENERS_MAX];
	size_t name_count;
};

static int connect_to_old(struct takeover *takeover);

static void fail_takeover(struct takeover *takeover, int status)
{
	program_log("%s: not taken over: %s", takeover->path, strerror(-status));
	event_del(takeover->deadline);
	takeover->callbacks->ended(status, takeover->context);
}

static void takeover_ended(struct ferry_takeover *of, int status, void *context)
{
	struct takeover *takeover = context;
	takeover->takeover = NULL;
	ferry_takeover_free(of);
	if (status < 0) {
		fail_takeover(takeover, status);
		return;
	}
	event_del(takeover->deadline);
	takeover->callbacks->ended(0, takeover->context);
}

static void find_common_names(struct takeover *takeover, const struct ferry_socket_set *set)
{
	struct listener *listener = NULL;
	while ((listener = listeners_next(takeover->wanted, listener)) != NULL)
		if (ferry_socket_set_find(set, listener->name) >= 0)
			takeover->names[takeover->name_count++] = listener->name;
}

/* A socket of the old proxy that is not wanted must not be taken, because nobody would accept on it. The
 * first request is therefore for all sockets, to learn their names. If some are not wanted, a second
 * request names the wanted ones. */
static void sockets_received(struct ferry_takeover *of, struct ferry_socket_set *set, void *context)
{
	struct takeover *takeover = context;
	if (takeover->name_count > 0) {
		takeover->callbacks->received(set, takeover->context);
		return;
	}
	find_common_names(takeover, set);
	if (takeover->name_count == ferry_socket_set_count(set)) {
		takeover->callbacks->received(set, takeover->context);
		return;
	}
	ferry_takeover_free(of);
	takeover->takeover = NULL;
	ferry_socket_set_free(set);
	if (takeover->name_count == 0)
		fail_takeover(takeover, -ENOENT);
	else if (event_add(takeover->again, &second_attempt) < 0)
		fail_takeover(takeover, -ENOMEM);
}

static void old_proxy_connected(struct ferry_connector *connector, int status,
                                struct ferry_transport *transport, void *context)
{
	static const struct ferry_takeover_callbacks callbacks = {.received = sockets_received,
	                                                          .ended = takeover_ended};
	(void)connector;
	struct takeover *takeover = context;
	takeover->connector = NULL;
	if (status == 0) {
		status = ferry_takeover_request(&takeover->takeover, transport, takeover->names,
		                                takeover->name_count, &callbacks, takeover);
		if (status < 0)
			ferry_transport_free(transport);
	}
	if (status < 0)
		fail_takeover(takeover, status);
}

static int connect_to_old(struct takeover *takeover)
{
	int status = ferry_connector_new_unix(&takeover->connector, takeover->base, takeover->path,
	                                      NULL, old_proxy_connected, takeover);
	if (status < 0)
		takeover->connector = NULL;
	return status;
}

static void try_again(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct takeover *takeover = context;
	int status = connect_to_old(takeover);
	if (status < 0)
		fail_takeover(takeover, status);
}

static void takeover_timed_out(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct takeover *takeover = context;
	ferry_takeover_free(takeover->takeover);
	takeover->takeover = NULL;
	fail_takeover(takeover, -ETIMEDOUT);
}

int takeover_new(struct takeover **out, struct event_base *base, const char *path,
                 struct listeners *wanted, const struct takeover_callbacks *callbacks,
                 void *context)
{
	struct takeover *takeover = calloc(1, sizeof(*takeover));
	if (takeover == NULL)
		return -ENOMEM;
	takeover->base = base;
	takeover->path = path;
	takeover->wanted = wanted;
	takeover->callbacks = callbacks;
	takeover->context = context;
	takeover->deadline = evtimer_new(base, takeover_timed_out, takeover);
	takeover->again = evtimer_new(base, try_again, takeover);
	int status = -ENOMEM;
	if (takeover->deadline != NULL && takeover->again != NULL &&
	    event_add(takeover->deadline, &patience) == 0)
		status = connect_to_old(takeover);
	if (status < 0) {
		takeover_free(takeover);
		return status;
	}
	*out = takeover;
	return 0;
}

int takeover_commit(struct takeover *takeover)
{
	return ferry_takeover_commit(takeover->takeover);
}

void takeover_free(struct takeover *takeover)
{
	if (takeover == NULL)
		return;
	ferry_connector_free(takeover->connector);
	ferry_takeover_free(takeover->takeover);
	if (takeover->deadline != NULL)
		event_free(takeover->deadline);
	if (takeover->again != NULL)
		event_free(takeover->again);
	free(takeover);
}
