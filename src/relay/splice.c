#include "relay/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "kernel/optional_call.h"
#include "kernel/sigpipe.h"
#include "transport/bypass.h"
#include "transport/interface.h"

enum {
	START_BYTES = 32 * 1024, /* in one read: worth a pipe */
	STAY_BYTES = 16 * 1024,  /* in one wake-up: worth keeping it */
	PIPE_BYTES = 256 * 1024,
	PIECES_PER_TURN = 4 /* then other connections get their turn */
};

struct relay_splice {
	int pipe[2]; /* -1: it has not begun */
	size_t filled;
	struct event *readable, *writable;
};

/* ---- ending ---- */

static void free_events(struct relay_splice *splice)
{
	if (splice->readable != NULL)
		event_free(splice->readable);
	if (splice->writable != NULL)
		event_free(splice->writable);
}

void relay_splice_free(struct relay_end *from)
{
	struct relay_splice *splice = from->splice;

	if (splice == NULL)
		return;
	from->splice = NULL;
	free_events(splice);
	if (splice->pipe[0] >= 0) {
		close(splice->pipe[0]);
		close(splice->pipe[1]);
	}
	free(splice);
}

/* Moves what is in the pipe into the queue of the other end. False: without memory for it the stream has a hole. */
static bool empty_pipe(struct relay_end *from)
{
	struct relay_splice *splice = from->splice;
	struct evbuffer *rest = splice->filled > 0 ? evbuffer_new() : NULL;
	bool whole = splice->filled == 0;

	while (rest != NULL && splice->filled > 0) {
		int length = evbuffer_read(rest, splice->pipe[0], (int)splice->filled);
		if (length <= 0)
			break;
		splice->filled -= (size_t)length;
		whole = splice->filled == 0;
	}
	if (rest == NULL)
		return whole;
	size_t length = evbuffer_get_length(rest);
	int status = ferry_transport_write_buffer(from->other->transport, rest);
	from->flow.bytes_passed += status == 0 ? length : 0;
	evbuffer_free(rest);
	return whole && (status == 0 || status == -EPIPE);
}

void relay_splice_stop(struct relay_end *from)
{
	struct relay_splice *splice = from->splice;

	if (splice == NULL)
		return;
	bool begun = splice->pipe[0] >= 0;
	bool whole = empty_pipe(from);
	relay_splice_free(from);
	if (!whole)
		(void)ferry_transport_abort_connection(from->other->transport);
	if (!begun)
		return;
	struct bufferevent *bev = transport_lock(from->transport);
	int status = transport_continue_reading(from->transport);
	bufferevent_unlock(bev);
	if (status < 0)
		(void)ferry_transport_abort_connection(from->transport);
}

void relay_splice_overtaken(struct relay_end *from)
{
	if (from->splice != NULL && from->splice->pipe[0] >= 0)
		relay_splice_stop(from);
}

/* ---- moving ---- */

