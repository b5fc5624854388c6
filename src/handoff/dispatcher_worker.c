#include "handoff/dispatcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/bufferevent.h>

#include "handoff/fence.h"
#include "transport/transport.h"
#include "util/hash.h"
#include "util/log.h"

/*
 * One worker at the dispatcher: what is written to its channel, what its answers change, and the end.
 *
 * The stream's callbacks run none of the user's code and never end the channel themselves, apart from
 * connection_lost: they note what is wrong, and the turn does it.
 */

#define COUNT(worker, what) ((worker)->stats.what++, (worker)->dispatcher->stats.what++)

enum {
	/* Credits bound how many wait in a channel. */
	FDS_QUEUED_MAX = 1024 * 1024
};

/* ---- sending ---- */

bool worker_is_on(const struct ferry_dispatcher_worker *worker,
                  const struct handoff_wire_identity *identity)
{
	return identity->kind == FERRY_DESCRIPTOR_SOCKET &&
	       identity->cookie == ferry_message_stream_get_transport(worker->stream)->cookie;
}

static void note_sent(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	if (handoff->sent_at != 0)
		COUNT(worker, retried);
	COUNT(worker, sent);
	handoff->state = HANDOFF_SENT;
	handoff->worker = worker;
	handoff->frame_end = message_stream_end_position(worker->stream);
	handoff->sent_at = dispatcher_now();
	TAILQ_INSERT_TAIL(&worker->unclaimed, handoff, link);
	worker->unclaimed_count++;
	worker->outstanding++;
	worker->turn = ++worker->dispatcher->turns;
	dispatcher_wake_at(worker->dispatcher, worker_is_late_at(worker));
}

static int write_frame(struct ferry_dispatcher_worker *worker, const struct ferry_handoff *handoff)
{
	unsigned char fixed[HANDOFF_WIRE_HANDOFF_SIZE];
	const char *name = handoff->name != NULL ? handoff->name : "";
	struct handoff_wire_handoff frame = {
	    .id = handoff->id,
	    .epoch = worker->epoch,
	    .identity = handoff->identity,
	    .attempt = (uint8_t)handoff->attempt,
	    .name_length = (uint16_t)strlen(name),
	    .blob_length = (uint32_t)handoff->blob_length,
	    .bytes_length = (uint32_t)handoff->bytes_length,
	};
	const struct iovec parts[] = {
	    {fixed, sizeof(fixed)},
	    {(void *)(uintptr_t)name, (size_t)frame.name_length + 1},
	    {handoff->blob, handoff->blob_length},
	    {handoff->bytes, handoff->bytes_length},
	};

	handoff_wire_handoff_put(fixed, &frame);
	return message_stream_send_parts(worker->stream, HANDOFF_WIRE_HANDOFF, parts, 4, handoff->fd);
}

int worker_send(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	handoff->id = handoff_ids_renew(&worker->dispatcher->ids, handoff->place);
	if (handoff->attempt == 0)
		handoff->attempt = 1;
	int status = write_frame(worker, handoff);
	if (status == -EPIPE)
		worker->broken = true; /* the loop is about to say so */
	if (status == 0)
		note_sent(worker, handoff);
	return status == 0 || status == -EPIPE ? status : -ENOMEM;
}

/* ---- answers ---- */

static void forget(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(handoff->state == HANDOFF_SENT ? &worker->unclaimed : &worker->claimed, handoff,
	             link);
	worker->unclaimed_count -= handoff->state == HANDOFF_SENT;
	worker->outstanding--;
	worker->heard_at = dispatcher_now();
	dispatcher_want_turn(worker->dispatcher); /* there may be room for another */
	worker_look_drained(worker);
}

static void finish(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
                   enum ferry_handoff_outcome outcome, int reason)
{
	forget(worker, handoff);
	if (outcome == FERRY_HANDOFF_DONE)
		worker->stats.done++;
	else if (outcome == FERRY_HANDOFF_REJECTED)
		worker->stats.rejected++;
	else
		worker->stats.kept++;
	dispatcher_end_handoff(worker->dispatcher, handoff, outcome, reason);
}

