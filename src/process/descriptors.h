#ifndef FERRY_PROCESS_DESCRIPTORS_H
#define FERRY_PROCESS_DESCRIPTORS_H

/* The descriptors of a child: planned before fork(2), set after it by async-signal-safe calls alone. */

#include <stddef.h>

struct child_fd;

struct descriptors {
	struct child_fd *fds; /* those that are asked for, and the standard ones; sorted by number */
	size_t count;
	int *keep; /* for the lists of descriptors that stay open, sorted */
	int above; /* the lowest number that is above all of the child's */
};

/* -EINVAL: a number is negative, or two are the same. -EBADF: a descriptor is not open. -ENOMEM. */
int descriptors_plan(struct descriptors *out, const struct child_fd *fds, size_t count);
void descriptors_clear(struct descriptors *plan);

/* In the child: sets them, and closes all others except `*status_fd`, which is close-on-exec and is moved out of the way. 0,
 * or a negative errno. */
int descriptors_set(const struct descriptors *plan, int *status_fd);

#endif
