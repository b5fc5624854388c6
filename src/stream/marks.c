#include "stream/marks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/ancillary.h"

/* Kept while idle, so that a descriptor now and then allocates nothing. */
enum { CAPACITY_MIN = 16 };

/* ---- the ring of marks ---- */

static int make_room(struct outgoing *outgoing, unsigned int count)
{
	if (count <= outgoing->capacity - outgoing->count)
		return 0;

	unsigned int capacity = outgoing->capacity == 0 ? CAPACITY_MIN : outgoing->capacity * 2;
	while (capacity - outgoing->count < count)
		capacity *= 2;
	struct mark *marks = malloc(capacity * sizeof(*marks));
	if (marks == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < outgoing->count; i++)
		marks[i] = *outgoing_mark_at(outgoing, i);
	free(outgoing->marks);
	outgoing->marks = marks;
	outgoing->first = 0;
	outgoing->capacity = capacity;
	return 0;
}

static void drop_marks(struct outgoing *outgoing, unsigned int count)
{
	outgoing->count -= count;
	if (outgoing->count > 0) {
		outgoing->first = (outgoing->first + count) & (outgoing->capacity - 1);
		return;
	}
	outgoing->first = 0;
	if (outgoing->capacity > CAPACITY_MIN) {
		free(outgoing->marks);
		outgoing->marks = NULL;
		outgoing->capacity = 0;
	}
}

static void remove_mark(struct outgoing *outgoing, unsigned int index)
{
	/* Those before it move up: a file is at the front, or behind few descriptors. */
	for (; index > 0; index--)
		*outgoing_mark_at(outgoing, index) = *outgoing_mark_at(outgoing, index - 1);
	drop_marks(outgoing, 1);
}

static int push_mark(struct outgoing *outgoing, struct mark mark)
{
	int status = make_room(outgoing, 1);
	if (status == 0)
		*outgoing_mark_at(outgoing, outgoing->count++) = mark;
	return status;
}

static uint64_t end_of(const struct outgoing *outgoing)
{
	return outgoing->drained + evbuffer_get_length(outgoing->buffer);
}

/* ---- descriptors ---- */

static void settle_end(struct outgoing *outgoing)
{
	uint64_t end = end_of(outgoing);
	if (outgoing->end_position == end)
		return;
	outgoing->end_position = end;
	outgoing->fds_at_end = 0;
	outgoing->fds_at_end_all = 0;
}

/* The limit may have been lowered meanwhile. */
static bool is_over(unsigned int used, unsigned int more, unsigned int limit)
{
	return used > limit || more > limit - used;
}

int outgoing_admits_fds(struct outgoing *outgoing, unsigned int count)
{
	settle_end(outgoing);
	if (is_over(outgoing->fd_count, count, outgoing->fd_limit))
		return -ENOBUFS;
	/* All that wait for the same byte go in one message. A file between them parts them, but one
	 * that turns out to be empty does not: together they must never be more than a message
	 * holds. */
	if (is_over(outgoing->fds_at_end, count, outgoing->max_fds_per_message) ||
	    is_over(outgoing->fds_at_end_all, count, ANCILLARY_MAX_FDS))
		return -ENOBUFS;
	return 0;
}

int outgoing_push_fds(struct outgoing *outgoing, const int *fds, unsigned int count, bool lent)
{
	int status = make_room(outgoing, count);
	if (status < 0)
		return status;
	for (unsigned int i = 0; i < count; i++)
		push_mark(outgoing,
		          (struct mark){.position = end_of(outgoing), .fd = fds[i], .lent = lent});
	settle_end(outgoing);
	outgoing->fds_at_end += count;
	outgoing->fds_at_end_all += count;
	outgoing->fd_count += count;
	if (outgoing->fd_count > outgoing->stats->fds_queued_max)
		outgoing->stats->fds_queued_max = outgoing->fd_count;
	return 0;
}

