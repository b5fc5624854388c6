#include "programs/ferry-proxy/succession.h"

#include "programs/ferry-proxy/idle_clients.h"
#include "programs/shared/program.h"
#include "programs/shared/socket_transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/queue.h>
#include <sys/socket.h>

#include <event2/event.h>
#include <ferry/ferry.h>

/* The time in which the new proxy takes a connection; it does nothing else with it than to wait. */
static const struct timeval patience = {.tv_sec = 30};

/* Connections that wait for the new proxy to read. */
enum { QUEUE_LIMIT = 1000000 };

/* The most proxies that are connected to: each after the first one because the one before has ended. */
enum { MOST_SUCCESSORS = 10 };

/* ---- the old proxy ---- */

struct successor {
	struct event_base *base;
	struct ferry_dispatcher *dispatcher; /* NULL: nobody is there any more */
	struct sockaddr_storage name;        /* of the socket that the new proxy accepts on */
	socklen_t name_length;
	unsigned int connected; /* times */
	unsigned long given, taken;
};

static int connect_to(const struct successor *successor)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&successor->name, successor->name_length) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

/* Owns the descriptor, also on failure. */
static int add_worker(struct successor *successor, int fd)
{
	struct ferry_transport *transport;
	int status = socket_transport_new(&transport, successor->base, fd);
	if (status < 0)
		return status;
	status = ferry_dispatcher_add_worker(NULL, successor->dispatcher, transport, NULL);
	if (status < 0)
		ferry_transport_free(transport);
	return status;
}

static int reach(struct successor *successor)
{
	if (successor->connected++ >= MOST_SUCCESSORS)
		return -ENOTCONN;
	int fd = connect_to(successor);
	return fd < 0 ? fd : add_worker(successor, fd);
}

/* The proxy that has taken over has ended. If another one has taken over from it, that one accepts on the same
 * socket. */
static void successor_lost(struct ferry_dispatcher *dispatcher,
                           struct ferry_dispatcher_worker *worker, int reason, void *context)
{
	(void)worker;
	struct successor *successor = context;
	if (reason != 0)
		program_log("the new proxy is disconnected: %s", strerror(-reason));
	int status = reach(successor);
	if (status == 0)
		return;
	program_log("the new proxy has gone: idle connections are closed: %s", strerror(-status));
	successor->dispatcher = NULL;
	ferry_dispatcher_free(dispatcher);
}

static int init_successor(struct successor *successor, int listener)
{
	static const struct ferry_dispatcher_callbacks callbacks = {.worker_lost = successor_lost};
	successor->name_length = sizeof(successor->name);
	if (getsockname(listener, (struct sockaddr *)&successor->name, &successor->name_length) < 0)
		return -errno;
	int status =
	    ferry_dispatcher_new(&successor->dispatcher, successor->base, &callbacks, successor);
	if (status == 0)
		status = ferry_dispatcher_set_queue_limit(successor->dispatcher, QUEUE_LIMIT);
	if (status == 0)
		status = ferry_dispatcher_set_timeouts(successor->dispatcher, &patience, &patience);
	return status == 0 ? reach(successor) : status;
}

int successor_new(struct successor **out, struct event_base *base, int listener)
{
	struct successor *successor = calloc(1, sizeof(*successor));
	if (successor == NULL)
		return -ENOMEM;
	successor->base = base;
	int status = init_successor(successor, listener);
	if (status < 0)
		successor_free(successor);
	else
		*out = successor;
	return status;
}

static void handoff_ended(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                          enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)handoff, (void)reason;
	struct successor *successor = context;
	successor->taken += outcome == FERRY_HANDOFF_DONE || outcome == FERRY_HANDOFF_KEPT;
}

int successor_give(struct successor *successor, struct ferry_handoff *handoff,
                   const struct client_address *address, uint64_t idle_msec)
{
	if (successor == NULL || successor->dispatcher == NULL)
		return -ENOTCONN;
	int status = idle_client_describe(handoff, address, idle_msec);
	if (status == 0)
		status =
		    ferry_dispatcher_hand_off(successor->dispatcher, handoff, handoff_ended, successor);
	if (status == 0)
		successor->given++;
	return status;
}

bool successor_is_settled(const struct successor *successor)
{
	struct ferry_dispatcher_stats stats;
	return successor == NULL || successor->dispatcher == NULL ||
	       ferry_dispatcher_get_stats(successor->dispatcher, &stats) < 0 ||
	       stats.queued + stats.outstanding == 0;
}

