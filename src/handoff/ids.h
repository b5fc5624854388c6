#ifndef FERRY_HANDOFF_IDS_H
#define FERRY_HANDOFF_IDS_H

#include <stdint.h>

/*
 * Which handoff an id means. An id is a place in a table and a serial number: found in one step, and
 * never given twice.
 */

struct ferry_handoff;

struct handoff_ids {
	struct ferry_handoff **places;
	uint32_t *free; /* the free ones of the places */
	uint32_t capacity, free_count;
	uint64_t serial; /* the last one given */
};

/* Finds a place. -ENOMEM; also when there are 16 million. */
int handoff_ids_add(struct handoff_ids *ids, struct ferry_handoff *handoff, uint32_t *place);

/* A new id for what is at the place. */
uint64_t handoff_ids_renew(struct handoff_ids *ids, uint32_t place);

/* What is at the place that the id names, if anything; whether that has this id is to be compared. */
struct ferry_handoff *handoff_ids_find(const struct handoff_ids *ids, uint64_t id);

void handoff_ids_remove(struct handoff_ids *ids, uint32_t place);

/* Frees the memory. */
void handoff_ids_clear(struct handoff_ids *ids);

#endif
