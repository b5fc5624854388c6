#ifndef FERRY_STREAM_MARKS_H
#define FERRY_STREAM_MARKS_H

#include <stdbool.h>
#include <stdint.h>

#include "file/source.h"
#include "kernel/in_flight.h"
#include "stream/counters.h"

/*
 * Descriptors and files as marks at absolute positions in a stream of bytes.
 *
 * The bytes are somewhere else. A file's own bytes do not count as positions. A stream without descriptors and files so
 * far has no marks: a function that only reads accepts NULL.
 *
 *     position   0     5     5      9
 *     bytes      hello       _bye
 *     marks            fd    file   fd
 *
 * A descriptor travels with the byte at its position; directly before a file, with the file's first byte.
 */

/* A file in the stream. Its owner embeds this, and owns the memory again once `finished` has run. */
struct outgoing_file {
	struct file_source source;
	uint64_t sent;
	int status;  /* once finished */
	bool paused; /* by the user: neither the file nor anything behind it is sent */
	int waiting; /* FILE_SOURCE_DRY or _COLD: the source does not have its next bytes yet; or 0 */
	struct outgoing_file *next; /* in the list of the finished */

	/* Runs when the file has left the stream, before its descriptor is closed; may be NULL. */
	void (*leaving)(struct outgoing_file *file);
	/* Runs when the stream has come to the file and found it waiting. */
	void (*wait)(struct outgoing_file *file);
	/* Run in marks_notify(). `finished` releases the source. */
	void (*progress)(struct outgoing_file *file);
	void (*finished)(struct outgoing_file *file);
};

struct mark {
	uint64_t position;
	struct outgoing_file *file; /* or NULL: a descriptor */
	int fd;
	bool lent; /* its owner closes it */
};

/* Of descriptors. */
struct marks_limits {
	unsigned int fds, fds_per_message;
};

struct marks {
	struct item_counters stats;
	struct mark *ring;
	unsigned int first, count, capacity;
	unsigned int file_count; /* the others are descriptors */

	uint64_t end_position;   /* the position that the next two count at: */
	unsigned int fds_at_end; /* descriptors there since the last file */
	unsigned int fds_at_end_all;

	struct outgoing_file *progressed; /* its owner is not yet notified */
	struct outgoing_file *finished, **finished_tail;

	/* Written by outgoing.c: the file segment with which the buffer begins, once the stream has come to it. */
	struct outgoing_file *segment;
	const void *segment_chain;
	int segment_error; /* a negative errno ends the connection: nobody else can be notified */
	struct in_flight in_flight;
};

/* NULL: no memory. */
struct marks *marks_new(void);

/* All marks have been taken out, and all owners notified. */
void marks_free(struct marks *marks);

static inline unsigned int marks_count(const struct marks *marks)
{
	return marks != NULL ? marks->count : 0;
}

static inline unsigned int marks_file_count(const struct marks *marks)
{
	return marks != NULL ? marks->file_count : 0;
}

static inline unsigned int marks_fd_count(const struct marks *marks)
{
	return marks_count(marks) - marks_file_count(marks);
}

/* The mark with `index` others before it. */
static inline struct mark *marks_at(const struct marks *marks, unsigned int index)
{
	return &marks->ring[(marks->first + index) & (marks->capacity - 1)];
}

/* `end` is in the following the position behind the last byte that is queued.
 * The queued descriptors that have a byte, or a file, to travel with. The others wait for the next byte. */
static inline unsigned int marks_fds_to_send(const struct marks *marks, uint64_t end)
{
	bool at_end = marks != NULL && marks->end_position == end;
	return marks_fd_count(marks) - (at_end ? marks->fds_at_end : 0);
}

/* Whether `count` more descriptors may be queued: 0 or -ENOBUFS. */
int marks_admit_fds(struct marks *marks, const struct marks_limits *limits, uint64_t end,
                    unsigned int count);

/* Queues descriptors, all of them or none. The stream closes them once they are sent; the caller closes
 * those that are `lent`, after they have left the queue. -ENOMEM. */
int marks_push_fds(struct marks *marks, uint64_t end, const int *fds, unsigned int count,
                   bool lent);

/* Queues a file. The stream closes its descriptor when the file is finished. -ENOMEM. */
int marks_push_file(struct marks *marks, uint64_t end, struct outgoing_file *file);

/* Takes out the first `count` marks, which are descriptors. Sets `fds` to those that are not lent, which the caller
 * closes, and returns how many these are. */
unsigned int marks_take_first(struct marks *marks, unsigned int count, int *fds);

/* Closes the descriptors that wait for a byte before the next file. Returns how many. */
unsigned int marks_close_fds(struct marks *marks);

/* Takes out the file that has `index` descriptors before it, and finishes it with `status`. */
void marks_finish_at(struct marks *marks, unsigned int index, int status);

/* Finishes a file that is not in the list, as marks_finish_at() does. Does not count it. */
void marks_retire(struct marks *marks, struct outgoing_file *file, int status);

/* Takes out an unfinished file, and finishes it with `status`. */
void marks_finish_file(struct marks *marks, struct outgoing_file *file, int status);

/* Closes all descriptors and finishes all files with `status`. */
void marks_abandon(struct marks *marks, int status);

/* Whether such a callback is due. */
static inline bool marks_have_news(const struct marks *marks)
{
	return marks != NULL && (marks->progressed != NULL || marks->finished != NULL);
}

/* How many are due. The other one runs one of them, of a file that has finished or progressed. False: none was due. */
unsigned int marks_count_news(const struct marks *marks);
bool marks_notify(struct marks *marks);

#endif
