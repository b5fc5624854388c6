#include "handoff/returning.h"

#include <errno.h>

#include "handoff/worker_credits.h"
#include "handoff/worker_fields.h"
#include "handoff/worker_reports.h"
#include "message/send.h"
#include "message/wire.h"

void returning_settle(struct ferry_worker *worker)
{
	uint64_t sent = message_stream_sent_position(worker->stream);
	struct ferry_handoff *handoff;

	while ((handoff = TAILQ_FIRST(&worker->returning)) != NULL && handoff->frame_end <= sent) {
		TAILQ_REMOVE(&worker->returning, handoff, link);
		worker->stats.returned++;
		worker_credits_free(worker);
		handoff_destroy(handoff);
	}
}

/* The kernel has not taken it as a whole, and never will: it is the user's again. */
static void give_up_return(struct ferry_worker *worker, struct ferry_handoff *handoff)
{
	TAILQ_REMOVE(&worker->returning, handoff, link);
	handoff->state = HANDOFF_OWN;
}

void returning_destroy(struct ferry_worker *worker)
{
	struct ferry_handoff *handoff;

	while ((handoff = TAILQ_FIRST(&worker->returning)) != NULL) {
		TAILQ_REMOVE(&worker->returning, handoff, link);
		handoff_destroy(handoff);
	}
}

void returning_fail(struct ferry_worker *worker)
{
	struct ferry_handoff *handoff;

	returning_settle(worker);
	/* The list is empty once a callback has freed the worker. */
	while ((handoff = TAILQ_FIRST(&worker->returning)) != NULL) {
		give_up_return(worker, handoff);
		if (worker->callbacks->return_failed != NULL)
			worker->callbacks->return_failed(worker, handoff->id, handoff, worker->context);
		else
			handoff_destroy(handoff);
	}
}

static int write_return(struct ferry_worker *worker, uint64_t id,
                        const struct ferry_handoff *handoff)
{
	unsigned char fixed[HANDOFF_WIRE_HANDOFF_SIZE];
	struct handoff_wire_handoff wire = {
	    .id = id,
	    .epoch = worker->epoch,
	    .identity = handoff->identity,
	    .inet_stream = handoff->inet_stream,
	    .blob_length = (uint32_t)handoff->blob_length,
	    .bytes_length = (uint32_t)handoff->bytes_length,
	};
	const struct iovec parts[] = {
	    {fixed, sizeof(fixed)},
	    {"", 1}, /* no name: the dispatcher has it */
	    {handoff->blob, handoff->blob_length},
	    {handoff->bytes, handoff->bytes_length},
	};

	handoff_wire_handoff_put(fixed, &wire);
	int status =
	    message_stream_send_parts(worker->stream, HANDOFF_WIRE_RETURN, parts, 4, handoff->fd);
	return status == -EPIPE ? -ENOTCONN : status;
}

static int check_return(const struct ferry_worker *worker, const struct ferry_handoff *handoff)
{
	if (handoff->state != HANDOFF_OWN)
		return -EINVAL;
	if (handoff->fd < 0)
		return -EBADF;
	if (!message_stream_can_send(worker->stream))
		return -ENOTCONN;
	return worker->version < 2 ? -EOPNOTSUPP : 0;
}

/* Before it is written: user code may free the worker meanwhile. */
static uint64_t list_return(struct ferry_worker *worker, uint64_t id, struct ferry_handoff *handoff)
{
	handoff->state = HANDOFF_SENT;
	handoff->id = id;
	handoff->frame_end = message_stream_end_position(worker->stream) + MESSAGE_HEADER_SIZE +
	                     HANDOFF_WIRE_HANDOFF_SIZE + 1 + handoff->blob_length +
	                     handoff->bytes_length;
	TAILQ_INSERT_TAIL(&worker->returning, handoff, link);
	return handoff->frame_end;
}

bool ferry_worker_can_return(const struct ferry_worker *worker)
{
	return worker != NULL && worker->version >= 2 && message_stream_can_send(worker->stream);
}

int ferry_worker_return(struct ferry_worker *worker, uint64_t id, struct ferry_handoff *handoff)
{
	if (worker == NULL || handoff == NULL)
		return -EINVAL;
	int status = check_return(worker, handoff);
	if (status < 0)
		return status;
	worker_reports_send(worker);
	uint64_t end = list_return(worker, id, handoff);
	status = write_return(worker, id, handoff);
	if (status < 0) {
		give_up_return(worker, handoff);
		return status;
	}
	worker->done_sent |= worker->serving && id == worker->serving_id;
	/* A claim may run a callback in it, and free the worker; so may the callbacks of the output. */
	message_stream_flush(worker->stream);
	if (worker->freed)
		return 0;
	returning_settle(worker);
	if (message_stream_sent_position(worker->stream) >= end ||
	    message_stream_can_send(worker->stream))
		return 0;
	give_up_return(worker, handoff);
	return -ENOTCONN;
}
