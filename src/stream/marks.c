#include "stream/marks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "kernel/ancillary.h"
#include "kernel/fds.h"

/* The capacity of an idle stream: an occasional descriptor needs no allocation. */
enum { CAPACITY_MIN = 16 };

/* ---- the ring ---- */

static int grow_ring(struct marks *marks, unsigned int count)
{
	unsigned int capacity = marks->capacity == 0 ? CAPACITY_MIN : marks->capacity * 2;
	while (capacity - marks->count < count)
		capacity *= 2;
	struct mark *ring = malloc(capacity * sizeof(*ring));
	if (ring == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < marks->count; i++)
		ring[i] = *marks_at(marks, i);
	free(marks->ring);
	marks->ring = ring;
	marks->first = 0;
	marks->capacity = capacity;
	return 0;
}

static inline int make_room(struct marks *marks, unsigned int count)
{
	return count <= marks->capacity - marks->count ? 0 : grow_ring(marks, count);
}

static void drop_marks(struct marks *marks, unsigned int count)
{
	marks->count -= count;
	if (marks->count > 0) {
		marks->first = (marks->first + count) & (marks->capacity - 1);
		return;
	}
	marks->first = 0;
	if (marks->capacity > CAPACITY_MIN) {
		free(marks->ring);
		marks->ring = NULL;
		marks->capacity = 0;
	}
}

static void remove_mark(struct marks *marks, unsigned int index)
{
	/* The marks before it move up: a file is at the front, or behind few descriptors. */
	for (; index > 0; index--)
		*marks_at(marks, index) = *marks_at(marks, index - 1);
	drop_marks(marks, 1);
}

/* There is room for it. */
static void push_mark(struct marks *marks, struct mark mark)
{
	*marks_at(marks, marks->count++) = mark;
}

/* ---- descriptors ---- */

/* Starts new counts if the end has moved. */
static void move_end(struct marks *marks, uint64_t end)
{
	if (marks->end_position == end)
		return;
	marks->end_position = end;
	marks->fds_at_end = 0;
	marks->fds_at_end_all = 0;
}

/* The limit may have been lowered meanwhile. */
static bool exceeds(unsigned int used, unsigned int more, unsigned int limit)
{
	return used > limit || more > limit - used;
}

int marks_admit_fds(struct marks *marks, const struct marks_limits *limits, uint64_t end,
                    unsigned int count)
{
	move_end(marks, end);
	if (exceeds(marks_fd_count(marks), count, limits->fds))
		return -ENOBUFS;
	/* One message carries all descriptors that are pending for the same byte. A file separates them,
	 * but not if it turns out to be empty: all of them together must fit in one message. */
	if (exceeds(marks->fds_at_end, count, limits->fds_per_message) ||
	    exceeds(marks->fds_at_end_all, count, ANCILLARY_MAX_FDS))
		return -ENOBUFS;
	return 0;
}

int marks_push_fds(struct marks *marks, uint64_t end, const int *fds, unsigned int count, bool lent)
{
	int status = make_room(marks, count);
	if (status < 0)
		return status;
	for (unsigned int i = 0; i < count; i++)
		push_mark(marks, (struct mark){.position = end, .fd = fds[i], .lent = lent});
	move_end(marks, end);
	marks->fds_at_end += count;
	marks->fds_at_end_all += count;
	if (marks_fd_count(marks) > marks->stats.fds_queued_max)
		marks->stats.fds_queued_max = marks_fd_count(marks);
	return 0;
}

unsigned int marks_take_first(struct marks *marks, unsigned int count, int *fds)
{
	unsigned int owned = 0;

	for (unsigned int i = 0; i < count; i++) {
		const struct mark *mark = marks_at(marks, i);
		if (mark->position == marks->end_position)
			marks->fds_at_end_all--;
		if (!mark->lent)
			fds[owned++] = mark->fd;
	}
	drop_marks(marks, count);
	if (marks->file_count == 0)
		marks->fds_at_end = marks->fds_at_end_all;
	return owned;
}

unsigned int marks_close_fds(struct marks *marks)
{
	int fds[ANCILLARY_MAX_FDS];
	unsigned int closed = 0, count;

	if (marks_count(marks) == 0)
		return 0;
	do {
		for (count = 0; count < marks->count && count < ANCILLARY_MAX_FDS; count++)
			if (marks_at(marks, count)->file != NULL)
				break;
		fds_close(fds, marks_take_first(marks, count, fds));
		closed += count;
	} while (count == ANCILLARY_MAX_FDS);
	marks->stats.fds_unsent += closed;
	return closed;
}

/* ---- files ---- */

int marks_push_file(struct marks *marks, uint64_t end, struct outgoing_file *file)
{
	int status = make_room(marks, 1);
	if (status < 0)
		return status;
	push_mark(marks, (struct mark){.position = end, .file = file, .fd = -1});
	move_end(marks, end);
	if (file->source.remaining > 0)
		marks->fds_at_end = 0;
	marks->file_count++;
	return 0;
}

void marks_retire(struct marks *marks, struct outgoing_file *file, int status)
{
	if (marks->progressed == file)
		marks->progressed = NULL;
	if (file->leaving != NULL)
		file->leaving(file);
	file_source_close(&file->source);
	marks->stats.file_bytes_unsent += file_source_get_unsent(&file->source);
	file->status = status;
	file->next = NULL;
	*marks->finished_tail = file;
	marks->finished_tail = &file->next;
}

void marks_finish_at(struct marks *marks, unsigned int index, int status)
{
	struct outgoing_file *file = marks_at(marks, index)->file;

	remove_mark(marks, index);
	marks->file_count--;
	if (marks->file_count == 0)
		marks->fds_at_end = marks->fds_at_end_all;
	marks_retire(marks, file, status);
	if (status == 0)
		marks->stats.files_sent++;
}

void marks_finish_file(struct marks *marks, struct outgoing_file *file, int status)
{
	for (unsigned int i = 0; i < marks->count; i++) {
		if (marks_at(marks, i)->file == file) {
			marks_finish_at(marks, i, status);
			return;
		}
	}
}

unsigned int marks_count_news(const struct marks *marks)
{
	unsigned int count = 0;

	if (marks == NULL)
		return 0;
	for (const struct outgoing_file *file = marks->finished; file != NULL; file = file->next)
		count++;
	return count + (marks->progressed != NULL);
}

bool marks_notify(struct marks *marks)
{
	if (!marks_have_news(marks))
		return false;
	struct outgoing_file *file = marks->finished;
	if (file != NULL) {
		marks->finished = file->next;
		if (marks->finished == NULL)
			marks->finished_tail = &marks->finished;
		file->finished(file);
		return true;
	}
	file = marks->progressed;
	marks->progressed = NULL;
	file->progress(file);
	return true;
}

/* ---- lifetime ---- */

struct marks *marks_new(void)
{
	struct marks *marks = malloc(sizeof(*marks));

	if (marks == NULL)
		return NULL;
	*marks = (struct marks){.finished_tail = &marks->finished};
	in_flight_start();
	return marks;
}

void marks_abandon(struct marks *marks, int status)
{
	while (marks_count(marks) > 0) {
		marks_close_fds(marks);
		if (marks->count > 0)
			marks_finish_at(marks, 0, status);
	}
}

void marks_free(struct marks *marks)
{
	if (marks == NULL)
		return;
	assert(marks->count == 0 && marks->finished == NULL);
	in_flight_forget(&marks->in_flight);
	free(marks->ring);
	free(marks);
}
