#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "ferry/file_producer.h"

#include "transport/core.h"
#include "transport/file_producer.h"
#include "transport/file_wait.h"

/*
 * A file in the stream, with its user's callbacks. The stream knows only the outgoing_file at its
 * beginning.
 */
struct ferry_file_producer {
	struct outgoing_file file; /* first member: the part that the stream knows */
	struct ferry_transport *transport;
	const struct ferry_file_callbacks *callbacks;
	void *context;
	uint64_t total;
	struct file_wait wait; /* used while the source has no bytes */
};

/* Whether the file is still in the stream, which must be locked. */
static bool is_queued(const struct ferry_file_producer *producer)
{
	return producer->file.source.fd >= 0;
}

static struct ferry_file_producer *producer_of(struct outgoing_file *file)
{
	return (struct ferry_file_producer *)file;
}

/* ---- callbacks of the stream ---- */

static void wait_for_bytes(struct outgoing_file *file)
{
	file_wait_begin(&producer_of(file)->wait);
}

static void on_leaving(struct outgoing_file *file)
{
	file_wait_end(&producer_of(file)->wait);
}

static void on_progress(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);

	file_wait_stay_ahead(&producer->wait);
	if (producer->callbacks != NULL && producer->callbacks->progress != NULL)
		producer->callbacks->progress(producer, file->sent, producer->total, producer->context);
}

static void on_finished(struct outgoing_file *file)
{
	struct ferry_file_producer *producer = producer_of(file);

	if (producer->callbacks != NULL && producer->callbacks->finished != NULL)
		producer->callbacks->finished(producer, file->status, file->sent, producer->context);
	file_wait_release(&producer->wait);
	file_source_release(&producer->file.source);
	free(producer);
}

/* ---- the public functions ---- */

static int queue_file(struct ferry_transport *transport, struct ferry_file_producer *producer,
                      struct ferry_file_producer **out)
{
	if (!transport_takes_output(transport))
		return -EPIPE;
	int status = outgoing_push_file(&transport->out.stream, &producer->file);
	if (status < 0)
		return status;
	/* Set before the lock is released: the loop may run the callbacks in another thread. */
	if (out != NULL)
		*out = producer;
	transport_want_write(transport);
	/* A file counts as output of a pull producer. */
	if (transport->out.watcher != NULL)
		transport->out.watcher->queued(transport);
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
	             .leaving = on_leaving,
	             .wait = wait_for_bytes,
	             .progress = on_progress,
	             .finished = on_finished},
	    .transport = transport,
	    .callbacks = callbacks,
	    .context = context,
	    .total = source->remaining,
	    .wait = {.transport = transport, .file = &producer->file},
	};
	return producer;
}

struct outgoing_file *file_producer_adopt(struct outgoing *outgoing,
                                          const struct file_source *source)
{
	char *transport = (char *)outgoing - offsetof(struct ferry_transport, out.stream);

	return (struct outgoing_file *)new_producer((void *)transport, source, NULL, NULL);
}

int ferry_transport_send_file(struct ferry_file_producer **out, struct ferry_transport *transport,
                              int fd, enum ferry_fd_ownership ownership, int64_t offset,
                              int64_t length, unsigned int flags,
                              const struct ferry_file_callbacks *callbacks, void *context)
{
	struct file_source source;

	if (transport == NULL || (flags & ~(FERRY_FILE_COPY | FERRY_FILE_REGULAR)) != 0 ||
	    (ownership != FERRY_FD_TAKE && ownership != FERRY_FD_DUP))
		return -EINVAL;
	bool copy = (flags & FERRY_FILE_COPY) != 0;
	int status = (flags & FERRY_FILE_REGULAR) != 0
	                 ? file_source_init_regular(&source, fd, offset, length, copy)
	                 : file_source_init(&source, fd, offset, length, copy);
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
	producer->file.paused = true;
	/* If this file is the next item, the write timeout must not run while it is paused. */
	if (is_queued(producer) && outgoing_is_paused(&transport->out.stream))
		transport_stop_waiting(transport);
	bufferevent_unlock(bev);
}

void ferry_file_producer_resume(struct ferry_file_producer *producer)
{
	if (producer == NULL)
		return;
	struct bufferevent *bev = transport_lock(producer->transport);
	if (producer->file.paused && is_queued(producer)) {
		producer->file.paused = false;
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
		marks_finish_file(transport->out.stream.marks, &producer->file, -ECANCELED);
		transport_want_loop(transport);
		transport_want_write(transport);
	}
	bufferevent_unlock(bev);
}

uint64_t ferry_file_producer_get_unsent(const struct ferry_file_producer *producer)
{
	if (producer == NULL)
		return 0;
	struct bufferevent *bev = transport_lock(producer->transport);
	uint64_t length = file_source_get_unsent(&producer->file.source);
	bufferevent_unlock(bev);
	return length;
}

int ferry_file_producer_take_unsent(struct ferry_file_producer *producer, struct evbuffer *buffer)
{
	if (producer == NULL || buffer == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(producer->transport);
	int status =
	    is_queued(producer) ? -EBUSY : file_source_take_unsent(&producer->file.source, buffer);
	bufferevent_unlock(bev);
	return status;
}
