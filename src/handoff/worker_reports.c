#include "handoff/worker_reports.h"

#include <errno.h>
#include <string.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "handoff/worker_fields.h"
#include "message/receive.h"
#include "message/send.h"

/* The longest that a report waits. The worker's timer also has other work: it sends the reports whenever it runs. */
static const struct timeval delay = {.tv_usec = 100000};

/* For the dispatcher the credits of these handoffs are in use. If only some are left, it may have no worker for the next
 * connection; and a dispatcher that drains this worker waits for the last report. */
static bool must_not_wait(const struct ferry_worker *worker)
{
	struct event_base *base = event_get_base(worker->timer);

	return worker->report_count == WORKER_REPORTS_MAX || worker->drained ||
	       worker->drain_requested ||
	       worker->outstanding + worker->report_count > worker->credits / 2 ||
	       event_base_got_break(base) || event_base_got_exit(base);
}

bool worker_reports_add(struct ferry_worker *worker, uint64_t id)
{
	if (must_not_wait(worker))
		return false;
	if (!event_pending(worker->timer, EV_TIMEOUT, NULL) && event_add(worker->timer, &delay) < 0)
		return false;
	worker->reports[worker->report_count++] = id;
	return true;
}

int worker_send_answer(struct ferry_worker *worker, enum handoff_wire_type type,
                       const struct handoff_wire_answer *answer)
{
	unsigned char payload[HANDOFF_WIRE_ANSWER_SIZE];

	handoff_wire_answer_put(payload, answer);
	const int status = message_stream_send_parts(worker->stream, (uint16_t)type,
	                                             &(struct iovec){payload, sizeof(payload)}, 1, -1);
	return status == -EPIPE ? -ENOTCONN : status;
}

void worker_reports_send(struct ferry_worker *worker)
{
	uint64_t reports[WORKER_REPORTS_MAX];
	const unsigned int count = worker->report_count;

	if (count == 0)
		return;
	/* First: a callback on the output may add others. */
	memcpy(reports, worker->reports, count * sizeof(reports[0]));
	worker->report_count = 0;
	for (unsigned int i = 0; i < count; i++) {
		const struct handoff_wire_answer done = {.id = reports[i], .epoch = worker->epoch};
		if (worker_send_answer(worker, HANDOFF_WIRE_DONE, &done) == -ENOMEM)
			message_stream_end(worker->stream, -ENOMEM);
	}
}