/* From here on a client sees its end when the worker closes. */
static void claim(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	COUNT(worker, claimed);
	worker->heard_at = dispatcher_now();
	TAILQ_REMOVE(&worker->unclaimed, handoff, link);
	worker->unclaimed_count--;
	TAILQ_INSERT_TAIL(&worker->claimed, handoff, link);
	handoff->state = HANDOFF_CLAIMED;
	handoff_close_fd(handoff);
	handoff_drop_bytes(handoff);
}

static void lose(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	COUNT(worker, lost);
	forget(worker, handoff);
	/* One that has said that it is short gets no more until it is not: the handoff's time in the queue is
	 * bound enough. */
	dispatcher_take_back(worker->dispatcher, handoff, worker->credits > 0);
}

/* What the worker has in hand under this id, on this channel, and can know of. */
static struct ferry_handoff *find(const struct ferry_dispatcher_worker *worker,
                                  const struct handoff_wire_answer *answer)
{
	struct ferry_handoff *handoff = handoff_ids_find(&worker->dispatcher->ids, answer->id);

	if (handoff == NULL || handoff->id != answer->id || answer->epoch != worker->epoch ||
	    handoff->worker != worker)
		return NULL;
	if (handoff->state == HANDOFF_SENT &&
	    handoff->frame_end > message_stream_sent_position(worker->stream))
		return NULL;
	return handoff->state == HANDOFF_SENT || handoff->state == HANDOFF_CLAIMED ? handoff : NULL;
}

static const char *on_answer(struct ferry_dispatcher_worker *worker, uint16_t type,
                             const unsigned char *payload, size_t length)
{
	struct handoff_wire_answer answer;

	const char *fault = handoff_wire_answer_get(payload, length, &answer);
	if (fault != NULL)
		return fault;
	struct ferry_handoff *handoff = find(worker, &answer);
	if (handoff == NULL)
		COUNT(worker, stale);
	else if (type == HANDOFF_WIRE_REJECT)
		finish(worker, handoff, FERRY_HANDOFF_REJECTED, answer.reason);
	else if (type == HANDOFF_WIRE_DONE && handoff->state == HANDOFF_CLAIMED)
		finish(worker, handoff, FERRY_HANDOFF_DONE, 0);
	else if (type == HANDOFF_WIRE_CLAIM && handoff->state == HANDOFF_SENT)
		claim(worker, handoff);
	else if (type == HANDOFF_WIRE_LOST && handoff->state == HANDOFF_SENT)
		lose(worker, handoff);
	else
		COUNT(worker, stale);
	return NULL;
}

/* ---- the rest of what a worker says ---- */

static const char *on_hello(struct ferry_dispatcher_worker *worker, const unsigned char *payload,
                            size_t length)
{
	struct handoff_wire_hello hello;

	const char *fault = handoff_wire_hello_get(payload, length, &hello);
	if (fault != NULL || worker->greeted)
		return fault != NULL ? fault : "a second hello";
	if (handoff_wire_common_version(&hello) == 0) {
		worker->reason = -EPROTONOSUPPORT;
		return "versions that we do not speak";
	}
	worker->greeted = true;
	worker->ready_due = true;
	worker->credits = hello.credits;
	return NULL;
}

static void drain(struct ferry_dispatcher_worker *worker)
{
	if (worker->draining)
		return;
	worker->draining = true;
	worker_look_drained(worker);
}

/* NULL, or what is wrong with the message. */
static const char *on_message(struct ferry_dispatcher_worker *worker, uint16_t type,
                              const unsigned char *payload, size_t length)
{
	const char *fault = NULL;

	if (type == HANDOFF_WIRE_HELLO)
		fault = on_hello(worker, payload, length);
	else if (!worker->greeted)
		fault = "something before its hello";
	else if (type == HANDOFF_WIRE_CREDITS)
		fault = handoff_wire_credits_get(payload, length, &worker->credits);
	else if (type == HANDOFF_WIRE_DRAIN)
		drain(worker);
	else if (type >= HANDOFF_WIRE_CLAIM && type <= HANDOFF_WIRE_DONE)
		return on_answer(worker, type, payload, length);
	dispatcher_want_turn(worker->dispatcher);
	return fault;
}

