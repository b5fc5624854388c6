#include "handoff/dispatcher_worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/bufferevent.h>

#include "handoff/books.h"
#include "handoff/choice.h"
#include "handoff/fence.h"
#include "kernel/clock.h"
#include "message/receive.h"
#include "message/send.h"
#include "message/wire.h"
#include "transport/interface.h"
#include "util/hash.h"
#include "util/log.h"

/*
 * One worker at the dispatcher: the messages of its channel, both ways, how its answers change the
 * books, and its end.
 *
 * message_received runs no user code. It notes a fault in `reason`, and the turn ends the channel.
 */

#define COUNT(worker, what) ((worker)->stats.what++, (worker)->dispatcher->stats.what++)

enum {
	/* For the transport's queue of descriptors. Credits bound how many handoffs are in a channel. */
	FDS_QUEUED_MAX = 1024 * 1024
};

/* ---- what the dispatcher has to do for a worker ---- */

/* The deadline of a worker that owes an answer, or its HELLO, starts now. All have the same length: the order of
 * their starts is that of their ends. */
static void restart_deadline(struct ferry_dispatcher_worker *worker)
{
	struct ferry_dispatcher *dispatcher = worker->dispatcher;

	if (worker->owes)
		TAILQ_REMOVE(&dispatcher->owing, worker, owing_link);
	worker->suspect = false;
	bool owes_hello = worker->version == 0 && worker->observer == NULL;
	worker->owes = worker->stream != NULL && (owes_hello || !TAILQ_EMPTY(&worker->unclaimed));
	if (!worker->owes)
		return;
	worker->owes_since = clock_now();
	TAILQ_INSERT_TAIL(&dispatcher->owing, worker, owing_link);
	books_wake_at(dispatcher, worker->owes_since + dispatcher->answer_usec);
}

static uint64_t count_retries(const struct ferry_dispatcher_worker *worker)
{
	return transport_send_retries(ferry_message_stream_get_transport(worker->stream));
}

bool dispatcher_worker_excuse(struct ferry_dispatcher_worker *worker)
{
	const struct ferry_handoff *oldest = TAILQ_FIRST(&worker->unclaimed);
	uint64_t retries = count_retries(worker);
	/* Once the kernel has taken the whole frame there is no excuse: the worker itself may cause the
	 * shortage, by not receiving. */
	bool excused = retries != worker->retries && oldest != NULL &&
	               oldest->frame_end > message_stream_sent_position(worker->stream);

	/* Its answer may be in the channel, behind a descriptor for which this process has no slot. */
	excused = excused || message_stream_lacks_slot(worker->stream);
	worker->retries = retries;
	if (excused)
		restart_deadline(worker);
	return excused;
}

void dispatcher_worker_fail(struct ferry_dispatcher_worker *worker, int reason)
{
	worker->broken = true;
	if (worker->reason == 0)
		worker->reason = reason;
	if (!worker->failed)
		TAILQ_INSERT_TAIL(&worker->dispatcher->failed, worker, failed_link);
	worker->failed = true;
	choice_update(worker);
	books_want_turn(worker->dispatcher);
}

/* A callback for the worker is about to become pending. */
static void want_notice(struct ferry_dispatcher_worker *worker)
{
	if (!worker->ready_pending && !worker->drained_pending)
		TAILQ_INSERT_TAIL(&worker->dispatcher->to_notify, worker, notify_link);
	books_want_turn(worker->dispatcher);
}

static void set_credits(struct ferry_dispatcher_worker *worker, unsigned int credits)
{
	worker->dispatcher->stats.credits += credits;
	worker->dispatcher->stats.credits -= worker->credits;
	worker->credits = credits;
	choice_update(worker);
}

/* The worker ends, and is in no list of the living. */
static void unlist_worker(struct ferry_dispatcher_worker *worker)
{
	struct ferry_dispatcher *dispatcher = worker->dispatcher;

	restart_deadline(worker); /* its stream is freed: it owes nothing */
	choice_remove(worker);
	cookie_set_remove(&dispatcher->cookies, &worker->cookie);
	if (worker->failed)
		TAILQ_REMOVE(&dispatcher->failed, worker, failed_link);
	if (worker->ready_pending || worker->drained_pending)
		TAILQ_REMOVE(&dispatcher->to_notify, worker, notify_link);
	TAILQ_REMOVE(&dispatcher->workers, worker, link);
	TAILQ_INSERT_TAIL(&dispatcher->ended, worker, link);
	dispatcher->stats.workers--;
	dispatcher->stats.credits -= worker->credits;
}

