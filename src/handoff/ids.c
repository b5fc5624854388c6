#include "handoff/ids.h"

#include <errno.h>
#include <stdlib.h>

/* The serial number has the other 40 bits. At a million attempts a second they last twelve days, and an
 * id can repeat only at the same place. */
enum { PLACE_BITS = 24, CAPACITY_MIN = 64 };

static int grow_table(struct handoff_ids *ids)
{
	uint32_t capacity = ids->capacity == 0 ? CAPACITY_MIN : ids->capacity * 2;

	if (capacity > UINT32_C(1) << PLACE_BITS)
		return -ENOMEM;
	struct ferry_handoff **places = realloc(ids->places, capacity * sizeof(struct ferry_handoff *));
	if (places == NULL)
		return -ENOMEM;
	ids->places = places;
	uint32_t *spare = realloc(ids->free, capacity * sizeof(*spare));
	if (spare == NULL)
		return -ENOMEM;
	ids->free = spare;
	while (capacity > ids->capacity) {
		capacity--;
		ids->places[capacity] = NULL;
		ids->free[ids->free_count++] = capacity;
	}
	ids->capacity = ids->free_count + ids->capacity;
	return 0;
}

int handoff_ids_add(struct handoff_ids *ids, struct ferry_handoff *handoff, uint32_t *place)
{
	if (ids->free_count == 0 && grow_table(ids) < 0)
		return -ENOMEM;
	*place = ids->free[--ids->free_count];
	ids->places[*place] = handoff;
	return 0;
}

uint64_t handoff_ids_renew(struct handoff_ids *ids, uint32_t place)
{
	return ++ids->serial << PLACE_BITS | place;
}

struct ferry_handoff *handoff_ids_find(const struct handoff_ids *ids, uint64_t id)
{
	uint64_t place = id & ((UINT64_C(1) << PLACE_BITS) - 1);

	return place < ids->capacity ? ids->places[place] : NULL;
}

void handoff_ids_remove(struct handoff_ids *ids, uint32_t place)
{
	ids->places[place] = NULL;
	ids->free[ids->free_count++] = place;
}

void handoff_ids_clear(struct handoff_ids *ids)
{
	free(ids->places);
	free(ids->free);
	*ids = (struct handoff_ids){0};
}
