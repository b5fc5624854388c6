#ifndef FERRY_STREAM_MARKS_H
#define FERRY_STREAM_MARKS_H

#include "stream/outgoing.h"

/*
 * The queue of marks, as the write loop sees it.
 */

struct mark {
	uint64_t position;
	struct outgoing_file *file; /* or NULL: a descriptor */
	int fd;
	bool lent; /* somebody else closes it */
};

/* The mark with `index` others before it. */
static inline struct mark *outgoing_mark_at(const struct outgoing *outgoing, unsigned int index)
{
	return &outgoing->marks[(outgoing->first + index) & (outgoing->capacity - 1)];
}

/* Closes the first `count` marks, which are descriptors, but for those that are lent, and takes them
 * out. */
void outgoing_close_first(struct outgoing *outgoing, unsigned int count);

/* Takes the file out that has `index` descriptors before it, and finishes it with `status`. */
void outgoing_finish_at(struct outgoing *outgoing, unsigned int index, int status);

#endif
