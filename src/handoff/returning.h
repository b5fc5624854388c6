#ifndef FERRY_HANDOFF_RETURNING_H
#define FERRY_HANDOFF_RETURNING_H

struct ferry_worker;

/* The handoffs that a worker gives back, from ferry_worker_return() until the kernel has taken the whole message.
 * Until then the connection is this process's. */

/* Ends the returns that the kernel has taken: they are the dispatcher's. */
void returning_settle(struct ferry_worker *worker);

/* The channel has ended: gives the others back to the user, whose callback may free the worker. */
void returning_fail(struct ferry_worker *worker);

/* Frees the others, and closes their connections. */
void returning_destroy(struct ferry_worker *worker);

#endif
