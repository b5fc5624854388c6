#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "ferry/file_producer.h"

#include "read_ahead.h"
#include "transport.h"

/*
 * A file in the stream, as its user sees it. The stream embeds nothing of the user's; this joins the
 * two.
 */
struct ferry_file_producer {
	struct outgoing_file file; /* first: the stream's view */
	struct ferry_transport *transport;
	const struct ferry_file_callbacks *callbacks;
	void *context;
	uint64_t total;
	struct event *wait_event; /* for input, or for a while; made when first needed */
	uint64_t ticket;          /* of the piece that is being brought into memory, or 0 */
	int64_t asked_from;       /* what was brought in, or is being, of what it goes on with */
	int64_t asked_until;      /* 0: never anything */
	unsigned int looks;       /* how often the next piece was not there yet */
};

/* Whether the file is still in the stream, which must be locked. */
static bool is_queued(const struct ferry_file_producer *producer)
{
	return producer->file.source.fd >= 0;
}

enum {
	PIECE_FIRST = WARMTH_WINDOW_MIN, /* soon there */
	PIECE_AHEAD = 2 * 1024 * 1024,   /* keeps the disk busy while the one before is sent */
	LOOK_USEC = 1000,                /* when to look again; */
	LOOKS_SOON = 8,                  /* after so many times, it is a busy disk: */
	LOOK_LATER_USEC = 16000,
	LOOKS_MAX = 64, /* about a second; then it is sent, though the loop waits for the disk */
};

static struct ferry_file_producer *producer_of(struct outgoing_file *file)
{
	return (struct ferry_file_producer *)file;
}

/* ---- bringing it into memory ---- */

/* Has the transport have a thread that reads ahead, if that is possible. */
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

/* Has a piece brought in, as soon as there is room for it in the queue. False when there is no thread
 * to do it. */
static bool ask_for(struct ferry_file_producer *producer, int64_t offset, uint64_t max)
{
	struct ferry_transport *transport = producer->transport;
	struct file_source *source = &producer->file.source;
	uint64_t left = file_source_left_at(source, offset);
	size_t length = (size_t)(left < max ? left : max);

	if (!has_thread(transport))
		return false;
	producer->ticket = read_ahead_request(transport->read_ahead, source->fd, offset, length);
	if (producer->ticket != 0) {
		source->warmth.coming = offset;
		if (offset != producer->asked_until)
			producer->asked_from = offset;
		producer->asked_until = offset + (int64_t)length;
	}
	return true;
}

/* Whether a piece is being brought in. */
static bool is_coming(struct ferry_file_producer *producer)
{
	if (producer->ticket == 0)
		return false;
	if (!read_ahead_is_done(producer->transport->read_ahead, producer->ticket))
		return true;
	producer->ticket = 0;
	producer->file.source.warmth.coming = INT64_MAX;
	return false;
}

/* Has the piece that it waits for brought in. False when that is of no use, or has taken too long. */
static bool bring_in(struct ferry_file_producer *producer)
{
	struct file_source *source = &producer->file.source;
	int64_t position = file_source_position(source);
	uint64_t left = file_source_left_at(source, position);

	if (producer->looks >= LOOKS_MAX)
		return false;
	if (is_coming(producer))
		return true;
	/* It was brought in and is not there: evicted at once, or this file is never in the page cache. */
	if (position >= producer->asked_from && position < producer->asked_until &&
	    (uint64_t)(producer->asked_until - position) >= (left < PIECE_FIRST ? left : PIECE_FIRST))
		return false;
	return ask_for(producer, position, PIECE_FIRST);
}

/* Of a file that was not in memory, asks for the next piece while the one before is sent. */
static void stay_ahead(struct ferry_file_producer *producer)
{
	if (producer->asked_until == 0 || is_coming(producer))
		return;
	int64_t ahead = producer->asked_until - file_source_position(&producer->file.source);
	if (ahead >= 0 && ahead < PIECE_AHEAD &&
	    file_source_left_at(&producer->file.source, producer->asked_until) > 0)
		ask_for(producer, producer->asked_until, PIECE_AHEAD);
}

/* ---- what the stream tells ---- */

/* The descriptor is about to be closed: libevent must not be left with its number. */
static void leaving(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);

	if (producer->wait_event != NULL)
		event_del(producer->wait_event);
	if (producer->ticket != 0)
		read_ahead_cancel(producer->transport->read_ahead, producer->ticket);
}

static void told_progress(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);

	producer->looks = 0;
	stay_ahead(producer);
	if (producer->callbacks != NULL && producer->callbacks->progress != NULL)
		producer->callbacks->progress(producer, file->sent, producer->total, producer->context);
}

static void told_finished(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);

	if (producer->callbacks != NULL && producer->callbacks->finished != NULL)
		producer->callbacks->finished(producer, file->status, file->sent, producer->context);
	if (producer->wait_event != NULL)
		event_free(producer->wait_event);
	free(producer);
}

/* ---- waiting for the source ---- */

static bool wait_a_while(struct ferry_file_producer *producer);

static void go_on(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_file_producer *producer = argument;
	struct bufferevent *bev = transport_lock(producer->transport);

	if (is_queued(producer)) {
		bool later = producer->file.waiting == FILE_SOURCE_COLD && is_coming(producer) &&
		             producer->looks < LOOKS_MAX && wait_a_while(producer);
		if (!later) {
			producer->file.waiting = 0;
			transport_want_write(producer->transport);
		}
	}
	bufferevent_unlock(bev);
}

