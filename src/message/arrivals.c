#include "message/arrivals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/fds.h"

enum {
	FDS_MIN = 16,
	FDS_IDLE_MAX = 64, /* an idle stream has memory for no more than these */
	READS_MIN = 4
};

struct arrival {
	uint64_t start, end;
	unsigned int count;
	bool loss;
};

static unsigned int grow_capacity(unsigned int capacity, unsigned int min, unsigned int wanted)
{
	if (capacity == 0)
		capacity = min;
	while (capacity < wanted)
		capacity *= 2;
	return capacity;
}

static int reserve_arrival(struct arrivals *arrivals, unsigned int fds)
{
	unsigned int reads =
	    grow_capacity(arrivals->read_capacity, READS_MIN, arrivals->read_count + 1);
	unsigned int slots = grow_capacity(arrivals->fd_capacity, FDS_MIN, arrivals->fd_count + fds);

	if (reads > arrivals->read_capacity) {
		struct arrival *memory = realloc(arrivals->reads, reads * sizeof(*memory));
		if (memory == NULL)
			return -ENOMEM;
		arrivals->reads = memory;
		arrivals->read_capacity = reads;
	}
	if (slots > arrivals->fd_capacity) {
		int *memory = realloc(arrivals->fds, slots * sizeof(*memory));
		if (memory == NULL)
			return -ENOMEM;
		arrivals->fds = memory;
		arrivals->fd_capacity = slots;
	}
	return 0;
}

int arrivals_add(struct arrivals *arrivals, uint64_t start, uint64_t end, const int *fds,
                 unsigned int count, bool loss)
{
	int status = reserve_arrival(arrivals, count);
	if (status < 0) {
		fds_close(fds, count);
		return status;
	}
	arrivals->reads[arrivals->read_count++] = (struct arrival){start, end, count, loss};
	if (count > 0)
		memcpy(arrivals->fds + arrivals->fd_count, fds, count * sizeof(*fds));
	arrivals->fd_count += count;
	return 0;
}

int arrivals_claim(struct arrivals *arrivals, uint64_t position, unsigned int count)
{
	if (arrivals->read_count == 0)
		return -EPROTO;
	struct arrival read = arrivals->reads[0];
	if (position < read.start || position >= read.end)
		return -EPROTO;
	if (read.count > count || (read.count < count && !read.loss))
		return -EPROTO;
	arrivals->read_count--;
	memmove(arrivals->reads, arrivals->reads + 1, arrivals->read_count * sizeof(read));
	return (int)read.count;
}

unsigned int arrivals_release(struct arrivals *arrivals, unsigned int count)
{
	unsigned int closed = fds_close(arrivals->fds, count);

	if (count == 0)
		return 0;
	arrivals->fd_count -= count;
	memmove(arrivals->fds, arrivals->fds + count, arrivals->fd_count * sizeof(*arrivals->fds));
	if (arrivals->fd_count == 0 && arrivals->fd_capacity > FDS_IDLE_MAX) {
		free(arrivals->fds);
		arrivals->fds = NULL;
		arrivals->fd_capacity = 0;
	}
	return closed;
}

bool arrivals_has_strays(const struct arrivals *arrivals, uint64_t position, uint64_t next,
                         bool claimed)
{
	unsigned int first = 0;

	/* The frame at `position` may still claim the first read. */
	if (!claimed && arrivals->read_count > 0 && arrivals->reads[0].start <= position)
		first = 1;
	return first < arrivals->read_count && arrivals->reads[first].end <= next;
}

unsigned int arrivals_close(struct arrivals *arrivals)
{
	unsigned int closed = fds_close(arrivals->fds, arrivals->fd_count);

	free(arrivals->reads);
	free(arrivals->fds);
	*arrivals = (struct arrivals){0};
	return closed;
}
