#include "handoff/choice.h"

#include <stddef.h>

#include "handoff/preference.h"
#include "kernel/clock.h"

enum {
	AVOID_USEC_MIN = 10000,
	AVOID_USEC_MAX = 5000000,
	PREFERENCES = 8 /* workers that are tried for a key; then any is as good */
};

/* Those that were chosen come behind those that were not. */
static const uint64_t CHOSEN = UINT64_C(1) << 63;

static struct ferry_dispatcher_worker *worker_of(const struct tournament_node *node, size_t offset)
{
	return (void *)((uintptr_t)node - offset);
}

static struct ferry_dispatcher_worker *of_eligible(const struct tournament_node *node)
{
	return worker_of(node, offsetof(struct ferry_dispatcher_worker, eligible_node));
}

static struct ferry_dispatcher_worker *of_avoided(const struct tournament_node *node)
{
	return worker_of(node, offsetof(struct ferry_dispatcher_worker, avoided_node));
}

/* ---- the order ---- */

/* Of workers that are equally good, the one that was chosen longest ago; of those that never were, the older one. */
static struct tournament_key rank_of(const struct ferry_dispatcher_worker *worker)
{
	const bool by_load = worker->dispatcher->choice.rule != FERRY_DISPATCH_ROUND_ROBIN;

	return (struct tournament_key){
	    .major = (uint64_t)worker->avoided << 32 | (by_load ? worker->outstanding : 0),
	    .minor = worker->last_choice != 0 ? CHOSEN | worker->last_choice : worker->epoch,
	};
}

int choice_reserve(struct choice *choice, size_t count)
{
	int status = tournament_reserve(&choice->eligible, count);

	return status == 0 ? tournament_reserve(&choice->avoided, count) : status;
}

int choice_set_rule(struct ferry_dispatcher *dispatcher, enum ferry_dispatch_choice rule)
{
	struct choice *choice = &dispatcher->choice;
	struct ferry_dispatcher_worker *worker;

	if (rule == FERRY_DISPATCH_BY_KEY && preference_open(dispatcher) < 0)
		return -ENOMEM;
	choice->rule = rule;
	TAILQ_FOREACH (worker, &dispatcher->workers, link)
		choice_update(worker);
	return 0;
}

void choice_clear(struct ferry_dispatcher *dispatcher)
{
	struct choice *choice = &dispatcher->choice;

	preference_close(dispatcher);
	tournament_clear(&choice->eligible);
	tournament_clear(&choice->avoided);
}

/* ---- changes ---- */

static bool is_eligible(const struct ferry_dispatcher_worker *worker)
{
	return worker->joined && !worker->full && worker->outstanding < worker->credits &&
	       worker->unclaimed_count < worker->dispatcher->unclaimed_limit;
}

/* Returns whether the worker was avoided. */
static bool forgive(struct ferry_dispatcher_worker *worker)
{
	if (!worker->avoided)
		return false;
	worker->avoided = false;
	tournament_remove(&worker->dispatcher->choice.avoided, &worker->avoided_node);
	return true;
}

static void set_joined(struct ferry_dispatcher_worker *worker, bool joined)
{
	if (worker->joined == joined)
		return;
	worker->joined = joined;
	if (joined) {
		worker->dispatcher->choice.joined++;
		preference_join(worker);
	} else {
		worker->dispatcher->choice.joined--;
		forgive(worker);
		preference_leave(worker);
	}
}

void choice_update(struct ferry_dispatcher_worker *worker)
{
	struct tournament *eligible = &worker->dispatcher->choice.eligible;

	set_joined(worker, worker->version != 0 && !worker->draining && !worker->broken);
	if (is_eligible(worker))
		tournament_put(eligible, &worker->eligible_node, rank_of(worker));
	else
		tournament_remove(eligible, &worker->eligible_node);
}

void choice_note_room(struct ferry_dispatcher_worker *worker)
{
	if (worker->eligible_node.place == 0)
		choice_update(worker);
}

void choice_note_chosen(struct ferry_dispatcher_worker *worker)
{
	worker->last_choice = ++worker->dispatcher->choice.count;
	choice_update(worker);
}

void choice_avoid(struct ferry_dispatcher_worker *worker)
{
	struct tournament *avoided = &worker->dispatcher->choice.avoided;
	int64_t usec = worker->avoid_usec * 2;

	if (!worker->joined)
		return;
	if (usec < AVOID_USEC_MIN)
		usec = AVOID_USEC_MIN;
	if (usec > AVOID_USEC_MAX)
		usec = AVOID_USEC_MAX;
	worker->avoid_usec = usec;
	worker->avoid_until = clock_now() + usec;
	worker->avoided = true;
	tournament_put(avoided, &worker->avoided_node,
	               (struct tournament_key){.major = (uint64_t)worker->avoid_until});
	choice_update(worker);
}

void choice_trust(struct ferry_dispatcher_worker *worker)
{
	worker->avoid_usec = 0;
	worker->pardoned = false;
	if (forgive(worker))
		choice_update(worker);
}

void choice_pardon(struct ferry_dispatcher_worker *worker)
{
	if (worker->pardoned || !forgive(worker))
		return;
	worker->pardoned = true;
	choice_update(worker);
}

void choice_remove(struct ferry_dispatcher_worker *worker)
{
	struct choice *choice = &worker->dispatcher->choice;

	set_joined(worker, false);
	tournament_remove(&choice->eligible, &worker->eligible_node);
}

/* ---- the choice ---- */

/* Those whose time is over are chosen as before. */
static void forgive_in_time(const struct choice *choice)
{
	const struct tournament_node *first = tournament_first(&choice->avoided);
	int64_t now = first != NULL ? clock_now() : 0;

	while (first != NULL && of_avoided(first)->avoid_until <= now) {
		struct ferry_dispatcher_worker *worker = of_avoided(first);
		forgive(worker);
		choice_update(worker);
		first = tournament_first(&choice->avoided);
	}
}

/* NULL: of those that the key prefers, none can be chosen. */
static struct ferry_dispatcher_worker *pick_by_key(const struct ferry_dispatcher *dispatcher,
                                                   uint64_t key)
{
	for (unsigned int i = 0; i < PREFERENCES; i++) {
		struct ferry_dispatcher_worker *worker = preference_of_key(dispatcher, key);
		if (worker != NULL && worker->eligible_node.place != 0 && !worker->avoided)
			return worker;
		key = preference_next_key(key);
	}
	return NULL;
}

static bool came_back(const struct ferry_handoff *handoff)
{
	return handoff->attempt > 1 || handoff->losses > 0;
}

static bool some_are_trusted(const struct choice *choice)
{
	return choice->joined > choice->avoided.count;
}

int64_t choice_next_time(const struct choice *choice)
{
	const struct tournament_node *first = tournament_first(&choice->avoided);

	return first != NULL ? of_avoided(first)->avoid_until : INT64_MAX;
}

struct ferry_dispatcher_worker *choice_pick_worker(const struct ferry_dispatcher *dispatcher,
                                                   const struct ferry_handoff *handoff)
{
	const struct choice *choice = &dispatcher->choice;
	struct ferry_dispatcher_worker *worker = NULL;

	forgive_in_time(choice);
	if (choice->rule == FERRY_DISPATCH_BY_KEY && handoff->has_key)
		worker = pick_by_key(dispatcher, handoff->key);
	if (worker == NULL && choice->eligible.count > 0)
		worker = of_eligible(tournament_first(&choice->eligible));
	if (worker != NULL && worker->avoided && came_back(handoff) && some_are_trusted(choice))
		return NULL;
	return worker;
}