void successor_free(struct successor *successor)
{
	if (successor == NULL)
		return;
	if (successor->given > 0)
		program_log("the new proxy has taken %lu of %lu connections", successor->taken,
		            successor->given);
	ferry_dispatcher_free(successor->dispatcher);
	free(successor);
}

/* ---- the new proxy ---- */

struct predecessor {
	LIST_ENTRY(predecessor) link;
	struct predecessors *predecessors;
	struct ferry_worker *worker;
};

struct predecessors {
	struct ferry_listener *listener;
	const struct predecessors_callbacks *callbacks;
	void *context;
	LIST_HEAD(predecessor_list, predecessor) all;
};

/* A handoff of this process's own, with the descriptor and the unread bytes of a received one. */
static int take_handoff(struct ferry_handoff **out, struct ferry_handoff *received)
{
	size_t length;
	const void *bytes = ferry_handoff_get_bytes(received, &length);
	int status = ferry_handoff_new(out, ferry_handoff_get_fd(received));
	if (status < 0)
		return status;
	ferry_handoff_steal_fd(received);
	status = ferry_handoff_set_bytes(*out, bytes, length);
	if (status < 0)
		ferry_handoff_free(*out);
	return status;
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *received,
                             void *context)
{
	struct predecessor *predecessor = context;
	struct predecessors *predecessors = predecessor->predecessors;
	struct client_address address;
	struct ferry_handoff *handoff;
	struct ferry_handoff_info info;
	uint64_t idle_msec;
	ferry_handoff_get_info(received, &info);
	int status = idle_client_read(received, &address, &idle_msec);
	if (status == 0)
		status = take_handoff(&handoff, received);
	if (status == 0)
		predecessors->callbacks->idle(handoff, &address, idle_msec, predecessors->context);
	else
		program_log("a connection of the old proxy is closed: %s", strerror(-status));
	if (status == 0)
		ferry_worker_done(worker, info.id);
}

static void free_predecessor(struct predecessor *predecessor)
{
	LIST_REMOVE(predecessor, link);
	ferry_worker_free(predecessor->worker);
	free(predecessor);
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)worker, (void)reason;
	free_predecessor(context);
}

/* The name of an abstract socket is no secret. */
static bool is_trusted(struct ferry_transport *transport)
{
	struct ferry_peer_credentials peer;
	return ferry_transport_get_peer_credentials(transport, &peer) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static void predecessor_came(struct ferry_listener *listener, struct ferry_transport *transport,
                             void *context)
{
	static const struct ferry_worker_callbacks callbacks = {.handoff_received = handoff_received,
	                                                        .dispatcher_lost = dispatcher_lost};
	(void)listener;
	struct predecessors *predecessors = context;
	struct predecessor *predecessor = is_trusted(transport) ? malloc(sizeof(*predecessor)) : NULL;
	if (predecessor == NULL) {
		program_log("refused connections that another process offers");
		ferry_transport_free(transport);
		return;
	}
	predecessor->predecessors = predecessors;
	int status = ferry_worker_new(&predecessor->worker, transport, &callbacks, predecessor);
	if (status < 0) {
		program_log("refused the connections of the old proxy: %s", strerror(-status));
		ferry_transport_free(transport);
		free(predecessor);
		return;
	}
	LIST_INSERT_HEAD(&predecessors->all, predecessor, link);
}

int predecessors_new(struct predecessors **out, struct event_base *base, int listener,
                     const struct predecessors_callbacks *callbacks, void *context)
{
	struct predecessors *predecessors = calloc(1, sizeof(*predecessors));
	if (predecessors == NULL)
		return -ENOMEM;
	predecessors->callbacks = callbacks;
	predecessors->context = context;
	int status = ferry_listener_new_fd(&predecessors->listener, base, listener, predecessor_came,
	                                   predecessors);
	if (status < 0)
		free(predecessors);
	else
		*out = predecessors;
	return status;
}

void predecessors_stop_accepting(struct predecessors *predecessors)
{
	if (predecessors == NULL)
		return;
	ferry_listener_free(predecessors->listener);
	predecessors->listener = NULL;
}

bool predecessors_are_gone(const struct predecessors *predecessors)
{
	return predecessors == NULL || LIST_EMPTY(&predecessors->all);
}

void predecessors_free(struct predecessors *predecessors)
{
	if (predecessors == NULL)
		return;
	predecessors_stop_accepting(predecessors);
	struct predecessor *next;
	for (struct predecessor *each = LIST_FIRST(&predecessors->all); each != NULL; each = next) {
		next = LIST_NEXT(each, link);
		ferry_worker_free(each->worker);
		free(each);
	}
	free(predecessors);
}
