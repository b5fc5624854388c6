#ifndef FERRY_HANDOFF_CHOICE_H
#define FERRY_HANDOFF_CHOICE_H

#include "handoff/dispatcher_fields.h"

/*
 * Which worker gets a handoff. A tournament finds the best of those that may get one. Each change of a worker moves
 * it there, so that no choice looks at all workers.
 */

/* Makes room for `count` workers. -ENOMEM. */
int choice_reserve(struct choice *choice, size_t count);

/* Sets the rule. -ENOMEM. */
int choice_set_rule(struct ferry_dispatcher *dispatcher, enum ferry_dispatch_choice rule);

/* Frees the memory. */
void choice_clear(struct ferry_dispatcher *dispatcher);

/* The worker that gets the handoff by the rule, among those that have credits. NULL: none has; or the handoff has come
 * back from a worker, all that have credits are avoided, and another that is not may soon have some. */
struct ferry_dispatcher_worker *choice_pick_worker(const struct ferry_dispatcher *dispatcher,
                                                   const struct ferry_handoff *handoff);

/* When the first of the avoided workers is chosen as before. INT64_MAX: none is avoided. */
int64_t choice_next_time(const struct choice *choice);

/* Follows a change of the worker: of its credits, its handoffs, or what else decides whether it may get one. */
void choice_update(struct ferry_dispatcher_worker *worker);

/* The same if the worker has only room for one more: its rank among those that may get one is unchanged. */
void choice_note_room(struct ferry_dispatcher_worker *worker);

/* The worker was chosen. */
void choice_note_chosen(struct ferry_dispatcher_worker *worker);

/* A worker that has not claimed a handoff is chosen last for a while, longer each time. */
void choice_avoid(struct ferry_dispatcher_worker *worker);

/* The worker has served a handoff: it is chosen as before. */
void choice_trust(struct ferry_dispatcher_worker *worker);

/* The worker has stated its credits, and so has looked at its descriptor slots: it is chosen as before, once until it
 * serves a handoff. */
void choice_pardon(struct ferry_dispatcher_worker *worker);

/* The worker ends: it is not chosen any more. */
void choice_remove(struct ferry_dispatcher_worker *worker);

#endif
