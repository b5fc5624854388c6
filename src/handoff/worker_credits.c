#include "handoff/worker_credits.h"

#include <event2/event.h>

#include "handoff/worker_fields.h"
#include "message/send.h"

/* Scarce from the moment when none is left until a quarter of them is: few callbacks for a worker at its limit. */
static bool are_scarce(const struct ferry_worker *worker)
{
	unsigned int used = worker->outstanding, all = worker->credits;
	unsigned int left = all > used ? all - used : 0;

	if (all == 0) /* the user wants no handoffs */
		return false;
	return worker->scarce ? left < (all + 3) / 4 : left == 0;
}

void worker_credits_weigh(struct ferry_worker *worker)
{
	worker->scarce = are_scarce(worker);
	/* Not as EV_TIMEOUT: that is the check for descriptor slots. */
	if (worker->scarce != worker->scarce_notified && worker->callbacks->credits_scarce != NULL &&
	    !worker->freed && message_stream_can_send(worker->stream))
		event_active(worker->timer, EV_READ, 0);
}

void worker_credits_use(struct ferry_worker *worker)
{
	worker->outstanding++;
	worker_credits_weigh(worker);
}

/* A program may report a handoff twice. */
void worker_credits_free(struct ferry_worker *worker)
{
	worker->outstanding -= worker->outstanding > 0;
	worker_credits_weigh(worker);
}

void worker_credits_notify(struct ferry_worker *worker)
{
	if (worker->scarce == worker->scarce_notified || worker->callbacks->credits_scarce == NULL)
		return;
	worker->scarce_notified = worker->scarce;
	worker->callbacks->credits_scarce(worker, worker->scarce, worker->context);
}

void worker_credits_end(struct ferry_worker *worker)
{
	worker->scarce = false;
	worker_credits_notify(worker);
}
