#ifndef FERRY_HANDOFF_WORKER_REPORTS_H
#define FERRY_HANDOFF_WORKER_REPORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "handoff/wire.h"

struct ferry_worker;

/* Queues an answer. -ENOTCONN: nothing can be sent any more. -ENOMEM. */
int worker_send_answer(struct ferry_worker *worker, enum handoff_wire_type type,
                       const struct handoff_wire_answer *answer);

/* Reports of served handoffs that wait for the next message to the dispatcher (ferry_worker_done_later()). */

/* Adds a report to those that wait. False: it must not wait, or there is no memory for the timer. */
bool worker_reports_add(struct ferry_worker *worker, uint64_t id);

/* Writes the reports that wait to the output. Callbacks on the output may free the worker. Without memory for a report
 * the channel ends. */
void worker_reports_send(struct ferry_worker *worker);

#endif
