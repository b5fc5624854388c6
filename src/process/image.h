#ifndef FERRY_PROCESS_IMAGE_H
#define FERRY_PROCESS_IMAGE_H

/* What exec needs. It is made before fork(2): the forked child of a program with threads may not allocate memory. */

#include <sys/types.h>

struct child_options;

struct image {
	char **paths; /* to try, one after the other */
	char *const *argv;
	char **environment;
	char **
	    pid_entries; /* entries of `environment` that end with the process id; in memory of their own */
};

/* -EINVAL: there is no program. -ENOMEM. */
int image_make(struct image *out, const struct child_options *options);
void image_clear(struct image *image);

/* In the child: executes the program. Returns only after a failure, a negative errno. */
int image_execute(const struct image *image, pid_t self);

#endif
