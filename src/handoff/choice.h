#ifndef FERRY_HANDOFF_CHOICE_H
#define FERRY_HANDOFF_CHOICE_H

struct ferry_dispatcher;
struct ferry_dispatcher_worker;
struct ferry_handoff;

/* The worker that gets the handoff by the dispatcher's rule, among those that have credits. NULL: none
 * has. */
struct ferry_dispatcher_worker *choice_pick_worker(const struct ferry_dispatcher *dispatcher,
                                                   const struct ferry_handoff *handoff);

#endif
