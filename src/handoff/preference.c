#include "handoff/preference.h"

#include <errno.h>
#include <stdlib.h>

/* Of 500 workers each has 65 slots, more or less. */
enum { SLOT_BITS = 15, SLOTS = 1 << SLOT_BITS };

/* The mixing of splitmix64. */
static uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

static uint64_t score(uint64_t slot, const struct ferry_dispatcher_worker *worker)
{
	return mix(slot << (64 - SLOT_BITS) ^ (worker->name + UINT64_C(0x9e3779b97f4a7c15)));
}

uint64_t preference_next_key(uint64_t key)
{
	return mix(key + UINT64_C(0x9e3779b97f4a7c15));
}

static struct ferry_dispatcher_worker *find_winner(const struct ferry_dispatcher *dispatcher,
                                                   uint64_t slot)
{
	struct ferry_dispatcher_worker *worker, *best = NULL;

	TAILQ_FOREACH (worker, &dispatcher->workers, link)
		if (worker->joined && (best == NULL || score(slot, worker) > score(slot, best)))
			best = worker;
	return best;
}

int preference_open(struct ferry_dispatcher *dispatcher)
{
	struct choice *choice = &dispatcher->choice;

	if (choice->preferred != NULL)
		return 0;
	choice->preferred = malloc(SLOTS * sizeof(struct ferry_dispatcher_worker *));
	if (choice->preferred == NULL)
		return -ENOMEM;
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		choice->preferred[slot] = find_winner(dispatcher, slot);
	return 0;
}

void preference_close(struct ferry_dispatcher *dispatcher)
{
	free(dispatcher->choice.preferred);
	dispatcher->choice.preferred = NULL;
}

void preference_join(struct ferry_dispatcher_worker *worker)
{
	struct ferry_dispatcher_worker **preferred = worker->dispatcher->choice.preferred;

	for (uint64_t slot = 0; preferred != NULL && slot < SLOTS; slot++)
		if (preferred[slot] == NULL || score(slot, worker) > score(slot, preferred[slot]))
			preferred[slot] = worker;
}

/* Only the slots of the one that leaves are compared anew. */
void preference_leave(struct ferry_dispatcher_worker *worker)
{
	struct ferry_dispatcher_worker **preferred = worker->dispatcher->choice.preferred;

	for (uint64_t slot = 0; preferred != NULL && slot < SLOTS; slot++)
		if (preferred[slot] == worker)
			preferred[slot] = find_winner(worker->dispatcher, slot);
}

struct ferry_dispatcher_worker *preference_of_key(const struct ferry_dispatcher *dispatcher,
                                                  uint64_t key)
{
	return dispatcher->choice.preferred[key >> (64 - SLOT_BITS)];
}
