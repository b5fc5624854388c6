#ifndef FERRY_TESTS_RESOURCES_PARTS_H
#define FERRY_TESTS_RESOURCES_PARTS_H

/* The parts of the library, each used once in one process, without anything of /proc. */

#include <stdbool.h>
#include <stddef.h>

#include <event2/event.h>

/* What has become of the part that runs. */
extern struct outcome {
	int error;  /* the first that ferry has reported, a negative errno; 0: none */
	bool over;  /* nothing more will come */
	bool whole; /* all has been done */
	bool wrong; /* something came that nobody has sent */
} outcome;

extern struct event_base *loop; /* of the part that runs */
extern const char *folder;      /* for its sockets */

struct part {
	const char *name;
	void (*start)(void);
	bool (*is_over)(void); /* asked after each turn of the loop; NULL: outcome.over */
	void (*finish)(void);  /* frees what is left */
};
extern const struct part parts[];
extern const size_t part_count;

#endif
