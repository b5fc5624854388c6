#include "transport/file_wait.h"

#include <errno.h>
#include <stdlib.h>

#include "file/read_ahead.h"

enum {
	PIECE_FIRST = WARMTH_WINDOW_MIN, /* short, and in memory soon */
	PIECE_AHEAD = 1024 * 1024,       /* keep the disk busy while those before are sent */
	PIECE_COPY = 256 * 1024,         /* in the process's own memory */
	LOOK_USEC = 1000,                /* the interval of timers, at first, if there is no event */
	LOOKS_SOON = 8,
	LOOK_LATER_USEC = 16000,
	LOOKS_MAX = 64, /* about a second; then the piece is sent, and the loop waits for the disk */
	QUEUED_USEC = 100000, /* then more threads may be needed */
};

/* ---- requests ---- */

static int64_t position_of(const struct file_wait *wait)
{
	return file_source_position(&wait->file->source);
}

static void free_event(struct file_wait *wait)
{
	if (wait->event != NULL)
		event_free(wait->event);
	wait->event = NULL;
}

static void drop_requests(struct file_wait *wait)
{
	free_event(wait);
	if (wait->ahead != NULL)
		read_ahead_free(wait->ahead);
	wait->ahead = NULL;
}

/* In a child of fork(2) the requests are lost. */
static void drop_lost(struct file_wait *wait)
{
	if (wait->ahead != NULL && read_ahead_is_lost(wait->ahead))
		drop_requests(wait);
}

/* Nothing from here on is checked in the page cache before it has been read. */
static void note_coming(struct file_wait *wait)
{
	bool any = wait->ahead != NULL && read_ahead_count(wait->ahead) > 0;

	wait->file->source.warmth.coming = any ? read_ahead_first(wait->ahead) : INT64_MAX;
}

static int request_piece(struct file_wait *wait, int64_t offset, size_t length)
{
	struct file_copy *copy = NULL;

	if (wait->file->source.by_thread) {
		copy = file_copy_new(length);
		if (copy == NULL)
			return -ENOMEM;
	}
	int status = read_ahead_request(wait->ahead, offset, length, copy);
	if (status < 0)
		free(copy);
	else
		wait->asked_until = offset + (int64_t)length;
	return status;
}

/* Requests pieces until as many as possible are on their way. Returns the error of the last request, or 0 if the
 * file has no more. */
static int request_pieces(struct file_wait *wait)
{
	struct file_source *source = &wait->file->source;
	int64_t position = position_of(wait);
	int status = 0;

	if (position >= wait->asked_until) {
		wait->asked_until = position;
		wait->read_from = wait->read_until = position;
	}
	while (status == 0) {
		bool first = wait->asked_until == position;
		size_t piece = source->by_thread ? PIECE_COPY : first ? PIECE_FIRST : PIECE_AHEAD;
		uint64_t left = file_source_left_at(source, wait->asked_until);
		if (left == 0)
			break;
		status = request_piece(wait, wait->asked_until, left < piece ? (size_t)left : piece);
	}
	note_coming(wait);
	return status;
}

/* Begins anew at the position. What was read meanwhile is dropped. */
static bool restart(struct file_wait *wait)
{
	drop_requests(wait);
	wait->ahead = read_ahead_new(wait->file->source.fd);
	wait->asked_until = wait->read_from = wait->read_until = position_of(wait);
	return wait->ahead != NULL;
}

/* ---- pieces that have been read ---- */

/* Pieces that were read into the page cache. */
static void collect_cached(struct file_wait *wait)
{
	struct file_source *source = &wait->file->source;
	struct read_piece piece;

	while (!source->by_thread && read_ahead_collect(wait->ahead, &piece)) {
		wait->read_until = piece.offset + (int64_t)piece.length;
		/* The thread meets the error again, and not the loop, which might hang in it. */
		if (piece.error != 0)
			file_source_read_by_thread(source);
		else if (piece.place == PLACE_MEMORY ||
		         (source->warmth.unknown && piece.place == PLACE_DISK))
			warmth_trust(&source->warmth);
	}
	note_coming(wait);
}

/* The next piece that was read for the source itself. False: it is not there yet. */
static bool give_copy(struct file_wait *wait)
{
	struct read_piece piece;

	while (read_ahead_collect(wait->ahead, &piece)) {
		if (piece.error == -EAGAIN && piece.length == 0) {
			/* Some daemons of FUSE: again, after a while. */
			free(piece.copy);
			drop_requests(wait);
			return false;
		}
		if (piece.offset == position_of(wait) && piece.copy != NULL) {
			file_source_give(&wait->file->source, piece.copy, piece.error);
			return true;
		}
		free(piece.copy);
		/* A short piece came before it: the rest follows from there. */
		if (!restart(wait) || request_pieces(wait) < 0)
			break;
	}
	return false;
}

/* Collects what has been read. True: the source has its next bytes. */
static bool collect(struct file_wait *wait)
{
	struct file_source *source = &wait->file->source;
	int64_t position = position_of(wait);

	if (source->by_thread)
		return give_copy(wait);
	collect_cached(wait);
	bool was_read = position >= wait->read_from && position < wait->read_until;
	if (!source->by_thread) {
		if (file_source_is_ready(source))
			return true;
		if (!was_read)
			return false;
		if (warmth_doubt(&source->warmth, source->fd, position))
			return true;
		/* Evicted at once, or never kept in the page cache. */
		file_source_read_by_thread(source);
	}
	restart(wait);
	return false;
}