/* ---- sending ---- */

static size_t name_length(const struct ferry_handoff *handoff)
{
	return handoff->name != NULL ? strlen(handoff->name) : 0;
}

/* Before it is written: what user code does with the channel meanwhile finds it there. */
static void list_sent(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	handoff->state = HANDOFF_SENT;
	handoff->worker = worker;
	handoff->frame_end = message_stream_end_position(worker->stream) + MESSAGE_HEADER_SIZE +
	                     HANDOFF_WIRE_HANDOFF_SIZE + name_length(handoff) + 1 +
	                     handoff->blob_length + handoff->bytes_length;
	TAILQ_INSERT_TAIL(&worker->unclaimed, handoff, link);
	worker->unclaimed_count++;
	worker->outstanding++;
	worker->dispatcher->stats.unclaimed++;
	worker->dispatcher->stats.outstanding++;
	choice_note_chosen(worker);
	if (!worker->owes) {
		worker->retries = count_retries(worker);
		restart_deadline(worker);
	}
}

/* Nothing was written. */
static void unlist_unsent(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(&worker->unclaimed, handoff, link);
	worker->unclaimed_count--;
	worker->outstanding--;
	worker->dispatcher->stats.unclaimed--;
	worker->dispatcher->stats.outstanding--;
	handoff->state = HANDOFF_QUEUED;
	handoff->worker = NULL;
	if (TAILQ_EMPTY(&worker->unclaimed))
		restart_deadline(worker); /* it owes nothing */
	choice_update(worker);
}

static void count_sent(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	if (handoff->sent)
		COUNT(worker, retried);
	COUNT(worker, sent);
	handoff->sent = true;
}

static int write_handoff(struct ferry_dispatcher_worker *worker,
                         const struct ferry_handoff *handoff)
{
	unsigned char fixed[HANDOFF_WIRE_HANDOFF_SIZE];
	const char *name = handoff->name != NULL ? handoff->name : "";
	struct handoff_wire_handoff wire = {
	    .id = handoff->id,
	    .epoch = worker->epoch,
	    .identity = handoff->identity,
	    .inet_stream = handoff->inet_stream,
	    .attempt = (uint8_t)handoff->attempt,
	    .name_length = (uint16_t)name_length(handoff),
	    .blob_length = (uint32_t)handoff->blob_length,
	    .bytes_length = (uint32_t)handoff->bytes_length,
	};
	const struct iovec parts[] = {
	    {fixed, sizeof(fixed)},
	    {(void *)(uintptr_t)name, (size_t)wire.name_length + 1},
	    {handoff->blob, handoff->blob_length},
	    {handoff->bytes, handoff->bytes_length},
	};

	handoff_wire_handoff_put(fixed, &wire);
	return message_stream_send_parts(worker->stream, HANDOFF_WIRE_HANDOFF, parts, 4, handoff->fd);
}

static bool has_unsent(const struct ferry_dispatcher_worker *worker)
{
	return message_stream_sent_position(worker->stream) <
	       message_stream_end_position(worker->stream);
}

int dispatcher_worker_send(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	handoff->id = handoff_ids_renew(&worker->dispatcher->ids, handoff->place);
	if (handoff->attempt == 0)
		handoff->attempt = 1;
	list_sent(worker, handoff);
	int status = write_handoff(worker, handoff);
	if (status == 0) {
		count_sent(worker, handoff);
		return 0;
	}
	if (status == -EPIPE)
		worker->broken = true; /* connection_lost follows */
	else if (status == -ENOBUFS && has_unsent(worker))
		worker->full = true;
	unlist_unsent(worker, handoff);
	return worker->broken || worker->full ? status : -ENOMEM;
}

/* The kernel has taken bytes of the channel. */
static void on_sent(void *argument)
{
	struct ferry_dispatcher_worker *worker = argument;

	if (!worker->full)
		return;
	worker->full = false;
	choice_note_room(worker);
	books_want_turn(worker->dispatcher);
}

/* ---- answers ---- */

static void notify_if_drained(struct ferry_dispatcher_worker *worker)
{
	if (!worker->draining || worker->outstanding > 0 || worker->stream == NULL)
		return;
	want_notice(worker);
	worker->drained_pending = true;
}

