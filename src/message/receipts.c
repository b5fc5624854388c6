#include "message/receipts.h"

#include <errno.h>
#include <stdlib.h>

#include "libevent/deferred_free.h"
#include "transport/interface.h"
#include "util/queue.h"

/* Each callback waits for a position in the outgoing stream, the end of its message. They are run in that order. */

enum { PENDING_MAX = 65536 };

struct receipt {
	STAILQ_ENTRY(receipt) link;
	uint64_t end; /* of the message, in the outgoing stream */
	ferry_message_sent_cb sent;
	void *context;
};

struct message_receipts {
	STAILQ_HEAD(receipt_list, receipt) pending;
	unsigned int count;
	struct event *due; /* runs those whose messages the kernel has */
	bool running;
};

static bool first_is_sent(const struct ferry_message_stream *stream)
{
	const struct receipt *first = STAILQ_FIRST(&stream->receipts->pending);

	return first != NULL && first->end <= transport_bytes_sent(stream->transport);
}

/* User code, which may free the stream. */
static void run_first(struct ferry_message_stream *stream, int status)
{
	struct receipt *first = STAILQ_FIRST(&stream->receipts->pending);
	const struct receipt receipt = *first;

	STAILQ_REMOVE_HEAD(&stream->receipts->pending, link);
	stream->receipts->count--;
	free(first);
	receipt.sent(stream, status, receipt.context);
}

void message_receipts_advance(struct ferry_message_stream *stream)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(stream->transport);
	struct message_receipts *receipts = stream->receipts;

	if (receipts == NULL || receipts->running || !first_is_sent(stream) ||
	    event_pending(receipts->due, EV_TIMEOUT, NULL)) /* has its turn already */
		return;
	(void)event_priority_set(receipts->due, bufferevent_get_priority(bev));
	event_active(receipts->due, EV_WRITE, 0);
}

/* Runs those that wait now. A callback may send, flush and wait for its next message: the next turn of the loop has that,
 * behind whatever else is ready. The write step of this turn may send it, and finds that the timer waits. */
static void run_due(struct ferry_message_stream *stream)
{
	struct message_receipts *receipts = stream->receipts;
	bool ran = false;

	receipts->running = true;
	for (unsigned int left = receipts->count; left > 0 && !stream->freed && first_is_sent(stream);
	     left--) {
		run_first(stream, 0);
		ran = true;
	}
	receipts->running = false;
	if (ran && !stream->freed && receipts->count > 0 &&
	    event_add(receipts->due, &(struct timeval){.tv_sec = 0}) < 0)
		message_receipts_advance(stream);
}

static void on_due(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_message_stream *stream = argument;
	struct bufferevent *bev = transport_lock(stream->transport);
	(void)fd, (void)what;

	if (!stream->freed)
		run_due(stream);
	bufferevent_unlock(bev);
}

static void run_all(struct ferry_message_stream *stream, int reason)
{
	while (stream->receipts != NULL && stream->receipts->count > 0)
		run_first(stream, first_is_sent(stream) ? 0 : reason);
}

void message_receipts_end(struct ferry_message_stream *stream, int reason)
{
	run_all(stream, reason < 0 ? reason : -ECANCELED);
}

static void ignore_end(struct event *due, void *argument)
{
	(void)due, (void)argument;
}

void message_receipts_free(struct ferry_message_stream *stream)
{
	run_all(stream, -ECANCELED);
	if (stream->receipts != NULL)
		deferred_free(stream->receipts->due, ignore_end);
}

/* ---- adding ---- */

static int need_receipts(struct ferry_message_stream *stream)
{
	struct event_base *base =
	    bufferevent_get_base(ferry_transport_get_bufferevent(stream->transport));

	if (stream->receipts != NULL)
		return 0;
	struct message_receipts *receipts = calloc(1, sizeof(*receipts));
	if (receipts == NULL)
		return -ENOMEM;
	STAILQ_INIT(&receipts->pending);
	receipts->due = event_new(base, -1, 0, on_due, stream);
	if (receipts->due == NULL) {
		free(receipts);
		return -ENOMEM;
	}
	stream->receipts = receipts;
	return 0;
}

static int add_receipt(struct ferry_message_stream *stream, ferry_message_sent_cb sent,
                       void *context)
{
	int status = need_receipts(stream);
	if (status < 0)
		return status;
	if (stream->receipts->count == PENDING_MAX)
		return -ENOBUFS;
	struct receipt *receipt = malloc(sizeof(*receipt));
	if (receipt == NULL)
		return -ENOMEM;
	*receipt = (struct receipt){
	    .end = transport_bytes_written(stream->transport), .sent = sent, .context = context};
	STAILQ_INSERT_TAIL(&stream->receipts->pending, receipt, link);
	stream->receipts->count++;
	message_receipts_advance(stream);
	return 0;
}

int ferry_message_stream_notify_sent(struct ferry_message_stream *stream,
                                     ferry_message_sent_cb sent, void *context)
{
	if (stream == NULL || sent == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(stream->transport);
	/* What a broken connection had queued is not in the queue any more, and was not sent. */
	const int status =
	    transport_can_send(stream->transport) ? add_receipt(stream, sent, context) : -EPIPE;
	bufferevent_unlock(bev);
	return status;
}
