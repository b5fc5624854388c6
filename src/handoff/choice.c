#include "handoff/choice.h"

#include "handoff/books.h"
#include "handoff/dispatcher_worker.h"
#include "kernel/clock.h"

/*
 * Which worker gets a handoff. A dispatcher has few workers, so each choice compares all of them.
 */

static bool is_eligible(const struct ferry_dispatcher_worker *worker)
{
	return worker->version != 0 && !worker->draining && !worker->broken &&
	       worker->outstanding < worker->credits &&
	       worker->unclaimed_count < worker->dispatcher->unclaimed_limit;
}

/* Rendezvous hashing: each worker has a score for the key, and the highest score wins. A worker that
 * leaves therefore moves only its own keys. The mixing is that of splitmix64. */
static uint64_t score_for_key(uint64_t key, uint64_t name)
{
	uint64_t score = key ^ (name + UINT64_C(0x9e3779b97f4a7c15));

	score = (score ^ score >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	score = (score ^ score >> 27) * UINT64_C(0x94d049bb133111eb);
	return score ^ score >> 31;
}

static bool is_better(const struct ferry_dispatcher_worker *worker,
                      const struct ferry_dispatcher_worker *best,
                      const struct ferry_handoff *handoff)
{
	enum ferry_dispatch_choice choice = worker->dispatcher->choice;

	if (worker->avoided != best->avoided)
		return best->avoided;
	if (choice == FERRY_DISPATCH_BY_KEY && handoff->has_key)
		return score_for_key(handoff->key, worker->name) > score_for_key(handoff->key, best->name);
	if (choice != FERRY_DISPATCH_ROUND_ROBIN && worker->outstanding != best->outstanding)
		return worker->outstanding < best->outstanding;
	return worker->last_choice < best->last_choice;
}

struct ferry_dispatcher_worker *choice_pick_worker(const struct ferry_dispatcher *dispatcher,
                                                   const struct ferry_handoff *handoff)
{
	struct ferry_dispatcher_worker *worker, *best = NULL;
	int64_t now = clock_now();

	TAILQ_FOREACH (worker, &dispatcher->workers, link) {
		if (worker->avoided && worker->avoid_until <= now)
			worker->avoided = false;
		if (is_eligible(worker) && (best == NULL || is_better(worker, best, handoff)))
			best = worker;
	}
	return best;
}