static bool make_wait_event(struct ferry_file_producer *producer, int fd)
{
	struct bufferevent *bev = producer->transport->rearm.bev;

	/* EV_FINALIZE: deleting it never waits for its callback, which wants the lock that we hold. */
	producer->wait_event =
	    event_new(bufferevent_get_base(bev), fd, (short)((fd >= 0 ? EV_READ : 0) | EV_FINALIZE),
	              go_on, producer);
	if (producer->wait_event != NULL)
		event_priority_set(producer->wait_event, bufferevent_get_priority(bev));
	return producer->wait_event != NULL;
}

static bool wait_a_while(struct ferry_file_producer *producer)
{
	int usec = producer->looks++ < LOOKS_SOON ? LOOK_USEC : LOOK_LATER_USEC;

	if (producer->wait_event == NULL && !make_wait_event(producer, -1))
		return false;
	return event_add(producer->wait_event, &(struct timeval){.tv_usec = usec}) == 0;
}

static bool wait_for_input(struct ferry_file_producer *producer)
{
	if (producer->wait_event == NULL && !make_wait_event(producer, producer->file.source.fd))
		return false;
	if (event_get_fd(producer->wait_event) < 0)
		return wait_a_while(producer);
	if (event_add(producer->wait_event, NULL) == 0)
		return true;
	/* epoll(7) does not take it. */
	event_free(producer->wait_event);
	producer->wait_event = NULL;
	return wait_a_while(producer);
}

/* The stream has come to a file that has no bytes now; or has come to it again, for something else
 * that was written. */
static void wait_for_source(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);
	bool waits;

	if (producer->wait_event != NULL &&
	    event_pending(producer->wait_event, EV_READ | EV_TIMEOUT, NULL))
		return;
	if (file->waiting == FILE_SOURCE_DRY) {
		waits = wait_for_input(producer);
	} else {
		waits = bring_in(producer);
		if (waits)
			waits = wait_a_while(producer); /* without memory for an event: poll */
		else
			warmth_give_up(&file->source.warmth, file_source_position(&file->source));
	}
	if (!waits)
		file->waiting = 0;
}

/* ---- what users call ---- */

static int queue_file(struct ferry_transport *transport, struct ferry_file_producer *producer,
                      struct ferry_file_producer **out)
{
	if (!transport_takes_output(transport))
		return -EPIPE;
	int status = outgoing_push_file(&transport->outgoing, &producer->file);
	if (status < 0)
		return status;
	/* Before the lock is released: the loop may run in another thread. */
	if (out != NULL)
		*out = producer;
	transport_want_write(transport);
	/* A pull producer that gave a file has written. */
	if (transport->watcher != NULL)
		transport->watcher->queued(transport->watcher_argument);
	return 0;
}

static struct ferry_file_producer *new_producer(struct ferry_transport *transport,
                                                const struct file_source *source,
                                                const struct ferry_file_callbacks *callbacks,
                                                void *context)
{
	struct ferry_file_producer *producer = malloc(sizeof(*producer));
	if (producer == NULL)
		return NULL;
	*producer = (struct ferry_file_producer){
	    .file = {.source = *source,
	             .leaving = leaving,
	             .wait = wait_for_source,
	             .progress = told_progress,
	             .finished = told_finished},
	    .transport = transport,
	    .callbacks = callbacks,
	    .context = context,
	    .total = source->remaining,
	};
	return producer;
}

int ferry_transport_send_file(struct ferry_transport *transport, int fd, unsigned int ownership,
                              int64_t offset, int64_t length,
                              const struct ferry_file_callbacks *callbacks, void *context,
                              struct ferry_file_producer **out)
{
	struct file_source source;

	bool copy = (ownership & FERRY_FILE_COPY) != 0;
	ownership &= ~FERRY_FILE_COPY;
	if (transport == NULL || (ownership != FERRY_FD_TAKE && ownership != FERRY_FD_DUP))
		return -EINVAL;
	int status = file_source_init(&source, fd, offset, length, copy);
	if (status < 0)
		return status;
	if (ownership == FERRY_FD_DUP) {
		source.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (source.fd < 0)
			return -errno;
	}

	struct ferry_file_producer *producer = new_producer(transport, &source, callbacks, context);
	if (producer == NULL) {
		status = -ENOMEM;
	} else {
		struct bufferevent *bev = transport_lock(transport);
		status = queue_file(transport, producer, out);
		bufferevent_unlock(bev);
	}
	if (status < 0) {
		free(producer);
		if (ownership == FERRY_FD_DUP)
			close(source.fd);
	}
	return status;
}

int ferry_file_producer_get_method(const struct ferry_file_producer *producer)
{
	if (producer == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(producer->transport);
	int method = (int)producer->file.source.method;
	bufferevent_unlock(bev);
	return method;
}

void ferry_file_producer_pause(struct ferry_file_producer *producer)
{
	if (producer == NULL)
		return;
	struct ferry_transport *transport = producer->transport;
	struct bufferevent *bev = transport_lock(transport);
	producer->file.held = true;
	/* What waits for the peer now may be this file: its write timeout must not run. */
	if (is_queued(producer) && outgoing_is_held(&transport->outgoing))
		transport_stop_waiting(transport);
	bufferevent_unlock(bev);
}

void ferry_file_producer_resume(struct ferry_file_producer *producer)
{
	if (producer == NULL)
		return;
	struct bufferevent *bev = transport_lock(producer->transport);
	if (producer->file.held && is_queued(producer)) {
		producer->file.held = false;
		transport_want_write(producer->transport);
	}
	bufferevent_unlock(bev);
}

void ferry_file_producer_stop(struct ferry_file_producer *producer)
{
	if (producer == NULL)
		return;
	struct ferry_transport *transport = producer->transport;
	struct bufferevent *bev = transport_lock(transport);
	if (is_queued(producer)) {
		outgoing_finish_file(&transport->outgoing, &producer->file, -ECANCELED);
		transport_want_loop(transport);
		transport_want_write(transport);
	}
	bufferevent_unlock(bev);
}
