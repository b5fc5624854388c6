#ifndef FERRY_TESTS_LINKS_H
#define FERRY_TESTS_LINKS_H

/* Several transports on unix sockets, each with a recorder, and their far ends in plain system calls. */

#include <stdbool.h>
#include <stdint.h>

#include "recorder.h"

enum { LINKS_MAX = 12 };

/* The members behind `far` are the test's own. */
struct link {
	struct recorder near;
	int far; /* -1: closed */
	uint32_t sent, received;
	bool answers;
};

extern struct link links[LINKS_MAX];

/* Opens the first `count`. */
void open_links(unsigned int count);

/* The same, with a limit of the descriptors in flight. */
void open_limited_links(unsigned int count, unsigned int limit);

void close_far_of(struct link *link);
void close_links(void);

#endif
