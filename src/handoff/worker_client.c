#include "ferry/worker_client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "endpoint/address.h"
#include "endpoint/admission.h"
#include "ferry/connector.h"
#include "ferry/transport.h"
#include "handoff/worker_fields.h"
#include "kernel/clock.h"
#include "util/backoff.h"

/*
 * A source is a socket with a dispatcher. It has one worker that is not drained, or connects, or waits:
 *
 *               attempt                connected
 *    WAITING -----------> CONNECTING -----------> a worker
 *       ^                     |                      |
 *       +---------------------+----------------------+
 *            failed: a longer pause    drained or ended: the first pause, if the channel stood for longer than the next
 *
 * The pause begins with the attempt: after a channel that stood for longer the next attempt is made at once. A
 * dispatcher that ends or drains each channel at once is asked ever less often, as one that does not answer.
 *
 * A user's callback may free the client, or drain it, which frees the sources. It is therefore the last thing that the
 * code on the stack does with either.
 */

enum { FIRST_PAUSE = CLOCK_SECOND / 20, LONGEST_PAUSE = 2 * CLOCK_SECOND, CREDITS_DEFAULT = 256 };

/* For a timer that is not to run; when it does, it changes nothing. */
static const int64_t never = INT64_C(86400) * CLOCK_SECOND;

struct worker_source {
	struct ferry_worker_client *client;
	char *path;
	struct ferry_connector *connector; /* CONNECTING, if not NULL */
	struct ferry_worker *worker;       /* connected and not drained, or NULL */
	struct event *timer;               /* always pending: to set it then takes no memory */
	int64_t pause;                     /* from an attempt to the next; without jitter */
	int64_t attempted;                 /* the time of the last attempt; 0: none yet */
	int reported;                      /* the last reason since a dispatcher has answered, or 0 */
	TAILQ_ENTRY(worker_source) link;
};

struct ferry_worker_client {
	struct event_base *base;
	const struct ferry_worker_callbacks *callbacks;
	void *context;
	ferry_worker_client_failed_cb failed;
	void *failed_context;
	struct admission admission;
	unsigned int credits;
	int64_t first_pause, longest_pause;
	uint32_t random;
	bool draining;
	TAILQ_HEAD(, worker_source) sources;
	TAILQ_HEAD(, ferry_worker) workers;
};

/* ---- the pauses ---- */

static void set_timer(struct worker_source *source, int64_t usec)
{
	const struct timeval time = clock_to_timeval(usec > 0 ? usec : never);

	(void)event_add(source->timer, &time); /* cannot fail: it is pending */
	if (usec <= 0)
		event_active(source->timer, EV_TIMEOUT, 0);
}

static void connect_later(struct worker_source *source, bool stood)
{
	struct ferry_worker_client *client = source->client;

	if (stood)
		source->pause = client->first_pause;
	set_timer(source,
	          source->attempted + backoff_add_jitter(&client->random, source->pause) - clock_now());
	if (!stood)
		source->pause = backoff_double(source->pause, client->longest_pause);
}

/* The source's channel is drained or has ended. */
static void replace_channel(struct worker_source *source, bool answered)
{
	source->worker = NULL;
	if (answered)
		source->reported = 0;
	connect_later(source, answered && clock_now() - source->attempted > source->pause);
}

static void fail(struct worker_source *source, int reason)
{
	struct ferry_worker_client *client = source->client;

	connect_later(source, false);
	if (source->reported == reason || client->failed == NULL)
		return;
	source->reported = reason;
	client->failed(client, source->path, reason, client->failed_context);
}

/* ---- the workers ---- */

static void worker_drained(struct ferry_worker *worker)
{
	struct worker_source *source = worker->keeper.source;

	if (source == NULL || source->worker != worker)
		return;
	replace_channel(source, true);
}

static void worker_ended(struct ferry_worker *worker)
{
	struct worker_source *source = worker->keeper.source;

	TAILQ_REMOVE(&worker->keeper.client->workers, worker, keeper.link);
	if (source == NULL || source->worker != worker)
		return;
	replace_channel(source, worker->version != 0);
}

