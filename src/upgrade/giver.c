#include "upgrade/giver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ferry/dispatcher.h"
#include "ferry/transport.h"

#include "endpoint/connection.h"
#include "kernel/socket.h"
#include "util/log.h"

/* The time in which the successor takes a connection; it does nothing with it but to wait. */
static const struct timeval patience = {.tv_sec = 30};

/* Connections that wait for the successor to read. */
enum { QUEUE_LIMIT = 1000000 };

/* The successors that are connected to, each after the one before has ended. */
enum { REACHED_MAX = 100 };

struct giver {
	struct event_base *base;
	struct ferry_dispatcher *dispatcher; /* NULL: nobody is there any more */
	giver_changed_cb changed;
	void *context;
	struct sockaddr_un name;
	socklen_t name_length;
	unsigned int reached; /* times */
	uint64_t given, taken;
};

/* The name is abstract: another user may bind it when nobody accepts any more. SO_PEERCRED names the process that has
 * called listen(2). */
static int connect_to(const struct giver *giver)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int status = 0;
	if (connect(fd, (const struct sockaddr *)&giver->name, giver->name_length) < 0)
		status = -errno;
	if (status == 0)
		status = socket_check_peer_user(fd);
	if (status == 0)
		return fd;
	close(fd);
	return status;
}

/* Owns the descriptor, also after a failure. */
static int add_worker(struct giver *giver, int fd)
{
	struct ferry_transport *transport;
	int status = connection_to_transport(&transport, giver->base, fd);

	if (status != 0)
		return status;
	status = ferry_dispatcher_add_worker(NULL, giver->dispatcher, transport, NULL);
	if (status != 0)
		ferry_transport_free(transport);
	return status;
}

static int reach(struct giver *giver)
{
	if (giver->dispatcher == NULL || giver->reached >= REACHED_MAX)
		return -ENOTCONN;
	giver->reached++;
	const int fd = connect_to(giver);
	return fd < 0 ? fd : add_worker(giver, fd);
}

static void on_worker_lost(struct ferry_dispatcher *dispatcher,
                           struct ferry_dispatcher_worker *worker, int reason, void *context)
{
	(void)worker, (void)reason;
	struct giver *giver = context;
	const int status = reach(giver);

	if (status != 0) {
		log_line(FERRY_LOG_WARNING, "no successor takes connections any more: %s",
		         strerror(-status));
		giver->dispatcher = NULL;
		ferry_dispatcher_free(dispatcher);
	}
	giver->changed(giver->context);
}

int giver_new(struct giver **out, struct event_base *base, int listener, giver_changed_cb changed,
              void *context)
{
	static const struct ferry_dispatcher_callbacks callbacks = {.worker_lost = on_worker_lost};
	struct giver *giver = calloc(1, sizeof(*giver));
	if (giver == NULL)
		return -ENOMEM;
	*giver = (struct giver){
	    .base = base, .changed = changed, .context = context, .name_length = sizeof(giver->name)};
	int status = getsockname(listener, (struct sockaddr *)&giver->name, &giver->name_length) < 0
	                 ? -errno
	                 : ferry_dispatcher_new(&giver->dispatcher, base, &callbacks, giver);
	if (status == 0)
		status = ferry_dispatcher_set_queue_limit(giver->dispatcher, QUEUE_LIMIT);
	if (status == 0)
		status = ferry_dispatcher_set_timeouts(giver->dispatcher, &patience, &patience);
	if (status == 0)
		status = reach(giver);
	if (status != 0)
		giver_free(giver);
	else
		*out = giver;
	return status;
}

static void on_outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)handoff;
	struct giver *giver = context;
	const bool is_taken = outcome == FERRY_HANDOFF_DONE || outcome == FERRY_HANDOFF_KEPT;

	giver->taken += is_taken;
	if (!is_taken && giver->dispatcher != NULL)
		log_line(FERRY_LOG_WARNING, "a connection was given and not taken: closed: %s",
		         strerror(reason < 0 ? -reason : ECONNREFUSED));
	if (giver->dispatcher != NULL)
		giver->changed(giver->context);
}

int giver_give(struct giver *giver, struct ferry_handoff *handoff)
{
	if (giver->dispatcher == NULL)
		return -ENOTCONN;
	const int status = ferry_dispatcher_hand_off(giver->dispatcher, handoff, on_outcome, giver);
	giver->given += status == 0;
	return status;
}

bool giver_is_settled(const struct giver *giver)
{
	struct ferry_dispatcher_stats stats;

	return giver->dispatcher == NULL ||
	       ferry_dispatcher_get_stats(giver->dispatcher, &stats) != 0 ||
	       stats.queued + stats.outstanding == 0;
}

void giver_count(const struct giver *giver, uint64_t *given, uint64_t *taken)
{
	*given = giver->given;
	*taken = giver->taken;
}

/* The outcomes of the dispatcher run inside its free. */
void giver_free(struct giver *giver)
{
	if (giver == NULL)
		return;
	struct ferry_dispatcher *dispatcher = giver->dispatcher;
	giver->dispatcher = NULL;
	ferry_dispatcher_free(dispatcher);
	free(giver);
}