/* Takes a handoff out of the worker's lists. Its credit is free for another. */
static void unlist_handoff(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(handoff->state == HANDOFF_SENT ? &worker->unclaimed : &worker->claimed, handoff,
	             link);
	worker->unclaimed_count -= handoff->state == HANDOFF_SENT;
	worker->outstanding--;
	worker->dispatcher->stats.unclaimed -= handoff->state == HANDOFF_SENT;
	worker->dispatcher->stats.outstanding--;
	choice_update(worker);
	restart_deadline(worker);
	books_want_turn(worker->dispatcher);
	notify_if_drained(worker);
}

static void end_handoff(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
                        enum ferry_handoff_outcome outcome, int reason)
{
	unlist_handoff(worker, handoff);
	if (outcome == FERRY_HANDOFF_DONE)
		worker->stats.done++;
	else if (outcome == FERRY_HANDOFF_REJECTED)
		worker->stats.rejected++;
	else if (outcome == FERRY_HANDOFF_KEPT)
		worker->stats.kept++;
	books_end_handoff(worker->dispatcher, handoff, outcome, reason);
}

/* Closes the dispatcher's descriptor: from now on the client sees the end of its connection when the
 * worker closes it. */
static void note_claimed(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	COUNT(worker, claimed);
	TAILQ_REMOVE(&worker->unclaimed, handoff, link);
	worker->unclaimed_count--;
	worker->dispatcher->stats.unclaimed--;
	choice_note_room(worker);
	restart_deadline(worker);
	TAILQ_INSERT_TAIL(&worker->claimed, handoff, link);
	if (worker->dispatcher->queue_length > 0) /* the worker may get another */
		books_want_turn(worker->dispatcher);
	handoff->state = HANDOFF_CLAIMED;
	handoff_close_fd(handoff);
	handoff_drop_bytes(handoff);
}

/* A loss counts as an attempt, except at a worker that has stated 0 credits. That one gets no handoffs
 * until it has descriptor slots again, and the deadline of the queue bounds the handoff's way. */
static void requeue_lost(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	COUNT(worker, lost);
	choice_avoid(worker);
	unlist_handoff(worker, handoff);
	books_requeue(worker->dispatcher, handoff, worker->credits > 0 ? BOOKS_CHARGED : BOOKS_EXCUSED);
}

/* Nobody has seen an unclaimed one: another worker may serve it. */
static void on_reject(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
                      int reason)
{
	if (handoff->state == HANDOFF_CLAIMED) {
		end_handoff(worker, handoff, FERRY_HANDOFF_REJECTED, reason);
		return;
	}
	choice_avoid(worker);
	COUNT(worker, refused);
	unlist_handoff(worker, handoff);
	books_requeue(worker->dispatcher, handoff, BOOKS_CHARGED);
}

static void on_done(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff)
{
	choice_trust(worker);
	end_handoff(worker, handoff, FERRY_HANDOFF_DONE, 0);
}

/* The handoff that an answer names. NULL: the worker does not have it, or the answer is for another
 * channel, or the kernel has not taken the whole frame of the handoff yet. */
static struct ferry_handoff *find_answered(const struct ferry_dispatcher_worker *worker,
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
	struct ferry_handoff *handoff = find_answered(worker, &answer);
	if (handoff == NULL)
		COUNT(worker, stale);
	else if (type == HANDOFF_WIRE_REJECT)
		on_reject(worker, handoff, answer.reason);
	else if (type == HANDOFF_WIRE_DONE && handoff->state == HANDOFF_CLAIMED)
		on_done(worker, handoff);
	else if (type == HANDOFF_WIRE_CLAIM && handoff->state == HANDOFF_SENT)
		note_claimed(worker, handoff);
	else if (type == HANDOFF_WIRE_LOST && handoff->state == HANDOFF_SENT)
		requeue_lost(worker, handoff);
	else
		COUNT(worker, stale);
	return NULL;
}

/* ---- returned handoffs ---- */

static bool offers_return(const struct ferry_dispatcher *dispatcher)
{
	return dispatcher->callbacks->handoff_returned != NULL;
}

static unsigned int highest_version(const struct ferry_dispatcher *dispatcher)
{
	return offers_return(dispatcher) ? HANDOFF_WIRE_VERSION_MAX : HANDOFF_WIRE_VERSION_MIN;
}