static ssize_t splice_once(int from, int to, size_t length)
{
	ssize_t moved;

	do {
		moved = splice(from, NULL, to, NULL, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	} while (moved < 0 && errno == EINTR);
	return moved < 0 ? -errno : moved;
}

/* There is no flag against SIGPIPE. */
static ssize_t splice_to_socket(int from, int to, size_t length)
{
	struct sigpipe_guard guard;

	sigpipe_block(&guard);
	ssize_t moved = splice_once(from, to, length);
	sigpipe_restore(&guard, moved == -EPIPE);
	return moved;
}

/* The error is the socket's, and not one of splice(2) itself. */
static bool is_of_socket(ssize_t error)
{
	return error < 0 && error != -ENOMEM && error != -EIO && error != -EINVAL &&
	       error != -EOPNOTSUPP && !optional_call_is_absent(CALL_SPLICE, (int)-error);
}

static void stop_with(struct relay_end *from, struct relay_end *broken, short what, ssize_t error)
{
	relay_splice_stop(from);
	if (is_of_socket(error) && !from->relay->freed)
		transport_report_bypassed_error(broken->transport, what, (int)error);
}

static int socket_of(const struct relay_end *end)
{
	return (int)bufferevent_getfd(ferry_transport_get_bufferevent(end->transport));
}

static bool is_free(const struct relay_end *from)
{
	return transport_input_is_bypassable(from->transport) &&
	       transport_output_is_bypassable(from->other->transport);
}

/* False: the other socket is full, and the splice goes on when it is writable; or it has stopped. */
static bool push(struct relay_end *from)
{
	struct relay_splice *splice = from->splice;

	while (splice->filled > 0) {
		ssize_t moved = splice_to_socket(splice->pipe[0], socket_of(from->other), splice->filled);
		from->flow.pauses += moved == -EAGAIN;
		if (moved == -EAGAIN && event_del(splice->readable) == 0 &&
		    event_add(splice->writable, NULL) == 0)
			return false;
		if (moved <= 0) {
			stop_with(from, from->other, EV_WRITE, moved);
			return false;
		}
		splice->filled -= (size_t)moved;
		from->flow.bytes_passed += (uint64_t)moved;
		from->flow.bytes_spliced += (uint64_t)moved;
		transport_count_bypassed(from->transport, from->other->transport, (size_t)moved);
	}
	return true;
}

/* False: there is no more now, or the splice has stopped. */
static bool pull(struct relay_end *from)
{
	struct relay_splice *splice = from->splice;
	ssize_t moved = transport_count_bypassable(from->transport, PIPE_BYTES);

	if (moved > 0)
		moved = splice_once(socket_of(from), splice->pipe[1], (size_t)moved);
	else if (moved == 0)
		moved = -EAGAIN; /* the transport reads descriptors, and the end, when the splice stops */
	if (moved == -EAGAIN)
		return false;
	if (moved <= 0) { /* the transport finds the end by itself */
		from->cannot_splice = moved < 0 && !is_of_socket(moved);
		stop_with(from, from, EV_READ, moved);
		return false;
	}
	splice->filled = (size_t)moved;
	from->flow.bytes_received += (uint64_t)moved;
	return true;
}

/* False: the other socket is full, or the splice has stopped. */
static bool move_pieces(struct relay_end *from)
{
	unsigned int pieces = 0;

	while (pieces++ < PIECES_PER_TURN && pull(from))
		if (!push(from))
			return false;
	return from->splice != NULL;
}

static void move(struct relay_end *from)
{
	uint64_t before = from->flow.bytes_received;

	if (move_pieces(from) && from->flow.bytes_received - before < STAY_BYTES)
		relay_splice_stop(from);
}

/* ---- beginning ---- */

/* New connections, and descriptors that pass, need slots more than a pipe does. The kernel gives out the lowest one. */
static bool slots_are_scarce(int fd)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd >= limit.rlim_cur / 2;
}

static bool begin(struct relay_end *from)
{
	struct relay_splice *splice = from->splice;

	if (pipe2(splice->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
		splice->pipe[0] = -1; /* no descriptor slot is free: copy */
		return false;
	}
	if (slots_are_scarce(splice->pipe[1]))
		return false;
	/* A user may have only so much memory in pipes. */
	(void)fcntl(splice->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
	if (event_add(splice->readable, NULL) < 0)
		return false;
	struct bufferevent *bev = transport_lock(from->transport);
	transport_suspend_reading(from->transport);
	bufferevent_unlock(bev);
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
	struct relay_end *from = argument;
	(void)fd, (void)what;

	bool begun = from->splice->pipe[0] >= 0;
	if (!is_free(from) || (!begun && !begin(from)))
		relay_splice_stop(from);
	else if (begun) /* at the beginning the transport has just read all there was */
		move(from);
}

/* The sender may have sent nothing meanwhile, because its socket was full: that is no reason to stop. */
static void on_writable(evutil_socket_t fd, short what, void *argument)
{
	struct relay_end *from = argument;
	(void)fd, (void)what;

	if (!is_free(from))
		relay_splice_stop(from);
	else if (push(from) && move_pieces(from) && event_add(from->splice->readable, NULL) < 0)
		relay_splice_stop(from);
}

/* Descriptors go through the transports, and so does whatever a filter is to see. */
static bool is_wanted(const struct relay_end *from)
{
	const struct ferry_relay *relay = from->relay;

	return from->splice == NULL && !from->cannot_splice && relay->filtered == NULL &&
	       !relay->freed && !relay->closing && !from->muted;
}

void relay_splice_consider(struct relay_end *from)
{
	if (from->last_read < START_BYTES || !is_wanted(from) ||
	    !transport_input_is_bypassable(from->transport))
		return;
	struct bufferevent *bev = ferry_transport_get_bufferevent(from->transport);
	struct event_base *base = bufferevent_get_base(bev);
	struct relay_splice *splice = calloc(1, sizeof(*splice));
	if (splice == NULL)
		return;
	splice->pipe[0] = -1;
	splice->readable = event_new(base, socket_of(from), EV_READ | EV_PERSIST, on_readable, from);
	splice->writable = event_new(base, socket_of(from->other), EV_WRITE, on_writable, from);
	from->splice = splice;
	if (splice->readable == NULL || splice->writable == NULL) {
		relay_splice_free(from);
		return;
	}
	event_priority_set(splice->readable, bufferevent_get_priority(bev));
	event_priority_set(splice->writable, bufferevent_get_priority(bev));
	event_active(splice->readable, EV_READ, 0);
}