static void take_message(void *argument, uint16_t type, const unsigned char *payload, size_t length)
{
	struct ferry_dispatcher_worker *worker = argument;

	const char *fault = on_message(worker, type, payload, length);
	if (fault == NULL)
		return;
	COUNT(worker, malformed);
	log_line(FERRY_LOG_WARNING, "handoff: worker %llu said %s", (unsigned long long)worker->epoch,
	         fault);
	worker->broken = true;
	if (worker->reason == 0)
		worker->reason = -EPROTO;
	dispatcher_want_turn(worker->dispatcher);
}

/* ---- the stream ---- */

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	(void)stream;
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);

	take_message(context, ferry_message_get_type(message), payload, length);
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream;
	worker_end(context, reason);
}

static const struct ferry_message_callbacks stream_callbacks = {
    .message_received = message_received,
    .connection_lost = connection_lost,
};

/* ---- the end ---- */

/* The first that is unclaimed may have been what the worker died of, if it ever got there; those behind it
 * were not looked at. */
static void take_back_unclaimed(struct ferry_dispatcher_worker *worker, uint64_t sent_position)
{
	struct ferry_handoff *handoff;

	/* From the last on: each belongs to the start of the queue then, and is put there in one step. */
	while ((handoff = TAILQ_LAST(&worker->unclaimed, handoff_list)) != NULL) {
		bool first = handoff == TAILQ_FIRST(&worker->unclaimed);
		COUNT(worker, fenced);
		forget(worker, handoff);
		dispatcher_take_back(worker->dispatcher, handoff,
		                     first && handoff->frame_end <= sent_position);
	}
}

static void keep_claimed(struct ferry_dispatcher_worker *worker)
{
	struct ferry_handoff *handoff;

	while ((handoff = TAILQ_FIRST(&worker->claimed)) != NULL)
		finish(worker, handoff, FERRY_HANDOFF_KEPT, worker->reason);
}

void worker_end(struct ferry_dispatcher_worker *worker, int reason)
{
	struct ferry_dispatcher *dispatcher = worker->dispatcher;
	struct bufferevent *bev =
	    ferry_transport_get_bufferevent(ferry_message_stream_get_transport(worker->stream));

	worker->broken = true;
	fence((int)bufferevent_getfd(bev), message_stream_undelivered(worker->stream), take_message,
	      worker);
	if (worker->reason == 0)
		worker->reason = reason;
	uint64_t sent_position = message_stream_sent_position(worker->stream);
	ferry_message_stream_free(worker->stream);
	worker->stream = NULL;
	TAILQ_REMOVE(&dispatcher->workers, worker, link);
	TAILQ_INSERT_TAIL(&dispatcher->ended, worker, link);
	COUNT(worker, workers_lost);
	keep_claimed(worker);
	take_back_unclaimed(worker, sent_position);
	dispatcher_want_turn(dispatcher);
}

int64_t worker_is_late_at(const struct ferry_dispatcher_worker *worker)
{
	const struct ferry_handoff *first = TAILQ_FIRST(&worker->unclaimed);
	int64_t waits_since = worker->heard_at;

	if (worker->greeted && first == NULL)
		return INT64_MAX;
	if (first != NULL && first->sent_at > waits_since)
		waits_since = first->sent_at;
	return waits_since + worker->dispatcher->answer_usec;
}

void worker_excuse(struct ferry_dispatcher_worker *worker, int64_t now)
{
	const struct ferry_handoff *first = TAILQ_FIRST(&worker->unclaimed);
	uint64_t retries = ferry_message_stream_get_transport(worker->stream)->stats.send_retries;

	/* If it has what is due, it may itself be the cause of the shortage. */
	if (retries != worker->retries && first != NULL &&
	    first->frame_end > message_stream_sent_position(worker->stream))
		worker->heard_at = now;
	worker->retries = retries;
}

void worker_look_drained(struct ferry_dispatcher_worker *worker)
{
	if (!worker->draining || worker->outstanding > 0 || worker->stream == NULL)
		return;
	worker->drained_due = true;
	dispatcher_want_turn(worker->dispatcher);
}

/* ---- for the owner ---- */

static int say_hello(struct ferry_dispatcher_worker *worker)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];
	const struct iovec part = {payload, sizeof(payload)};
	const struct handoff_wire_hello hello = {HANDOFF_WIRE_VERSION_MIN, HANDOFF_WIRE_VERSION_MAX, 0,
	                                         worker->epoch};

	handoff_wire_hello_put(payload, &hello);
	return message_stream_send_parts(worker->stream, HANDOFF_WIRE_HELLO, &part, 1, -1);
}

