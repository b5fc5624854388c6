#ifndef FERRY_HANDOFF_WORKER_CREDITS_H
#define FERRY_HANDOFF_WORKER_CREDITS_H

struct ferry_worker;

/* How many of a worker's credits are used, and whether its user knows that they are scarce. */

/* A handoff was claimed: it uses a credit. */
void worker_credits_use(struct ferry_worker *worker);

/* A handoff was reported, rejected or returned. */
void worker_credits_free(struct ferry_worker *worker);

/* Compares the credits after a change. The callback runs from the loop, by the worker's timer. */
void worker_credits_weigh(struct ferry_worker *worker);

/* The channel has ended: the user no longer has to save credits. The callback may free the worker. */
void worker_credits_end(struct ferry_worker *worker);

/* From the loop: runs the callback if it is due. It may free the worker. */
void worker_credits_notify(struct ferry_worker *worker);

#endif
