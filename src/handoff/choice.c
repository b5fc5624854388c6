#include "handoff/choice.h"

#include <stddef.h>

#include "kernel/clock.h"

enum { AVOID_USEC_MIN = 10000, AVOID_USEC_MAX = 5000000 };

static struct ferry_dispatcher_worker *worker_of(const struct heap_node *node, size_t offset)
{
	return node != NULL ? (void *)((uintptr_t)node - offset) : NULL;
}

static struct ferry_dispatcher_worker *of_eligible(const struct heap_node *node)
{
	return worker_of(node, offsetof(struct ferry_dispatcher_worker, eligible_node));
}

static struct ferry_dispatcher_worker *of_avoided(const struct heap_node *node)
{
	return worker_of(node, offsetof(struct ferry_dispatcher_worker, avoided_node));
}

/* ---- the order ---- */

/* Of workers that are equally good, the one that was chosen longest ago; of those that never were, the older one. */
static bool is_better(const struct heap_node *first, const struct heap_node *second)
{
	const struct ferry_dispatcher_worker *worker = of_eligible(first), *other = of_eligible(second);

	if (worker->avoided != other->avoided)
		return other->avoided;
	if (worker->dispatcher->choice.rule != FERRY_DISPATCH_ROUND_ROBIN &&
	    worker->outstanding != other->outstanding)
		return worker->outstanding < other->outstanding;
	if (worker->last_choice != other->last_choice)
		return worker->last_choice < other->last_choice;
	return worker->epoch < other->epoch;
}

static bool is_sooner(const struct heap_node *first, const struct heap_node *second)
{
	return of_avoided(first)->avoid_until < of_avoided(second)->avoid_until;
}

void choice_init(struct choice *choice)
{
	choice->eligible.before = is_better;
	choice->avoided.before = is_sooner;
}

int choice_reserve(struct choice *choice, size_t count)
{
	int status = heap_reserve(&choice->eligible, count);

	return status == 0 ? heap_reserve(&choice->avoided, count) : status;
}

void choice_set_rule(struct choice *choice, enum ferry_dispatch_choice rule)
{
	choice->rule = rule;
	heap_reorder(&choice->eligible);
}

void choice_clear(struct choice *choice)
{
	heap_clear(&choice->eligible);
	heap_clear(&choice->avoided);
}

/* ---- changes ---- */

static bool is_eligible(const struct ferry_dispatcher_worker *worker)
{
	return worker->version != 0 && !worker->draining && !worker->broken &&
	       worker->outstanding < worker->credits &&
	       worker->unclaimed_count < worker->dispatcher->unclaimed_limit;
}

void choice_update(struct ferry_dispatcher_worker *worker)
{
	struct heap *eligible = &worker->dispatcher->choice.eligible;

	if (!is_eligible(worker))
		heap_remove(eligible, &worker->eligible_node);
	else if (worker->eligible_node.place != 0)
		heap_update(eligible, &worker->eligible_node);
	else
		heap_add(eligible, &worker->eligible_node);
}

void choice_note_chosen(struct ferry_dispatcher_worker *worker)
{
	worker->last_choice = ++worker->dispatcher->choice.count;
	choice_update(worker);
}

void choice_avoid(struct ferry_dispatcher_worker *worker)
{
	struct heap *avoided = &worker->dispatcher->choice.avoided;
	int64_t usec = worker->avoid_usec * 2;

	if (usec < AVOID_USEC_MIN)
		usec = AVOID_USEC_MIN;
	if (usec > AVOID_USEC_MAX)
		usec = AVOID_USEC_MAX;
	worker->avoid_usec = usec;
	worker->avoid_until = clock_now() + usec;
	worker->avoided = true;
	heap_remove(avoided, &worker->avoided_node);
	heap_add(avoided, &worker->avoided_node);
	choice_update(worker);
}

void choice_forgive(struct ferry_dispatcher_worker *worker)
{
	if (!worker->avoided)
		return;
	worker->avoided = false;
	heap_remove(&worker->dispatcher->choice.avoided, &worker->avoided_node);
	choice_update(worker);
}

void choice_remove(struct ferry_dispatcher_worker *worker)
{
	struct choice *choice = &worker->dispatcher->choice;

	heap_remove(&choice->eligible, &worker->eligible_node);
	heap_remove(&choice->avoided, &worker->avoided_node);
}

/* ---- the choice ---- */

/* Rendezvous hashing: each worker has a score for the key, and the highest score wins. A worker that
 * leaves therefore moves only its own keys. The mixing is that of splitmix64. */
static uint64_t score_for_key(uint64_t key, uint64_t name)
{
	uint64_t score = key ^ (name + UINT64_C(0x9e3779b97f4a7c15));

	score = (score ^ score >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	score = (score ^ score >> 27) * UINT64_C(0x94d049bb133111eb);
	return score ^ score >> 31;
}

static struct ferry_dispatcher_worker *pick_by_key(const struct choice *choice, uint64_t key)
{
	struct ferry_dispatcher_worker *worker, *best = NULL;

	for (size_t i = 0; i < choice->eligible.count; i++) {
		worker = of_eligible(choice->eligible.nodes[i]);
		if (best == NULL || (worker->avoided != best->avoided ? best->avoided
		                                                      : score_for_key(key, worker->name) >
		                                                            score_for_key(key, best->name)))
			best = worker;
	}
	return best;
}

/* Those whose time is over are chosen as before. */
static void forgive_in_time(struct choice *choice)
{
	struct ferry_dispatcher_worker *worker = of_avoided(heap_first(&choice->avoided));
	int64_t now = worker != NULL ? clock_now() : 0;

	while (worker != NULL && worker->avoid_until <= now) {
		choice_forgive(worker);
		worker = of_avoided(heap_first(&choice->avoided));
	}
}

struct ferry_dispatcher_worker *choice_pick_worker(struct ferry_dispatcher *dispatcher,
                                                   const struct ferry_handoff *handoff)
{
	struct choice *choice = &dispatcher->choice;

	forgive_in_time(choice);
	if (choice->rule == FERRY_DISPATCH_BY_KEY && handoff->has_key)
		return pick_by_key(choice, handoff->key);
	return of_eligible(heap_first(&choice->eligible));
}
