#include "transport/file_wait.h"

#include "file/read_ahead.h"

enum {
	PIECE_FIRST = WARMTH_WINDOW_MIN, /* short, and in memory soon */
	PIECE_AHEAD = 2 * 1024 * 1024,   /* keeps the disk busy while the piece before is sent */
	LOOK_USEC = 1000,                /* the interval of the first LOOKS_SOON checks */
	LOOKS_SOON = 8,                  /* after these the disk is busy, and the interval longer */
	LOOK_LATER_USEC = 16000,
	LOOKS_MAX = 64, /* about a second; then the piece is sent, and the loop waits for the disk */
};

/* ---- reading pieces into memory ---- */

/* Acquires a thread that reads ahead for the transport. False: none could be started. */
static bool has_thread(struct ferry_transport *transport)
{
	struct read_ahead *before = transport->read_ahead;

	if (before != NULL && !read_ahead_is_lost(before))
		return true;
	struct read_ahead *own = read_ahead_acquire(bufferevent_get_base(transport->rearm.bev));
	if (own == NULL)
		return false;
	read_ahead_release(before);
	transport->read_ahead = own;
	return true;
}

/* Requests a piece; if the thread's queue is full, a later call requests it. False: there is no thread. */
static bool request_piece(struct file_wait *wait, int64_t offset, uint64_t max)
{
	struct ferry_transport *transport = wait->transport;
	struct file_source *source = &wait->file->source;
	uint64_t left = file_source_left_at(source, offset);
	size_t length = (size_t)(left < max ? left : max);

	if (!has_thread(transport))
		return false;
	wait->ticket = read_ahead_request(transport->read_ahead, source->fd, offset, length);
	if (wait->ticket != 0) {
		source->warmth.coming = offset;
		if (offset != wait->asked_until)
			wait->asked_from = offset;
		wait->asked_until = offset + (int64_t)length;
	}
	return true;
}

/* Whether a requested piece is still being read. */
static bool is_coming(struct file_wait *wait)
{
	if (wait->ticket == 0)
		return false;
	if (!read_ahead_is_done(wait->transport->read_ahead, wait->ticket))
		return true;
	wait->ticket = 0;
	wait->file->source.warmth.coming = INT64_MAX;
	return false;
}

/* Requests the piece that the file waits for. False if that is useless, or has taken too long. */
static bool request_next(struct file_wait *wait)
{
	struct file_source *source = &wait->file->source;
	int64_t position = file_source_position(source);
	uint64_t left = file_source_left_at(source, position);

	if (wait->looks >= LOOKS_MAX)
		return false;
	if (is_coming(wait))
		return true;
	/* The piece was read and is not in memory: the kernel evicted it at once, or this file is never in the
	 * page cache. */
	if (position >= wait->asked_from && position < wait->asked_until &&
	    (uint64_t)(wait->asked_until - position) >= (left < PIECE_FIRST ? left : PIECE_FIRST))
		return false;
	return request_piece(wait, position, PIECE_FIRST);
}

void file_wait_stay_ahead(struct file_wait *wait)
{
	wait->looks = 0;
	if (wait->asked_until == 0 || is_coming(wait))
		return;
	int64_t ahead = wait->asked_until - file_source_position(&wait->file->source);
	if (ahead >= 0 && ahead < PIECE_AHEAD &&
	    file_source_left_at(&wait->file->source, wait->asked_until) > 0)
		request_piece(wait, wait->asked_until, PIECE_AHEAD);
}

/* ---- waiting for the source ---- */

static bool wait_a_while(struct file_wait *wait);

static void on_wake_up(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct file_wait *wait = argument;
	struct bufferevent *bev = transport_lock(wait->transport);

	if (wait->file->source.fd >= 0) {
		bool later = wait->file->waiting == FILE_SOURCE_COLD && is_coming(wait) &&
		             wait->looks < LOOKS_MAX && wait_a_while(wait);
		if (!later) {
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
	if (wait->event != NULL)
		event_priority_set(wait->event, bufferevent_get_priority(bev));
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
	if (wait->event == NULL && !make_wait_event(wait, wait->file->source.fd))
		return false;
	if (event_get_fd(wait->event) < 0)
		return wait_a_while(wait);
	if (event_add(wait->event, NULL) == 0)
		return true;
	/* epoll(7) does not support this kind of descriptor. */
	event_free(wait->event);
	wait->event = NULL;
	return wait_a_while(wait);
}

void file_wait_begin(struct file_wait *wait)
{
	struct outgoing_file *file = wait->file;
	bool waits;

	if (wait->event != NULL && event_pending(wait->event, EV_READ | EV_TIMEOUT, NULL))
		return;
	if (file->waiting == FILE_SOURCE_DRY) {
		waits = wait_for_input(wait);
	} else {
		waits = request_next(wait);
		if (waits)
			waits = wait_a_while(wait); /* false without memory: try again */
		else
			warmth_give_up(&file->source.warmth, file_source_position(&file->source));
	}
	if (!waits)
		file->waiting = 0;
}

/* ---- the end ---- */

void file_wait_end(struct file_wait *wait)
{
	if (wait->event != NULL)
		event_del(wait->event);
	if (wait->ticket != 0)
		read_ahead_cancel(wait->transport->read_ahead, wait->ticket);
}

void file_wait_release(struct file_wait *wait)
{
	if (wait->event != NULL)
		event_free(wait->event);
}