/* The worker has closed its copy: from now on the descriptor here is the only one, whatever is missing. */
static void take_back(struct ferry_dispatcher_worker *worker, struct ferry_handoff *handoff,
                      const struct handoff_wire_handoff *wire, struct fence_message *message)
{
	int status = message->cut ? -ENOMEM : handoff_refill(handoff, wire);

	handoff->fd = message->fd;
	message->fd = -1;
	if (handoff->fd < 0)
		status = -EMFILE;
	if (status < 0) {
		end_handoff(worker, handoff, FERRY_HANDOFF_EXPIRED, status);
		return;
	}
	COUNT(worker, returned);
	unlist_handoff(worker, handoff);
	books_give_back(worker->dispatcher, handoff);
}

static const char *on_return(struct ferry_dispatcher_worker *worker, struct fence_message *message)
{
	struct handoff_wire_handoff wire;

	if (worker->version < 2)
		return "a return that was not offered";
	const char *fault =
	    message->cut ? handoff_wire_handoff_get_fixed(message->payload, message->length, &wire)
	                 : handoff_wire_handoff_get(message->payload, message->length, &wire);
	if (fault != NULL)
		return fault;
	const struct handoff_wire_answer answer = {.id = wire.id, .epoch = wire.epoch};
	struct ferry_handoff *handoff = find_answered(worker, &answer);
	if (handoff == NULL || handoff->state != HANDOFF_CLAIMED)
		COUNT(worker, stale);
	else if (message->fd >= 0 && !handoff_is_descriptor(message->fd, &handoff->identity))
		return "another descriptor than it was given";
	else
		take_back(worker, handoff, &wire, message);
	return NULL;
}

/* ---- other messages ---- */

static const char *on_hello(struct ferry_dispatcher_worker *worker, const unsigned char *payload,
                            size_t length)
{
	struct handoff_wire_hello hello;

	const char *fault = handoff_wire_hello_get(payload, length, &hello);
	if (fault != NULL || worker->version != 0)
		return fault != NULL ? fault : "a second hello";
	unsigned int version = handoff_wire_common_version(&hello, highest_version(worker->dispatcher));
	if (version == 0) {
		worker->reason = -EPROTONOSUPPORT;
		return "versions that we do not speak";
	}
	worker->version = version;
	if (version >= 2) /* it may return descriptors, and has no copy of them then */
		message_stream_need_slots(worker->stream);
	want_notice(worker);
	worker->ready_pending = true;
	set_credits(worker, hello.credits);
	restart_deadline(worker);
	return NULL;
}

static const char *on_credits(struct ferry_dispatcher_worker *worker, const unsigned char *payload,
                              size_t length)
{
	uint32_t credits = 0;

	const char *fault = handoff_wire_credits_get(payload, length, &credits);
	if (fault != NULL)
		return fault;
	choice_pardon(worker);
	set_credits(worker, credits);
	return NULL;
}

static void start_draining(struct ferry_dispatcher_worker *worker)
{
	if (worker->draining)
		return;
	worker->draining = true;
	if (worker->observer != NULL)
		worker->observer->draining(worker->observer_context);
	choice_update(worker);
	notify_if_drained(worker);
}

/* NULL, or what is wrong with the message. */
static const char *on_message(struct ferry_dispatcher_worker *worker, struct fence_message *message)
{
	const unsigned char *payload = message->payload;
	size_t length = message->length;
	uint16_t type = message->type;
	const char *fault = NULL;

	if (type == HANDOFF_WIRE_HELLO)
		fault = on_hello(worker, payload, length);
	else if (worker->version == 0)
		fault = "something before its hello";
	else if (type == HANDOFF_WIRE_CREDITS)
		fault = on_credits(worker, payload, length);
	else if (type == HANDOFF_WIRE_DRAIN)
		start_draining(worker);
	else if (type == HANDOFF_WIRE_RETURN)
		return on_return(worker, message);
	else if (type >= HANDOFF_WIRE_CLAIM && type <= HANDOFF_WIRE_DONE)
		return on_answer(worker, type, payload, length);
	books_want_turn(worker->dispatcher);
	return fault;
}

static void process_message(void *argument, struct fence_message *message)
{
	struct ferry_dispatcher_worker *worker = argument;

	const char *fault = on_message(worker, message);
	if (fault == NULL)
		return;
	COUNT(worker, malformed);
	log_line(FERRY_LOG_WARNING, "handoff: worker %llu sent %s", (unsigned long long)worker->epoch,
	         fault);
	dispatcher_worker_fail(worker, -EPROTO);
}

