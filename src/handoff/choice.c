#include "handoff/dispatcher.h"

/*
 * Which worker gets a handoff. There are few workers, and each is looked at.
 */

static bool is_eligible(const struct ferry_dispatcher_worker *worker)
{
	return worker->greeted && !worker->draining && !worker->broken &&
	       worker->outstanding < worker->credits;
}

/* Rendezvous hashing: every worker draws a number for the key, and the highest wins; so a worker that
 * goes takes nothing but its own keys along. The mixing is that of splitmix64. */
static uint64_t draw(uint64_t key, uint64_t name)
{
	uint64_t number = key ^ (name + UINT64_C(0x9e3779b97f4a7c15));

	number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
	return number ^ number >> 31;
}

static bool is_better(const struct ferry_dispatcher_worker *worker,
                      const struct ferry_dispatcher_worker *best,
                      const struct ferry_handoff *handoff)
{
	enum ferry_dispatch_choice choice = worker->dispatcher->choice;

	if (choice == FERRY_DISPATCH_BY_KEY && handoff->has_key)
		return draw(handoff->key, worker->name) > draw(handoff->key, best->name);
	if (choice != FERRY_DISPATCH_ROUND_ROBIN && worker->outstanding != best->outstanding)
		return worker->outstanding < best->outstanding;
	return worker->turn < best->turn;
}

struct ferry_dispatcher_worker *choose_worker(const struct ferry_dispatcher *dispatcher,
                                              const struct ferry_handoff *handoff)
{
	struct ferry_dispatcher_worker *worker, *best = NULL;

	TAILQ_FOREACH (worker, &dispatcher->workers, link)
		if (is_eligible(worker) && (best == NULL || is_better(worker, best, handoff)))
			best = worker;
	return best;
}
