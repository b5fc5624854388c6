#ifndef FERRY_UPGRADE_SPAWN_H
#define FERRY_UPGRADE_SPAWN_H

/* Starts the program of a successor, with the descriptors and variables of inheritance.h. */

#include <stdbool.h>

#include "process/child.h"

struct ferry_transport;
struct ferry_upgrade_options;
struct output;

struct spawned {
	struct child *child;
	struct output *output; /* its standard error */
	int token;             /* of succeeded.h */
};

/* `transport` is the channel to it, which the caller frees. 0, or a negative errno; after a failure nothing is left. */
int spawn_successor(struct spawned *out, struct ferry_transport **transport,
                    struct event_base *base, const struct ferry_upgrade_options *options,
                    child_ended_cb ended, void *context);

/* Frees all, and kills the child unless it `goes_on`. */
void spawned_clear(struct spawned *spawned, bool goes_on);

#endif