/* ---- the stream ---- */

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	(void)stream;
	struct fence_message whole = {.type = ferry_message_get_type(message)};

	whole.payload = ferry_message_get_payload(message, &whole.length);
	whole.fd = ferry_message_get_fd(message, 0);
	bool came = whole.fd >= 0;
	process_message(context, &whole);
	if (came && whole.fd < 0) /* taken */
		(void)ferry_message_steal_fd(message, 0);
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream;
	dispatcher_worker_end(context, reason);
}

static const struct ferry_message_callbacks stream_callbacks = {
    .message_received = message_received,
    .connection_lost = connection_lost,
};

/* ---- the end ---- */

/* The worker may have died of the oldest unclaimed handoff, if the kernel had taken that, and had not
 * looked at those behind it. Only the oldest is charged with an attempt. */
static void requeue_unclaimed(struct ferry_dispatcher_worker *worker, uint64_t sent_position)
{
	struct ferry_handoff *handoff;

	/* From the newest on: each then belongs at the start of the queue, and books_enqueue() need not
	 * search. */
	while ((handoff = TAILQ_LAST(&worker->unclaimed, handoff_list)) != NULL) {
		bool oldest = handoff == TAILQ_FIRST(&worker->unclaimed);
		COUNT(worker, fenced);
		unlist_handoff(worker, handoff);
		books_requeue(worker->dispatcher, handoff,
		              oldest && handoff->frame_end <= sent_position ? BOOKS_CHARGED : BOOKS_FREE);
	}
}

static void end_claimed(struct ferry_dispatcher_worker *worker)
{
	struct ferry_handoff *handoff;

	while ((handoff = TAILQ_FIRST(&worker->claimed)) != NULL)
		end_handoff(worker, handoff, FERRY_HANDOFF_KEPT, worker->reason);
}

/* In here the user's callbacks on the output buffer run, and those of a producer. The worker sees the end even if
 * another process, a worker that was forked later, has a copy. */
static void close_channel(struct ferry_message_stream *stream)
{
	(void)ferry_transport_abort_connection(ferry_message_stream_get_transport(stream));
	ferry_message_stream_free(stream);
}

void dispatcher_worker_end(struct ferry_dispatcher_worker *worker, int reason)
{
	struct ferry_dispatcher *dispatcher = worker->dispatcher;
	struct ferry_message_stream *stream = worker->stream;
	struct bufferevent *bev =
	    ferry_transport_get_bufferevent(ferry_message_stream_get_transport(stream));

	worker->broken = true;
	struct message_rest rest = message_stream_take_rest(stream);
	fence_channel((int)bufferevent_getfd(bev), &rest, process_message, worker);
	if (worker->reason == 0)
		worker->reason = reason;
	uint64_t sent_position = message_stream_sent_position(stream);
	worker->stream = NULL;
	unlist_worker(worker);
	COUNT(worker, workers_lost);
	end_claimed(worker);
	requeue_unclaimed(worker, sent_position);
	books_want_turn(dispatcher);
	/* The stream's queue has borrowed the descriptors of handoffs that are in the queue again. Nothing closes them
	 * before the next turn. */
	books_enter(dispatcher);
	close_channel(stream);
	books_leave(dispatcher);
}

/* ---- for the owner ---- */

static int send_hello(struct ferry_dispatcher_worker *worker)
{
	unsigned char payload[HANDOFF_WIRE_HELLO_SIZE];
	const struct iovec part = {payload, sizeof(payload)};
	const struct handoff_wire_hello hello = {
	    .version_min = HANDOFF_WIRE_VERSION_MIN,
	    .version_max = (uint16_t)highest_version(worker->dispatcher),
	    .epoch = worker->epoch,
	};

	handoff_wire_hello_put(payload, &hello);
	return message_stream_send_parts(worker->stream, HANDOFF_WIRE_HELLO, &part, 1, -1);
}

static int open_channel(struct ferry_dispatcher_worker *worker, struct ferry_transport *transport)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	if (!transport_carries_fds(transport))
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

static struct ferry_dispatcher_worker *allocate_worker(struct ferry_dispatcher *dispatcher,
                                                       const char *name)
{
	struct ferry_dispatcher_worker *worker = calloc(1, sizeof(*worker));

	if (worker == NULL)
		return NULL;
	worker->dispatcher = dispatcher;
	worker->epoch = ++dispatcher->epoch;
	worker->name = name != NULL ? hash_fnv1a(name, strlen(name)) : worker->epoch;
	TAILQ_INIT(&worker->unclaimed);
	TAILQ_INIT(&worker->claimed);
	return worker;
}