static void keep_worker(struct ferry_worker_client *client, struct worker_source *source,
                        struct ferry_worker *worker)
{
	worker->keeper.drained = worker_drained;
	worker->keeper.ended = worker_ended;
	worker->keeper.client = client;
	worker->keeper.source = source;
	TAILQ_INSERT_TAIL(&client->workers, worker, keeper.link);
	if (source != NULL)
		source->worker = worker;
	/* Cannot fail: HELLO is in the output, in a block of memory with room for more. */
	(void)ferry_worker_set_credits(worker, client->credits);
}

/* ---- connecting ---- */

/* On success the worker owns the transport. */
static int make_worker(struct worker_source *source, struct ferry_transport *transport)
{
	struct ferry_worker_client *client = source->client;
	struct ferry_worker *worker;
	struct quota_share *share;
	struct ucred peer;

	int status = admission_check(&client->admission,
	                             bufferevent_getfd(ferry_transport_get_bufferevent(transport)),
	                             &peer, &share);
	if (status == 0)
		status = ferry_worker_new(&worker, transport, client->callbacks, client->context);
	if (status == 0)
		keep_worker(client, source, worker);
	return status == -EACCES ? -EPERM : status;
}

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)connector;
	struct worker_source *source = context;

	source->connector = NULL;
	if (status == 0) {
		status = make_worker(source, transport);
		if (status < 0)
			ferry_transport_free(transport);
	}
	if (status < 0)
		fail(source, status);
}

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct worker_source *source = argument;

	set_timer(source, never);
	if (source->connector != NULL || source->worker != NULL)
		return;
	source->attempted = clock_now();
	int status = ferry_connector_new_unix(&source->connector, source->client->base, source->path,
	                                      NULL, on_connected, source);
	if (status < 0)
		fail(source, status);
}

/* ---- sources ---- */

static void free_source(struct worker_source *source)
{
	ferry_connector_free(source->connector);
	if (source->timer != NULL)
		event_free(source->timer);
	free(source->path);
	free(source);
}

static int new_source(struct worker_source **out, struct ferry_worker_client *client,
                      const char *path)
{
	const struct timeval time = clock_to_timeval(never);
	struct worker_source *source = calloc(1, sizeof(*source));

	if (source == NULL)
		return -ENOMEM;
	source->client = client;
	source->pause = client->first_pause;
	source->path = strdup(path);
	source->timer = event_new(client->base, -1, EV_PERSIST, on_timer, source);
	if (source->path == NULL || source->timer == NULL || event_add(source->timer, &time) < 0) {
		free_source(source);
		return -ENOMEM;
	}
	set_timer(source, 0);
	*out = source;
	return 0;
}

/* Whether the path can ever be the address of a socket. */
static int check_path(const char *path)
{
	struct address address;

	int status = address_open(&address, path);
	if (status == 0)
		address_close(&address);
	return status == -EINVAL || status == -ENAMETOOLONG ? status : 0;
}

static void free_sources(struct ferry_worker_client *client)
{
	struct worker_source *source;
	struct ferry_worker *worker;

	TAILQ_FOREACH (worker, &client->workers, keeper.link)
		worker->keeper.source = NULL;
	while ((source = TAILQ_FIRST(&client->sources)) != NULL) {
		TAILQ_REMOVE(&client->sources, source, link);
		free_source(source);
	}
}

/* ---- for the user ---- */

int ferry_worker_client_new(struct ferry_worker_client **out, struct event_base *base,
                            const struct ferry_worker_callbacks *callbacks, void *context)
{
	if (out == NULL || base == NULL || callbacks == NULL)
		return -EINVAL;
	struct ferry_worker_client *client = calloc(1, sizeof(*client));
	if (client == NULL)
		return -ENOMEM;
	*client = (struct ferry_worker_client){.base = base,
	                                       .callbacks = callbacks,
	                                       .context = context,
	                                       .credits = CREDITS_DEFAULT,
	                                       .first_pause = FIRST_PAUSE,
	                                       .longest_pause = LONGEST_PAUSE,
	                                       .random = (uint32_t)clock_now() ^ (uint32_t)getpid()};
	TAILQ_INIT(&client->sources);
	TAILQ_INIT(&client->workers);
	*out = client;
	return 0;
}

