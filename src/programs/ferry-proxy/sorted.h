#ifndef FERRY_PROGRAMS_FERRY_PROXY_SORTED_H
#define FERRY_PROGRAMS_FERRY_PROXY_SORTED_H

#include <stddef.h>

/* An array that is kept in order. All zero is an empty one; its owner frees the items. */
struct sorted {
	void *items; /* all of one size */
	size_t count;
	size_t room;
};

/* Copies an item into its place. `compare` is as for qsort(3). -EEXIST: there is an equal one. -ENOMEM. */
int sorted_insert(struct sorted *array, const void *item, size_t size,
                  int (*compare)(const void *a, const void *b));

#endif