static int reserve_worker(struct ferry_dispatcher *dispatcher)
{
	int status = choice_reserve(&dispatcher->choice, (size_t)dispatcher->stats.workers + 1);

	return status == 0 ? cookie_set_reserve(&dispatcher->cookies) : status;
}

/* There is room for it. */
static void list_worker(struct ferry_dispatcher_worker *worker,
                        const struct ferry_transport *transport)
{
	struct ferry_dispatcher *dispatcher = worker->dispatcher;

	TAILQ_INSERT_TAIL(&dispatcher->workers, worker, link);
	dispatcher->stats.workers++;
	worker->cookie.cookie = transport_get_cookie(transport);
	cookie_set_add(&dispatcher->cookies, &worker->cookie);
	restart_deadline(worker);
}

int ferry_dispatcher_add_worker(struct ferry_dispatcher_worker **out,
                                struct ferry_dispatcher *dispatcher,
                                struct ferry_transport *transport, const char *name)
{
	if (dispatcher == NULL || transport == NULL || dispatcher->freed)
		return -EINVAL;
	if (reserve_worker(dispatcher) < 0)
		return -ENOMEM;
	struct ferry_dispatcher_worker *worker = allocate_worker(dispatcher, name);
	if (worker == NULL)
		return -ENOMEM;
	int status = open_channel(worker, transport);
	if (status < 0) {
		free(worker);
		return status;
	}
	list_worker(worker, transport);
	ferry_message_stream_set_limits(worker->stream, HANDOFF_WIRE_PAYLOAD_MAX, 1);
	message_stream_set_sent_cb(worker->stream, on_sent, worker);
	if (out != NULL)
		*out = worker;
	/* The transport is the dispatcher's now, so this call cannot fail any more: worker_lost reports it.
	 * */
	books_enter(dispatcher);
	if (send_hello(worker) < 0)
		dispatcher_worker_fail(worker, -ENOMEM);
	books_leave(dispatcher);
	return 0;
}

int ferry_dispatcher_worker_drain(struct ferry_dispatcher_worker *worker)
{
	if (worker == NULL)
		return -EINVAL;
	if (worker->stream == NULL || worker->draining)
		return 0;
	struct ferry_dispatcher *dispatcher = worker->dispatcher;
	books_enter(dispatcher);
	int status = message_stream_send_parts(worker->stream, HANDOFF_WIRE_DRAIN, NULL, 0, -1);
	bool failed = status < 0 && status != -EPIPE;
	if (!failed)
		start_draining(worker);
	books_leave(dispatcher);
	return failed ? -ENOMEM : 0;
}

int ferry_dispatcher_worker_recall(struct ferry_dispatcher_worker *worker,
                                   const struct timeval *spread)
{
	unsigned char payload[HANDOFF_WIRE_RECALL_SIZE];
	const struct iovec part = {payload, sizeof(payload)};
	int64_t usec = spread != NULL ? clock_from_timeval(spread) : -EINVAL;

	if (worker == NULL || usec < 0 || usec / 1000 > UINT32_MAX)
		return -EINVAL;
	if (worker->stream == NULL)
		return -ENOTCONN;
	if (worker->version < 2)
		return -EOPNOTSUPP;
	handoff_wire_recall_put(payload, (uint32_t)(usec / 1000));
	struct ferry_dispatcher *dispatcher = worker->dispatcher;
	books_enter(dispatcher);
	int status = message_stream_send_parts(worker->stream, HANDOFF_WIRE_RECALL, &part, 1, -1);
	books_leave(dispatcher);
	if (status == -EPIPE)
		return -ENOTCONN;
	return status < 0 ? -ENOMEM : 0;
}

void ferry_dispatcher_worker_remove(struct ferry_dispatcher_worker *worker)
{
	if (worker == NULL)
		return;
	worker->removed = true;
	if (worker->stream != NULL)
		dispatcher_worker_end(worker, -ECANCELED);
}

void dispatcher_worker_dismiss(struct ferry_dispatcher_worker *worker, int reason)
{
	dispatcher_worker_observe(worker, NULL, NULL);
	if (worker->stream != NULL)
		dispatcher_worker_end(worker, reason);
}

void dispatcher_worker_observe(struct ferry_dispatcher_worker *worker,
                               const struct dispatcher_worker_observer *observer, void *context)
{
	worker->observer = observer;
	worker->observer_context = context;
	if (worker->version == 0)
		restart_deadline(worker);
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
