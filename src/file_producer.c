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
	int64_t asked_for;        /* the position of the piece that is being brought in */
	unsigned int cold_looks;  /* how often it was not there yet */
};

/* Whether the file is still in the stream, which must be locked. */
static bool is_queued(const struct ferry_file_producer *producer)
{
	return producer->file.source.fd >= 0;
}

/* A source that cannot be polled, and a disk that is at work, are looked at again after a while. A file
 * that does not come into memory in this many looks is sent all the same. */
enum { LOOK_AGAIN_USEC = 1000, COLD_LOOKS_MAX = 100 };

static struct ferry_file_producer *producer_of(struct outgoing_file *file)
{
	return (struct ferry_file_producer *)file;
}

/* The descriptor is about to be closed: libevent must not be left with its number. */
static void leaving(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);

	if (producer->wait_event != NULL)
		event_del(producer->wait_event);
}

static void told_progress(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);

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

static void go_on(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_file_producer *producer = argument;
	struct bufferevent *bev = transport_lock(producer->transport);

	if (is_queued(producer)) {
		producer->file.waiting = 0;
		transport_want_write(producer->transport);
	}
	bufferevent_unlock(bev);
}

/* Asks for the piece to be brought in; again only when it has moved on. */
static void bring_in(struct ferry_file_producer *producer)
{
	struct ferry_transport *transport = producer->transport;
	struct file_source *source = &producer->file.source;
	int64_t position = file_source_position(source);

	if (position == producer->asked_for && producer->cold_looks > 0)
		return;
	producer->asked_for = position;
	producer->cold_looks = 0;
	if (transport->read_ahead == NULL)
		transport->read_ahead = read_ahead_acquire(bufferevent_get_base(transport->rearm.bev));
	if (transport->read_ahead == NULL ||
	    !read_ahead_request(transport->read_ahead, source->fd, position,
	                        file_source_next_window(source)))
		file_source_give_up_warmth(source);
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
	if (producer->wait_event == NULL && !make_wait_event(producer, -1))
		return false;
	return event_add(producer->wait_event, &(struct timeval){.tv_usec = LOOK_AGAIN_USEC}) == 0;
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

/* The stream has come to a file that has no bytes now. */
static void wait_for_source(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);
	bool waits;

	if (file->waiting == FILE_SOURCE_DRY) {
		waits = wait_for_input(producer);
	} else {
		bring_in(producer);
		if (++producer->cold_looks > COLD_LOOKS_MAX)
			file_source_give_up_warmth(&file->source);
		waits = wait_a_while(producer);
	}
	if (!waits)
		file->waiting = 0; /* no memory for an event: poll */
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