static int open_channel(struct ferry_dispatcher_worker *worker, struct ferry_transport *transport)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	if (!transport->outgoing.carries_fds)
		return -EOPNOTSUPP;
	if (bufferevent_get_base(bev) != worker->dispatcher->base)
		return -EINVAL;
	if (!transport_takes_output(transport))
		return -ENOTCONN;
	int status = ferry_message_stream_new(&worker->stream, transport, &stream_callbacks, worker);
	if (status == 0)
		ferry_transport_set_fd_buffer(transport, FDS_QUEUED_MAX, FDS_QUEUED_MAX);
	return status;
}

static struct ferry_dispatcher_worker *allocate(struct ferry_dispatcher *dispatcher,
                                                const char *name)
{
	struct ferry_dispatcher_worker *worker = calloc(1, sizeof(*worker));

	if (worker == NULL)
		return NULL;
	worker->dispatcher = dispatcher;
	worker->epoch = ++dispatcher->epoch;
	worker->name = name != NULL ? hash_fnv1a(name, strlen(name)) : worker->epoch;
	worker->heard_at = dispatcher_now();
	TAILQ_INIT(&worker->unclaimed);
	TAILQ_INIT(&worker->claimed);
	return worker;
}

int ferry_dispatcher_add_worker(struct ferry_dispatcher_worker **out,
                                struct ferry_dispatcher *dispatcher,
                                struct ferry_transport *transport, const char *name)
{
	if (dispatcher == NULL || transport == NULL || dispatcher->freed)
		return -EINVAL;
	struct ferry_dispatcher_worker *worker = allocate(dispatcher, name);
	if (worker == NULL)
		return -ENOMEM;
	int status = open_channel(worker, transport);
	if (status < 0) {
		free(worker);
		return status;
	}
	TAILQ_INSERT_TAIL(&dispatcher->workers, worker, link);
	ferry_message_stream_set_limits(worker->stream, HANDOFF_WIRE_PAYLOAD_MAX, 1);
	/* From here on the transport is the dispatcher's: what goes wrong is told by worker_lost. */
	if (say_hello(worker) < 0) {
		worker->broken = true;
		worker->reason = -ENOMEM;
		dispatcher_want_turn(dispatcher);
	}
	dispatcher_wake_at(dispatcher, worker_is_late_at(worker));
	if (out != NULL)
		*out = worker;
	return 0;
}

int ferry_dispatcher_worker_drain(struct ferry_dispatcher_worker *worker)
{
	if (worker == NULL)
		return -EINVAL;
	if (worker->stream == NULL || worker->draining)
		return 0;
	int status = message_stream_send_parts(worker->stream, HANDOFF_WIRE_DRAIN, NULL, 0, -1);
	if (status < 0 && status != -EPIPE)
		return -ENOMEM;
	drain(worker);
	return 0;
}

void ferry_dispatcher_worker_remove(struct ferry_dispatcher_worker *worker)
{
	if (worker == NULL)
		return;
	worker->silent = true;
	if (worker->stream != NULL)
		worker_end(worker, -ECANCELED);
}

void ferry_dispatcher_worker_set_context(struct ferry_dispatcher_worker *worker, void *context)
{
	if (worker != NULL)
		worker->context = context;
}

void *ferry_dispatcher_worker_get_context(const struct ferry_dispatcher_worker *worker)
{
	return worker != NULL ? worker->context : NULL;
}

struct ferry_transport *
ferry_dispatcher_worker_get_transport(const struct ferry_dispatcher_worker *worker)
{
	if (worker == NULL || worker->stream == NULL)
		return NULL;
	return ferry_message_stream_get_transport(worker->stream);
}

int ferry_dispatcher_worker_get_stats(const struct ferry_dispatcher_worker *worker,
                                      struct ferry_dispatcher_stats *stats)
{
	if (worker == NULL || stats == NULL)
		return -EINVAL;
	*stats = worker->stats;
	stats->outstanding = worker->outstanding;
	stats->unclaimed = worker->unclaimed_count;
	stats->credits = worker->credits;
	stats->workers = worker->stream != NULL;
	return 0;
}
