#ifndef FERRY_HANDOFF_PREFERENCE_H
#define FERRY_HANDOFF_PREFERENCE_H

#include "handoff/dispatcher_fields.h"

/*
 * Which worker a key prefers, by rendezvous hashing: each worker has a score for the key, and the highest score wins. A
 * worker that leaves therefore moves only its own keys, and one that joins takes only what will be its own. So that
 * a choice need not compare all workers, the keys are divided among slots, and a table has the winner of each. Only a
 * worker that joins or leaves changes the table.
 */

/* Makes the table for the workers that have joined. -ENOMEM. */
int preference_open(struct ferry_dispatcher *dispatcher);

/* Frees it. */
void preference_close(struct ferry_dispatcher *dispatcher);

/* Before the table is made, these two do nothing. The worker has its `joined` already. */
void preference_join(struct ferry_dispatcher_worker *worker);
void preference_leave(struct ferry_dispatcher_worker *worker);

/* The worker that a key prefers. NULL: none has joined. */
struct ferry_dispatcher_worker *preference_of_key(const struct ferry_dispatcher *dispatcher,
                                                  uint64_t key);

/* Another key, for the next preference of the same one. */
uint64_t preference_next_key(uint64_t key);

#endif
