#ifndef FERRY_HANDOFF_IDS_H
#define FERRY_HANDOFF_IDS_H

#include <stdint.h>

/*
 * Which handoff an id names. An id is a place in a table and a serial number: one step finds the
 * handoff, and no id is given twice.
 */

struct ferry_handoff;

struct handoff_ids {
	struct ferry_handoff **places;
	uint32_t *free; /* places that are free */
	uint32_t capacity, free_count;
	uint64_t serial; /* the last one given */
};

/* Puts the handoff at a free place. -ENOMEM: out of memory, or 16 million handoffs are there. */
int handoff_ids_add(struct handoff_ids *ids, struct ferry_handoff *handoff, uint32_t *place);

/* Makes a new id for the handoff at the place. */
uint64_t handoff_ids_renew(struct handoff_ids *ids, uint32_t place);

/* The handoff at the place that the id names, or NULL. Its id may be another: the caller compares. */
struct ferry_handoff *handoff_ids_find(const struct handoff_ids *ids, uint64_t id);

void handoff_ids_remove(struct handoff_ids *ids, uint32_t place);

/* Frees the memory. */
void handoff_ids_clear(struct handoff_ids *ids);

#endif
