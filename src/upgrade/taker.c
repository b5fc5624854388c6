#include "upgrade/taker.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/listener.h"
#include "ferry/transport.h"
#include "ferry/worker.h"

#include "kernel/socket.h"
#include "util/log.h"
#include "util/queue.h"

struct giving {
	LIST_ENTRY(giving) link;
	struct taker *taker;
	struct ferry_worker *worker;
};

struct taker {
	struct ferry_listener *listener;
	taker_received_cb received;
	void *context;
	LIST_HEAD(giving_list, giving) all;
};

static int copy_contents(struct ferry_handoff *to, const struct ferry_handoff *from)
{
	struct ferry_handoff_info info;
	size_t length;
	int status = ferry_handoff_get_info(from, &info);

	if (status == 0)
		status = ferry_handoff_set_name(to, info.name);
	const void *bytes = ferry_handoff_get_bytes(from, &length);
	if (status == 0)
		status = ferry_handoff_set_bytes(to, bytes, length);
	const void *blob = ferry_handoff_get_blob(from, &length);
	if (status == 0)
		status = ferry_handoff_set_blob(to, blob, length);
	return status;
}

/* A handoff of this process's own, which can be parked and handed off again. */
static int take(struct ferry_handoff **out, struct ferry_handoff *received)
{
	struct ferry_handoff *own;
	int status = ferry_handoff_new(&own, ferry_handoff_get_fd(received));

	if (status != 0)
		return status;
	status = copy_contents(own, received);
	if (status != 0) {
		(void)ferry_handoff_steal_fd(own);
		ferry_handoff_free(own);
		return status;
	}
	(void)ferry_handoff_steal_fd(received);
	*out = own;
	return 0;
}

static void end_giving(struct giving *giving)
{
	LIST_REMOVE(giving, link);
	ferry_worker_free(giving->worker);
	free(giving);
}

/* If there is no memory for the report, the channel ends: the old process then takes the claim for it, and connects
 * again. It would wait for the report as long as it lives. */
static void report_done(struct giving *giving, uint64_t id)
{
	if (ferry_worker_done(giving->worker, id) != -ENOMEM)
		return;
	log_line(FERRY_LOG_WARNING, "the channel of the old process ends: %s", strerror(ENOMEM));
	end_giving(giving);
}

static void on_received(struct ferry_worker *worker, struct ferry_handoff *received, void *context)
{
	(void)worker;
	struct giving *giving = context;
	struct taker *taker = giving->taker;
	struct ferry_handoff_info info;
	struct ferry_handoff *own;
	int status = ferry_handoff_get_info(received, &info);

	if (status == 0)
		status = take(&own, received);
	if (status != 0) {
		log_line(FERRY_LOG_WARNING, "a connection of the old process is closed: %s",
		         strerror(-status));
		return;
	}
	report_done(giving, info.id);
	taker->received(own, taker->context);
}

static void on_dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)worker, (void)reason;
	end_giving(context);
}

/* The name of an abstract socket is no secret. */
static bool is_trusted(struct ferry_transport *transport)
{
	return socket_check_peer_user(bufferevent_getfd(ferry_transport_get_bufferevent(transport))) ==
	       0;
}

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = on_received,
	                                                        .dispatcher_lost = on_dispatcher_lost};
	(void)listener;
	struct taker *taker = context;
	struct giving *giving = is_trusted(transport) ? malloc(sizeof(*giving)) : NULL;
	int status = giving != NULL ? 0 : -EACCES;

	if (status == 0) {
		giving->taker = taker;
		status = ferry_worker_new(&giving->worker, transport, &callbacks, giving);
	}
	if (status == 0) {
		LIST_INSERT_HEAD(&taker->all, giving, link);
		return;
	}
	log_line(FERRY_LOG_WARNING, "connections that another process offers are refused: %s",
	         strerror(-status));
	free(giving);
	ferry_transport_free(transport);
}

int taker_new(struct taker **out, struct event_base *base, int listener, taker_received_cb received,
              void *context)
{
	struct taker *taker = calloc(1, sizeof(*taker));
	if (taker == NULL)
		return -ENOMEM;
	taker->received = received;
	taker->context = context;
	const int status = ferry_listener_new_fd(&taker->listener, base, listener, on_accepted, taker);
	if (status != 0)
		free(taker);
	else
		*out = taker;
	return status;
}

void taker_free(struct taker *taker)
{
	struct giving *giving;

	if (taker == NULL)
		return;
	ferry_listener_free(taker->listener);
	while ((giving = LIST_FIRST(&taker->all)) != NULL)
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it has taken itself off the list */
		end_giving(giving);
	free(taker);
}