void file_wait_stay_ahead(struct file_wait *wait)
{
	wait->looks = 0;
	drop_lost(wait);
	if (wait->ahead == NULL)
		return;
	if (!wait->file->source.by_thread)
		collect_cached(wait);
	if (!wait->file->source.by_thread || read_ahead_count(wait->ahead) > 0)
		request_pieces(wait);
}

/* ---- waiting for the source ---- */

static bool wait_for_disk(struct file_wait *wait);

static void on_wake_up(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct file_wait *wait = argument;
	struct bufferevent *bev = transport_lock(wait->transport);

	if (wait->file->source.fd >= 0) {
		bool cold = wait->file->waiting == FILE_SOURCE_COLD && wait->ahead != NULL;
		if (cold)
			read_ahead_clear(wait->ahead);
		/* A timeout: the piece may still wait for a thread. */
		if (!cold || !wait_for_disk(wait)) {
			wait->file->waiting = 0;
			transport_want_write(wait->transport);
		}
	}
	bufferevent_unlock(bev);
}

static bool make_wait_event(struct file_wait *wait, int fd)
{
	struct bufferevent *bev = wait->transport->rearm.bev;

	/* EV_FINALIZE: event_del() then does not wait for the callback, which would wait for the lock that the
	 * caller has locked. */
	wait->event = event_new(bufferevent_get_base(bev), fd,
	                        (short)((fd >= 0 ? EV_READ : 0) | EV_FINALIZE), on_wake_up, wait);
	/* The highest: the bufferevent's own may change while the event is pending, and the write step, which this has run,
	 * has that. */
	if (wait->event != NULL)
		event_priority_set(wait->event, 0);
	return wait->event != NULL;
}

static bool wait_a_while(struct file_wait *wait)
{
	int usec = wait->looks++ < LOOKS_SOON ? LOOK_USEC : LOOK_LATER_USEC;

	if (wait->event == NULL && !make_wait_event(wait, -1))
		return false;
	return event_add(wait->event, &(struct timeval){.tv_usec = usec}) == 0;
}

static bool wait_for_input(struct file_wait *wait)
{
	/* An event for pieces. */
	if (wait->event != NULL && event_get_fd(wait->event) >= 0 &&
	    event_get_fd(wait->event) != wait->file->source.fd)
		free_event(wait);
	if (wait->event == NULL && !make_wait_event(wait, wait->file->source.fd))
		return false;
	if (event_get_fd(wait->event) < 0)
		return wait_a_while(wait);
	if (event_add(wait->event, NULL) == 0)
		return true;
	/* epoll(7) does not support this kind of descriptor. */
	free_event(wait);
	return wait_a_while(wait);
}

/* Waits until the oldest piece has been read. False: it has, or there is no memory for an event. */
static bool wait_for_piece(struct file_wait *wait)
{
	int event_fd = read_ahead_get_event_fd(wait->ahead);
	bool queued;

	if (!read_ahead_expect(wait->ahead, &queued))
		return false;
	/* A timer from the time before there was a descriptor slot. */
	if (wait->event != NULL && event_get_fd(wait->event) != event_fd)
		free_event(wait);
	if (event_fd < 0)
		return wait_a_while(wait);
	if (wait->event == NULL && !make_wait_event(wait, event_fd))
		return false;
	const struct timeval timeout = {.tv_usec = QUEUED_USEC};
	return event_add(wait->event, queued ? &timeout : NULL) == 0;
}

/* Waits for the disk. False: the source may have its next bytes, or the loop must wait for them itself. */
static bool wait_for_disk(struct file_wait *wait)
{
	struct file_source *source = &wait->file->source;

	drop_lost(wait);
	if (wait->ahead == NULL && !restart(wait)) {
		if (wait->looks < LOOKS_MAX)
			return wait_a_while(wait);
		warmth_give_up(&source->warmth, position_of(wait));
		return false;
	}
	if (collect(wait))
		return false;
	if (wait->ahead == NULL)
		return wait_a_while(wait);
	int status = request_pieces(wait);
	if (read_ahead_count(wait->ahead) > 0)
		return wait_for_piece(wait);
	if (status == -ENOMEM)
		return wait_a_while(wait);
	/* There is no thread. */
	source->by_thread = false;
	warmth_give_up(&source->warmth, position_of(wait));
	return false;
}

void file_wait_begin(struct file_wait *wait)
{
	struct outgoing_file *file = wait->file;

	if (wait->event != NULL && event_pending(wait->event, EV_READ | EV_TIMEOUT, NULL))
		return;
	bool waits = file->waiting == FILE_SOURCE_DRY ? wait_for_input(wait) : wait_for_disk(wait);
	if (!waits)
		file->waiting = 0; /* without memory too: try again */
}

/* ---- the end ---- */

void file_wait_end(struct file_wait *wait)
{
	struct file_source *source = &wait->file->source;

	if (wait->event != NULL)
		event_del(wait->event);
	if (wait->ahead == NULL)
		return;
	if (!source->lent && read_ahead_closes(wait->ahead, source->fd))
		source->lent = true;
	/* The event's descriptor is closed: libevent no longer knows it. */
	read_ahead_free(wait->ahead);
	wait->ahead = NULL;
}

void file_wait_release(struct file_wait *wait)
{
	free_event(wait);
}
