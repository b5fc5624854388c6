#include "proxy_workers.h"

#include "handoff_frame.h"
#include "program.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <ferry/ferry.h>

struct worker {
	struct proxy_workers *pool;
	struct worker *next;
	struct ferry_transport *channel;
	unsigned long number;      /* for people */
	unsigned long connections; /* handed over and not yet reported as ended */
	uint64_t last_turn;
	bool full;        /* its channel asked for a pause */
	bool passed_over; /* in the hand-off that is going on */
};

struct proxy_workers {
	struct ferry_listener *listener;
	struct worker *first;
	unsigned long last_number;
	uint64_t turn;
	void (*room)(void *context);
	void *room_context;
};

static void free_worker(struct worker *worker)
{
	struct worker **link = &worker->pool->first;
	while (*link != worker)
		link = &(*link)->next;
	*link = worker->next;
	ferry_transport_free(worker->channel);
	free(worker);
}

static void data_received(struct ferry_transport *channel, struct evbuffer *input, void *context)
{
	struct worker *worker = context;
	int status;
	enum handoff_frame_type type;
	uint32_t length;
	while ((status = handoff_frame_take_header(input, &type, &length)) == 1) {
		if (type != HANDOFF_DONE || length != 0 || worker->connections == 0) {
			status = -EPROTO;
			break;
		}
		worker->connections--;
	}
	if (status < 0) {
		program_say("worker %lu speaks another protocol", worker->number);
		ferry_transport_abort_connection(channel);
	}
}

/* The worker is gone or going. What is queued cannot be taken by it any more, and as the channel's
 * producer the proxy would hold an orderly close up. */
static void read_connection_lost(struct ferry_transport *channel, void *context)
{
	(void)context;
	ferry_transport_abort_connection(channel);
}

static void connection_lost(struct ferry_transport *channel, int reason, void *context)
{
	(void)channel;
	struct worker *worker = context;
	bool aborted = reason == 0 || reason == -ECONNABORTED; /* by this end */
	program_say("worker %lu is gone%s%s", worker->number, aborted ? "" : ": ",
	            aborted ? "" : strerror(-reason));
	free_worker(worker);
}

static void tell_room(struct proxy_workers *pool)
{
	if (pool->room != NULL)
		pool->room(pool->room_context);
}

static void pause_producing(void *context)
{
	struct worker *worker = context;
	worker->full = true;
}

static void resume_producing(void *context)
{
	struct worker *worker = context;
	worker->full = false;
	tell_room(worker->pool);
}

/* The proxy is a push producer of connections: ferry says when a channel has enough of them. */
static int start(struct worker *worker)
{
	static const struct ferry_protocol protocol = {.data_received = data_received,
	                                               .read_connection_lost = read_connection_lost,
	                                               .connection_lost = connection_lost};
	static const struct ferry_producer_callbacks producer = {.pause_producing = pause_producing,
	                                                         .resume_producing = resume_producing};
	int status = ferry_transport_set_protocol(worker->channel, &protocol, worker);
	if (status == 0)
		status = ferry_transport_register_producer(worker->channel, &producer, worker, FERRY_PUSH);
	return status;
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *channel,
                     void *context)
{
	(void)listener;
	struct proxy_workers *pool = context;
	struct worker *worker = malloc(sizeof(*worker));
	if (worker != NULL)
		*worker = (struct worker){.pool = pool, .channel = channel};
	int status = worker != NULL ? start(worker) : -ENOMEM;
	if (status < 0) {
		program_say("a worker was turned away: %s", strerror(-status));
		ferry_transport_free(channel);
		free(worker);
		return;
	}
	worker->number = ++pool->last_number;
	worker->next = pool->first;
	pool->first = worker;
	program_say("worker %lu is here", worker->number);
	tell_room(pool);
}

int proxy_workers_new(struct proxy_workers **out, struct event_base *base, const char *path)
{
	struct proxy_workers *workers = calloc(1, sizeof(*workers));
	if (workers == NULL)
		return -ENOMEM;
	int status = ferry_listen_unix(&workers->listener, base, path, 0600, 0, accepted, workers);
	if (status < 0) {
		free(workers);
		return status;
	}
	*out = workers;
	return 0;
}

void proxy_workers_set_room_cb(struct proxy_workers *workers, void (*room)(void *context),
                               void *context)
{
	workers->room = room;
	workers->room_context = context;
}

static struct worker *choose(struct proxy_workers *pool)
{
	struct worker *best = NULL;
	for (struct worker *worker = pool->first; worker != NULL; worker = worker->next) {
		if (worker->passed_over || worker->full)
			continue;
		if (best == NULL || worker->connections < best->connections ||
		    (worker->connections == best->connections && worker->last_turn < best->last_turn))
			best = worker;
	}
	return best;
}

/* Once the descriptor is queued it is ferry's, and needs the frame as the bytes it travels with. If
 * that fails the channel has lost count of its descriptors, and ends. */
static int send_to(struct worker *worker, int fd, struct evbuffer *frame)
{
	int status = ferry_transport_send_fd(worker->channel, fd, FERRY_FD_TAKE);
	if (status < 0)
		return status;
	worker->connections++;
	worker->last_turn = ++worker->pool->turn;
	if (ferry_transport_write_buffer(worker->channel, frame) < 0)
		ferry_transport_abort_connection(worker->channel);
	return 0;
}

static int send_to_any(struct proxy_workers *pool, int fd, struct evbuffer *frame)
{
	for (struct worker *worker = pool->first; worker != NULL; worker = worker->next)
		worker->passed_over = false;
	struct worker *worker;
	while ((worker = choose(pool)) != NULL) {
		if (send_to(worker, fd, frame) == 0)
			return 0;
		worker->passed_over = true; /* full, or about to be gone */
	}
	return -EAGAIN;
}

/* The bytes are copied, a head of some hundred: should no worker take them they are still there. */
static int make_frame(struct evbuffer **frame, struct evbuffer *bytes)
{
	size_t length = evbuffer_get_length(bytes);
	if (length > HANDOFF_FRAME_PAYLOAD_MAX)
		return -EMSGSIZE;
	struct evbuffer *made = evbuffer_new();
	if (made == NULL)
		return -ENOMEM;
	const unsigned char *payload = evbuffer_pullup(bytes, -1);
	if ((length > 0 && payload == NULL) ||
	    handoff_frame_add_header(made, HANDOFF_CONNECTION, (uint32_t)length) < 0 ||
	    evbuffer_add(made, payload, length) < 0) {
		evbuffer_free(made);
		return -ENOMEM;
	}
	*frame = made;
	return 0;
}

int proxy_workers_hand_off(struct proxy_workers *workers, int fd, struct evbuffer *bytes)
{
	if (workers->first == NULL)
		return -ENOTCONN;
	struct evbuffer *frame;
	int status = make_frame(&frame, bytes);
	if (status < 0)
		return status;
	status = send_to_any(workers, fd, frame);
	evbuffer_free(frame);
	return status;
}

void proxy_workers_free(struct proxy_workers *workers)
{
	if (workers == NULL)
		return;
	ferry_listener_free(workers->listener);
	struct worker *next;
	for (struct worker *worker = workers->first; worker != NULL; worker = next) {
		next = worker->next;
		free_worker(worker);
	}
	free(workers);
}