void outgoing_close_first(struct outgoing *outgoing, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct mark *mark = outgoing_mark_at(outgoing, i);
		if (mark->position == outgoing->end_position)
			outgoing->fds_at_end_all--;
		if (!mark->lent)
			close(mark->fd);
	}
	drop_marks(outgoing, count);
	outgoing->fd_count -= count;
	if (outgoing->file_count == 0)
		outgoing->fds_at_end = outgoing->fds_at_end_all;
}

unsigned int outgoing_close_fds(struct outgoing *outgoing)
{
	unsigned int count = 0;
	while (count < outgoing->count && outgoing_mark_at(outgoing, count)->file == NULL)
		count++;
	outgoing->stats->fds_unsent += count;
	outgoing_close_first(outgoing, count);
	return count;
}

/* ---- files ---- */

int outgoing_push_file(struct outgoing *outgoing, struct outgoing_file *file)
{
	struct mark mark = {.position = end_of(outgoing), .file = file, .fd = -1};

	int status = push_mark(outgoing, mark);
	if (status < 0)
		return status;
	settle_end(outgoing);
	file_source_set_output(&file->source, !outgoing->is_socket);
	if (file->source.remaining > 0)
		outgoing->fds_at_end = 0;
	outgoing->file_count++;
	return 0;
}

void outgoing_finish_at(struct outgoing *outgoing, unsigned int index, int status)
{
	struct outgoing_file *file = outgoing_mark_at(outgoing, index)->file;

	remove_mark(outgoing, index);
	outgoing->file_count--;
	if (outgoing->file_count == 0)
		outgoing->fds_at_end = outgoing->fds_at_end_all;
	if (outgoing->progressed == file)
		outgoing->progressed = NULL;
	if (file->leaving != NULL)
		file->leaving(file);
	file_source_close(&file->source);
	file->status = status;
	file->next = NULL;
	*outgoing->finished_tail = file;
	outgoing->finished_tail = &file->next;
	if (status == 0)
		outgoing->stats->files_sent++;
}

void outgoing_finish_file(struct outgoing *outgoing, struct outgoing_file *file, int status)
{
	for (unsigned int i = 0; i < outgoing->count; i++) {
		if (outgoing_mark_at(outgoing, i)->file == file) {
			outgoing_finish_at(outgoing, i, status);
			return;
		}
	}
}

bool outgoing_report(struct outgoing *outgoing)
{
	struct outgoing_file *file = outgoing->finished;

	if (file != NULL) {
		outgoing->finished = file->next;
		if (outgoing->finished == NULL)
			outgoing->finished_tail = &outgoing->finished;
		file->finished(file);
		return true;
	}
	file = outgoing->progressed;
	if (file == NULL)
		return false;
	outgoing->progressed = NULL;
	file->progress(file);
	return true;
}

/* ---- lifetime ---- */

void outgoing_init(struct outgoing *outgoing, struct evbuffer *buffer,
                   struct ferry_transport_stats *stats)
{
	*outgoing = (struct outgoing){
	    .buffer = buffer,
	    .stats = stats,
	    .finished_tail = &outgoing->finished,
	    .fd_limit = 1024,
	    .max_fds_per_message = 64,
	};
}

void outgoing_abandon(struct outgoing *outgoing, int status)
{
	while (outgoing->count > 0) {
		outgoing_close_fds(outgoing);
		if (outgoing->count > 0)
			outgoing_finish_at(outgoing, 0, status);
	}
}

void outgoing_stop(struct outgoing *outgoing, int status)
{
	outgoing->stopped = true;
	outgoing_abandon(outgoing, status);
	evbuffer_unfreeze(outgoing->buffer, 1);
	evbuffer_drain(outgoing->buffer, evbuffer_get_length(outgoing->buffer));
	evbuffer_freeze(outgoing->buffer, 1);
}

void outgoing_release(struct outgoing *outgoing)
{
	assert(outgoing->count == 0 && outgoing->finished == NULL);
	free(outgoing->marks);
	outgoing->marks = NULL;
}

bool outgoing_is_sent(const struct outgoing *outgoing)
{
	return outgoing->file_count == 0 && evbuffer_get_length(outgoing->buffer) == 0;
}
