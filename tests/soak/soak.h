#ifndef FERRY_TESTS_SOAK_H
#define FERRY_TESTS_SOAK_H

/* A soak is made of parts, which all live in one event_base. A step is one random action of one part. At a rest each
 * part ends what it has begun, checks that everything has arrived, and keeps only what it needs to begin again: at
 * every rest the process has as many descriptors and blocks of heap as at the first one. */

#include <stdbool.h>
#include <stdint.h>

#include "support.h"

struct soak_part {
	const char *name;
	unsigned int weight; /* its share of the steps */
	void (*open)(void);
	void (*step)(void);
	void (*rest)(void);
	void (*close)(void);
};

extern const struct soak_part soak_links, soak_messages, soak_lines, soak_handoffs, soak_processes,
    soak_takeovers;

/* What was compared or counted so far, of all parts. */
struct soak_totals {
	uint64_t bytes, descriptors, files, messages, lines;
	uint64_t connections; /* transports that were opened, used and ended in pairs */
	uint64_t handoffs, returns, parked, workers;
	uint64_t takeovers, withdrawn;
	uint64_t kills, replacements, cut;
};
extern struct soak_totals soak_totals;

static inline bool one_in(uint32_t n)
{
	return support_random_below(n) == 0;
}

/* The blocks of the heap that the program, the library and libevent have: see heap_count.c. */
long soak_heap_blocks(void);
void soak_heap_take_over(void); /* libevent's too; before the first call of libevent */

#endif
