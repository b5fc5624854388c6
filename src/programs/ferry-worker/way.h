#ifndef FERRY_PROGRAMS_FERRY_WORKER_WAY_H
#define FERRY_PROGRAMS_FERRY_WORKER_WAY_H

#include "programs/ferry-worker/connection.h"
#include "programs/ferry-worker/static_file.h"

/* Answers with a page whose names stand for the way of this request (filled_page.h):
 *
 *     proxy.pid            the process that handed the connection over; 0: its channel has ended
 *     worker.pid           this process
 *     connection.id        of the handoff, unique on the channel between the two
 *     connection.client    the address of the client
 *     connection.attempt   how many times the proxy has sent the connection to a worker
 *     connection.claimed   when this worker claimed it: 2026-11-20T12:00:00.123Z
 *     connection.clock     the same without the date: 12:00:00.123 UTC
 *     request.number       of this request since then, from 1
 *     request.time         when it is answered
 *
 * The caller closes the file. */
void connection_answer_way(struct connection *connection, const char *path,
                           const struct static_file *file);

#endif