void ferry_worker_client_free(struct ferry_worker_client *client)
{
	struct ferry_worker *worker;

	if (client == NULL)
		return;
	free_sources(client);
	while ((worker = TAILQ_FIRST(&client->workers)) != NULL)
		ferry_worker_free(worker); /* removes it from the list */
	admission_clear(&client->admission);
	free(client);
}

int ferry_worker_client_add_unix(struct ferry_worker_client *client, const char *path)
{
	struct worker_source *source;

	if (client == NULL || path == NULL)
		return -EINVAL;
	int status = client->draining ? -ESHUTDOWN : check_path(path);
	if (status == 0)
		status = new_source(&source, client, path);
	if (status == 0)
		TAILQ_INSERT_TAIL(&client->sources, source, link);
	return status;
}

int ferry_worker_client_add_from_environment(struct ferry_worker_client *client)
{
	struct ferry_worker *worker;

	if (client == NULL)
		return -EINVAL;
	if (client->draining)
		return -ESHUTDOWN;
	int status = ferry_worker_new_from_environment(&worker, client->base, client->callbacks,
	                                               client->context);
	if (status == 0)
		keep_worker(client, NULL, worker);
	return status;
}

int ferry_worker_client_allow_uid(struct ferry_worker_client *client, uid_t uid)
{
	if (client == NULL || uid == (uid_t)-1)
		return -EINVAL;
	return admission_allow_uid(&client->admission, uid);
}

int ferry_worker_client_set_credits(struct ferry_worker_client *client, unsigned int credits)
{
	struct ferry_worker *worker;
	int result = 0;

	if (client == NULL)
		return -EINVAL;
	client->credits = credits;
	TAILQ_FOREACH (worker, &client->workers, keeper.link) {
		int status = ferry_worker_set_credits(worker, credits);
		if (status == -ENOMEM)
			result = status;
	}
	return result;
}

int ferry_worker_client_set_pauses(struct ferry_worker_client *client, const struct timeval *first,
                                   const struct timeval *longest)
{
	struct worker_source *source;

	if (client == NULL || first == NULL || longest == NULL)
		return -EINVAL;
	const int64_t first_pause = clock_from_timeval(first);
	const int64_t longest_pause = clock_from_timeval(longest);
	if (first_pause <= 0 || longest_pause < first_pause)
		return -EINVAL;
	client->first_pause = first_pause;
	client->longest_pause = longest_pause;
	TAILQ_FOREACH (source, &client->sources, link) {
		source->pause = first_pause;
		if (source->attempted != 0 && source->connector == NULL && source->worker == NULL)
			connect_later(source, false);
	}
	return 0;
}

int ferry_worker_client_set_failed_cb(struct ferry_worker_client *client,
                                      ferry_worker_client_failed_cb failed, void *context)
{
	if (client == NULL)
		return -EINVAL;
	client->failed = failed;
	client->failed_context = context;
	return 0;
}

int ferry_worker_client_drain(struct ferry_worker_client *client)
{
	struct ferry_worker *worker;
	int result = 0;

	if (client == NULL)
		return -EINVAL;
	client->draining = true;
	free_sources(client);
	TAILQ_FOREACH (worker, &client->workers, keeper.link) {
		int status = ferry_worker_drain(worker);
		if (status == -ENOMEM)
			result = status;
	}
	return result;
}

enum ferry_worker_client_state
ferry_worker_client_get_state(const struct ferry_worker_client *client)
{
	const struct ferry_worker *worker;

	if (client == NULL)
		return FERRY_WORKER_CLIENT_OVER;
	if (!TAILQ_EMPTY(&client->sources))
		return FERRY_WORKER_CLIENT_RUNNING;
	TAILQ_FOREACH (worker, &client->workers, keeper.link)
		if (!ferry_worker_is_drained(worker))
			return FERRY_WORKER_CLIENT_RUNNING;
	return TAILQ_EMPTY(&client->workers) ? FERRY_WORKER_CLIENT_OVER : FERRY_WORKER_CLIENT_DRAINED;
}
